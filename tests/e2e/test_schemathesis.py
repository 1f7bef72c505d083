"""Both listeners keep what their OpenAPI documents promise, whatever is sent: schemathesis against real sockets.

Both are locked: their routes are the same as without, and it shows that nothing opens without the key.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.cli.running import in_background
from tests.server.serving import AppParts, a_running_operation, a_snapshot, an_id, an_operation, listening
from tests.support.certificates import hashed, write_web_file
from watcher.config import read_web_file
from watcher.core.model import Status
from watcher.server import WebConfig

# pytest-asyncio gets the current loop before the first test, which creates a loop that is never closed (its issue 724).
# After any call of set_event_loop, even with None, no such loop is created.
asyncio.set_event_loop(None)

EXAMPLES = 12
SECONDS = 90  # for both, side by side
TOKEN, USER, PASSWORD = "made-up-token", "alice", "made-up-password"
PROGRAM = Path(sys.executable).with_name("st")


@dataclass
class Run:
    """Schemathesis at work on one listener; what it says goes into a file."""

    made: AppParts
    process: subprocess.Popen[bytes]
    said: Path


def parts() -> AppParts:
    """A few operations, so that there is something to be found."""
    made = AppParts("main", "other")
    asyncio.run(made.intake.take(b'[{"id": "%s", "account": "main", "labels": {"a": "b"}}]' % an_id(1).encode()))
    made.snapshots = [a_snapshot(a_running_operation(id=an_id(1)), an_operation(id=an_id(2), status=Status.UNSEEN))]
    return made


def begin(made: AppParts, folder: Path, url: str, key: str) -> Run:
    command = [
        str(PROGRAM),
        "run",
        f"{url}/openapi.json",
        key,
        "--checks=all",
        "--phases=examples,coverage,fuzzing,stateful",
        f"--max-examples={EXAMPLES}",
        "--seed=20261121",
        "--generation-database=none",
        "--suppress-health-check=all",
        "--request-timeout=20",
        "--warnings=off",
        "--no-color",
    ]
    folder.mkdir()
    env = {name: value for name, value in os.environ.items() if "PROXY" not in name.upper()}
    said = folder / "said.txt"
    with said.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=subprocess.STDOUT)
    return Run(made, process, said)


@pytest.fixture(scope="module")
def deadline() -> float:
    return time.monotonic() + SECONDS


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, deadline: float) -> Iterator[Mapping[str, Run]]:
    """Both begin at once, each with a listener and an app of its own."""
    folder = tmp_path_factory.mktemp("fuzzing")
    path = str(write_web_file(folder, basic_auth_users={USER: hashed(PASSWORD)}))
    web, admin = parts(), parts()
    with ExitStack() as stack:
        begun = {}
        for name, made, app, key in (
            ("web", web, web.web(WebConfig(path, read_web_file(path))), f"--auth={USER}:{PASSWORD}"),
            ("admin", admin, admin.admin(token=lambda: TOKEN), f"--header=Authorization: Bearer {TOKEN}"),
        ):
            listener = stack.enter_context(in_background(partial(listening, app)))
            begun[name] = begin(made, folder / name, listener.addresses[0], key)
            stack.callback(begun[name].process.wait)
            stack.callback(begun[name].process.kill)
        yield begun


@pytest.mark.parametrize("name", ["web", "admin"])
def test_a_listener_keeps_what_it_promises(runs: Mapping[str, Run], deadline: float, name: str):
    run = runs[name]
    code = run.process.wait(timeout=max(1.0, deadline - time.monotonic()))
    said = run.said.read_text()
    assert code == 0, said[-8000:]
    assert "No issues found" in said
    assert run.made.failures == []
    print(said[-600:])
