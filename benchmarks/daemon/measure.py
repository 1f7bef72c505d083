"""One case: both sides run the whole time on one simulated API, and are read at the same moments.

So a machine that grows slower, or a burst of new operations, meets both. In each scrape interval both are scraped once,
and they take turns in being first. A round is some intervals; its ratio is the CPU time of ours by that of the base.
"""

from __future__ import annotations

import itertools
import math
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.checkout import Source
from benchmarks.daemon.cases import Case
from benchmarks.daemon.floor import floor_seconds
from benchmarks.daemon.seen import cpu_seconds, end_delays, finished, loop_lags, poll_lag, quantile, rss_mib, scrape
from benchmarks.daemon.sides import DaemonSide, PlainSide, Side, World, both_sides
from tests.support.processes import until

SCRAPE_EVERY_SECONDS = 15.0
LAG_SECONDS = 20.0
FOUND_WITHIN_SECONDS = 300
ENOUGH = 0.9
"""Of what runs at the start: by the time both have found it, some has ended."""


LEAST_FLOOR_PERCENT = 0.02
"""Of a core."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long: intervals of 15 s before anything is measured, rounds, and intervals of each round."""

    warm_up: int = 11
    rounds: int = 5
    intervals: int = 2
    interval_seconds: float = SCRAPE_EVERY_SECONDS


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Everything at one moment."""

    at: float
    cpu: dict[str, float]
    requests: dict[str, int]
    simulator_cpu: float


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A ratio over the rounds: of the sums, and the least, the median and the greatest of the rounds."""

    total: float
    least: float
    median: float
    most: float


