"""CPU, memory, requests, delay and loop lag of the real daemon, and of the plain poller in the same run.

    python -m benchmarks.daemon [--in-flight 100,1000,10000,100000] [--seconds 60] [--without-plain]

The simulated API runs in a process of its own. What it used of its core is printed too, so that everybody can see that
it was not what was measured: where that is well below 100 %, it answered as fast as it was asked.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from benchmarks.daemon.seen import (
    cpu_seconds,
    end_delays,
    following,
    loop_lags,
    quantile,
    requests_of,
    rss_mib,
    sample,
    scrape,
)
from tests.support.processes import Daemon, Simulator, account, daemon_of, environment, free_port, simulating, until

RESULTS = Path(__file__).parent.parent / "results" / "daemon.json"
SCRAPE_EVERY_SECONDS = 15.0
LAG_SECONDS = 45.0
MANY = 10_000
COLUMNS = (
    "who",
    "in flight",
    "freshness",
    "CPU %",
    "RSS MiB",
    "requests/s",
    "looks/s",
    "in time/s",
    "CPU µs a look",
    "end known p50, p99 s",
    "loop lag p99, max ms",
    "simulator CPU %",
)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a watcher took, over the same seconds."""

    cpu_percent: float
    rss_mib: float
    requests_per_second: float
    simulator_cpu_percent: float


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one watcher cost and gave. A look is in time when it came within the freshness after the one before."""

    who: str
    in_flight: int
    freshness_seconds: float
    cost: Cost
    looks_per_second: float
    looks_in_time_per_second: float
    cpu_microseconds_per_look: float
    cpu_microseconds_per_look_in_time: float | None
    more: dict[str, float]


def scenario(in_flight: int) -> str:
    """Log-uniform lifetimes from two seconds to two hours, in a steady state."""
    return f"population: {{in_flight: {in_flight}, lifetime: 2s..2h, recipients: 1..1000, share_canceled: 0.03}}\n"


def measure_daemon(folder: Path, in_flight: int, freshness: float, seconds: float) -> Figures:
    """The daemon with discovery, scraped every 15 s; then how late its loop is, then how fast it starts again."""
    with simulating(folder, scenario(in_flight)) as simulator:
        settings = {
            "accounts": [
                account(
                    simulator.base_url,
                    folder,
                    discover=True,
                    max_requests_per_second=20 if in_flight <= MANY else 40,
                    max_concurrency=4 if in_flight <= MANY else 8,
                )
            ],
            "polling": {"freshness": f"{freshness:g}s"},
            "metrics": {"max_operations": MANY},
        }
        with daemon_of(folder, settings) as daemon:
            daemon.start()
            found_in = seconds_until(lambda: following(scrape(daemon)) >= in_flight * 0.95)
            time.sleep(min(8 * freshness, 90))
            told = daemon.stdout.stat().st_size
            with scraped(daemon):
                cost = spent(daemon.process.pid if daemon.process else 0, simulator, seconds)
                delays = end_delays(daemon, told)
                lags = loop_lags(daemon, LAG_SECONDS)
            text = scrape(daemon)
            late = sample(text, 'operation_watcher_poll_lag_seconds{account="main"}')
            # Whoever is never late was looked at once in each span of the freshness. The young are looked at more
            # often, and so are those that settle; that is not counted.
            looks = following(text) / freshness
            in_time = looks if late <= freshness * 0.1 else 0.0
            daemon.terminate(30)
            ready, followed = start_again(daemon, in_flight)
    return Figures(
        who="operation watcher",
        in_flight=in_flight,
        freshness_seconds=freshness,
        cost=cost,
        looks_per_second=looks,
        looks_in_time_per_second=in_time,
        cpu_microseconds_per_look=1e4 * cost.cpu_percent / looks,
        cpu_microseconds_per_look_in_time=1e4 * cost.cpu_percent / in_time if in_time else None,
        more={
            "poll_lag_seconds": late,
            "end_delay_p50_seconds": quantile(delays, 0.5),
            "end_delay_p99_seconds": quantile(delays, 0.99),
            "ends": len(delays),
            "loop_lag_p50_ms": 1e3 * quantile(lags, 0.5),
            "loop_lag_p99_ms": 1e3 * quantile(lags, 0.99),
            "loop_lag_max_ms": 1e3 * lags[-1],
            "loop_lag_gauge_ms": 1e3 * sample(text, "operation_watcher_event_loop_lag_seconds"),
            "discovered_in_seconds": found_in,
            "start_again_ready_seconds": ready,
            "start_again_all_followed_seconds": followed,
        },
    )


def start_again(daemon: Daemon, in_flight: int) -> tuple[float, float]:
    """Seconds until the daemon is ready on a store that holds everything, and until all of it is followed."""
    began = time.monotonic()
    daemon.start(ready=False)
    ready = seconds_until(daemon.is_ready, began)
    followed = seconds_until(lambda: following(scrape(daemon)) >= in_flight * 0.8, began)
    daemon.terminate(30)
    return ready, followed


def measure_plain(folder: Path, in_flight: int, freshness: float, seconds: float) -> Figures:
    """The plain poller on the operations that run at its start."""
    with simulating(folder, scenario(in_flight)) as simulator:
        found = httpx.get(
            f"{simulator.control_url}/operations", params={"status": "PROCESSING"}, trust_env=False, timeout=120
        ).json()
        ids = [operation["id"] for operation in found["operations"]]
        poller = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "benchmarks.daemon.plain_poller",
                simulator.base_url,
                f"{freshness:g}",
                f"{free_port()}",
            ],
            env=environment({}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            lines: list[tuple[int, int]] = []
            reader = threading.Thread(target=read_looks, args=(poller, ids, lines), daemon=True)
            reader.start()
            time.sleep(4 * freshness + 15)
            first = lines[-1]
            cost = spent(poller.pid, simulator, seconds)
            last = lines[-1]
        finally:
            poller.kill()
            poller.wait()
    looks, in_time = ((after - before) / seconds for before, after in zip(first, last, strict=True))
    return Figures(
        who="plain poller",
        in_flight=in_flight,
        freshness_seconds=freshness,
        cost=cost,
        looks_per_second=looks,
        looks_in_time_per_second=in_time,
        cpu_microseconds_per_look=1e4 * cost.cpu_percent / looks,
        cpu_microseconds_per_look_in_time=1e4 * cost.cpu_percent / in_time if in_time else None,
        more={},
    )


def read_looks(poller: subprocess.Popen[str], ids: list[str], lines: list[tuple[int, int]]) -> None:
    """Give the poller its ids, then note how many looks it made, and how many in time."""
    if poller.stdin is None or poller.stdout is None:
        raise RuntimeError("no pipes to the poller")
    poller.stdin.write("\n".join(ids))
    poller.stdin.close()
    for line in poller.stdout:
        made, fresh = line.split()
        lines.append((int(made), int(fresh)))


def spent(pid: int, simulator: Simulator, seconds: float) -> Cost:
    """What a process took in the seconds from now on."""
    cpu, sim_cpu = cpu_seconds(pid), cpu_seconds(simulator.process.pid)
    asked, began = requests_of(simulator), time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - began
    return Cost(
        cpu_percent=100 * (cpu_seconds(pid) - cpu) / passed,
        rss_mib=rss_mib(pid),
        requests_per_second=(requests_of(simulator) - asked) / passed,
        simulator_cpu_percent=100 * (cpu_seconds(simulator.process.pid) - sim_cpu) / passed,
    )


@contextmanager
def scraped(daemon: Daemon) -> Iterator[None]:
    """A scrape every 15 s, read by a thread as Prometheus would."""
    stop = threading.Event()

    def go_on() -> None:
        while not stop.wait(SCRAPE_EVERY_SECONDS):
            scrape(daemon)

    scraper = threading.Thread(target=go_on)
    scraper.start()
    try:
        yield
    finally:
        stop.set()
        scraper.join()


def seconds_until(holds: Callable[[], bool], began: float | None = None) -> float:
    """How long it takes until something holds."""
    began = time.monotonic() if began is None else began
    until(holds, within=600, what="what is measured comes true")
    return time.monotonic() - began


def table(figures: Sequence[Figures]) -> str:
    """The figures as the manual shows them."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for one in figures:
        more = one.more
        pairs = [
            f"{more[first]:.{digits}f}, {more[second]:.{digits}f}" if more else ""
            for first, second, digits in (
                ("end_delay_p50_seconds", "end_delay_p99_seconds", 1),
                ("loop_lag_p99_ms", "loop_lag_max_ms", 0),
            )
        ]
        cells = [
            one.who,
            f"{one.in_flight:,}",
            f"{one.freshness_seconds:g} s",
            f"{one.cost.cpu_percent:.1f}",
            f"{one.cost.rss_mib:.0f}",
            f"{one.cost.requests_per_second:.1f}",
            f"{one.looks_per_second:.0f}",
            f"{one.looks_in_time_per_second:.0f}",
            f"{one.cpu_microseconds_per_look:.0f}",
            *pairs,
            f"{one.cost.simulator_cpu_percent:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in-flight", default="100,1000,10000,100000")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--without-plain", action="store_true")
    arguments = parser.parse_args()
    figures: list[Figures] = []
    for number in (int(word) for word in arguments.in_flight.split(",")):
        freshness = 5.0 if number <= MANY else 30.0
        for measure in (measure_daemon,) if arguments.without_plain else (measure_daemon, measure_plain):
            with tempfile.TemporaryDirectory() as folder:
                figures.append(measure(Path(folder), number, freshness, arguments.seconds))
            print(json.dumps(asdict(figures[-1])), flush=True)
    print(table(figures))
    RESULTS.write_text(json.dumps([asdict(one) for one in figures], indent=2) + "\n")


if __name__ == "__main__":
    main()
