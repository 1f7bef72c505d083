"""The rules for an operation whose end is known and whose stats are not confirmed."""

from __future__ import annotations

from msgspec.structs import replace

from watcher.core.channels import Stats
from watcher.core.clocks import ClockReading
from watcher.core.lifecycle.answers import (
    Order,
    is_apart,
    is_before,
    is_doubtfully_old,
    is_old_and_absent,
    is_past_its_record,
    order_of,
    status_of,
    with_creation,
)
from watcher.core.lifecycle.bounds import LifecycleRules, ended_at, still_unsettled
from watcher.core.lifecycle.settling import SETTLING_AT_MOST, settling_began_at, settling_wait
from watcher.core.lifecycle.steps import (
    Step,
    finalise,
    followed_by,
    merged,
    oddities,
    set_aside,
    unchanged,
    with_oddities,
)
from watcher.core.model import (
    MINUTE,
    Corrected,
    Evidence,
    Micros,
    Moved,
    Operation,
    rfc3339,
)
from watcher.core.observation import Missing, Refused, Seen, Unanswered

SET_BACK_BY: Micros = MINUTE
"""A request made this much earlier than the end was learned, by the wall clock, shows that the clock was set back."""

_NOTHING = Evidence()


def settles(operation: Operation, seen: Seen, now: ClockReading, rules: LifecycleRules) -> Step:
    """A terminal status again. A settling read; after the last one that changed nothing, the stats are final."""
    is_later = seen.timing.asked.tick > operation.asked_tick
    dated = with_creation(operation, seen, is_later=is_later)
    if is_past_its_record(dated, now):
        # Twilio: what is shown after that may be incomplete, so the stats stay as they were.
        return finalise(dated, now)
    evidence = operation.evidence or _NOTHING
    order = order_of(operation, seen)
    # Once running answers have taken the end back, only a later request can show a new end. An answer that was
    # requested before them shows the old one again.
    if order is Order.OVERTAKEN or (evidence.running_answers and not is_later):
        return unchanged(operation)
    if evidence.running_answers:
        return _ends_again(operation, seen, now)
    # Before `updatedAt` is compared: if the first end was wrong, its `updatedAt` may be ahead of the true end.
    if status_of(operation, seen.record.word) is not operation.status:
        return _ends_otherwise(operation, seen, now)
    if order is Order.OLDER:
        return still_unsettled(set_aside(operation, seen), now)
    step = _taken_after_the_end(operation, seen, now)
    is_moving = evidence.is_moving or step.operation.stats.still_moves_from(operation.stats)
    # A sweep may show the operation before the next settling read is due. Its stats are taken and remembered as moving,
    # but it does not count as a read: otherwise frequent sweeps would confirm stats within seconds of the end.
    if not is_settling_read(operation, seen, rules):
        return replace(step, operation=step.operation.with_evidence(is_moving=is_moving))
    settled = step.operation.with_evidence(is_moving=False)
    is_last = operation.prolonged > 0 or operation.settled + 1 >= len(rules.settle_after)
    # `finalise` leaves an operation uncounted that was too old when it was registered. That cannot be taken back, so it
    # must not rest on a `createdAt` that only one answer has shown: read again until it is repeated or replaced.
    if is_last and is_doubtfully_old(settled):
        return still_unsettled(replace(step, operation=settled), now)
    # Stats that changed since the read before may change again: one more read, after twice the wait, up to an hour.
    if is_last and is_moving and settling_wait(operation, rules.settle_after) < SETTLING_AT_MOST:
        return replace(step, operation=settled.with_(prolonged=operation.prolonged + 1))
    step = replace(step, operation=settled.with_(settled=operation.settled + 1))
    return followed_by(step, finalise(step.operation, now)) if is_last else step


def is_settling_read(operation: Operation, seen: Seen, rules: LifecycleRules) -> bool:
    """Whether this answer was requested after all known ones, and after the next settling read was due."""
    began_at, asked = settling_began_at(operation), seen.timing.asked
    # A request that is later by its tick and yet a minute older than the end: the wall clock was set back meanwhile.
    # The read was planned by ticks, so it counts. Otherwise settling would wait until the clock has caught up.
    return asked.tick > operation.asked_tick and (
        asked.at >= began_at + settling_wait(operation, rules.settle_after) or asked.at < began_at - SET_BACK_BY
    )


def _taken_after_the_end(operation: Operation, seen: Seen, now: ClockReading) -> Step:
    """The operation with what a terminal answer shows, and `operation.corrected` where its stats moved."""
    after = merged(operation, seen, now).with_(unsettled_since=None)
    given, ended_at = seen.record.updated_at, operation.ended_at
    if given is not None and ended_at is not None and given < ended_at:
        # A record that shows the end was written after the end, so the end was no later than that.
        after = after.with_(ended_at=given)
    # A terminal answer ends the contradictions before it. One that was requested before the newest known answer may be
    # older than they are, so it ends none.
    if after.evidence is not None and seen.timing.asked.tick > operation.asked_tick:
        after = after.with_evidence(running_asked_at=None, other_end_asked_at=None, absent_asked_at=None)
    step = with_oddities(after, oddities(operation, after, seen, now))
    return followed_by(Step(operation=after, events=_correction(operation.stats, after.stats)), step)