def measure(case: Case, ours: Source, base: Source | None, plan: Plan) -> dict[str, Any]:
    """The figures of a case, ready to be written as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(case, Path(folder))
        try:
            with both_sides(case, world, ours, base) as pair:
                return _measured(case, world, pair, plan)
        finally:
            world.stop()


def _measured(case: Case, world: World, pair: tuple[Side, Side], plan: Plan) -> dict[str, Any]:
    for side in pair:
        found = min(ENOUGH * case.tracked, 1000) if isinstance(side, PlainSide) else ENOUGH * case.tracked
        until(lambda side=side, n=found: side.has_found(n), within=FOUND_WITHIN_SECONDS, what="operations are found")  # type: ignore[misc]
    turns = itertools.cycle((pair, pair[::-1]))
    _intervals(plan.warm_up, turns, plan)
    published = {side.key: side.daemon.stdout.stat().st_size for side in pair if isinstance(side, DaemonSide)}
    polls = {side.key: side.polls for side in pair if isinstance(side, PlainSide)}
    readings = [_read(world, pair)]
    for number in range(plan.rounds):
        # The bodies of one round are enough for the floor, and all of them would be gigabytes.
        is_last = number == plan.rounds - 1
        if is_last:
            world.record()
        _intervals(plan.intervals, turns, plan)
        readings.append(_read(world, pair))
    world.keep()
    figures: dict[str, Any] = {
        "case": case.name,
        "tracked": case.tracked,
        "accounts": case.accounts,
        "freshness_seconds": case.freshness,
        "rounds": plan.rounds,
        "round_seconds": plan.intervals * plan.interval_seconds,
        "cpu_ratio": vars(spread(readings, "cpu")),
        "requests_ratio": vars(spread(readings, "requests")),
        "simulator_cpu_percent": _percent(readings[-1].simulator_cpu - readings[0].simulator_cpu, readings),
    }
    for side in pair:
        figures[side.key] = _figures_of(side, readings, case)
        if isinstance(side, PlainSide):
            passed = readings[-1].at - readings[0].at
            figures[side.key] |= {
                name: (after - before) / passed
                for name, before, after in zip(
                    ("polls_per_second", "polls_in_time_per_second"), polls[side.key], side.polls, strict=True
                )
            }
        else:
            figures[side.key] |= _of_daemon(side, published[side.key], case)
    _add_loop_lags(case, pair, figures)
    _add_restarts(case, pair, figures)
    for side in pair:
        floor = floor_seconds(world.folder / f"{side.key}.bodies")
        used = readings[-1].cpu[side.key] - readings[-2].cpu[side.key]
        percent = None if floor is None else 100 * floor / (readings[-1].at - readings[-2].at)
        figures[side.key]["floor_percent"] = percent
        # Beside a few small answers everything is large, and the quotient says nothing.
        figures[side.key]["cpu_by_floor"] = (
            used / floor if floor and percent and percent >= LEAST_FLOOR_PERCENT else None
        )
    return figures


def _figures_of(side: Side, readings: Sequence[Reading], case: Case) -> dict[str, Any]:
    first, last = readings[0], readings[-1]
    passed = last.at - first.at
    used = last.cpu[side.key] - first.cpu[side.key]
    requests = last.requests.get(side.key, 0) - first.requests.get(side.key, 0)
    return {
        "who": side.name,
        "cpu_percent": 100 * used / passed,
        "cpu_percent_of_rounds": [
            100 * (after.cpu[side.key] - before.cpu[side.key]) / (after.at - before.at)
            for before, after in itertools.pairwise(readings)
        ],
        "requests_per_second": requests / passed,
        "rss_mib": rss_mib(side.pid),
        "polls_per_second": case.tracked / case.freshness,
    }


def _of_daemon(side: Side, published: int, case: Case) -> dict[str, Any]:
    assert isinstance(side, DaemonSide)  # noqa: S101 - the caller checks which side it is
    late = poll_lag(scrape(side.daemon.web))
    delays = end_delays(side.daemon.stdout, published)
    return {
        "poll_lag_seconds": late,
        "polls_in_time_per_second": case.tracked / case.freshness if late <= case.freshness / 10 else 0.0,
        "finished": finished(side.daemon.stdout, published),
        "end_delay_p50_seconds": _known(quantile(delays, 0.5)),
        "end_delay_p99_seconds": _known(quantile(delays, 0.99)),
    }


def _intervals(number: int, turns: Iterator[tuple[Side, ...]], plan: Plan) -> None:
    """Let scrape intervals pass, each with one scrape of either side, a quarter after its start and before its end."""
    length = plan.interval_seconds
    for _ in range(number):
        began = time.monotonic()
        first, second = next(turns)
        _sleep_until(began + length / 4)
        first.scrape()
        _sleep_until(began + 3 * length / 4)
        second.scrape()
        _sleep_until(began + length)


def _read(world: World, pair: tuple[Side, Side]) -> Reading:
    requests = world.requests()
    return Reading(
        at=time.monotonic(),
        cpu={side.key: side.cpu_seconds() for side in pair},
        requests=requests,
        simulator_cpu=cpu_seconds(world.process.pid),
    )


def spread(readings: Sequence[Reading], what: str) -> Spread:
    """Ours by the base, of the CPU time or of the requests."""
    values = [getattr(reading, what) for reading in readings]
    rounds = [
        _ratio(after.get("ours", 0) - before.get("ours", 0), after.get("base", 0) - before.get("base", 0))
        for before, after in itertools.pairwise(values)
    ]
    first, last = values[0], values[-1]
    return Spread(
        total=_ratio(last.get("ours", 0) - first.get("ours", 0), last.get("base", 0) - first.get("base", 0)),
        least=min(rounds),
        median=statistics.median(rounds),
        most=max(rounds),
    )


def _add_loop_lags(case: Case, pair: tuple[Side, Side], figures: dict[str, Any]) -> None:
    """How late answers come that cost nothing. After everything else, as these requests cost CPU time too."""
    daemons = [side for side in pair if isinstance(side, DaemonSide)] if case.loop_lag else []

    def probe(side: DaemonSide) -> None:
        lags = loop_lags(side.daemon.web, LAG_SECONDS)
        figures[side.key] |= {"loop_lag_p99_ms": 1e3 * quantile(lags, 0.99), "loop_lag_max_ms": 1e3 * lags[-1]}

    probes = [threading.Thread(target=probe, args=(side,)) for side in daemons]
    for thread in probes:
        thread.start()
    if probes:
        time.sleep(LAG_SECONDS / 2)
        for side in daemons:
            side.scrape()
    for thread in probes:
        thread.join()


def _add_restarts(case: Case, pair: tuple[Side, Side], figures: dict[str, Any]) -> None:
    """Seconds until a daemon is ready, and tracks everything, on a store that holds it all; the sides take turns."""
    daemons = [side for side in pair if isinstance(side, DaemonSide)] if case.restarts else []
    taken: dict[str, list[tuple[float, float]]] = {side.key: [] for side in daemons}
    for side in daemons:
        side.daemon.terminate(30)
    for _ in range(case.restarts):
        for side in daemons:
            began = time.monotonic()
            side.start()
            ready = time.monotonic() - began
            until(lambda side=side: side.has_found(0.8 * case.tracked), within=120, what="everything is tracked again")  # type: ignore[misc]
            taken[side.key].append((ready, time.monotonic() - began))
            side.daemon.terminate(30)
    for key, times in taken.items():
        figures[key]["restart_ready_seconds"] = statistics.median(ready for ready, _ in times)
        figures[key]["restart_tracked_seconds"] = statistics.median(tracked for _, tracked in times)


def _percent(used: float, readings: Sequence[Reading]) -> float:
    return 100 * used / (readings[-1].at - readings[0].at)


def _ratio(ours: float, base: float) -> float:
    return ours / base if base else math.inf if ours else 1.0


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _sleep_until(at: float) -> None:
    time.sleep(max(at - time.monotonic(), 0.0))
