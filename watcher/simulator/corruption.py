"""Changes rows so that they do not show the true state."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from watcher.simulator.fault_types import Fault
from watcher.simulator.ids import make_id
from watcher.simulator.life import ENDED, Record
from watcher.simulator.timestamps import SECOND, parse_rfc3339, rfc3339

_GARBAGE: tuple[Any, ...] = (
    None,
    17,
    "garbage",
    {},
    {"id": 5, "status": [], "stats": "many", "createdAt": False, "updatedAt": {}},
)


def corrupt(records: Sequence[Record], faults: Sequence[Fault], *, now: int, rng: random.Random) -> list[Any]:
    """Return the rows, of which each fault has changed its share, but at least one row.

    `garbage_rows` comes last, since no other fault can change a garbage row.
    """
    rows: list[Any] = list(records)
    for fault in sorted(faults, key=lambda fault: fault.kind == "garbage_rows"):
        number = min(len(rows), max(1, round(len(rows) * fault.shares(0.2))))
        for position in rng.sample(range(len(rows)), number):
            row = msgspec.to_builtins(rows[position])
            rows[position] = _SPOILERS[fault.kind](row, fault, now, rng)
    return rows


Row = dict[str, Any]
Spoiler = Callable[[Row, Fault, int, random.Random], Any]


def _unknown_status(row: Row, fault: Fault, _now: int, _rng: random.Random) -> Row:
    return row | {"status": fault.word or "ARCHIVED"}


def _unknown_fields(row: Row, _fault: Fault, _now: int, _rng: random.Random) -> Row:
    corrupted = row | {"channel": "push", "links": {"errors": None, "attempts": [1, 2, 3]}}
    if isinstance(row.get("stats"), dict):
        corrupted["stats"] = row["stats"] | {"delivered": 3}
    return corrupted


def _missing(row: Row, fault: Fault, _now: int, _rng: random.Random) -> Row:
    return {key: value for key, value in row.items() if key != (fault.field or "stats")}


def _nulls(row: Row, fault: Fault, _now: int, _rng: random.Random) -> Row:
    return row | {fault.field or "stats": None}


def _odd_stats(row: Row, _fault: Fault, _now: int, _rng: random.Random) -> Row:
    # More sent than the total, and more than all of them still scheduled.
    stats = row.get("stats") or {}
    total = stats.get("total", 0)
    return row | {"stats": stats | {"sent": total + 7, "scheduled": total + 1}}


def _regressed(row: Row, _fault: Fault, now: int, _rng: random.Random) -> Row:
    return row | {"status": "PROCESSING", "updatedAt": rfc3339(now)} if row.get("status") in ENDED else row


def _premature(row: Row, fault: Fault, now: int, _rng: random.Random) -> Row:
    if row.get("status") in ENDED:
        return row
    return row | {"status": fault.word or "COMPLETED", "updatedAt": rfc3339(now)}


def _skewed_time(row: Row, fault: Fault, _now: int, _rng: random.Random) -> Row:
    field = fault.field or "updatedAt"
    return (
        row | {field: rfc3339(max(parse_rfc3339(row[field]) + fault.waits(1800 * SECOND), 0))} if field in row else row
    )


def _fine_times(row: Row, _fault: Fault, _now: int, _rng: random.Random) -> Row:
    # Times of progress with milliseconds, times of ends in whole seconds, as from two different servers.
    if row.get("status") in ENDED or "updatedAt" not in row:
        return row
    return row | {"updatedAt": row["updatedAt"].removesuffix("Z") + ".999Z"}


def _wrong_id(row: Row, _fault: Fault, now: int, rng: random.Random) -> Row:
    return row | {"id": make_id(now, rng)}


def _garbage(_row: Row, _fault: Fault, _now: int, rng: random.Random) -> Any:
    return rng.choice(_GARBAGE)


_SPOILERS: dict[str, Spoiler] = {
    "unknown_status": _unknown_status,
    "unknown_fields": _unknown_fields,
    "missing": _missing,
    "nulls": _nulls,
    "odd_stats": _odd_stats,
    "regressed": _regressed,
    "premature": _premature,
    "skewed_time": _skewed_time,
    "fine_times": _fine_times,
    "wrong_id": _wrong_id,
    "garbage_rows": _garbage,
}
