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

from watcher.core.clocks import ClockReading
from watcher.core.lifecycle.after_end import has_regressed, is_gone, is_settling_read, is_unclear, is_unsettled, settles
from watcher.core.lifecycle.answers import (
    ObservationKind,
    kind_of,
)
from watcher.core.lifecycle.bounds import LifecycleRules, bounded, still_unsettled
from watcher.core.lifecycle.steps import (
    Step,
    with_oddities,
)
from watcher.core.lifecycle.tracked import ends, is_rejected, misses, moves, progressed_row
from watcher.core.model import (
    OUTCOME_OF,
    RECORD_LIFE,
    TOMBSTONE_LIFE,
    Operation,
    Phase,
    Status,
)
from watcher.core.observation import Forbidden, Missing, Observation, Refused, Seen


def observe(operation: Operation, observation: Observation, now: ClockReading, rules: LifecycleRules) -> Step:
    """The operation after the observation, and what to publish about it. `now` is the present by both clocks."""
    # Records are not compared with `asked_tick` here: an end counts whenever it was requested.
    if isinstance(observation, Seen):
        if repeats(operation, observation, now, rules):
            return Step(operation=replace(operation, asked_tick=observation.timing.asked.tick), is_news=False)
        if progresses(operation, observation, now):
            return progressed_row(operation, observation, now)
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
        and not is_settling_read(operation, seen, rules)
    )


def progresses(operation: Operation, seen: Seen, now: ClockReading) -> bool:
    """Whether a row shows a running operation with newer stats or a newer `updatedAt`, and there is nothing to publish.

    Nearly every row that does not repeat does. `progressed_row` gives what the table would say of it.
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


def _is_forbidden(operation: Operation, _forbidden: Forbidden, now: ClockReading, _rules: LifecycleRules) -> Step:
    """A 403 that concerns this operation alone, as other answers of the account have shown. It is not an outcome."""
    step = with_oddities(operation, ("forbidden",))
    return still_unsettled(step, now) if operation.phase is Phase.SETTLING else bounded(step, now)


def _stays(operation: Operation, _: Observation, _now: ClockReading, _rules: LifecycleRules) -> Step:
    return Step(operation=operation)


# `Any`, because each rule takes only the kinds of observation of its own columns.
Rule = Callable[[Operation, Any, ClockReading, LifecycleRules], Step]

TABLE: Mapping[tuple[Phase, ObservationKind], Rule] = {
    (Phase.FOLLOWED, ObservationKind.RUNNING): moves,
    (Phase.FOLLOWED, ObservationKind.UNKNOWN): moves,
    (Phase.FOLLOWED, ObservationKind.ENDED): ends,
    (Phase.FOLLOWED, ObservationKind.MISSING): misses,
    (Phase.FOLLOWED, ObservationKind.REFUSED): is_rejected,
    (Phase.FOLLOWED, ObservationKind.FORBIDDEN): _is_forbidden,
    (Phase.FOLLOWED, ObservationKind.UNANSWERED): _stays,
    (Phase.SETTLING, ObservationKind.RUNNING): has_regressed,
    (Phase.SETTLING, ObservationKind.UNKNOWN): is_unclear,
    (Phase.SETTLING, ObservationKind.ENDED): settles,
    (Phase.SETTLING, ObservationKind.MISSING): is_gone,
    (Phase.SETTLING, ObservationKind.REFUSED): is_unsettled,
    (Phase.SETTLING, ObservationKind.FORBIDDEN): _is_forbidden,
    (Phase.SETTLING, ObservationKind.UNANSWERED): is_unsettled,
    **{(Phase.FINAL, answer): _stays for answer in ObservationKind},
}
