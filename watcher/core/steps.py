"""What an observation leads to: steps, and the pieces that the rules of the life cycle make them of."""

from __future__ import annotations

from msgspec.structs import replace

from watcher.core.answers import creation_of, status_of
from watcher.core.model import (
    OUTCOME_OF,
    RECORD_LIFE,
    SECOND,
    Failing,
    Finished,
    Instant,
    Micros,
    Moment,
    Moved,
    Odd,
    Operation,
    OperationEvent,
    Phase,
    Stats,
    Status,
    Tally,
    Value,
    rfc3339,
)
from watcher.core.observation import Seen, Timing


class Step(Value, frozen=True, kw_only=True):
    """What came of an observation.

    `tally` is there exactly once in an operation's life, in the step that makes its stats final, unless it is not to be
    counted: what was registered only after the time of its record may have been counted and forgotten long ago.
    `anomalies` are kinds, counted each time. `delay`: upstream's change to our knowing, where that means anything.
    `is_news`: more is known than that the operation was still as it was.
    """

    operation: Operation
    events: tuple[OperationEvent, ...] = ()
    tally: Tally | None = None
    anomalies: tuple[str, ...] = ()
    delay: Micros | None = None
    is_news: bool = True


def duration_seconds(operation: Operation) -> float | None:
    """Created to ended by upstream's clock, in seconds; None where either is unknown or they are out of order."""
    if operation.created_at is None or operation.ended_at is None or operation.ended_at < operation.created_at:
        return None
    return (operation.ended_at - operation.created_at) / SECOND


def taken_in(operation: Operation, seen: Seen, now: Moment) -> Operation:
    """The operation with the record's facts; what the record lacks stays as it was."""
    record = seen.record
    status = status_of(operation, record.word)
    stats = operation.stats if record.stats is None else operation.stats.merged_with(record.stats)
    updated_at = record.updated_at if record.updated_at is not None else operation.updated_at
    stayed = updated_at == operation.updated_at and status is operation.status and stats == operation.stats
    return replace(
        operation,
        status=status,
        word=(record.word or operation.word) if status is Status.UNKNOWN else None,
        stats=stats,
        created_at=record.created_at if record.created_at is not None else operation.created_at,
        updated_at=updated_at,
        progressed_at=operation.progressed_at if stayed else now.at,
        asked_tick=max(operation.asked_tick, seen.timing.asked.tick),
        missing_since=None,
        missed=0,
    )


def passed_over(operation: Operation, *kinds: str) -> Step:
    """An answer that changes nothing, except that the operation was shown."""
    return with_oddities(operation.with_(missing_since=None, missed=0), kinds)


def outrun(operation: Operation, seen: Seen) -> Step:
    """An answer older than what is known. Odd, unless it was asked for earlier, too: then ours overtook each other."""
    if seen.timing.asked.tick < operation.asked_tick:
        return passed_over(operation)
    return passed_over(operation, "stale_answer")


def moved_on(before: Operation, after: Operation, seen: Seen) -> Step:
    """The events of a look that moved the operation on, with what was odd about it."""
    events: list[OperationEvent] = []
    first = before.status is Status.UNSEEN
    delay = None if first else detection_delay(before, after, seen)
    if after.status is not before.status:
        events.append(
            Moved(
                from_status=None if first else before.status,
                to_status=after.status,
                stats=after.stats,
                updated_at=rfc3339(after.updated_at),
                delay_seconds=None if delay is None else round(delay / SECOND, 3),
                status_word=after.word,
            )
        )
    odd = oddities(before, after, seen)
    told = with_oddities(after, odd) if odd else Step(operation=after)
    operation = told.operation
    if operation.stats.has_failures and not operation.failing_told and operation.phase is Phase.FOLLOWED:
        operation = operation.with_(failing_told=True)
        events.append(Failing(stats=operation.stats))
    return Step(
        operation=operation,
        events=(*events, *told.events),
        anomalies=told.anomalies,
        # What changed before this process first looked says nothing of how late we are.
        delay=delay if before.asked_tick else None,
    )


def detection_delay(before: Operation, after: Operation, seen: Seen) -> Micros | None:
    """From upstream's instant of a change to our knowing.

    By upstream's clock where ours is off by more than its whole seconds.
    """
    if after.updated_at is None or after.updated_at == before.updated_at:
        return None
    known_at: Instant = seen.timing.answered.at
    date = seen.timing.date
    if date is not None and abs(date - known_at) > 2 * SECOND:
        known_at = date
    return max(known_at - after.updated_at, 0)


def oddities(before: Operation, after: Operation, seen: Seen) -> tuple[str, ...]:
    """What does not fit about an answer that was taken in."""
    odd = seen.record.odd
    if after.status is Status.UNKNOWN and seen.record.word is not None:
        odd = ("unknown_status", *odd)
    return (*odd, "stats_fell") if has_fallen(before.stats, after.stats) else odd


def has_fallen(before: Stats, after: Stats) -> bool:
    """Whether a count that can only rise went down."""
    return (
        _is_less(after.sent, before.sent)
        or _is_less(after.failed, before.failed)
        or _is_less(after.unaddressable, before.unaddressable)
    )


def _is_less(new: int | None, old: int | None) -> bool:
    return old is not None and new is not None and new < old


def with_oddities(operation: Operation, kinds: tuple[str, ...]) -> Step:
    """Each kind is an anomaly every time, and an event the first time."""
    new = tuple(kind for kind in dict.fromkeys(kinds) if kind not in operation.odd)
    if new:
        operation = operation.with_(odd=(*operation.odd, *new))
    return Step(
        operation=operation,
        events=tuple(Odd(kind=kind, detail=operation.word if kind == "unknown_status" else None) for kind in new),
        anomalies=kinds,
    )


def finish(operation: Operation, status: Status, timing: Timing, now: Moment) -> Step:
    """An outcome of our own: told and final at once."""
    first = operation.status is Status.UNSEEN
    moved = Moved(
        from_status=None if first else operation.status,
        to_status=status,
        stats=operation.stats,
        updated_at=rfc3339(operation.updated_at),
        delay_seconds=None,
    )
    ended = operation.with_(status=status, word=None, learned_at=now.at, progressed_at=now.at)
    finished = Finished(outcome=OUTCOME_OF[status], stats=ended.stats, duration_seconds=None)
    step = Step(operation=ended, events=(moved, finished))
    return followed_by(step, finalise(ended, timing, now))


def finalise(operation: Operation, timing: Timing, now: Moment) -> Step:
    """The stats are final: nothing is read after this, and now they count."""
    created_at = creation_of(operation, timing)
    # Both clocks must agree that it came too late: ours may have been wrong at the registration.
    in_time = created_at is None or min(operation.registered_at, timing.upstream_now) <= created_at + RECORD_LIFE
    return Step(
        operation=operation.with_(final_at=now.at, unsettled_since=None), tally=_tally(operation) if in_time else None
    )


def _tally(operation: Operation) -> Tally:
    stats = operation.stats
    return Tally(
        outcome=OUTCOME_OF[operation.status],
        sent=stats.sent or 0,
        failed=stats.failed or 0,
        canceled=stats.canceled or 0,
        recipients=stats.recipients or 0,
        unaddressable=stats.unaddressable or 0,
        duration_seconds=duration_seconds(operation),
    )


def followed_by(first: Step, then: Step) -> Step:
    """Two steps as one."""
    return Step(
        operation=then.operation,
        events=first.events + then.events,
        tally=then.tally,
        anomalies=first.anomalies + then.anomalies,
        delay=first.delay,
    )
