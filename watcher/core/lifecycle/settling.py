"""When the stats of an operation that has ended are read again.

The configured reads come first. If the last of them still shows changed stats, reads continue with doubling waits
until two successive reads agree, at most until an hour after the end was learned. With the default settings:

    end learned    30 s   2 min  4 min  8 min  16 min  32 min  60 min
    ├───────────────●──────●──────○──────○──────○───────○───────○
    read            1      2      3      4      5       6       7

● always. ○ only if the read before it still showed changed stats. The read at 60 min is the last in any case.
"""

from __future__ import annotations

from collections.abc import Sequence

from watcher.core.backoff import doubled
from watcher.core.model import HOUR, MINUTE, SECOND, Instant, Micros, Operation

SETTLING_AT_MOST: Micros = HOUR
"""Counted from when the end was learned. Stats that still change then become final as they are."""

PROLONGED_FROM: Micros = 30 * SECOND
"""The wait that is doubled if the last configured one is shorter."""

RETRY_AFTER: Micros = 30 * SECOND
RETRY_AT_MOST: Micros = 5 * MINUTE
ABSENT_AGAIN_AFTER: Micros = MINUTE


def settling_began_at(operation: Operation) -> Instant:
    """The start of the waits for settling reads: when the end was learned, or shown again after it was taken back."""
    # Not the end by upstream's clock: an end that is learned days late needs its settling reads all the same.
    if operation.settling_since is not None:
        return operation.settling_since
    return operation.registered_at if operation.learned_at is None else operation.learned_at


def settling_wait(operation: Operation, settle_after: Sequence[Micros]) -> Micros:
    """From the beginning of settling to the next read. 0 for a read that only confirms the end (`settle_after: []`)."""
    last = settle_after[-1] if settle_after else 0
    if operation.prolonged:
        # A configured last wait of more than an hour is kept: `doubled` never returns less.
        return doubled(max(last, PROLONGED_FROM), operation.prolonged, at_most=SETTLING_AT_MOST)
    # After a reload fewer reads may be configured than were made already: the next one is the last.
    return settle_after[operation.settled] if operation.settled < len(settle_after) else last


def retry_wait(operation: Operation) -> Micros:
    """From a settling read that confirmed nothing to the next one."""
    evidence = operation.evidence
    if evidence is None:
        return RETRY_AFTER
    if evidence.absent_asked_at is not None:
        # A second 404 counts only if it is requested at least a minute after the first.
        return ABSENT_AGAIN_AFTER
    # An operation that runs again may run for days. Without the doubling it would take a request every 30 s.
    return doubled(RETRY_AFTER, evidence.running_answers, at_most=RETRY_AT_MOST)
