"""run, check, demo and simulate: what the command line adds to the code that they call."""

import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.cli.running import CREDENTIALS, Command, process
from watcher.cli.exits import Exit


def set_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


def test_check_describes_a_configuration(watcher: Command, monkeypatch: pytest.MonkeyPatch):
    set_credentials(monkeypatch)
    ended = watcher("check")
    assert (ended.code, ended.err) == (Exit.GOOD, "")
    assert ended.out.startswith("configuration: no file, the environment alone\n")
    assert ended.out.endswith("\nthe configuration is good\n")
    assert CREDENTIALS["TWILIO_AUTH_TOKEN"] not in ended.out


def test_check_prints_warnings(watcher: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    set_credentials(monkeypatch)
    monkeypatch.setenv("WATCHER_STORAGE__URL", f"sqlite:///{tmp_path}/watcher.db")
    assert "warnings:" not in watcher("check").out
    monkeypatch.setenv("WATCHER_POLLING__FRESHNESS", "500ms")
    out = watcher("check").out
    assert "\nwarnings:\n  polling.freshness: 500ms costs many requests for little gain\n" in out


def test_check_names_every_problem_at_once(watcher: Command, tmp_path: Path):
    file = tmp_path / "c.yaml"
    file.write_text("polling: {freshnes: 2s}\nmetrics: {hold: 1}\n")
    ended = watcher("check", "--config", str(file))
    assert (ended.code, ended.out) == (Exit.USAGE, "")
    problems = ended.err.splitlines()
    assert problems[0] == f'{file}:1: polling.freshnes: unknown key; did you mean "freshness"?'
    assert problems[1].startswith(f"{file}:2: metrics.hold: expected a duration")
    assert len(problems) >= 3


def test_run_without_credentials_is_2():
    ended = process("run").communicate(timeout=30)
    assert ended[0] == ""
    assert "no credentials" in ended[1]


def test_run_ends_cleanly_at_a_signal(tmp_path: Path):
    settings = {
        "WATCHER_STORAGE__URL": f"sqlite:///{tmp_path}/watcher.db",
        "WATCHER_WEB__LISTEN": "127.0.0.1:0",
        "WATCHER_ADMIN__LISTEN": "127.0.0.1:0",
        "WATCHER_ACCOUNTS__0__BASE_URL": "http://127.0.0.1:1/v1",
    }
    running = process("run", "--linger", "0s", env={**CREDENTIALS, **settings})
    assert running.stdout is not None
    assert '"daemon.started"' in next(iter(running.stdout))
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=30)
    assert (running.returncode, err) == (Exit.GOOD, "")


def test_demo_ends_when_its_time_is_up():
    running = process("demo", "--operations", "3", "--duration", "100ms")
    out, err = running.communicate(timeout=30)
    assert running.returncode == Exit.GOOD, err
    assert "http://" in out


def simulated(*argv: str) -> tuple["subprocess.Popen[str]", list[str]]:
    """The simulated API as a process, and what it said until it answered."""
    running = process("simulate", "--listen", "127.0.0.1:0", *argv)
    assert running.stdout is not None
    return running, [next(iter(running.stdout)).rstrip() for _ in range(8)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_simulate_prints_its_address_and_ends_at_a_signal(number: int):
    running, said = simulated("--scenario", "calm")
    base_url = said[0].rpartition(" ")[2]
    assert f"  export WATCHER_ACCOUNTS__0__BASE_URL={base_url}" in said
    assert f"  export TWILIO_AUTH_TOKEN={CREDENTIALS['TWILIO_AUTH_TOKEN']}" in said
    operations_url = base_url.replace("/v1", "/_simulator/operations")
    assert httpx.get(operations_url, trust_env=False, verify=False).status_code == 200
    running.send_signal(number)
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out, err) == (Exit.GOOD, "", "")


def test_simulate_shows_no_credentials_from_a_scenario_of_the_user(tmp_path: Path):
    file = tmp_path / "scenario.yaml"
    file.write_text("accounts: [{account_id: AC11111111111111111111111111111111, auth_token: mine}]\n")
    running, said = simulated("--scenario", str(file))
    running.terminate()
    running.communicate(timeout=30)
    assert "  export TWILIO_ACCOUNT_SID=AC11111111111111111111111111111111" in said
    assert "mine" not in "".join(said)


def test_simulate_refuses_a_bad_scenario(watcher: Command, tmp_path: Path):
    file = tmp_path / "scenario.yaml"
    file.write_text("populaton: {}\n")
    ended = watcher("simulate", "--scenario", str(file))
    assert ended.code == Exit.USAGE
    assert "populaton" in ended.err
    missing = watcher("simulate", "--scenario", "calmer")
    assert missing.code == Exit.USAGE
    assert missing.err.endswith("give a YAML file, or a built-in scenario: calm, demo, nasty\n")


def test_simulate_reports_that_it_cannot_listen():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        running = process("simulate", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
        written = running.communicate(timeout=30)
    assert running.returncode == Exit.USAGE
    assert written == ("", "watcher simulate: cannot listen there: address already in use; choose another --listen\n")
