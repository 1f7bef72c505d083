"""`watcher wait` against the simulated API on loopback."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from tests.cli.running import (
    ACCOUNT_ID,
    CREDENTIALS,
    TOKEN,
    Command,
    an_id,
    aside,
    in_background,
    on_a_terminal,
    process,
)
from watcher.__main__ import INTERRUPTED
from watcher.cli.exits import Exit
from watcher.cli.verdict import Stop
from watcher.cli.wait_loop import WaitLoop
from watcher.clock import Clock
from watcher.config import load
from watcher.core.model import Operation
from watcher.simulator import parse_scenario
from watcher.simulator.server import serving

NOWHERE = "http://127.0.0.1:1/v1"
FIVE = "operations:\n" + "".join(
    f"  - {{id: {an_id(number)}, processing: 50ms, completed: {100 * number}ms, "
    f"stats: {{recipients: 20, failed: {3 if number == 4 else 0}, unaddressable: {number}}}}}\n"
    for number in range(1, 6)
)
ENDLESS = f"operations: [{{id: {an_id(1)}, processing: 10ms, stats: {{recipients: 20}}}}]"
CANCELED = f"operations: [{{id: {an_id(1)}, processing: 10ms, canceled: 30ms, stats: {{recipients: 20}}}}]"
IDS = [an_id(number) for number in range(1, 6)]


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHER_POLLING__FRESHNESS", "500ms")
    monkeypatch.setenv("WATCHER_ACCOUNTS__0__BASE_URL", NOWHERE)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@contextmanager
def simulated(scenario: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with in_background(lambda: serving(parse_scenario(scenario))) as running:
        monkeypatch.setenv("WATCHER_ACCOUNTS__0__BASE_URL", running.base_url)
        yield running.base_url


def test_all_operations_are_tracked_to_their_end(watcher: Command, monkeypatch: pytest.MonkeyPatch):
    with simulated(FIVE, monkeypatch):
        bad = watcher("wait", *IDS)
        allowed = watcher("wait", *IDS, "--max-failed", "3")
        unaddressable = watcher("wait", *IDS, "--max-failed", "3", "--max-unaddressable", "14")
    assert (bad.code, bad.err) == (
        Exit.ENDED_BADLY,
        "watcher wait: 3 notifications failed, 0 allowed (--max-failed)\n",
    )
    ends = [line for line in bad.out.splitlines() if "COMPLETED" in line]
    assert sorted(line.split()[2] for line in ends) == IDS
    assert bad.out.splitlines()[-1] == (
        "5 operations: 5 completed; 82 of 85 sent, 3 failed, 15 of 100 recipients unaddressable"
    )
    assert (allowed.code, allowed.err) == (Exit.GOOD, "")
    assert unaddressable.code == Exit.ENDED_BADLY


def test_the_timeout_is_3(watcher: Command, monkeypatch: pytest.MonkeyPatch):
    with simulated(ENDLESS, monkeypatch):
        ended = watcher("wait", an_id(1), "--timeout", "1s")
    assert ended.code == Exit.TIMED_OUT
    assert ended.err == "watcher wait: timed out, 1 operation had not ended\n"
    assert ended.out.splitlines()[-1].startswith("1 operation: 1 not ended; ")


def test_canceled_is_1(watcher: Command, monkeypatch: pytest.MonkeyPatch):
    with simulated(CANCELED, monkeypatch):
        ended = watcher("wait", an_id(1))
    assert ended.code == Exit.ENDED_BADLY
    assert ended.err == "watcher wait: 1 operation ended as canceled\n"


def test_a_closed_port_is_4(watcher: Command):
    ended = watcher("wait", an_id(1), "--timeout", "200ms")
    assert ended.code == Exit.UNREACHABLE
    assert "the API could not be reached" in ended.err


def test_a_closed_port_is_detected_without_a_timeout():
    # A clock that runs 20 times as fast reaches the time-out of unreachable APIs sooner, and changes nothing else.
    clock = Clock(steady=lambda: time.monotonic() * 20)
    loaded = load(None, {**CREDENTIALS, "WATCHER_ACCOUNTS__0__BASE_URL": NOWHERE})
    wait_loop = WaitLoop(loaded, loaded.configuration.accounts[0], [an_id(1)], clock)
    shown: list[Operation] = []
    stop = aside(run_loop, wait_loop, shown)
    assert stop is Stop.UNREACHABLE
    assert "ConnectError" in wait_loop.why
    assert {one.id for one in shown} == {an_id(1)}


def run_loop(wait_loop: WaitLoop, shown: list[Operation]) -> Stop:
    import asyncio

    return asyncio.run(wait_loop.until_ended(timedelta(seconds=30), shown.extend))


@pytest.mark.parametrize("status", [400, 404])
def test_a_proxys_page_ends_no_operation_and_is_4(watcher: Command, monkeypatch: pytest.MonkeyPatch, status: int):
    page = f"{ENDLESS}\nfaults: [{{kind: status, status: {status}, shape: html}}]"
    with simulated(page, monkeypatch):
        ended = watcher("wait", an_id(1), "--timeout", "1500ms")
    assert ended.code == Exit.UNREACHABLE
    assert "1 not ended" in ended.out


def test_a_proxys_page_is_detected_without_a_timeout(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(steady=lambda: time.monotonic() * 20)
    page = f"{ENDLESS}\nfaults: [{{kind: status, status: 404, shape: html}}]"
    with simulated(page, monkeypatch) as base_url:
        loaded = load(None, {**CREDENTIALS, "WATCHER_ACCOUNTS__0__BASE_URL": base_url})
        wait_loop = WaitLoop(loaded, loaded.configuration.accounts[0], [an_id(1)], clock)
        stop = aside(run_loop, wait_loop, [])
    assert stop is Stop.UNREACHABLE
    assert "HTTP 404" in wait_loop.why
    assert base_url in wait_loop.why


def test_refused_credentials_are_2(watcher: Command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "wrong-5a7f")
    with simulated(ENDLESS, monkeypatch):
        ended = watcher("wait", an_id(1))
    assert ended.code == Exit.USAGE
    assert ended.err.startswith("watcher wait: the credentials were refused: ")
    assert "wrong-5a7f" not in ended.err + ended.out


def test_no_credentials_are_2(watcher: Command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TWILIO_AUTH_TOKEN")
    ended = watcher("wait", an_id(1))
    assert ended.code == Exit.USAGE
    assert "TWILIO_AUTH_TOKEN" in ended.err


def test_a_certificate_that_cannot_be_read_is_2(watcher: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("WATCHER_ACCOUNTS__0__BASE_URL", "https://localhost:1/v1")
    monkeypatch.setenv("WATCHER_ACCOUNTS__0__CA_FILE", str(tmp_path))
    assert watcher("wait", an_id(1)).code == Exit.USAGE


def test_the_account_is_named_where_there_are_several(
    watcher: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "other").write_text("another-token")
    file = tmp_path / "c.yaml"
    with simulated(CANCELED, monkeypatch) as base_url:
        monkeypatch.delenv("WATCHER_ACCOUNTS__0__BASE_URL")
        for name in CREDENTIALS:
            monkeypatch.delenv(name)
        file.write_text(
            f"accounts:\n"
            f"  - {{name: one, account_id: {ACCOUNT_ID}, auth_token_file: token, base_url: '{base_url}'}}\n"
            f"  - {{name: two, account_id: AC{'1' * 32}, auth_token_file: other, base_url: '{base_url}'}}\n"
        )
        unnamed = watcher("wait", an_id(1), "--config", str(file))
        unknown = watcher("wait", an_id(1), "--config", str(file), "--account", "three")
        named = watcher("wait", an_id(1), "--config", str(file), "--account", "one")
    assert (unnamed.code, unknown.code, named.code) == (Exit.USAGE, Exit.USAGE, Exit.ENDED_BADLY)
    assert unnamed.err == "watcher wait: several accounts are configured; choose one with --account: one, two\n"
    assert unknown.err == "watcher wait: no account is called 'three'; the accounts are one, two\n"


def test_a_terminal_shows_progress(monkeypatch: pytest.MonkeyPatch):
    with simulated(CANCELED, monkeypatch):
        code, written = on_a_terminal("wait", an_id(1))
    assert code == Exit.ENDED_BADLY
    assert "━━━" in written
    assert "CANCELED" in written
    assert "\x1b[?25h" in written  # the cursor is back


def test_interrupting_is_130_without_a_traceback(monkeypatch: pytest.MonkeyPatch):
    with simulated(ENDLESS, monkeypatch):
        running = process("wait", an_id(1))
        assert running.stdout is not None
        assert an_id(1) in next(iter(running.stdout))
        running.send_signal(signal.SIGINT)
        written = running.communicate(timeout=30)
    assert (running.returncode, written) == (INTERRUPTED, ("", ""))
