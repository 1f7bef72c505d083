"""Many upstream faults at once: one daemon, one simulated API, an account and a port of the proxy for each fault."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.faults.upstream_faults import UpstreamFault
from tests.support.meddling import Meddler, Port
from tests.support.processes import Daemon, Simulator, answers, cpu_seconds, daemon_of, simulating, until

FAULT_SECONDS = 14.0
RECOVERY_SECONDS = 150.0
PER_SECOND = 2
BUSY_AT_MOST = 0.5
"""Of one core, for all the faults of a round together."""

MEMORY_AT_MOST_MIB = 96.0
"""More than before the faults, for all of a round together; giants have a bound of their own."""

FRESHNESS_SECONDS = 2
LIVES = ("6s", "8s", "22s", "24s")
LATE_LIVES = ("36s", "37s", "38s", "39s")
ENDS = {"COMPLETED": "completed", "CANCELED": "canceled"}


@dataclass
class Seen:
    """What became of one fault."""

    requests: int = 0
    wrong: list[str] = field(default_factory=list)
    issues: list[str] = field(default_factory=list)
    codes: dict[str, int] = field(default_factory=dict)
    recovered_seconds: float = 0.0
    heads: list[bytes] = field(default_factory=list)
    memory_mib: float = 0.0

    def words(self) -> str:
        codes = ", ".join(f"{number} {code}" for code, number in self.codes.items())
        return (
            f"{self.requests} requests in {FAULT_SECONDS:.0f} s ({codes}); "
            f"published: {', '.join(self.issues) or 'no issue'}; all ended and counted as it was "
            f"{self.recovered_seconds:.0f} s after the fault"
        )


@dataclass
class Case:
    """One fault with its account and its operations."""

    fault: UpstreamFault
    number: int
    port: Port
    ids: list[str] = field(default_factory=list)
    seen: Seen = field(default_factory=Seen)

    @property
    def account(self) -> str:
        return f"fault{self.number}"

    @property
    def account_id(self) -> str:
        return f"AC{self.number:032d}"


def play(folder: Path, faults: Sequence[UpstreamFault]) -> dict[str, Seen]:
    """All these faults at the same time; what was seen of each."""
    accounts = [{"account_id": f"AC{n:032d}", "auth_token": f"token-{n}"} for n in range(len(faults))]
    with simulating(folder, yaml.safe_dump({"accounts": accounts, "latency": "5ms..20ms"})) as simulator:
        meddler = Meddler(simulator.port)
        try:
            cases = [Case(fault, n, meddler.port(fault.act)) for n, fault in enumerate(faults)]
            with daemon_of(folder, _settings(folder, cases)) as daemon:
                _Round(simulator, meddler, daemon, cases).play()
        finally:
            meddler.close()
    return {case.fault.name: case.seen for case in cases}


def _settings(folder: Path, cases: Sequence[Case]) -> dict[str, Any]:
    accounts = []
    for case in cases:
        token = folder / f"token{case.number}"
        token.write_text(f"token-{case.number}")
        token.chmod(0o600)
        accounts.append(
            {
                "name": case.account,
                "account_id": case.account_id,
                "auth_token_file": str(token),
                "base_url": f"http://127.0.0.1:{case.port.number}/v1",
                "max_requests_per_second": PER_SECOND,
            }
        )
    polling = {"freshness": f"{FRESHNESS_SECONDS}s", "settle_after": ["1s"], "request_timeout": "2s"}
    return {"accounts": accounts, "polling": polling}


class _Round:
    def __init__(self, simulator: Simulator, meddler: Meddler, daemon: Daemon, cases: Sequence[Case]) -> None:
        self.simulator = simulator
        self.meddler = meddler
        self.daemon = daemon
        self.cases = cases
        self.unwell: list[str] = []
        self.busy = 0.0
        self.samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}

    def play(self) -> None:
        self.daemon.start()
        for case in self.cases:
            case.ids = [self._send(case, life) for life in (LATE_LIVES if case.fault.lies else LIVES)]
        self._register()
        time.sleep(3)
        assert self.daemon.process is not None
        before, worked = _memory_mib(self.daemon.process.pid, reset=True), cpu_seconds(self.daemon.process.pid)
        self._strike()
        met_before = {case.number: case.port.met for case in self.cases}
        counts = self._requests_by_account()
        began = time.monotonic()
        while time.monotonic() - began < FAULT_SECONDS:
            self._check_health()
            time.sleep(1)
        self.busy = (cpu_seconds(self.daemon.process.pid) - worked) / (time.monotonic() - began)
        codes = self._codes()
        after = self._requests_by_account()
        for case in self.cases:
            met = case.port.met - met_before[case.number] or after.get(case.account_id, 0) - counts.get(
                case.account_id, 0
            )
            case.seen.requests = met
            case.seen.codes = codes[case.account]
            case.seen.memory_mib = _memory_mib(self.daemon.process.pid) - before
            case.seen.heads = list(case.port.heads)
        self._lift()
        self._recover()
        self._compare()
        assert self.daemon.terminate(10) == 0
        assert self.daemon.unexpected_output() == ""

    def _send(self, case: Case, life: str) -> str:
        answer = httpx.post(
            f"{self.simulator.base_url}/PushNotifications",
            json={"recipients": 10, "failed": 1, "lifetime": life},
            auth=(case.account_id, f"token-{case.number}"),
            trust_env=False,
        )
        return str(answer.raise_for_status().json()["operationId"])

    def _register(self) -> None:
        body = [{"id": one, "account": case.account} for case in self.cases for one in case.ids]
        answer = httpx.post(f"{self.daemon.admin}/api/v1/operations", json=body, trust_env=False, timeout=30)
        assert answer.status_code == httpx.codes.CREATED, answer.text

    def _strike(self) -> None:
        faults = [dict(one) | {"account": case.account_id} for case in self.cases for one in case.fault.simulated]
        self.simulator.put("faults", faults)
        for case in self.cases:
            self.meddler.strike(case.port)

    def _lift(self) -> None:
        self.simulator.put("faults", [])
        for case in self.cases:
            self.meddler.lift(case.port)

    def _check_health(self) -> None:
        for path in ("/-/healthy", "/-/ready"):
            if not answers(f"{self.daemon.web}{path}"):
                self.unwell.append(path)

    def _requests_by_account(self) -> dict[str, int]:
        counted: dict[str, int] = {}
        for entry in self.simulator.requests()["last"]:
            if entry["endpoint"] in ("fetch", "list"):
                key = str(entry.get("accountId") or entry.get("account_id"))
                counted[key] = counted.get(key, 0) + 1
        return counted

    def _codes(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {case.account: {} for case in self.cases}
        for (name, labels), value in self.daemon.samples().items():
            if name == "operation_watcher_api_requests_total" and value:
                at = dict(labels)
                codes = found[at["account"]]
                codes[at["code"]] = codes.get(at["code"], 0) + round(value)
        return found

    def _recover(self) -> None:
        lifted = time.monotonic()
        open_cases = list(self.cases)
        while open_cases and time.monotonic() - lifted < RECOVERY_SECONDS:
            self._check_health()
            self.samples = self.daemon.samples()
            for case in list(open_cases):
                if sum(self._counted(case).values()) >= len(case.ids):
                    case.seen.recovered_seconds = time.monotonic() - lifted
                    open_cases.remove(case)
            time.sleep(1)
        for case in open_cases:
            case.seen.wrong.append(f"after {RECOVERY_SECONDS} s only {self._counted(case)} are counted")
        until(
            lambda: self.daemon.value("operation_watcher_events_pending") == 0,
            within=30,
            what="all events are published",
        )
        self.samples = self.daemon.samples()

    def _counted(self, case: Case) -> dict[str, float]:
        return {
            outcome: self._sample("twilio_operations_finished_total", case, outcome=outcome)
            for outcome in ("completed", "canceled", "expired", "not_found", "rejected")
        }

    def _sample(self, name: str, case: Case, **labels: str) -> float:
        return self.samples.get((name, frozenset({"account": case.account, "channel": "push", **labels}.items())), 0.0)

    def _compare(self) -> None:
        truth = self.simulator.truth()
        events = self.daemon.events()
        for case in self.cases:
            wrong = case.seen.wrong
            final = [truth[one]["finalStats"] for one in case.ids]
            for state in ("sent", "failed", "canceled"):
                counted = self._sample("twilio_operation_messages_finished_total", case, state=state)
                expected = sum(stats[state] for stats in final if stats)
                if counted != expected:
                    wrong.append(f"{state}: counted {counted:g} instead of {expected}")
            if self._counted(case)["completed"] != len(case.ids):
                wrong.append(f"counted as {self._counted(case)}")
            own = [event for event in events if event.get("account") == case.account]
            case.seen.issues = [e["event"].removeprefix("account.") for e in own if e["event"].startswith("account.")]
            wrong += _wrong_events(case, own)
            most = PER_SECOND * (FAULT_SECONDS + 4) + 4
            if case.seen.requests > most:
                wrong.append(f"{case.seen.requests} requests in {FAULT_SECONDS} s")
            if self.busy > BUSY_AT_MOST:
                wrong.append(f"{self.busy:.0%} of a core")
            if case.seen.memory_mib > MEMORY_AT_MOST_MIB:
                wrong.append(f"{case.seen.memory_mib:.0f} MiB more")
            if self.unwell:
                wrong.append(f"not healthy or ready: {self.unwell}")


def _wrong_events(case: Case, events: Sequence[dict[str, Any]]) -> list[str]:
    wrong = []
    for one in case.ids:
        own = [event for event in events if event.get("operation_id") == one]
        ends = [event for event in own if event["event"] == "operation.finished"]
        if len(ends) != 1 or ends[0]["outcome"] != "completed":
            wrong.append(f"{one}: ends published as {[end['outcome'] for end in ends]}")
        if [event["seq"] for event in own] != list(range(1, len(own) + 1)):
            wrong.append(f"{one}: published out of order: {[event['seq'] for event in own]}")
    return wrong


def _memory_mib(pid: int, *, reset: bool = False) -> float:
    """The most resident memory since the last reset."""
    if reset:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024