def _correction(before: Stats, stats: Stats) -> tuple[Corrected, ...]:
    return (Corrected(stats=stats, before=before),) if stats != before else ()


def _ends_again(operation: Operation, seen: Seen, now: ClockReading) -> Step:
    """A terminal status after the end was taken back: the operation has ended now, and settling begins anew."""
    after = merged(operation, seen, now)
    given = seen.record.updated_at
    # All reads so far were about the end that was taken back. None of them confirms this end, so counting starts at 0.
    after = after.with_(
        updated_at=after.updated_at if given is None else given,
        ended_at=ended_at(given, now),
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
    """The other terminal status. One answer may be wrong, so the first end holds until two answers agree on the other.

    They must be at least a minute apart. No read has confirmed that end yet, so settling begins anew.
    """
    asked_at = seen.timing.asked.at
    first_asked_at = None if operation.evidence is None else operation.evidence.other_end_asked_at
    if first_asked_at is not None and is_apart(first_asked_at, asked_at):
        return followed_by(unchanged(operation, "terminal_changed"), _ends_again(operation, seen, now))
    if first_asked_at is None:
        operation = operation.with_evidence(other_end_asked_at=asked_at)
    return still_unsettled(unchanged(operation, "terminal_changed"), now)


def has_regressed(operation: Operation, seen: Seen, now: ClockReading, _rules: LifecycleRules) -> Step:
    """A running status after the end: from a replica that lags behind, or because the end was wrong.

    One such answer proves nothing. Two at least a minute apart, with no terminal answer in between, keep the operation
    settling, with their stats, until a terminal status is shown again. They count if they were written after the end,
    or while no second answer has confirmed the end.
    """
    asked = seen.timing.asked
    if asked.tick <= operation.asked_tick:
        # Requested before the end was shown: answers that overtake each other are nothing odd.
        return unchanged(operation)
    given, known = seen.record.updated_at, operation.updated_at
    is_later = given is None or known is None or is_before(known, given)
    is_lagging = given is not None and known is not None and is_before(given, known)
    step = unchanged(operation, "stale_answer" if is_lagging else "terminal_regressed")
    # A confirmed end is contradicted only by what was written after it: an index that lags behind goes on showing old
    # rows. Before the confirmation each running answer counts, because a wrong end may be stamped ahead of all that
    # follows.
    if is_later or not operation.settled:
        step = followed_by(step, _contradicted(step.operation, seen, now))
    return still_unsettled(step, now)


def _contradicted(operation: Operation, seen: Seen, now: ClockReading) -> Step:
    asked = seen.timing.asked
    evidence = operation.evidence or _NOTHING
    before_asked_at = evidence.running_asked_at
    if before_asked_at is None:
        first = operation.with_(asked_tick=asked.tick)
        return Step(operation=first.with_evidence(running_asked_at=asked.at, absent_asked_at=None))
    # Within a minute it counts as the same answer: a cache may repeat a wrong one at once.
    if not is_apart(before_asked_at, asked.at):
        return Step(operation=operation)
    stats = operation.stats if seen.record.stats is None else operation.stats.merged_with(seen.record.stats)
    after = operation.with_(stats=stats, asked_tick=asked.tick, progressed_at=now.at).with_evidence(
        running_asked_at=asked.at, running_answers=evidence.running_answers + 1, absent_asked_at=None
    )
    return Step(operation=after, events=_correction(operation.stats, stats))


def is_unclear(operation: Operation, _seen: Seen, now: ClockReading, _rules: LifecycleRules) -> Step:
    """An unknown word after the end. It may mean anything, so it neither confirms nor contradicts the end."""
    return still_unsettled(unchanged(operation, "terminal_regressed"), now)


def is_gone(operation: Operation, missing: Missing, now: ClockReading, _rules: LifecycleRules) -> Step:
    """A 404 after the end. When it is repeated at least a minute later, the stats are final as they are."""
    asked_at = missing.timing.asked.at
    evidence = operation.evidence or _NOTHING
    if evidence.absent_asked_at is None:
        absent = operation.with_evidence(absent_asked_at=asked_at)
        return still_unsettled(Step(operation=absent), now)
    if not is_apart(evidence.absent_asked_at, asked_at):
        return still_unsettled(Step(operation=operation), now)
    # The newest record showed the operation running, so its stats are not those of an end. Absence makes them final
    # only where the age of the record explains the absence.
    if evidence.running_asked_at is not None and not is_old_and_absent(operation, now):
        return still_unsettled(Step(operation=operation), now)
    return finalise(operation, now)


def is_unsettled(
    operation: Operation, _failed: Refused | Unanswered, now: ClockReading, _rules: LifecycleRules
) -> Step:
    """No usable answer after the end, or a 400."""
    return still_unsettled(Step(operation=operation), now)
