"""CPU, memory, requests, delay and loop lag of the real daemon, and of the plain poller in the same run.

    python -m benchmarks.daemon [--in-flight 100,1000,10000] [--seconds 60]

The simulated API runs in a process of its own; its CPU is printed too, so that everybody can see that it was not what
was measured. CPU is that of the process, from the kernel's accounting.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from tests.support.processes import Daemon, Simulator, account, environment, free_port, until

RESULTS = Path(__file__).parent.parent / "results" / "daemon.json"
TICKS = os.sysconf("SC_CLK_TCK")
SCRAPE_EVERY_SECONDS = 15.0


@dataclass
class Figures:
    """What one watcher cost and gave."""

    who: str
    in_flight: int
    freshness_seconds: float
    cpu_percent: float
    rss_mib: float
    requests_per_second: float
    looks_in_time_per_second: float
    cpu_microseconds_per_look_in_time: float
    delay_p99_at_most_seconds: float | None
    loop_lag_seconds: float | None
    simulator_cpu_percent: float


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mib(pid: int) -> float:
    """Resident memory of a process now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def requests_of(simulator: Simulator) -> int:
    """All requests that the simulated API was asked so far."""
    counts = httpx.get(f"{simulator.control_url}/requests", trust_env=False, timeout=30).json()["counts"]
    return sum(sum(outcomes.values()) for outcomes in counts.values())


def scenario(in_flight: int) -> str:
    """Log-uniform lifetimes from two seconds to two hours, in a steady state."""
    return f"population: {{in_flight: {in_flight}, lifetime: 2s..2h, recipients: 1..1000, share_canceled: 0.03}}\n"


def measure_daemon(folder: Path, in_flight: int, freshness: float, seconds: float) -> Figures:
    """The daemon with discovery, scraped every 15 s."""
    simulator = Simulator(folder, scenario(in_flight))
    settings = {
        "accounts": [
            account(
                simulator.base_url,
                folder,
                discover=True,
                max_requests_per_second=20 if in_flight <= 10_000 else 40,
                max_concurrency=4 if in_flight <= 10_000 else 8,
            )
        ],
        "polling": {"freshness": f"{freshness:g}s"},
        "metrics": {"max_operations": 10_000},
    }
    daemon = Daemon(folder, settings)
    try:
        daemon.start()
        pid = daemon.process.pid if daemon.process is not None else 0
        until(lambda: running(daemon) >= in_flight * 0.9, within=300, what="nearly all are followed")
        time.sleep(4 * freshness + 15)
        before = daemon.samples()
        cpu, sim_cpu, asked, began = (
            cpu_seconds(pid),
            cpu_seconds(simulator.process.pid),
            requests_of(simulator),
            time.monotonic(),
        )
        lag = 0.0
        while (passed := time.monotonic() - began) < seconds:
            time.sleep(min(SCRAPE_EVERY_SECONDS, seconds - passed))
            lag = max(lag, daemon.value("operation_watcher_event_loop_lag_seconds") or 0.0)
        after = daemon.samples()
        passed = time.monotonic() - began
        cpu, sim_cpu = cpu_seconds(pid) - cpu, cpu_seconds(simulator.process.pid) - sim_cpu
        asked = requests_of(simulator) - asked
        memory = rss_mib(pid)
        late = daemon.value("operation_watcher_poll_lag_seconds", account="main") or 0.0
        # Whoever is never late was looked at once in each span of the freshness.
        looks = running(daemon) / freshness if late <= freshness * 0.1 else 0.0
        daemon.terminate(30)
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill()
        simulator.stop()
    return Figures(
        who="operation watcher",
        in_flight=in_flight,
        freshness_seconds=freshness,
        cpu_percent=100 * cpu / passed,
        rss_mib=memory,
        requests_per_second=asked / passed,
        looks_in_time_per_second=looks,
        cpu_microseconds_per_look_in_time=1e6 * cpu / passed / looks if looks else float("inf"),
        delay_p99_at_most_seconds=quantile_bound(before, after, 0.99),
        loop_lag_seconds=lag,
        simulator_cpu_percent=100 * sim_cpu / passed,
    )


