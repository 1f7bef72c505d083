"""Real processes for end-to-end tests: the simulated API and the daemon, each started as a user would."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

PUSH = {("channel", "push")}
PORTS = range(12_000, 32_000)
"""Below those that Linux and macOS give to outgoing connections."""
ACCOUNT_ID = "AC00000000000000000000000000000000"
AUTH_TOKEN = "simulated-auth-token"
API_KEY = "SK00000000000000000000000000000000"
API_KEY_SECRET = "simulated-api-key-secret"
ROOT = Path(__file__).parent.parent.parent


def free_port() -> int:
    """A port that was free a moment ago, and that the system gives to no connection meanwhile.

    A port that the system chooses is one that it may give to any outgoing connection as soon as the process that
    listens there is stopped. Ports below that range stay free for its next start.
    """
    for port in random.SystemRandom().sample(PORTS, 100):
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    message = "no free port"
    raise AssertionError(message)


def until(holds: Callable[[], Any], *, within: float, what: str) -> Any:
    """The first true value of `holds()`; fails after `within` seconds."""
    end = time.monotonic() + within
    while not (value := holds()):
        assert time.monotonic() < end, f"not within {within} s: {what}"
        time.sleep(0.05)
    return value


def cpu_seconds(pid: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def reports(folder: Path, commands: Sequence[Sequence[str]]) -> list[Any]:
    """What Python scripts, run side by side, write to standard output as JSON; all must end well."""
    files = [folder / f"{number}.json" for number in range(len(commands))]
    running = []
    for command, file in zip(commands, files, strict=True):
        with file.open("wb") as out:
            running.append(subprocess.Popen([sys.executable, *command], env=environment({}), stdout=out))
    try:
        assert [process.wait() for process in running] == [0] * len(commands)
    finally:
        for process in running:
            process.kill()
    return [json.loads(file.read_text()) for file in files]


def answers(url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        return httpx.get(url, trust_env=False, verify=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a started process: nothing of the tester's own settings."""
    # Compiled modules are kept, as they are for a user: compiling at each start would be measured with it.
    left_out = ("TWILIO_", "WATCHER_", "PYTHONDONTWRITEBYTECODE")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(left_out)}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | dict(extra)


class Simulator:
    """`watcher simulate` with a scenario, on a free port."""

    def __init__(self, folder: Path, scenario: str, port: int | None = None) -> None:
        self.port = port or free_port()
        file = folder / "scenario.yaml"
        file.write_text(scenario)
        self.base_url = f"http://127.0.0.1:{self.port}/v1"
        self.control_url = f"http://127.0.0.1:{self.port}/_simulator"
        command = [
            sys.executable,
            "-m",
            "watcher",
            "simulate",
            "--listen",
            f"127.0.0.1:{self.port}",
            "--scenario",
            str(file),
        ]
        self.process = subprocess.Popen(command, env=environment({}), stdout=subprocess.DEVNULL)
        until(lambda: answers(f"{self.control_url}/requests"), within=20, what="the simulated API answers")

    def truth(self) -> dict[str, dict[str, Any]]:
        """Every operation by id, as the simulation knows it."""
        found = httpx.get(f"{self.control_url}/operations", trust_env=False, verify=False).json()
        return {operation["id"]: operation for operation in found["operations"]}

    def requests(self) -> dict[str, Any]:
        """The requests so far."""
        answer = httpx.get(f"{self.control_url}/requests?last=100000", trust_env=False, verify=False).json()
        assert isinstance(answer, dict)
        return answer

    def put(self, what: str, body: object) -> None:
        """Change faults, credentials or limits."""
        httpx.put(f"{self.control_url}/{what}", json=body, trust_env=False, verify=False).raise_for_status()

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


