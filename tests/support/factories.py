"""Values of the core for tests: each factory makes one that is usual, and takes what should be different."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from watcher.core.channels import STAT_NAMES, Stats
from watcher.core.clocks import ClockReading
from watcher.core.labelling import Combination, CombinationState, Counters, adopted, combination_in, counters_of
from watcher.core.model import DAY, SECOND, Instant, Micros, Moment, Operation, Outcome, Source, Status, Tally
from watcher.core.observation import FailureCause, Forbidden, Missing, Record, Refused, Reply, Seen, Timing, Unanswered
from watcher.core.totals import Key

NOW: Instant = 1_790_000_000 * SECOND
"""The wall time at which the core's tests play, and the tick that goes with it."""
TICK: Micros = 1000 * SECOND

OPERATION_ID = "comms_operation_01h9krwprkeee8fzqspvwy6nq8"
"""The documented example; as a TypeID it hints at a creation in September 2023."""
HINTED: Instant = 1_693_954_497_299 * 1000

PLAIN_ID = "comms_operation_0123456789abcdefghjkmnpqrstv"
"""An id that hints at nothing."""

CREATED: Instant = NOW - 60 * SECOND


def at(seconds: float = 0.0) -> Moment:
    """The moment `seconds` after the start of the test."""
    return Moment(NOW, TICK).later(round(seconds * SECOND))


def a_reading(now: Moment, *, upstream: Instant | None = None, is_steady: bool = True) -> ClockReading:
    """The present by both clocks: they agree, or upstream's is a steady one that shows something else."""
    return ClockReading(machine_at=now.at, upstream_at=now.at if upstream is None else upstream, is_steady=is_steady)


def an_id(number: int) -> str:
    """One of many ids that hint at nothing."""
    return f"comms_operation_0{number:027d}"


def an_operation(**changes: Any) -> Operation:
    """An operation registered just now, of which nothing is known."""
    fields: dict[str, Any] = {
        "account": "main",
        "id": PLAIN_ID,
        "source": Source.API,
        "registered_at": NOW,
    }
    return Operation(**fields | changes)


def a_running_operation(**changes: Any) -> Operation:
    """An operation that was seen PROCESSING."""
    fields: dict[str, Any] = {
        "status": Status.PROCESSING,
        "stats": Stats(total=10, recipients=10, sent=1, failed=0),
        "created_at": CREATED,
        "updated_at": CREATED + 10 * SECOND,
        "progressed_at": NOW - 10 * SECOND,
        "asked_tick": TICK - 10 * SECOND,
    }
    return an_operation(**fields | changes)


def a_settling_operation(**changes: Any) -> Operation:
    """An operation that has ended and is read again."""
    fields: dict[str, Any] = {
        "status": Status.COMPLETED,
        "stats": Stats(total=10, recipients=10, sent=9, failed=1, unaddressable=0),
        "updated_at": CREATED + 30 * SECOND,
        "ended_at": CREATED + 30 * SECOND,
        "learned_at": NOW,
    }
    return a_running_operation(**fields | changes)


def a_final_operation(**changes: Any) -> Operation:
    """An operation whose stats are final."""
    fields: dict[str, Any] = {"final_at": NOW, "settled": 2}
    return a_settling_operation(**fields | changes)


def a_timing(seconds: float = 0.0, *, latency: float = 0.1, date: Instant | None = None) -> Timing:
    """Requested `seconds` after the start of the test, answered `latency` later."""
    return Timing(asked=at(seconds), answered=at(seconds + latency), date=date)


def a_record(word: str | None = "PROCESSING", **changes: Any) -> Record:
    """What upstream shows of an operation that runs, updated 20 s after its creation."""
    fields: dict[str, Any] = {
        "id": PLAIN_ID,
        "word": word,
        "stats": Stats(total=10, recipients=10, sent=5, failed=0),
        "created_at": CREATED,
        "updated_at": CREATED + 20 * SECOND,
    }
    return Record(**fields | changes)


def seen(word: str | None = "PROCESSING", *, seconds: float = 0.0, date: Instant | None = None, **record: Any) -> Seen:
    """Upstream shows the operation to a request `seconds` after the start of the test."""
    return Seen(timing=a_timing(seconds, date=date), record=a_record(word, **record))


def missing(seconds: float = 0.0, *, date: Instant | None = None) -> Missing:
    """Upstream does not show the operation."""
    return Missing(timing=a_timing(seconds, date=date))


def refused(seconds: float = 0.0) -> Refused:
    """Upstream answers 400."""
    return Refused(timing=a_timing(seconds), why="HTTP 400")


def forbidden(seconds: float = 0.0) -> Forbidden:
    """Upstream answers 403."""
    return Forbidden(timing=a_timing(seconds), why="HTTP 403")


def unanswered(seconds: float = 0.0, cause: FailureCause = FailureCause.UPSTREAM) -> Unanswered:
    """No usable answer came."""
    return Unanswered(timing=a_timing(seconds), cause=cause, why="made up")


def a_reply(body: bytes = b"", *, code: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """One HTTP answer."""
    return Reply(code=code, headers=headers or {}, body=body, asked=at(), answered=at(0.1))


def a_tally(**changes: Any) -> Tally:
    """What a completed operation adds."""
    counts = {"sent": 9, "failed": 1, "recipients": 10} | {
        name: changes.pop(name) for name in STAT_NAMES if name in changes
    }
    fields: dict[str, Any] = {"outcome": Outcome.COMPLETED, "stats": Stats(**counts), "duration_seconds": 30.0}
    return Tally(**fields | changes)


def days(count: float) -> Micros:
    """A number of days in microseconds."""
    return round(count * DAY)


def counters_with(
    values: Mapping[Key, float] | None = None, names: Sequence[str] = (), combinations: Sequence[Combination] = ()
) -> Counters:
    """Counters with these values under counter labels; their combinations are shown, and others at 0."""
    values = values or {}
    state = CombinationState(created_at=NOW, tracked_at=NOW, shown_at=NOW, is_open=True)
    shown = dict.fromkeys([*combinations, *(combination_in(key) for key in values)], state)
    return counters_of(names, {**shown, **adopted(names, shown, [], NOW)}, values.items())
