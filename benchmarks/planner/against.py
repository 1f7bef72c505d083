"""Requests a minute of the real daemon beside another commit's, in real time and over public interfaces only.

The model in virtual time knows one planner, the one of this tree, and no discovery. Here both daemons run with
discovery against one simulated API. Requests, unlike CPU time, do not depend on how fast the machine is or on what else
it does, so all cases run at the same time.

    discovery-N   N in flight, and every operation becomes visible 20 s late
    doubtful-N    N in flight, and one answer in fifty is a proxy's 404 page, which says nothing of any operation
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.checkout import checked_out, working_tree
from benchmarks.daemon.__main__ import run
from benchmarks.daemon.cases import Case, chosen
from benchmarks.daemon.measure import Plan

RESULTS = Path(__file__).parent.parent / "results" / "requests.json"
IN_FLIGHT = (0, 100, 10_000)
LATE = {"kind": "invisible", "wait": "20s"}
DOUBTFUL = {"kind": "status", "status": 404, "shape": "html", "every": 50}
INTERVALS_OF_A_MINUTE = 4
HEADING = (
    "| case | requests/minute: ours, base | ratio (least–median–most of the minutes) | requests/finished operation "
    "| end known p50, p99 s |\n|---|---|---|---|---|"
)


def every_case() -> tuple[Case, ...]:
    return tuple(
        Case(name=f"{kind}-{number}", in_flight=number, faults=(fault,), group="all")
        for kind, fault in (("discovery", LATE), ("doubtful", DOUBTFUL))
        for number in IN_FLIGHT
    )


def side_by_side(commit: str, names: str, *, minutes: int, warm_up: int) -> int:
    """Measure and print the table; the exit code. Only a run of all cases is written to benchmarks/results."""
    plan = Plan(warm_up=warm_up * INTERVALS_OF_A_MINUTE, rounds=minutes, intervals=INTERVALS_OF_A_MINUTE)
    try:
        cases = chosen(names, every_case())
        with working_tree() as ours, checked_out(commit) as base:
            figures = run(cases, (ours, base), plan, apart=False)
    except ValueError as error:
        print(f"benchmarks planner: {error}", file=sys.stderr)
        return 2
    print(HEADING)
    for case in figures:
        print("| " + " | ".join(_cells(case)) + " |")
    if not names:
        RESULTS.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def _cells(case: Mapping[str, Any]) -> Iterator[str]:
    sides = [case["ours"], case["base"]]
    ratio = case["requests_ratio"]
    seconds = case["rounds"] * case["round_seconds"]
    yield case["case"]
    yield ", ".join(f"{60 * side['requests_per_second']:.1f}" for side in sides)
    yield f"{ratio['total']:.3f} ({ratio['least']:.3f}–{ratio['median']:.3f}–{ratio['most']:.3f})"
    yield ", ".join(_per_operation(side["requests_per_second"] * seconds, side["finished"]) for side in sides)
    yield " / ".join(_delays([side["end_delay_p50_seconds"], side["end_delay_p99_seconds"]]) for side in sides)


def _per_operation(requests: float, finished: int) -> str:
    return f"{requests / finished:.2f}" if finished else "–"


def _delays(seconds: Sequence[float | None]) -> str:
    return ", ".join("–" if value is None else f"{value:.1f}" for value in seconds)
