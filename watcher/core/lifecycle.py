"""What an observation does to a tracked operation.

`TABLE` names the rule for each phase of an operation and each kind of observation. `watcher/__init__.py` draws it.

Nothing final rests on one answer. A terminal status is absorbing: upstream never takes an end back, so an answer that
shows one ends the operation whatever its `updatedAt`. Its stats count only after an answer that was requested later
shows a terminal status again. Between two running or two terminal answers, one with an older `updatedAt` is set aside
once. Otherwise the answer that was requested later wins. Nothing is concluded from the arithmetic of stats, because
official examples contradict each other. All rules with their reasons: `docs/conclusions.md`.
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
from watcher.core.channels import Stats
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
    merged,
    oddities,
    progressed,
    set_aside,
    unchanged,
    with_oddities,
)

UNSETTLED_AT_MOST: Micros = 10 * MINUTE
"""Settling reads that fail for this long end the settling: the stats are final as they are."""

SET_BACK_BY: Micros = MINUTE
"""A request made this much earlier than the end was learned, by the wall clock, shows that the clock was set back."""

SLOW_TRIES = 3
"""Slow repetitions until a 404 beyond the grace is believed, or a 400 for an operation that was shown before."""

_NOTHING = Evidence()


class LifecycleRules(Value, frozen=True, kw_only=True):
    """The settings that the rules depend on."""

    settle_after: tuple[Micros, ...] = (30 * SECOND, 2 * MINUTE)
    not_found_grace: Micros = 2 * MINUTE


def observe(operation: Operation, observation: Observation, now: ClockReading, rules: LifecycleRules) -> Step:
    """The operation after the observation, and what to publish about it. `now` is the present by both clocks."""
    # Records are not compared with `asked_tick` here: an end counts whenever it was requested.
    if isinstance(observation, Seen):
        if repeats(operation, observation, now, rules):
            return Step(operation=replace(operation, asked_tick=observation.timing.asked.tick), is_news=False)
        if progresses(operation, observation, now):
            return _progressed(operation, observation, now)
    elif (
        isinstance(observation, Missing | Refused | Forbidden) and observation.timing.asked.tick < operation.asked_tick
    ):
        # A request that was made later has shown the operation already, so this absence or refusal is out of date.
        return Step(operation=operation)
    rule = TABLE[operation.phase, kind_of(operation, observation)]
    return rule(operation, observation, now, rules)


def repeats(operation: Operation, seen: Seen, now: ClockReading, rules: LifecycleRules) -> bool:
    """Whether a row shows just what is known of an operation that runs, or that settles and has no settling read due.

    Nearly every row of a sweep does. The table would change nothing but `asked_tick`, so it is not consulted.
    """
    record = seen.record
    status, created_at = operation.status, operation.created_at
    # Evidence waits for a second answer, which this row may be. An operation that was missing is shown again by it.
    # Both need the table, although the row itself says nothing new.
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
    # Every rule about age needs a clock that has passed the bound. While even the clock that is ahead has not, none can
    # apply. Failures that were not published yet need the table, which makes the event.
    if status is Status.PROCESSING or status is Status.SCHEDULED:
        is_published = operation.failing_published or not operation.stats.has_failures
        return is_published and now.latest_at <= created_at + TOMBSTONE_LIFE
    # A settling read counts even where it shows nothing new: it is what confirms the end.
    return (
        status in OUTCOME_OF
        and operation.unsettled_since is None
        and now.latest_at <= created_at + RECORD_LIFE
        and not _is_settling_read(operation, seen, rules)
    )


def progresses(operation: Operation, seen: Seen, now: ClockReading) -> bool:
    """Whether a row shows a running operation with newer stats or a newer `updatedAt`, and there is nothing to publish.

    Nearly every row that does not repeat does. `_progressed` gives what the table would say of it.
    """
    record, created_at = seen.record, operation.created_at
    stats, updated_at = record.stats, record.updated_at
    # Each condition excludes something that only the table handles: stats to merge with the known ones, an order to
    # decide, a changed creation, an age bound, an anomaly, evidence, an event about failures, an end of absence.
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
        and not stats.has_fallen_from(operation.stats)
        and (operation.failing_published or not stats.has_failures)
        and operation.missing_since is None
        and not operation.missed
    )


# ── followed: the operation has not ended ─────────────────────────────────────────────────────────────────────────────


def _moves(operation: Operation, seen: Seen, now: ClockReading, _rules: LifecycleRules) -> Step:
    order = order_of(operation, seen)
    if order is Order.OVERTAKEN:
        step = unchanged(operation)
    elif order is Order.OLDER:
        step = set_aside(operation, seen)
    else:
        step = progressed(operation, merged(operation, seen, now), seen, now)
    # Also where the answer is ignored: an operation of which upstream shows only old answers must still expire.
    return _bounded(step, now)


def _progressed(operation: Operation, seen: Seen, now: ClockReading) -> Step:
    """The step that `_moves` would give for a row that `progresses`."""
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
    # No check of the order. The machine that writes ends may write coarser instants than the one that writes progress,
    # or its clock may be behind. If older ends were set aside, such operations would stay open until they expire.
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
        # Twilio: what is shown of a record past its 7 days may be incomplete. Settling reads would confirm nothing.
        return followed_by(step, finalise(step.operation, now))
    return step


def _ended_at(updated_at: Instant | None, now: ClockReading) -> Instant:
    """When the operation ended: its `updatedAt`, or the present if that is missing or in the future by both clocks."""
    if updated_at is not None and updated_at <= now.latest_at + AGREE_WITHIN:
        return updated_at
    return now.at if now.trusted_at is None else now.trusted_at


#   404   404   404   404   404       404       404       404
#   ├─── not_found_grace ──┤ ├─ 1 min ─┼─ 1 min ─┼─ 1 min ─┤
#   missed = 0               1         2         3         4: not_found, or expired if it is old enough
#
# Upstream may not show a new operation at once, so 404s within the grace say nothing. Beyond it the planner polls
# slowly, and only the fourth 404 in a row is believed: an end cannot be taken back.
def _misses(operation: Operation, _missing: Missing, now: ClockReading, rules: LifecycleRules) -> Step:
    if has_expired(operation, now):
        return finish(operation, Status.EXPIRED, now)
    since = operation.missing_since
    if since is None:
        # An operation that was never seen may be missing because it is new, so its grace begins with the registration.
        # One that was seen has disappeared just now.
        since = operation.registered_at if operation.status is Status.UNSEEN else now.at
    # After the wall clock was set back, the grace would otherwise last as long as the clock was ahead.
    since = min(since, now.at)
    missed = operation.missed + 1 if now.at - since >= rules.not_found_grace else 0
    if missed > SLOW_TRIES:
        return finish(operation, Status.EXPIRED if is_old_and_absent(operation, now) else Status.NOT_FOUND, now)
    return Step(operation=operation.with_(missing_since=since, missed=missed))


def _is_rejected(operation: Operation, _refused: Refused, now: ClockReading, _rules: LifecycleRules) -> Step:
    # Upstream has shown an operation under this id, so the id is not malformed, and one 400 proves nothing. The fourth
    # in a row is believed. An id that was never shown is rejected at once.
    if operation.status is not Status.UNSEEN and operation.missed < SLOW_TRIES:
        since = now.at if operation.missing_since is None else operation.missing_since
        return Step(operation=operation.with_(missing_since=since, missed=operation.missed + 1))
    return finish(operation, Status.REJECTED, now)


# ── settling: the end is known, its stats are not confirmed ───────────────────────────────────────────────────────────


def _settles(operation: Operation, seen: Seen, now: ClockReading, rules: LifecycleRules) -> Step:
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
        return _still_unsettled(set_aside(operation, seen), now)
    step = _taken_after_the_end(operation, seen, now)
    is_moving = evidence.is_moving or step.operation.stats.still_moves_from(operation.stats)
    # A sweep may show the operation before the next settling read is due. Its stats are taken and remembered as moving,
    # but it does not count as a read: otherwise frequent sweeps would confirm stats within seconds of the end.
    if not _is_settling_read(operation, seen, rules):
        return replace(step, operation=step.operation.with_evidence(is_moving=is_moving))
    settled = step.operation.with_evidence(is_moving=False)
    is_last = operation.prolonged > 0 or operation.settled + 1 >= len(rules.settle_after)
    # `finalise` leaves an operation uncounted that was too old when it was registered. That cannot be taken back, so it
    # must not rest on a `createdAt` that only one answer has shown: read again until it is repeated or replaced.
    if is_last and is_doubtfully_old(settled):
        return _still_unsettled(replace(step, operation=settled), now)
    # Stats that changed since the read before may change again: one more read, after twice the wait, up to an hour.
    if is_last and is_moving and settling_wait(operation, rules.settle_after) < SETTLING_AT_MOST:
        return replace(step, operation=settled.with_(prolonged=operation.prolonged + 1))
    step = replace(step, operation=settled.with_(settled=operation.settled + 1))
    return followed_by(step, finalise(step.operation, now)) if is_last else step


def _is_settling_read(operation: Operation, seen: Seen, rules: LifecycleRules) -> bool:
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
    """The other terminal status. One answer may be wrong, so the first end holds until two answers agree on the other.

    They must be at least a minute apart. No read has confirmed that end yet, so settling begins anew.
    """
    asked_at = seen.timing.asked.at
    first_asked_at = None if operation.evidence is None else operation.evidence.other_end_asked_at
    if first_asked_at is not None and is_apart(first_asked_at, asked_at):
        return followed_by(unchanged(operation, "terminal_changed"), _ends_again(operation, seen, now))
    if first_asked_at is None:
        operation = operation.with_evidence(other_end_asked_at=asked_at)
    return _still_unsettled(unchanged(operation, "terminal_changed"), now)


def _has_regressed(operation: Operation, seen: Seen, now: ClockReading, _rules: LifecycleRules) -> Step:
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
    return _still_unsettled(step, now)


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


def _is_unclear(operation: Operation, _seen: Seen, now: ClockReading, _rules: LifecycleRules) -> Step:
    """An unknown word after the end. It may mean anything, so it neither confirms nor contradicts the end."""
    return _still_unsettled(unchanged(operation, "terminal_regressed"), now)


def _is_gone(operation: Operation, missing: Missing, now: ClockReading, _rules: LifecycleRules) -> Step:
    """A 404 after the end. When it is repeated at least a minute later, the stats are final as they are."""
    asked_at = missing.timing.asked.at
    evidence = operation.evidence or _NOTHING
    if evidence.absent_asked_at is None:
        absent = operation.with_evidence(absent_asked_at=asked_at)
        return _still_unsettled(Step(operation=absent), now)
    if not is_apart(evidence.absent_asked_at, asked_at):
        return _still_unsettled(Step(operation=operation), now)
    # The newest record showed the operation running, so its stats are not those of an end. Absence makes them final
    # only where the age of the record explains the absence.
    if evidence.running_asked_at is not None and not is_old_and_absent(operation, now):
        return _still_unsettled(Step(operation=operation), now)
    return finalise(operation, now)


def _is_unsettled(
    operation: Operation, _failed: Refused | Unanswered, now: ClockReading, _rules: LifecycleRules
) -> Step:
    return _still_unsettled(Step(operation=operation), now)


def _is_forbidden(operation: Operation, _forbidden: Forbidden, now: ClockReading, _rules: LifecycleRules) -> Step:
    """A 403 that concerns this operation alone, as other answers of the account have shown. It is not an outcome."""
    step = with_oddities(operation, ("forbidden",))
    return _still_unsettled(step, now) if operation.phase is Phase.SETTLING else _bounded(step, now)


def _stays(operation: Operation, _: Observation, _now: ClockReading, _rules: LifecycleRules) -> Step:
    return Step(operation=operation)


# `Any`, because each rule takes only the kinds of observation of its own columns.
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
    """The step, and `expired` where upstream shows the operation without an end beyond the age bound.

    An unknown word may mean anything, so its bound is the life of the record, 7 days. A known running status is
    believed a day longer, as long as tombstones are kept.
    """
    operation = step.operation
    life = RECORD_LIFE if operation.status is Status.UNKNOWN else TOMBSTONE_LIFE
    # The cheap check first: what not even the clock that is ahead has passed, no clock has passed.
    if operation.created_at is not None and now.latest_at <= operation.created_at + life:
        return step
    if not has_expired(operation, now, life):
        return step
    return followed_by(step, finish(operation, Status.EXPIRED, now))


def _still_unsettled(step: Step, now: ClockReading) -> Step:
    """A settling read that confirmed nothing. After ten minutes of those the stats are final as they are.

    The exception is an operation that the last answer showed running: its end itself is in doubt, and only the age of
    its record bounds that.
    """
    operation = step.operation
    # After the wall clock was set back, the ten minutes would otherwise last as long as the clock was ahead.
    since = now.at if operation.unsettled_since is None else min(operation.unsettled_since, now.at)
    step = followed_by(step, Step(operation=operation.with_(unsettled_since=since)))
    is_in_doubt = operation.evidence is not None and operation.evidence.running_asked_at is not None
    has_failed = now.at - since >= UNSETTLED_AT_MOST and not is_in_doubt
    if has_failed or is_past_its_record(operation, now):
        return followed_by(step, finalise(step.operation, now))
    return step
