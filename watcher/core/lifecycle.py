"""What an observation does to an operation.

`TABLE` names the rule for each phase of an operation and each kind of observation; `watcher/__init__.py` draws it.

Nothing final rests on one answer. A terminal status is absorbing: an answer that shows one ends the operation whatever
its `updatedAt`, for that never goes back. But its stats count only after an answer that was requested later shows a
terminal status again. Between two running or two terminal answers, one with an older `updatedAt` is set aside once, and
else the one that was requested later wins. Nothing is concluded from the arithmetic of stats: official examples
contradict each other. The whole of it, with the reasons: `docs/conclusions.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import astuple, replace

from watcher.core.answers import (
    ObservationKind,
    Order,
    has_expired,
    is_apart,
    is_before,
    is_doubtfully_old,
    is_old_and_absent,
    is_past_its_record,
    kind_of,
    order_of,
    status_of,
    with_creation,
)
from watcher.core.clocks import AGREE_WITHIN, ClockReading
from watcher.core.model import (
    MINUTE,
    OUTCOME_OF,
    RECORD_LIFE,
    SECOND,
    TOMBSTONE_LIFE,
    Corrected,
    Evidence,
    Finished,
    Instant,
    Micros,
    Moved,
    Operation,
    Phase,
    Stats,
    Status,
    Value,
    rfc3339,
)
from watcher.core.observation import Forbidden, Missing, Observation, Refused, Seen, Unanswered
from watcher.core.settling import SETTLING_AT_MOST, settling_began_at, settling_wait
from watcher.core.steps import (
    Step,
    detection_delay,
    duration_seconds,
    finalise,
    finish,
    followed_by,
    has_fallen,
    merged,
    oddities,
    progressed,
    set_aside,
    unchanged,
    with_oddities,
)

UNSETTLED_AT_MOST: Micros = 10 * MINUTE
"""Settling reads that fail for so long end the settling: the stats are final as they are."""

SET_BACK_BY: Micros = MINUTE
"""An answer that was asked for so long before the end was learned shows that the wall clock was set back."""

SLOW_TRIES = 3
"""How often a 404 beyond the grace, or a 400 of what was shown before, must be repeated, slowly, to be believed."""

_NOTHING = Evidence()


class LifecycleRules(Value, frozen=True, kw_only=True):
    """What of the settings decides about operations."""

    settle_after: tuple[Micros, ...] = (30 * SECOND, 2 * MINUTE)
    not_found_grace: Micros = 2 * MINUTE


def observe(operation: Operation, observation: Observation, now: ClockReading, rules: LifecycleRules) -> Step:
    """The operation after the observation, and what to tell of it. `now` is when it is taken in, by both clocks."""
    if isinstance(observation, Seen):
        if repeats(operation, observation, now, rules):
            return Step(operation=replace(operation, asked_tick=observation.timing.asked.tick), is_news=False)
        if progresses(operation, observation, now):
            return _progressed(operation, observation, now)
    elif (
        isinstance(observation, Missing | Refused | Forbidden) and observation.timing.asked.tick < operation.asked_tick
    ):
        # An answer that was asked for later is known already.
        return Step(operation=operation)
    rule = TABLE[operation.phase, kind_of(operation, observation)]
    return rule(operation, observation, now, rules)


def repeats(operation: Operation, seen: Seen, now: ClockReading, rules: LifecycleRules) -> bool:
    """Whether an operation that runs, or settles and is not due, was shown just as it is known.

    Nearly every row of a sweep does; what the table says of those is known beforehand.
    """
    record = seen.record
    status, created_at = operation.status, operation.created_at
    if not (
        record.word == status
        and record.stats == operation.stats
        and record.updated_at == operation.updated_at
        and created_at is not None
        and record.created_at == created_at
        and not record.odd
        and operation.evidence is None
        and operation.final_at is None
        and operation.missing_since is None
        and not operation.missed
        and seen.timing.asked.tick >= operation.asked_tick
    ):
        return False
    # No bound can be passed while the clock that is ahead has not passed it.
    if status is Status.PROCESSING or status is Status.SCHEDULED:
        is_published = operation.failing_published or not operation.stats.has_failures
        return is_published and now.latest_at <= created_at + TOMBSTONE_LIFE
    return (
        status in OUTCOME_OF
        and operation.unsettled_since is None
        and now.latest_at <= created_at + RECORD_LIFE
        and not _is_settling_read(operation, seen, rules)
    )


def progresses(operation: Operation, seen: Seen, now: ClockReading) -> bool:
    """Whether an operation that runs was shown with newer stats or a newer instant, and nothing else is to be told.

    Nearly every row that does not repeat does; what the table says of those is known beforehand, too.
    """
    record, created_at = seen.record, operation.created_at
    stats, updated_at = record.stats, record.updated_at
    return (
        operation.status is Status.PROCESSING
        and record.word == Status.PROCESSING
        and stats is not None
        and None not in astuple(stats)
        and updated_at is not None
        and operation.updated_at is not None
        and updated_at >= operation.updated_at
        and seen.timing.asked.tick >= operation.asked_tick
        and created_at is not None
        and record.created_at == created_at
        and now.latest_at <= created_at + TOMBSTONE_LIFE
        and not record.odd
        and operation.evidence is None
        and not has_fallen(operation.stats, stats)
        and (operation.failing_published or not stats.has_failures)
        and operation.missing_since is None
        and not operation.missed
    )


# ── followed ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _moves(operation: Operation, seen: Seen, now: ClockReading, _rules: LifecycleRules) -> Step:
    order = order_of(operation, seen)
    if order is Order.OVERTAKEN:
        step = unchanged(operation)
    elif order is Order.OLDER:
        step = set_aside(operation, seen)
    else:
        step = progressed(operation, merged(operation, seen, now), seen, now)
    return _bounded(step, now)


def _progressed(operation: Operation, seen: Seen, now: ClockReading) -> Step:
    """What `_moves` makes of one that progresses."""
    after = replace(
        operation,
        stats=seen.record.stats,
        updated_at=seen.record.updated_at,
        progressed_at=now.at,
        asked_tick=seen.timing.asked.tick,
    )
    return Step(operation=after, delay=detection_delay(operation, after, seen, now) if operation.asked_tick else None)


def _ends(operation: Operation, seen: Seen, now: ClockReading, _rules: LifecycleRules) -> Step:
    given, known = seen.record.updated_at, operation.updated_at
    # The machine that writes ends may write coarser instants than the one that writes progress, or be behind it.
    is_older = given is not None and known is not None and given < known
    ended = merged(operation, seen, now)
    ended = ended.with_(
        updated_at=ended.updated_at if given is None else given, ended_at=_ended_at(given, now), learned_at=now.at
    )
    published = Finished(outcome=OUTCOME_OF[ended.status], stats=ended.stats, duration_seconds=duration_seconds(ended))
    step = progressed(operation, ended, seen, now)
    step = followed_by(step, Step(operation=step.operation, events=(published,)))
    if is_older and "end_older" not in operation.odd:
        step = followed_by(step, with_oddities(step.operation, ("end_older",)))
    if is_past_its_record(ended, now):
        return followed_by(step, finalise(step.operation, now))
    return step


def _ended_at(updated_at: Instant | None, now: ClockReading) -> Instant:
    """When it ended: as the record says, unless that is still to come by both clocks."""
    if updated_at is not None and updated_at <= now.latest_at + AGREE_WITHIN:
        return updated_at
    return now.at if now.trusted_at is None else now.trusted_at


def _misses(operation: Operation, _missing: Missing, now: ClockReading, rules: LifecycleRules) -> Step:
    if has_expired(operation, now):
        return finish(operation, Status.EXPIRED, now)
    since = operation.missing_since
    if since is None:
        # What was never seen may be missing because it is new; what was seen must have gone just now.
        since = operation.registered_at if operation.status is Status.UNSEEN else now.at
    since = min(since, now.at)
    missed = operation.missed + 1 if now.at - since >= rules.not_found_grace else 0
    if missed > SLOW_TRIES:
        return finish(operation, Status.EXPIRED if is_old_and_absent(operation, now) else Status.NOT_FOUND, now)
    return Step(operation=operation.with_(missing_since=since, missed=missed))


def _is_rejected(operation: Operation, _refused: Refused, now: ClockReading, _rules: LifecycleRules) -> Step:
    # Upstream has shown it under this id, so the id is not malformed: one 400 proves nothing.
    if operation.status is not Status.UNSEEN and operation.missed < SLOW_TRIES:
        since = now.at if operation.missing_since is None else operation.missing_since
        return Step(operation=operation.with_(missing_since=since, missed=operation.missed + 1))
    return finish(operation, Status.REJECTED, now)


# ── settling ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _settles(operation: Operation, seen: Seen, now: ClockReading, rules: LifecycleRules) -> Step:
    is_later = seen.timing.asked.tick > operation.asked_tick
    dated = with_creation(operation, seen, is_later=is_later)
    if is_past_its_record(dated, now):
        # Twilio: what is shown after that may be incomplete, so the stats stay as they were.
        return finalise(dated, now)
    evidence = operation.evidence or _NOTHING
    order = order_of(operation, seen)
    if order is Order.OVERTAKEN or (evidence.running_answers and not is_later):
        return unchanged(operation)
    if evidence.running_answers:
        return _ends_again(operation, seen, now)
    if status_of(operation, seen.record.word) is not operation.status:
        return _ends_otherwise(operation, seen, now)
    if order is Order.OLDER:
        return _still_unsettled(set_aside(operation, seen), now)
    step = _taken_after_the_end(operation, seen, now)
    is_moving = evidence.is_moving or step.operation.stats != operation.stats
    # A sweep may show it before its time: its stats are taken, but it is no settling read.
    if not _is_settling_read(operation, seen, rules):
        return replace(step, operation=step.operation.with_evidence(is_moving=is_moving))
    settled = step.operation.with_evidence(is_moving=False)
    is_last = operation.prolonged > 0 or operation.settled + 1 >= len(rules.settle_after)
    if is_last and is_doubtfully_old(settled):
        return _still_unsettled(replace(step, operation=settled), now)
    if is_last and is_moving and settling_wait(operation, rules.settle_after) < SETTLING_AT_MOST:
        return replace(step, operation=settled.with_(prolonged=operation.prolonged + 1))
    step = replace(step, operation=settled.with_(settled=operation.settled + 1))
    return followed_by(step, finalise(step.operation, now)) if is_last else step


def _is_settling_read(operation: Operation, seen: Seen, rules: LifecycleRules) -> bool:
    """Whether this answer was requested after all that are known, and after the next settling read was due."""
    began_at, asked = settling_began_at(operation), seen.timing.asked
    # Asked so long before it was learned? The wall clock was set back meanwhile: what is planned goes on by ticks.
    return asked.tick > operation.asked_tick and (
        asked.at >= began_at + settling_wait(operation, rules.settle_after) or asked.at < began_at - SET_BACK_BY
    )


def _taken_after_the_end(operation: Operation, seen: Seen, now: ClockReading) -> Step:
    """The operation with what a terminal answer shows, and the correction where its stats moved."""
    after = merged(operation, seen, now).with_(unsettled_since=None)
    given, ended_at = seen.record.updated_at, operation.ended_at
    if given is not None and ended_at is not None and given < ended_at:
        # A record is not written before the end that it shows.
        after = after.with_(ended_at=given)
    if after.evidence is not None and seen.timing.asked.tick > operation.asked_tick:
        after = after.with_evidence(running_asked_at=None, other_end_asked_at=None, absent_asked_at=None)
    step = with_oddities(after, oddities(operation, after, seen, now))
    return followed_by(Step(operation=after, events=_correction(operation.stats, after.stats)), step)


def _correction(before: Stats, stats: Stats) -> tuple[Corrected, ...]:
    return (Corrected(stats=stats, before=before),) if stats != before else ()


def _ends_again(operation: Operation, seen: Seen, now: ClockReading) -> Step:
    """A terminal status after it was taken back: the end stands, and settling begins anew."""
    after = merged(operation, seen, now)
    given = seen.record.updated_at
    after = after.with_(
        updated_at=after.updated_at if given is None else given,
        ended_at=_ended_at(given, now),
        settling_since=now.at,
        settled=0,
        prolonged=0,
        unsettled_since=None,
    ).with_evidence(
        running_asked_at=None, running_answers=0, other_end_asked_at=None, absent_asked_at=None, is_moving=False
    )
    moved: tuple[Moved, ...] = ()
    if after.status is not operation.status:
        moved = (
            Moved(
                from_status=operation.status,
                to_status=after.status,
                stats=after.stats,
                updated_at=rfc3339(after.updated_at),
                delay_seconds=None,
            ),
        )
    step = with_oddities(after, oddities(operation, after, seen, now))
    return followed_by(Step(operation=after, events=(*moved, *_correction(operation.stats, after.stats))), step)


def _ends_otherwise(operation: Operation, seen: Seen, now: ClockReading) -> Step:
    """The other terminal status. One answer may be wrong, so the first stands until two at least a minute apart agree.

    Whichever of the two was wrong, none of them has been confirmed since: settling begins anew.
    """
    asked_at = seen.timing.asked.at
    first_asked_at = None if operation.evidence is None else operation.evidence.other_end_asked_at
    if first_asked_at is not None and is_apart(first_asked_at, asked_at):
        return followed_by(unchanged(operation, "terminal_changed"), _ends_again(operation, seen, now))
    if first_asked_at is None:
        operation = operation.with_evidence(other_end_asked_at=asked_at)
    return _still_unsettled(unchanged(operation, "terminal_changed"), now)


def _has_regressed(operation: Operation, seen: Seen, now: ClockReading, _rules: LifecycleRules) -> Step:
    """A running status after the end. A replica that lags behind shows one; an end that was wrong is followed by them.

    One proves nothing. Two at least a minute apart, with no terminal one in between, keep it settling, with their
    stats, until a terminal status is shown again. They count if they were written after the end, or while no second
    answer has confirmed the end.
    """
    asked = seen.timing.asked
    if asked.tick <= operation.asked_tick:
        return unchanged(operation)
    given, known = seen.record.updated_at, operation.updated_at
    is_later = given is None or known is None or is_before(known, given)
    is_lagging = given is not None and known is not None and is_before(given, known)
    step = unchanged(operation, "stale_answer" if is_lagging else "terminal_regressed")
    if is_later or not operation.settled:
        step = followed_by(step, _contradicted(step.operation, seen, now))
    return _still_unsettled(step, now)


def _contradicted(operation: Operation, seen: Seen, now: ClockReading) -> Step:
    asked = seen.timing.asked
    evidence = operation.evidence or _NOTHING
    before_asked_at = evidence.running_asked_at
    if before_asked_at is None:
        first = operation.with_(asked_tick=asked.tick)
        return Step(operation=first.with_evidence(running_asked_at=asked.at, absent_asked_at=None))
    if not is_apart(before_asked_at, asked.at):
        return Step(operation=operation)
    stats = operation.stats if seen.record.stats is None else operation.stats.merged_with(seen.record.stats)
    after = operation.with_(stats=stats, asked_tick=asked.tick, progressed_at=now.at).with_evidence(
        running_asked_at=asked.at, running_answers=evidence.running_answers + 1, absent_asked_at=None
    )
    return Step(operation=after, events=_correction(operation.stats, stats))


def _is_unclear(operation: Operation, _seen: Seen, now: ClockReading, _rules: LifecycleRules) -> Step:
    return _still_unsettled(unchanged(operation, "terminal_regressed"), now)


def _is_gone(operation: Operation, missing: Missing, now: ClockReading, _rules: LifecycleRules) -> Step:
    """A 404 after the end: the stats are final as they are, but only when it is repeated at least a minute later."""
    asked_at = missing.timing.asked.at
    evidence = operation.evidence or _NOTHING
    if evidence.absent_asked_at is None:
        absent = operation.with_evidence(absent_asked_at=asked_at)
        return _still_unsettled(Step(operation=absent), now)
    if not is_apart(evidence.absent_asked_at, asked_at):
        return _still_unsettled(Step(operation=operation), now)
    if evidence.running_asked_at is not None and not is_old_and_absent(operation, now):
        return _still_unsettled(Step(operation=operation), now)
    return finalise(operation, now)


def _is_unsettled(
    operation: Operation, _failed: Refused | Unanswered, now: ClockReading, _rules: LifecycleRules
) -> Step:
    return _still_unsettled(Step(operation=operation), now)


def _is_forbidden(operation: Operation, _forbidden: Forbidden, now: ClockReading, _rules: LifecycleRules) -> Step:
    """A 403 that other answers of the account have shown to be about this operation alone; it is no outcome."""
    step = with_oddities(operation, ("forbidden",))
    return _still_unsettled(step, now) if operation.phase is Phase.SETTLING else _bounded(step, now)


def _stays(operation: Operation, _: Observation, _now: ClockReading, _rules: LifecycleRules) -> Step:
    return Step(operation=operation)


# Any: each rule takes the kinds of observation that its columns stand for.
Rule = Callable[[Operation, Any, ClockReading, LifecycleRules], Step]

TABLE: Mapping[tuple[Phase, ObservationKind], Rule] = {
    (Phase.FOLLOWED, ObservationKind.RUNNING): _moves,
    (Phase.FOLLOWED, ObservationKind.UNKNOWN): _moves,
    (Phase.FOLLOWED, ObservationKind.ENDED): _ends,
    (Phase.FOLLOWED, ObservationKind.MISSING): _misses,
    (Phase.FOLLOWED, ObservationKind.REFUSED): _is_rejected,
    (Phase.FOLLOWED, ObservationKind.FORBIDDEN): _is_forbidden,
    (Phase.FOLLOWED, ObservationKind.UNANSWERED): _stays,
    (Phase.SETTLING, ObservationKind.RUNNING): _has_regressed,
    (Phase.SETTLING, ObservationKind.UNKNOWN): _is_unclear,
    (Phase.SETTLING, ObservationKind.ENDED): _settles,
    (Phase.SETTLING, ObservationKind.MISSING): _is_gone,
    (Phase.SETTLING, ObservationKind.REFUSED): _is_unsettled,
    (Phase.SETTLING, ObservationKind.FORBIDDEN): _is_forbidden,
    (Phase.SETTLING, ObservationKind.UNANSWERED): _is_unsettled,
    **{(Phase.FINAL, answer): _stays for answer in ObservationKind},
}


# ── what rules share ──────────────────────────────────────────────────────────────────────────────────────────────────


def _bounded(step: Step, now: ClockReading) -> Step:
    """The step, and the end of an operation that upstream shows without an end past all bounds.

    A word we do not know may mean anything, so it is bounded by the life of the record; a known running status is
    believed a day longer, as long as our memory of finished operations reaches.
    """
    operation = step.operation
    life = RECORD_LIFE if operation.status is Status.UNKNOWN else TOMBSTONE_LIFE
    # What the clock that is ahead has not passed needs no closer look.
    if operation.created_at is not None and now.latest_at <= operation.created_at + life:
        return step
    if not has_expired(operation, now, life):
        return step
    return followed_by(step, finish(operation, Status.EXPIRED, now))


def _still_unsettled(step: Step, now: ClockReading) -> Step:
    """A settling read that brought nothing; after ten minutes of those the stats are final as they are.

    Unless the last answer showed it running: then its end itself is in doubt, and only its age bounds that.
    """
    operation = step.operation
    since = now.at if operation.unsettled_since is None else min(operation.unsettled_since, now.at)
    step = followed_by(step, Step(operation=operation.with_(unsettled_since=since)))
    is_in_doubt = operation.evidence is not None and operation.evidence.running_asked_at is not None
    has_failed = now.at - since >= UNSETTLED_AT_MOST and not is_in_doubt
    if has_failed or is_past_its_record(operation, now):
        return followed_by(step, finalise(step.operation, now))
    return step