class Daemon:
    """`watcher run` with a configuration; its standard output goes to a file that outlives restarts."""

    def __init__(self, folder: Path, settings: Mapping[str, Any] | None, env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.web_port, self.admin_port = free_port(), free_port()
        self.web = f"http://127.0.0.1:{self.web_port}"
        self.admin = f"http://127.0.0.1:{self.admin_port}"
        self.stdout = folder / "stdout.jsonl"
        self.stderr = folder / "stderr.txt"
        self.env = dict(env or {}) | {
            "WATCHER_WEB__LISTEN": f"127.0.0.1:{self.web_port}",
            "WATCHER_ADMIN__LISTEN": f"127.0.0.1:{self.admin_port}",
            "WATCHER_STORAGE__URL": f"sqlite:///{folder}/watcher.db",
        }
        self.arguments: list[str] = []
        if settings is not None:
            self.configure(settings)
            self.arguments = ["--config", str(folder / "watcher.yaml")]
        self.process: subprocess.Popen[bytes] | None = None

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Write the configuration file."""
        (self.folder / "watcher.yaml").write_text(yaml.safe_dump(dict(settings)))

    def start(self, *more: str, ready: bool = True) -> None:
        """Start the process, and wait until it is ready."""
        with self.stdout.open("ab") as out, self.stderr.open("ab") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "watcher", "run", *self.arguments, *more],
                env=environment(self.env),
                cwd=self.folder,
                stdout=out,
                stderr=err,
            )
        if ready:
            until(lambda: self.is_ready() or self.has_ended(), within=30, what="the daemon is ready")
            assert not self.has_ended(), self.stderr.read_text()

    def is_ready(self) -> bool:
        return answers(f"{self.web}/-/ready")

    def has_ended(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """As the kernel would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self, within: float = 5.0) -> int:
        """Stop cleanly; the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(within)

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """The events so far. A line that a kill cut short is not a line."""
        lines = self.stdout.read_bytes().split(b"\n")[:-1]
        events = [json.loads(line) for line in lines if line.startswith(b'{"timestamp"') and line.endswith(b"}")]
        return [event for event in events if name in (None, event["event"])]

    def metrics(self, accept: str = "text/plain") -> str:
        """The text of a scrape by hand."""
        return httpx.get(f"{self.web}/metrics", headers={"Accept": accept}, trust_env=False, verify=False).text

    def unexpected_output(self) -> str:
        """What was written to standard error, and tracebacks on standard output."""
        written = self.stdout.read_text(errors="replace") if self.stdout.exists() else ""
        return self.stderr.read_text() + (written if "Traceback" in written else "")

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample, by name and labels."""
        from prometheus_client.parser import text_string_to_metric_families

        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.metrics())
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float | None:
        """One sample, also where the series has the channel; None where there is no such series."""
        samples, key = self.samples(), frozenset(labels.items())
        return samples.get((name, key), samples.get((name, key | PUSH)))

    def track(self, *ids: str, labels: Mapping[str, str] | None = None) -> httpx.Response:
        """Register over the admin API."""
        body = [{"id": one, "labels": dict(labels or {})} for one in ids]
        return httpx.post(f"{self.admin}/api/v1/operations", json=body, trust_env=False, verify=False, timeout=30)


@contextlib.contextmanager
def simulating(folder: Path, scenario: str) -> Iterator[Simulator]:
    """A simulated API for as long as the context lasts."""
    simulator = Simulator(folder, scenario)
    try:
        yield simulator
    finally:
        simulator.stop()


@contextlib.contextmanager
def daemon_of(
    folder: Path, settings: Mapping[str, Any] | None, env: Mapping[str, str] | None = None
) -> Iterator[Daemon]:
    """A daemon that is not yet started, and is certainly gone afterwards."""
    daemon = Daemon(folder, settings, env)
    try:
        yield daemon
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill()


def account(base_url: str, folder: Path, **changes: Any) -> dict[str, Any]:
    """The settings of one account, its token in a file."""
    token = folder / "auth_token"
    if not token.exists():
        token.write_text(AUTH_TOKEN + "\n")
        token.chmod(0o600)
    return {
        "name": "main",
        "account_id": ACCOUNT_ID,
        "auth_token_file": str(token),
        "base_url": base_url,
    } | changes
