"""What bounds the life of an operation: age, failing reads, and clocks that are ahead."""

from __future__ import annotations

from watcher.core.clocks import AGREE_WITHIN, ClockReading
from watcher.core.lifecycle.answers import (
    has_expired,
    is_past_its_record,
)
from watcher.core.lifecycle.steps import (
    Step,
    finalise,
    finish,
    followed_by,
)
from watcher.core.model import (
    MINUTE,
    RECORD_LIFE,
    SECOND,
    TOMBSTONE_LIFE,
    Instant,
    Micros,
    Status,
    Value,
)

UNSETTLED_AT_MOST: Micros = 10 * MINUTE
"""Settling reads that fail for this long end the settling: the stats are final as they are."""


class LifecycleRules(Value, frozen=True, kw_only=True):
    """The settings that the rules depend on."""

    settle_after: tuple[Micros, ...] = (30 * SECOND, 2 * MINUTE)
    not_found_grace: Micros = 2 * MINUTE


def ended_at(updated_at: Instant | None, now: ClockReading) -> Instant:
    """When the operation ended: its `updatedAt`, or the present if that is missing or in the future by both clocks."""
    if updated_at is not None and updated_at <= now.latest_at + AGREE_WITHIN:
        return updated_at
    return now.at if now.trusted_at is None else now.trusted_at


def bounded(step: Step, now: ClockReading) -> Step:
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


def still_unsettled(step: Step, now: ClockReading) -> Step:
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
