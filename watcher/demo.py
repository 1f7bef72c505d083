"""The demo: simulated API, daemon and a sending app in one process, without an account.

The API listens on loopback, and the daemon has a temporary store. The app does what a real one would: it sends, gets an
operation id with the 202, and registers the id with the daemon. The daemon is the one that `watcher run` runs, over
real sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import tempfile
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

import httpx
import msgspec

from watcher.config import load
from watcher.daemon import Daemon
from watcher.simulator import Scenario, built_in
from watcher.simulator.server import Running, serving

CAMPAIGNS = ("spring-sale", "breaking-news", "cart-reminder", "match-start", "weekly-digest")
SHORTEST_SECONDS, LONGEST_SECONDS = 6.0, 60.0
FAILING, UNADDRESSABLE, CANCELED, SCHEDULED = 0.25, 0.3, 0.06, 0.15

SETTINGS = {
    "WATCHER_POLLING__FRESHNESS": "1s",
    "WATCHER_POLLING__SETTLE_AFTER": "2s,5s",
    "WATCHER_METRICS__HOLD": "1m",
    "WATCHER_METRICS__HOLD_AT_MOST": "2m",
    "WATCHER_METRICS__LABELS": "campaign",
    "WATCHER_METRICS__COUNTER_LABELS": "campaign",
    "WATCHER_WEB__LISTEN": "localhost:10617",
    "WATCHER_ADMIN__LISTEN": "localhost:10618",
    "WATCHER_LOG__FORMAT": "console",
    "WATCHER_LOG__LEVEL": "warning",
}


async def demo(
    *, operations: int = 40, duration: timedelta | None = None, settings: Mapping[str, str] = MappingProxyType({})
) -> int:
    """Run with about `operations` in flight until interrupted, or for `duration`. Returns the daemon's exit code.

    `settings` are environment variables that replace the demo's own.
    """
    environ: dict[str, str] = {}
    daemon = Daemon(lambda: load(None, environ))
    # Signal handlers first: without them a signal ends the process at once, and the folder is not deleted.
    with daemon.listening_to_signals(), tempfile.TemporaryDirectory(prefix="watcher-demo-") as folder:
        async with serving(_quiet_api()) as api:
            environ |= _settings(api, Path(folder), operations) | dict(settings)
            running = asyncio.create_task(daemon.run(), name="daemon")
            ready = asyncio.create_task(daemon.ready.wait(), name="ready")
            await asyncio.wait([running, ready], return_when=asyncio.FIRST_COMPLETED)
            ready.cancel()
            if running.done():
                return running.result()
            if duration is not None:
                asyncio.get_running_loop().call_later(duration.total_seconds(), daemon.stop)
            _say(api, daemon)
            app = asyncio.create_task(_app(api, daemon.addresses["admin"][0], operations), name="app")
            try:
                return await running
            finally:
                app.cancel()
                await asyncio.wait([app])


def _quiet_api() -> Scenario:
    """The built-in scenario of the demo without operations of its own: here only the app sends."""
    lively = built_in("demo")
    return msgspec.structs.replace(lively, population=msgspec.structs.replace(lively.population, in_flight=0))


def _settings(api: Running, folder: Path, operations: int) -> dict[str, str]:
    account = built_in("demo").accounts[0]
    return SETTINGS | {
        "TWILIO_ACCOUNT_SID": account.account_id,
        "TWILIO_AUTH_TOKEN": account.auth_token,
        "WATCHER_ACCOUNTS__0__NAME": "demo",
        "WATCHER_ACCOUNTS__0__BASE_URL": api.base_url,
        # Enough for a freshness of one second, and some more for settling operations.
        "WATCHER_ACCOUNTS__0__MAX_REQUESTS_PER_SECOND": str(2 * operations + 5),
        "WATCHER_STORAGE__URL": f"sqlite:///{folder}/watcher.db",
    }


def _say(api: Running, daemon: Daemon) -> None:
    web, admin = daemon.addresses["web"][0], daemon.addresses["admin"][0]
    print(  # noqa: T201 -- the first output for a new user
        f"""
  status page      {web}/
  metrics          {web}/metrics
  admin API        {admin}/api/v1/operations
  simulated API    {api.base_url}

  Every line below is one event of an operation. Ctrl-C ends it.
""",
        flush=True,
    )


async def _app(api: Running, admin: str, operations: int) -> None:
    """Send and register: first `operations` at once, then at the average rate at which they end."""
    rng = random.Random()  # noqa: S311 -- for variety, not for secrets
    account = built_in("demo").accounts[0]
    auth = httpx.BasicAuth(account.account_id, account.auth_token)
    mean_seconds = (LONGEST_SECONDS - SHORTEST_SECONDS) / math.log(LONGEST_SECONDS / SHORTEST_SECONDS)
    async with httpx.AsyncClient(auth=auth, trust_env=False) as upstream, httpx.AsyncClient(trust_env=False) as watcher:
        for number, script in enumerate(_scripts(rng)):
            with contextlib.suppress(httpx.TransportError):  # the API or the daemon is ending, or very busy
                sent = await upstream.post(f"{api.base_url}/PushNotifications", json=script)
                if sent.status_code == httpx.codes.ACCEPTED:
                    labels = {"campaign": rng.choice(CAMPAIGNS)}
                    body = {"id": sent.json()["operationId"], "labels": labels}
                    await watcher.post(f"{admin}/api/v1/operations", json=body)
            if number >= operations:
                await asyncio.sleep(rng.expovariate(operations / mean_seconds))


def _scripts(rng: random.Random) -> Iterator[dict[str, object]]:
    """The course of each simulated operation.

    Most complete, some have failures, some have recipients without a device, a few are canceled.
    """
    while True:
        lifetime = SHORTEST_SECONDS * (LONGEST_SECONDS / SHORTEST_SECONDS) ** rng.random()
        recipients = int(20 * 500 ** rng.random())
        script: dict[str, object] = {"recipients": recipients, "lifetime": f"{lifetime:.1f}s"}
        if rng.random() < FAILING:
            script["failed"] = int(recipients * rng.uniform(0.01, 0.3))
        if rng.random() < UNADDRESSABLE:
            script["unaddressable"] = int(recipients * rng.uniform(0.01, 0.2))
        if rng.random() < CANCELED:
            script["canceled_at"] = rng.uniform(0.2, 0.8)
        if rng.random() < SCHEDULED:
            script["scheduled"] = f"{rng.uniform(5, 20):.1f}s"
        yield script
