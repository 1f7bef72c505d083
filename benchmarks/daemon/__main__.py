"""CPU, memory, requests and delay of the real daemon, side by side with another commit or with the plain poller.

    python -m benchmarks daemon [--against COMMIT] [--cases 10000,idle,accounts] [--short]

Without --against, the base is the plain poller, in the cases that it can do. The base's own `watcher` package runs; the
simulated API and this driver are those of this tree on both sides, so only command line, configuration and HTTP of the
base are used.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.checkout import Source, checked_out, working_tree
from benchmarks.daemon.cases import Case, chosen, every_case
from benchmarks.daemon.measure import Plan, measure

RESULTS = Path(__file__).parent.parent / "results"
PLAIN_CASES = "100,1000,10000"
SHORT = Plan(warm_up=4, rounds=3)
COLUMNS = (
    "case",
    "CPU % of a core: ours, base",
    "ratio (least–median–most)",
    "CPU by floor: ours, base",
    "requests/s: ours, base",
    "RSS MiB: ours, base",
    "end known p50, p99 s: ours, base",
    "loop lag p99, max ms: ours, base",
    "simulator CPU %",
)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks daemon", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--against", metavar="COMMIT", help="the base; without: the plain poller")
    parser.add_argument("--cases", default="", help="names with commas; idle and accounts name all of their kind")
    parser.add_argument("--short", action="store_true", help="a shorter warm-up and three rounds, a few minutes a case")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of each case")
    parser.add_argument(
        "--warm-up", type=int, default=-1, metavar="INTERVALS", help="scrape intervals before the first"
    )
    parser.add_argument("--interval", type=float, default=15.0, metavar="SECONDS", help="of a scrape")
    parser.add_argument("--apart", action="store_true", help="small cases one after the other, too")
    parser.add_argument("--save", type=Path, help=f"the file for the figures; {RESULTS}/daemon.json for a whole run")
    given = parser.parse_args(arguments)
    try:
        cases = chosen(given.cases or ("" if given.against else PLAIN_CASES), every_case())
        with working_tree() as ours, _base(given.against) as base:
            figures = run(cases, (ours, base), plan_of(given), apart=given.apart or base is None)
    except ValueError as error:
        print(f"benchmarks daemon: {error}", file=sys.stderr)
        return 2
    print(table(figures))
    is_whole = bool(given.against) and not given.cases and not given.short
    save = given.save or (RESULTS / "daemon.json" if is_whole else None)
    if save is not None:
        save.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def plan_of(given: argparse.Namespace) -> Plan:
    plan = SHORT if given.short else Plan()
    return Plan(
        warm_up=given.warm_up if given.warm_up >= 0 else plan.warm_up,
        rounds=given.rounds or plan.rounds,
        interval_seconds=given.interval,
    )


@contextlib.contextmanager
def _base(commit: str | None) -> Iterator[Source | None]:
    if commit is None:
        yield None
        return
    with checked_out(commit) as source:
        yield source


def run(
    cases: Iterable[Case], sources: tuple[Source, Source | None], plan: Plan, *, apart: bool
) -> list[dict[str, Any]]:
    """Measure the cases, those of a group at the same time; each is printed as JSON once it is done."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault((not apart and case.group) or case.name, []).append(case)
    found: dict[str, dict[str, Any]] = {}
    for group in groups.values():
        with ThreadPoolExecutor(len(group)) as pool:
            for figures in pool.map(lambda case: measure(case, *sources, plan), group):
                found[figures["case"]] = figures
                print(json.dumps(figures), flush=True)
    return [found[case.name] for case in cases]


def table(figures: Sequence[Mapping[str, Any]]) -> str:
    """The figures as the manual shows them."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    lines += [f"| {' | '.join(_cells(case))} |" for case in figures]
    for case in figures:
        lines += list(_warnings(case))
    return "\n".join(lines)


def _cells(case: Mapping[str, Any]) -> Iterator[str]:
    ratio = case["cpu_ratio"]
    yield case["case"]
    yield _both(case, "{:.2f}", "cpu_percent")
    yield f"{ratio['total']:.3f} ({ratio['least']:.3f}–{ratio['median']:.3f}–{ratio['most']:.3f})"
    yield _both(case, "{:.1f}", "cpu_by_floor")
    yield _both(case, "{:.2f}", "requests_per_second")
    yield _both(case, "{:.1f}", "rss_mib")
    yield _both(case, "{:.1f}, {:.1f}", "end_delay_p50_seconds", "end_delay_p99_seconds")
    yield _both(case, "{:.0f}, {:.0f}", "loop_lag_p99_ms", "loop_lag_max_ms")
    yield f"{case['simulator_cpu_percent']:.0f}"


def _both(case: Mapping[str, Any], form: str, *names: str) -> str:
    """The figures of both sides; a dash for what a side does not have."""
    sides = ([case[side].get(name) for name in names] for side in ("ours", "base"))
    cells = ["–" if None in values else form.format(*values) for values in sides]
    return "" if set(cells) == {"–"} else (" / " if len(names) > 1 else ", ").join(cells)


def _warnings(case: Mapping[str, Any]) -> Iterator[str]:
    """What has no column: restarts, who was late, and what a poll costs beside the plain poller."""
    for side in ("ours", "base"):
        figures = case[side]
        who = f"{case['case']}, {side} ({figures['who']})"
        if "restart_ready_seconds" in figures:
            times = (
                f"{figures['restart_ready_seconds']:.1f} s, tracks all after {figures['restart_tracked_seconds']:.1f} s"
            )
            yield f"{who}: started again, ready after {times}"
        if figures.get("poll_lag_seconds", 0.0) > case["freshness_seconds"] / 10:
            yield f"{who}: LATE by {figures['poll_lag_seconds']:.1f} s at the end"
        if case["base"]["who"] == "plain poller" and figures["polls_per_second"]:
            cost = 1e4 * figures["cpu_percent"] / figures["polls_per_second"]
            rates = f"{figures['polls_per_second']:.0f}/s, in time {figures['polls_in_time_per_second']:.0f}/s"
            yield f"{who}: polls {rates}, {cost:.0f} µs of CPU each"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
