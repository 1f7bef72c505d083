"""`watcher simulate`: the simulated API alone."""

from __future__ import annotations

import asyncio
import os
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from watcher import loop, signals
from watcher.cli.exits import Exit, FailedError
from watcher.cli.output import say
from watcher.simulator import Account, Scenario, ScenarioError, built_in, built_in_names, read_scenario
from watcher.simulator.server import Running, serve


def execute(arguments: Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    scenario = _scenario(arguments.scenario)
    address = arguments.listen

    def ready(running: Running) -> None:
        say(*_words(running, scenario))

    try:
        loop.run(_until_signal(scenario, address.host or "", address.port, ready=ready))
    except OSError as exc:
        fact = (os.strerror(exc.errno) if exc.errno and exc.errno > 0 else str(exc)).lower()
        raise FailedError(Exit.USAGE, f"cannot listen there: {fact}; choose another --listen") from exc
    return Exit.GOOD


async def _until_signal(scenario: Scenario, host: str, port: int, *, ready: Callable[[Running], None]) -> None:
    """Serve the API until SIGTERM or SIGINT; a second signal ends the process at once."""
    running = asyncio.get_running_loop()
    stop = asyncio.Event()
    is_asked = False

    def on_stop() -> bool:
        nonlocal is_asked
        was_asked, is_asked = is_asked, True
        running.call_soon_threadsafe(stop.set)
        return not was_asked

    with signals.handled(on_stop=on_stop):
        await serve(scenario, host, port, ready=ready, stop=stop)


def _scenario(name: str) -> Scenario:
    try:
        return built_in(name) if name in built_in_names() else read_scenario(Path(name))
    except ScenarioError as exc:
        known = ", ".join(built_in_names())
        hint = "" if Path(name).exists() else f"; give a YAML file, or a built-in scenario: {known}"
        raise FailedError(Exit.USAGE, f"{exc}{hint}") from exc


def _words(running: Running, scenario: Scenario) -> list[str]:
    account = scenario.accounts[0]
    # The built-in credentials may be shown; those that a scenario file sets may be real.
    is_ours = account == Account(weight=account.weight, forbidden=account.forbidden)
    token = account.auth_token if is_ours else "…  # as in the scenario"
    return [
        f"the simulated API answers at {running.base_url}",
        f"control API: {running.control_url}operations, {running.control_url}requests",
        "",
        "to watch it:",
        f"  export TWILIO_ACCOUNT_SID={account.account_id}",
        f"  export TWILIO_AUTH_TOKEN={token}",
        f"  export WATCHER_ACCOUNTS__0__BASE_URL={running.base_url}",
        "  watcher run",
    ]
