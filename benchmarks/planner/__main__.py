"""Requests per operation and detection delay: our planner beside what everybody writes, on the same model of upstream.

    python -m benchmarks planner [--quick] [--check] [--only WORD]
    python -m benchmarks planner --against COMMIT [--cases discovery,doubtful] [--minutes 10] [--warm-up 2]

Virtual time: an hour of polling takes a minute. `--quick` measures small accounts for a short time; `--check` measures
what is promised, and exits 1 when a promise is broken. The whole table is written to benchmarks/results/planner.json.

With `--against` the real daemons of both commits run in real time: see `against`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.planner.against import side_by_side
from benchmarks.planner.drive import Case, MakePolicy, Outcome, drive
from benchmarks.planner.policies import Polling, Sweeping, by_age, every, exponential
from benchmarks.planner.tomorrow import Lone, Tomorrow
from benchmarks.planner.world import World
from watcher.core.planner import Planner

RESULTS = Path(__file__).parent.parent / "results" / "planner.json"
SEED = 1
DEFAULT_SETTLING = (30.0, 120.0)

POLICIES: dict[str, MakePolicy] = {
    "ours": Planner,
    "every 5 s": lambda _, now: Polling(every(5), now),
    "every 30 s": lambda _, now: Polling(every(30), now),
    "exponential": lambda _, now: Polling(exponential, now),
    "a tenth of the age": lambda _, now: Polling(by_age, now),
    "plain sweeps": lambda promise, now: Sweeping(promise.freshness, now),
}
UNLIMITED = 1e6
"""What others would need: their requests per second are not limited, or they would only be late."""


class Run(NamedTuple):
    """A policy in a case."""

    policy: str
    case: Case


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks planner", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small accounts, a short time; nothing is written")
    parser.add_argument("--check", action="store_true", help="measure what is promised; exit 1 where it is broken")
    parser.add_argument("--only", default="", help="only policies with this word in their name")
    parser.add_argument("--against", metavar="COMMIT", help="requests a minute beside another commit, in real time")
    parser.add_argument("--cases", default="", help="with --against: names with commas; discovery or doubtful for all")
    parser.add_argument("--minutes", type=int, default=10, help="with --against: how long to measure")
    parser.add_argument("--warm-up", type=int, default=2, metavar="MINUTES", help="with --against: before that")
    chosen = parser.parse_args(arguments)
    if chosen.against:
        return side_by_side(chosen.against, chosen.cases, minutes=chosen.minutes, warm_up=chosen.warm_up)
    if chosen.check:
        return check()
    print(HEADING)
    rows = [measure(run) for run in (quick_runs() if chosen.quick else runs()) if chosen.only in run.policy]
    if not chosen.quick and not chosen.only:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


# ── the table ─────────────────────────────────────────────────────────────────────────────────────────────────────────

HEADING = (
    "| in flight | tracked | latency ms | settling | poller "
    "| requests/operation | requests/s | median s | p99 s | max s |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)
COLUMNS = ("poller", "requests_per_operation", "requests_per_second", "median_seconds", "p99_seconds", "max_seconds")


def runs() -> Iterator[Run]:
    """Everything for 100 % of up to 8,800; of others and of 100,000 what is affordable and tells something."""
    ours, others = "ours", [name for name in POLICIES if name != "ours"]
    for latency in (0.0, 0.1):
        yield from (fair_run(name, Case(in_flight=1, latency=latency, seconds=7200)) for name in POLICIES)
        yield from (fair_run(name, Case(in_flight=100, latency=latency, seconds=600)) for name in POLICIES)
        yield from (fair_run(name, Case(in_flight=1000, latency=latency)) for name in POLICIES)
        yield fair_run(ours, Case(in_flight=8800, latency=latency))
    yield from (Run(name, Case(in_flight=8800, seconds=60, warm_up=30)) for name in others)
    yield fair_run(ours, Case(in_flight=8800, latency=0.2))
    for latency in (0.0, 0.1):
        yield Run(ours, Case(in_flight=8800, latency=latency))
    for tracked in (0.1, 0.01):
        case = Case(in_flight=8800, tracked=tracked, seconds=200 if tracked > 0.05 else 900)
        yield from (fair_run(name, case) for name in (ours, "every 5 s", "plain sweeps"))
    large = Case(in_flight=100_000, freshness=30, per_second=40, concurrency=8, warm_up=150, seconds=120)
    yield fair_run(ours, large)
    yield Run("plain sweeps", large)


def fair_run(policy: str, case: Case) -> Run:
    """Ours settles as by default, once the first operations have settled; the others stop at the end, as usual."""
    if policy != "ours":
        return Run(policy, case)
    return Run(policy, dataclasses.replace(case, settle_after=DEFAULT_SETTLING, warm_up=max(case.warm_up, 200)))


def quick_runs() -> Iterator[Run]:
    for in_flight in (1, 100, 1000):
        yield from (fair_run(name, Case(in_flight=in_flight, warm_up=30, seconds=60)) for name in POLICIES)


def measure(run: Run) -> dict[str, object]:
    """Drive it, print its row of the table, and give it for the file."""
    began = time.process_time()
    outcome = played(run)
    case = run.case
    requests = sum(outcome.requests.values())
    figures = {
        "poller": run.policy,
        "requests_per_operation": round(outcome.per_operation, 3) if outcome.ended else None,
        "requests_per_second": round(requests / case.seconds, 3),
        "median_seconds": round(outcome.delay(0.5), 2),
        "p99_seconds": round(outcome.delay(0.99), 2),
        "max_seconds": round(outcome.delay(1), 2),
        "ended": outcome.ended,
        "requests": dict(outcome.requests),
        "cpu_seconds": round(time.process_time() - began, 1),
    }
    cells = (
        f"{case.in_flight:,}",
        f"{case.tracked:.0%}",
        f"{case.latency * 1000:.0f}",
        "yes" if case.settle_after else "no",
        *(str(figures[name]) for name in COLUMNS),
    )
    print("| " + " | ".join(cells) + " |", flush=True)
    return {"case": dataclasses.asdict(case), **figures}


def played(run: Run) -> Outcome:
    """What came of it; only our planner is held to a share."""
    case = run.case
    if run.policy != "ours":
        case = dataclasses.replace(case, per_second=UNLIMITED, concurrency=100_000)
    return drive(case, World(case.in_flight, case.tracked, random.Random(SEED)), POLICIES[run.policy])


# ── what is promised ──────────────────────────────────────────────────────────────────────────────────────────────────


def check() -> int:
    """Whether every promise is kept, each with its figures."""
    broken = 0
    for promise in PROMISES:
        for what, value, bound in promise():
            kept = value <= bound
            broken += not kept
            print(f"{'kept' if kept else 'BROKEN':>6}  {what}: {value:.3f}, at most {bound:.3f}", flush=True)
    return 1 if broken else 0


Promised = Iterator[tuple[str, float, float]]


def fresh_for_little() -> Promised:
    """8,800 in flight at 5 s; p99 within freshness and one request."""
    for settle, bound in (((), 0.7), (DEFAULT_SETTLING, 1.2)):
        for latency in (0.0, 0.1):
            case = Case(in_flight=8800, latency=latency, settle_after=settle, warm_up=240 if settle else 60)
            outcome = played(Run("ours", case))
            name = f"8,800 at {latency * 1000:.0f} ms, {'default' if settle else 'no'} settling"
            yield f"{name}: requests per operation", outcome.per_operation, bound
            yield f"{name}: p99 delay", outcome.delay(0.99), case.freshness + latency


def fresh_for_little_at_100_000() -> Promised:
    case = Case(in_flight=100_000, freshness=30, per_second=40, concurrency=8, warm_up=150, seconds=120)
    outcome = played(Run("ours", case))
    yield "100,000 at 30 s: requests per operation", outcome.per_operation, 0.3
    yield "100,000 at 30 s: p99 delay", outcome.delay(0.99), case.freshness + case.latency


def few_among_many() -> Promised:
    case = Case(in_flight=8800, tracked=0.01, seconds=600)
    ours, ids, lists = (
        sum(played(Run(name, case)).requests.values()) for name in ("ours", "every 5 s", "plain sweeps")
    )
    yield "1 % of 8,800: requests beside the cheaper of ids and sweeps", ours / min(ids, lists), 1.5


def one_alone() -> Promised:
    # One operation after the other, each alone.
    requests, polls, delays = 0, 0, []
    case = Case(in_flight=1, seconds=7220, warm_up=0)
    for seed in range(300):
        ours = drive(case, Lone(1, 1.0, random.Random(seed)))
        others = drive(case, Lone(1, 1.0, random.Random(seed)), POLICIES["every 5 s"])
        requests += ours.requests["fetch"]
        polls += others.requests["fetch"]
        delays += ours.delays
    yield "one alone: median delay", sorted(delays)[len(delays) // 2], 2.6
    yield "one alone: requests beside polling every 5 s", requests / polls, 1.02


def tomorrow() -> Promised:
    hour = Case(in_flight=1000, latency=0.1, warm_up=600, seconds=3600)
    outcome = drive(hour, Tomorrow(1000, 1.0, random.Random(SEED)))
    yield "1,000 scheduled for tomorrow: requests a minute", sum(outcome.requests.values()) / 60, 2.0
    soon = Tomorrow(1000, 1.0, random.Random(SEED), begin_after=900)
    outcome = drive(dataclasses.replace(hour, warm_up=0, seconds=1800), soon)
    yield "the same: delay until their begin is known, at most", max(outcome.begun), 125.0
    yield "the same: p99 delay of their ends", outcome.delay(0.99), 5.2


PROMISES: tuple[Callable[[], Promised], ...] = (
    one_alone,
    few_among_many,
    tomorrow,
    fresh_for_little,
    fresh_for_little_at_100_000,
)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