def measure_plain(folder: Path, in_flight: int, freshness: float, seconds: float) -> Figures:
    """The plain poller on the operations that run at its start."""
    simulator = Simulator(folder, scenario(in_flight))
    found = httpx.get(
        f"{simulator.control_url}/operations", params={"status": "PROCESSING"}, trust_env=False, timeout=120
    ).json()
    ids = [operation["id"] for operation in found["operations"]]
    poller = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.daemon.plain_poller", simulator.base_url, str(freshness), str(free_port())],
        env=environment({}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        if poller.stdin is None or poller.stdout is None:
            raise RuntimeError("no pipes to the poller")
        poller.stdin.write("\n".join(ids))
        poller.stdin.close()
        end = time.monotonic() + 4 * freshness + 15
        first = last = (0, 0)
        while time.monotonic() < end:
            first = parsed(poller.stdout.readline())
        cpu, sim_cpu, asked, began = (
            cpu_seconds(poller.pid),
            cpu_seconds(simulator.process.pid),
            requests_of(simulator),
            time.monotonic(),
        )
        while time.monotonic() - began < seconds:
            last = parsed(poller.stdout.readline())
        passed = time.monotonic() - began
        cpu, sim_cpu = cpu_seconds(poller.pid) - cpu, cpu_seconds(simulator.process.pid) - sim_cpu
        asked = requests_of(simulator) - asked
        memory = rss_mib(poller.pid)
    finally:
        poller.kill()
        poller.wait()
        simulator.stop()
    looks = (last[1] - first[1]) / passed
    return Figures(
        who="plain poller",
        in_flight=in_flight,
        freshness_seconds=freshness,
        cpu_percent=100 * cpu / passed,
        rss_mib=memory,
        requests_per_second=asked / passed,
        looks_in_time_per_second=looks,
        cpu_microseconds_per_look_in_time=1e6 * cpu / passed / looks if looks else float("inf"),
        delay_p99_at_most_seconds=None,
        loop_lag_seconds=None,
        simulator_cpu_percent=100 * sim_cpu / passed,
    )


def parsed(line: str) -> tuple[int, int]:
    """Looks made, looks in time."""
    made, fresh = line.split()
    return int(made), int(fresh)


def running(daemon: Daemon) -> float:
    """How many operations the daemon follows that have not ended."""
    samples = daemon.samples()
    return sum(
        samples.get(("twilio_push_operations", frozenset({("account", "main"), ("status", status)})), 0.0)
        for status in ("UNSEEN", "SCHEDULED", "PROCESSING")
    )


def quantile_bound(before: dict, after: dict, quantile: float) -> float | None:  # type: ignore[type-arg]
    """The smallest bucket bound of the detection delay that holds so large a share."""
    name = "operation_watcher_detection_delay_seconds_bucket"
    buckets = sorted(
        (float(dict(labels)["le"]), value - before.get((series, labels), 0.0))
        for (series, labels), value in after.items()
        if series == name
    )
    total = buckets[-1][1]
    return next((bound for bound, count in buckets if total and count >= quantile * total), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in-flight", default="100,1000,10000")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--without-plain", action="store_true")
    arguments = parser.parse_args()
    figures: list[Figures] = []
    for number in (int(word) for word in arguments.in_flight.split(",")):
        freshness = 5.0 if number <= 10_000 else 30.0
        for measure in (measure_daemon,) if arguments.without_plain else (measure_daemon, measure_plain):
            with tempfile.TemporaryDirectory() as folder:
                figures.append(measure(Path(folder), number, freshness, arguments.seconds))
            print(json.dumps(asdict(figures[-1])), flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([asdict(one) for one in figures], indent=2) + "\n")


if __name__ == "__main__":
    main()
