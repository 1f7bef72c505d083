"""Both listeners keep what their OpenAPI documents promise, whatever is sent: schemathesis against real sockets."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from tests.cli.running import in_background
from tests.server.serving import Office, a_running_operation, a_snapshot, an_id, an_operation, listening
from tests.support.certificates import hashed, write_web_file
from watcher.config import read_web_file
from watcher.core.model import Status
from watcher.server import WebConfig

# pytest-asyncio asks for the present loop before the first test, which makes one that nobody closes (its issue 724);
# once one was set, be it none, no other is made.
asyncio.set_event_loop(None)

EXAMPLES = 15
TOKEN, USER, PASSWORD = "made-up-token", "alice", "made-up-password"
# Behind a lock the routes are the same; what is new is that nothing opens without the key.
BRIEFLY = ("--phases=fuzzing", "--max-examples=5")
PROGRAM = Path(sys.executable).with_name("st")


def office() -> Office:
    """A few operations, so that there is something to be found."""
    made = Office("main", "other")
    asyncio.run(made.intake.take(b'[{"id": "%s", "account": "main", "labels": {"a": "b"}}]' % an_id(1).encode()))
    made.snapshots = [a_snapshot(a_running_operation(id=an_id(1)), an_operation(id=an_id(2), status=Status.UNSEEN))]
    return made


def fuzz(folder: Path, url: str, *arguments: str) -> None:
    command = [
        str(PROGRAM),
        "run",
        f"{url}/openapi.json",
        "--checks=all",
        "--phases=examples,coverage,fuzzing,stateful",
        f"--max-examples={EXAMPLES}",
        "--seed=20261121",
        "--generation-database=none",
        "--suppress-health-check=all",
        "--request-timeout=20",
        "--warnings=off",
        "--no-color",
        *arguments,
    ]
    env = {name: value for name, value in os.environ.items() if "PROXY" not in name.upper()}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    print(done.stdout[-1500:])


def test_web_keeps_what_it_promises(tmp_path: Path):
    made = office()
    with in_background(lambda: listening(made.web())) as listener:
        fuzz(tmp_path, listener.addresses[0])
    assert made.failures == []


def test_admin_keeps_what_it_promises(tmp_path: Path):
    made = office()
    with in_background(lambda: listening(made.admin())) as listener:
        fuzz(tmp_path, listener.addresses[0])
    assert made.failures == []


def test_web_behind_passwords_keeps_what_it_promises(tmp_path: Path):
    made = office()
    path = str(write_web_file(tmp_path, basic_auth_users={USER: hashed(PASSWORD)}))
    config = WebConfig(path, read_web_file(path))
    with in_background(lambda: listening(made.web(config))) as listener:
        fuzz(tmp_path, listener.addresses[0], f"--auth={USER}:{PASSWORD}", *BRIEFLY)
    assert made.failures == []


def test_admin_behind_its_token_keeps_what_it_promises(tmp_path: Path):
    made = office()
    with in_background(lambda: listening(made.admin(token=lambda: TOKEN))) as listener:
        fuzz(tmp_path, listener.addresses[0], f"--header=Authorization: Bearer {TOKEN}", *BRIEFLY)
    assert made.failures == []
