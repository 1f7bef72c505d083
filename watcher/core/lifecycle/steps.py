"""Steps: an operation after an observation, with its events. The rules of the life cycle are built from these parts."""

from __future__ import annotations

from msgspec.structs import replace

from watcher.core.clocks import ClockReading
from watcher.core.lifecycle.answers import (
    has_expired,
    is_before,
    is_same,
    means_failure,
    status_of,
    with_creation,
    youngest_creation,
)
from watcher.core.model import (
    HOUR,
    OUTCOME_OF,
    RECORD_LIFE,
    SECOND,
    Failing,
    Finished,
    Instant,
    Micros,
    Moved,
    Odd,
    Operation,
    OperationEvent,
    Phase,
    Status,
    Tally,
    Value,
    created_hint,
    rfc3339,
)
from watcher.core.observation import Seen

_OF_A_WORD = frozenset({"unknown_status", "failure_status"})
"""Kinds of anomalies that have upstream's status word as their detail."""


class Step(Value, frozen=True, kw_only=True):
    """The result of an observation.

    `tally` is set exactly once in an operation's life, in the step that makes its stats final. It is None there if the
    operation was registered only after the life of its record: it may have been counted and forgotten before.
    `anomalies` are kinds, counted each time. `delay`: from upstream's change to its detection, if that can be measured.
    `is_news`: False if the observation showed the operation just as it was known.
    """

    operation: Operation
    events: tuple[OperationEvent, ...] = ()
    tally: Tally | None = None
    anomalies: tuple[str, ...] = ()
    delay: Micros | None = None
    is_news: bool = True


def duration_seconds(operation: Operation) -> float | None:
    """From creation to end by upstream's clock, in seconds. None if either is unknown or they are out of order."""
    if operation.created_at is None or operation.ended_at is None or operation.ended_at < operation.created_at:
        return None
    return (operation.ended_at - operation.created_at) / SECOND


def merged(operation: Operation, seen: Seen, now: ClockReading) -> Operation:
    """The operation with the facts of the record. What the record lacks stays as it was."""
    record, asked_tick = seen.record, seen.timing.asked.tick
    status = status_of(operation, record.word)
    stats = operation.stats if record.stats is None else operation.stats.merged_with(record.stats)
    updated_at = _finer(operation.updated_at, record.updated_at)
    stayed = updated_at == operation.updated_at and status is operation.status and stats == operation.stats
    after = replace(
        operation,
        status=status,
        word=(record.word or operation.word) if status is Status.UNKNOWN else None,
        stats=stats,
        updated_at=updated_at,
        progressed_at=operation.progressed_at if stayed else now.at,
        # A newer record may answer an earlier request. The order by requests must not go back with it.
        asked_tick=max(operation.asked_tick, asked_tick),
        missing_since=None,
        missed=0,
    )
    if record.created_at != operation.created_at or operation.evidence is not None:
        # Not compared with `after`, which has the new tick already.
        after = with_creation(after, seen, is_later=asked_tick > operation.asked_tick)
    evidence = after.evidence
    return after.with_evidence(set_aside=False) if evidence is not None and evidence.set_aside else after


def _finer(known: Instant | None, given: Instant | None) -> Instant | None:
    """The given timestamp, or the known one if it is the same time in a finer resolution."""
    if known is None or given is None:
        return known if given is None else given
    return known if given < known and is_same(given, known) else given


def unchanged(operation: Operation, *kinds: str) -> Step:
    """An answer that changes nothing, except that the operation was shown."""
    # Being shown ends every count of 404s, also for an answer that is ignored otherwise.
    operation = operation.with_(missing_since=None, missed=0)
    if operation.evidence is not None and operation.evidence.absent_asked_at is not None:
        operation = operation.with_evidence(absent_asked_at=None)
    return with_oddities(operation, kinds)


def set_aside(operation: Operation, seen: Seen) -> Step:
    """The first answer that is older than the known state. The next answer that is still older will be accepted."""
    # The tick is taken, so that the next one must be requested later: two rows of one page are one answer.
    after = operation.with_(asked_tick=seen.timing.asked.tick).with_evidence(set_aside=True)
    return unchanged(after, "stale_answer")


def progressed(before: Operation, after: Operation, seen: Seen, now: ClockReading) -> Step:
    """The step of a poll that gave a newer state: its events and anomalies."""
    events: list[OperationEvent] = []
    first = before.status is Status.UNSEEN
    delay = None if first else detection_delay(before, after, seen, now)
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
    odd = oddities(before, after, seen, now)
    published = with_oddities(after, odd) if odd else Step(operation=after)
    operation = published.operation
    # Only before the end: failures that come with the end are in `operation.finished`.
    if operation.stats.has_failures and not operation.failing_published and operation.phase is Phase.FOLLOWED:
        operation = operation.with_(failing_published=True)
        events.append(Failing(stats=operation.stats))
    return Step(
        operation=operation,
        events=(*events, *published.events),
        anomalies=published.anomalies,
        # A change from before the first poll of this process says nothing of how late polls are.
        delay=delay if before.asked_tick else None,
    )


