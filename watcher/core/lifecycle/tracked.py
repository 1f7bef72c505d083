"""The rules for an operation that has not ended."""

from __future__ import annotations

from msgspec.structs import replace

from watcher.core.clocks import ClockReading
from watcher.core.lifecycle.answers import (
    Order,
    has_expired,
    is_old_and_absent,
    is_past_its_record,
    order_of,
)
from watcher.core.lifecycle.bounds import LifecycleRules, bounded, ended_at
from watcher.core.lifecycle.steps import (
    Step,
    detection_delay,
    duration_seconds,
    finalise,
    finish,
    followed_by,
    merged,
    progressed,
    set_aside,
    unchanged,
    with_oddities,
)
from watcher.core.model import (
    OUTCOME_OF,
    Finished,
    Operation,
    Status,
)
from watcher.core.observation import Missing, Refused, Seen

SLOW_TRIES = 3
"""Slow repetitions until a 404 beyond the grace is believed, or a 400 for an operation that was shown before."""


def moves(operation: Operation, seen: Seen, now: ClockReading, _rules: LifecycleRules) -> Step:
    """A status that is not terminal: what it shows is merged, unless the answer is older than what is known."""
    order = order_of(operation, seen)
    if order is Order.OVERTAKEN:
        step = unchanged(operation)
    elif order is Order.OLDER:
        step = set_aside(operation, seen)
    else:
        step = progressed(operation, merged(operation, seen, now), seen, now)
    # Also where the answer is ignored: an operation of which upstream shows only old answers must still expire.
    return bounded(step, now)


def progressed_row(operation: Operation, seen: Seen, now: ClockReading) -> Step:
    """The step that `moves` would give for a row that `progresses`."""
    after = replace(
        operation,
        stats=seen.record.stats,
        updated_at=seen.record.updated_at,
        progressed_at=now.at,
        asked_tick=seen.timing.asked.tick,
    )
    return Step(operation=after, delay=detection_delay(operation, after, seen, now) if operation.asked_tick else None)


def ends(operation: Operation, seen: Seen, now: ClockReading, _rules: LifecycleRules) -> Step:
    """A terminal status: the operation has ended, whatever its `updatedAt`, and settling begins."""
    given, known = seen.record.updated_at, operation.updated_at
    # No check of the order. The machine that writes ends may write coarser instants than the one that writes progress,
    # or its clock may be behind. If older ends were set aside, such operations would stay open until they expire.
    is_older = given is not None and known is not None and given < known
    ended = merged(operation, seen, now)
    ended = ended.with_(
        updated_at=ended.updated_at if given is None else given, ended_at=ended_at(given, now), learned_at=now.at
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


#   404   404   404   404   404       404       404       404
#   ├─── not_found_grace ──┤ ├─ 1 min ─┼─ 1 min ─┼─ 1 min ─┤
#   missed = 0               1         2         3         4: not_found, or expired if it is old enough
#
# Upstream may not show a new operation at once, so 404s within the grace say nothing. Beyond it the planner polls
# slowly, and only the fourth 404 in a row is believed: an end cannot be taken back.
def misses(operation: Operation, _missing: Missing, now: ClockReading, rules: LifecycleRules) -> Step:
    """A 404: not found in the end, or expired where its age explains the absence."""
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


def is_rejected(operation: Operation, _refused: Refused, now: ClockReading, _rules: LifecycleRules) -> Step:
    """A 400: rejected, at once or after repetitions."""
    # Upstream has shown an operation under this id, so the id is not malformed, and one 400 proves nothing. The fourth
    # in a row is believed. An id that was never shown is rejected at once.
    if operation.status is not Status.UNSEEN and operation.missed < SLOW_TRIES:
        since = now.at if operation.missing_since is None else operation.missing_since
        return Step(operation=operation.with_(missing_since=since, missed=operation.missed + 1))
    return finish(operation, Status.REJECTED, now)