def detection_delay(before: Operation, after: Operation, seen: Seen, now: ClockReading) -> Micros | None:
    """From upstream's change (`updatedAt`) to its detection.

    By upstream's clock if it is steady and ours differs by more than the whole seconds of a `Date` explain (2 s).
    """
    if after.updated_at is None or after.updated_at == before.updated_at:
        return None
    known_at: Instant = seen.timing.answered.at
    if now.is_steady and now.upstream_at is not None and abs(now.upstream_at - now.machine_at) > 2 * SECOND:
        known_at += now.upstream_at - now.machine_at
    return max(known_at - after.updated_at, 0)


def oddities(before: Operation, after: Operation, seen: Seen, now: ClockReading) -> tuple[str, ...]:
    """The kinds of anomalies in an answer that was accepted."""
    record = seen.record
    odd = record.odd
    if after.status is Status.UNKNOWN and record.word is not None:
        # A word for failure is a kind of its own. Each kind is published once, so after a harmless unknown word a
        # failure would not be published otherwise.
        odd = ("failure_status", *odd) if means_failure(record.word) else ("unknown_status", *odd)
    if record.created_at != before.created_at and record.created_at is not None:
        odd = (*odd, *oddities_of_creation(before, record.created_at, now))
    # An end with an older `updatedAt` has a kind of its own, `end_older`.
    if before.phase is after.phase and _went_back(before, after):
        odd = (*odd, "updated_fell")
    return (*odd, "stats_fell") if after.stats.has_fallen_from(before.stats) else odd


def _went_back(before: Operation, after: Operation) -> bool:
    """Whether the accepted `updatedAt` is older than the known one."""
    known, given = before.updated_at, after.updated_at
    return known is not None and given is not None and is_before(given, known)


def oddities_of_creation(before: Operation, created_at: Instant, now: ClockReading) -> tuple[str, ...]:
    """The kinds of anomalies of a `createdAt` that is not the known one."""
    if before.created_at is not None:
        return () if is_same(before.created_at, created_at) else ("created_changed",)
    hint = created_hint(before.id, now.latest_at)
    return ("created_implausible",) if hint is not None and abs(created_at - hint) > HOUR else ()


def with_oddities(operation: Operation, kinds: tuple[str, ...]) -> Step:
    """The step with these kinds: an anomaly every time, an event the first time."""
    new = tuple(kind for kind in dict.fromkeys(kinds) if kind not in operation.odd)
    if new:
        operation = operation.with_(odd=(*operation.odd, *new))
    return Step(
        operation=operation,
        events=tuple(Odd(kind=kind, detail=operation.word if kind in _OF_A_WORD else None) for kind in new),
        anomalies=kinds,
    )


def finish(operation: Operation, status: Status, now: ClockReading) -> Step:
    """An outcome that upstream does not send (`expired`, `not_found`, `rejected`): published, and final at once."""
    first = operation.status is Status.UNSEEN
    moved = Moved(
        from_status=None if first else operation.status,
        to_status=status,
        stats=operation.stats,
        updated_at=rfc3339(operation.updated_at),
        delay_seconds=None,
    )
    ended = operation.with_(status=status, word=None, learned_at=now.at, progressed_at=now.at)
    # No duration: upstream has shown no end.
    finished = Finished(outcome=OUTCOME_OF[status], stats=ended.stats, duration_seconds=None)
    step = Step(operation=ended, events=(moved, finished))
    return followed_by(step, finalise(ended, now))


def finalise(operation: Operation, now: ClockReading) -> Step:
    """The stats are final: nothing is read after this, and they are counted."""
    # An operation that was registered after its record's 7 days may have been counted in an earlier life, whose
    # tombstone may be gone after 8. Both clocks must agree on that, because ours may have been wrong at the
    # registration.
    created_at = youngest_creation(operation, now)
    was_late = created_at is not None and operation.registered_at > created_at + RECORD_LIFE
    return Step(
        operation=operation.with_(final_at=now.at, unsettled_since=None, evidence=None),
        tally=None
        if was_late and has_expired(operation, now)
        else Tally(
            outcome=OUTCOME_OF[operation.status], stats=operation.stats, duration_seconds=duration_seconds(operation)
        ),
    )


def followed_by(first: Step, then: Step) -> Step:
    """Two steps as one step."""
    # A tally comes only from `finalise`, always the second step, and a delay only from a poll, always the first.
    return Step(
        operation=then.operation,
        events=first.events + then.events,
        tally=then.tally,
        anomalies=first.anomalies + then.anomalies,
        delay=first.delay,
    )
