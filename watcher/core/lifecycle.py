"""What an observation does to an operation: the rules of following, as a table over where it is and what was seen.

                running       unknown word  ended         404           400           no answer
    followed    moves         moves         ends          misses        is rejected   stays
    settling    regressed     regressed     settles       becomes final unsettled     unsettled
    final       stays         stays         stays         stays         stays         stays

Order of answers: an older `updatedAt` changes nothing; with an equal or missing one an end beats a running status, else
the answer that was asked later wins. A terminal status is final; if upstream takes it back, that is an anomaly.
Nothing is concluded from the arithmetic of stats: official examples contradict each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import astuple, replace

from watcher.core.answers import Answer, is_past_its_record, is_stale, kind_of, status_of
from watcher.core.model import (
    MINUTE,
    OUTCOME_OF,
    RECORD_LIFE,
    SECOND,
    TOMBSTONE_LIFE,
    Corrected,
    Finished,
    Micros,
    Moment,
    Operation,
    Phase,
    Status,
    Value,
)
from watcher.core.observation import Missing, Observation, Refused, Seen, Timing, Unanswered
from watcher.core.steps import (
    Step,
    detection_delay,
    duration_seconds,
    finalise,
    finish,
    followed_by,
    has_fallen,
    moved_on,
    oddities,
    outrun,
    passed_over,
    taken_in,
    with_oddities,
)

UNSETTLED_AT_MOST: Micros = 10 * MINUTE
"""Settling reads that fail for so long end the settling: the stats are final as they are."""

SET_BACK_BY: Micros = MINUTE
"""An answer that was asked for so long before the end was learned shows that the wall clock was set back."""

SLOW_TRIES = 3
"""How often a 404 beyond the grace, or a 400 of what was shown before, must be repeated, slowly, to be believed."""


class Rules(Value, frozen=True, kw_only=True):
    """What of the settings decides about operations."""

    settle_after: tuple[Micros, ...] = (30 * SECOND, 2 * MINUTE)
    not_found_grace: Micros = 2 * MINUTE


def observe(operation: Operation, observation: Observation, now: Moment, rules: Rules) -> Step:
    """The operation after the observation, and what to tell of it. `now` is when it is taken in, by our clock."""
    if isinstance(observation, Seen):
        if repeats(operation, observation, rules):
            return Step(operation=replace(operation, asked_tick=observation.timing.asked.tick), is_news=False)
        if progresses(operation, observation):
            return _progressed(operation, observation, now)
    elif isinstance(observation, Missing | Refused) and observation.timing.asked.tick < operation.asked_tick:
        # An answer that was asked for later is known already.
        return Step(operation=operation)
    rule = TABLE[operation.phase, kind_of(operation, observation)]
    return rule(operation, observation, now, rules)


def repeats(operation: Operation, seen: Seen, rules: Rules) -> bool:
    """Whether an operation that runs, or settles and is not due, was shown just as it is known.

    Nearly every row of a sweep does; what the table says of those is known beforehand.
    """
    record, timing = seen.record, seen.timing
    status, created_at = operation.status, operation.created_at
    if not (
        record.word == status
        and record.stats == operation.stats
        and record.updated_at == operation.updated_at
        and created_at is not None
        and record.created_at == created_at
        and not record.odd
        and operation.final_at is None
        and operation.missing_since is None
        and not operation.missed
        and timing.asked.tick >= operation.asked_tick
    ):
        return False
    if status is Status.PROCESSING or status is Status.SCHEDULED:
        is_told = operation.failing_told or not operation.stats.has_failures
        return is_told and timing.upstream_now <= created_at + TOMBSTONE_LIFE
    return (
        status in OUTCOME_OF
        and operation.unsettled_since is None
        and operation.settled < len(rules.settle_after)
        and timing.upstream_now <= created_at + RECORD_LIFE
        and not _is_settling_read(operation, seen, rules)
    )


def progresses(operation: Operation, seen: Seen) -> bool:
    """Whether an operation that runs was shown with newer stats or a newer instant, and nothing else is to be told.

    Nearly every row that does not repeat does; what the table says of those is known beforehand, too.
    """
    record, timing, created_at = seen.record, seen.timing, operation.created_at
    stats, updated_at = record.stats, record.updated_at
    return (
        operation.status is Status.PROCESSING
        and record.word == Status.PROCESSING
        and stats is not None
        and None not in astuple(stats)
        and updated_at is not None
        and operation.updated_at is not None
        and updated_at >= operation.updated_at
        and timing.asked.tick >= operation.asked_tick
        and created_at is not None
        and record.created_at == created_at
        and timing.upstream_now <= created_at + TOMBSTONE_LIFE
        and not record.odd
        and not has_fallen(operation.stats, stats)
        and (operation.failing_told or not stats.has_failures)
        and operation.missing_since is None
        and not operation.missed
    )


# ── the rules ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _moves(operation: Operation, seen: Seen, now: Moment, _rules: Rules) -> Step:
    if is_stale(operation, seen, ends=False):
        step = outrun(operation, seen)
    else:
        step = moved_on(operation, taken_in(operation, seen, now), seen)
    return _bounded(step, seen.timing, now)


def _progressed(operation: Operation, seen: Seen, now: Moment) -> Step:
    """What `_moves` makes of one that progresses."""
    after = replace(
        operation,
        stats=seen.record.stats,
        updated_at=seen.record.updated_at,
        progressed_at=now.at,
        asked_tick=seen.timing.asked.tick,
    )
    return Step(operation=after, delay=detection_delay(operation, after, seen) if operation.asked_tick else None)


def _ends(operation: Operation, seen: Seen, now: Moment, rules: Rules) -> Step:
    if is_stale(operation, seen, ends=True):
        return _bounded(outrun(operation, seen), seen.timing, now)
    updated_at = seen.record.updated_at
    ended_at = updated_at if updated_at is not None else seen.timing.upstream_now
    ended = taken_in(operation, seen, now).with_(ended_at=ended_at, learned_at=now.at)
    told = Finished(outcome=OUTCOME_OF[ended.status], stats=ended.stats, duration_seconds=duration_seconds(ended))
    step = moved_on(operation, ended, seen)
    step = followed_by(step, Step(operation=step.operation, events=(told,)))
    if not rules.settle_after or is_past_its_record(ended, seen.timing):
        return followed_by(step, finalise(step.operation, seen.timing, now))
    return step


def _misses(operation: Operation, missing: Missing, now: Moment, rules: Rules) -> Step:
    if is_past_its_record(operation, missing.timing):
        return finish(operation, Status.EXPIRED, missing.timing, now)
    since = operation.missing_since
    if since is None:
        # What was never seen may be missing because it is new; what was seen must have gone just now.
        since = operation.registered_at if operation.status is Status.UNSEEN else now.at
    since = min(since, now.at)
    missed = operation.missed + 1 if now.at - since >= rules.not_found_grace else 0
    if missed > SLOW_TRIES:
        return finish(operation, Status.NOT_FOUND, missing.timing, now)
    return Step(operation=operation.with_(missing_since=since, missed=missed))


def _is_rejected(operation: Operation, refused: Refused, now: Moment, _rules: Rules) -> Step:
    # Upstream has shown it under this id, so the id is not malformed: one 400 proves nothing.
    if operation.status is not Status.UNSEEN and operation.missed < SLOW_TRIES:
        since = now.at if operation.missing_since is None else operation.missing_since
        return Step(operation=operation.with_(missing_since=since, missed=operation.missed + 1))
    return finish(operation, Status.REJECTED, refused.timing, now)


def _settles(operation: Operation, seen: Seen, now: Moment, rules: Rules) -> Step:
    if is_past_its_record(operation, seen.timing):
        # Twilio: what is shown after that may be incomplete, so the stats stay as they were.
        return finalise(operation, seen.timing, now)
    if is_stale(operation, seen, ends=False):
        return _still_unsettled(outrun(operation, seen), seen.timing, now)
    if status_of(operation, seen.record.word) is not operation.status:
        return _still_unsettled(passed_over(operation, "terminal_changed"), seen.timing, now)
    # A sweep may show it before its time: its stats are taken, but it is no settling read.
    step_due = operation.settled >= len(rules.settle_after) or _is_settling_read(operation, seen, rules)
    settled = taken_in(operation, seen, now).with_(settled=operation.settled + step_due, unsettled_since=None)
    step = with_oddities(settled, oddities(operation, settled, seen))
    if settled.stats != operation.stats:
        corrected = Corrected(stats=settled.stats, before=operation.stats)
        step = followed_by(Step(operation=settled, events=(corrected,)), step)
    if settled.settled >= len(rules.settle_after):
        return followed_by(step, finalise(step.operation, seen.timing, now))
    return step


def _is_settling_read(operation: Operation, seen: Seen, rules: Rules) -> bool:
    """Whether the next settling read was due when this answer was asked for."""
    learned_at = operation.learned_at if operation.learned_at is not None else operation.registered_at
    asked_at = seen.timing.asked.at
    # Asked so long before it was learned? The wall clock was set back meanwhile: what is planned goes on by ticks.
    return asked_at >= learned_at + rules.settle_after[operation.settled] or asked_at < learned_at - SET_BACK_BY


def _has_regressed(operation: Operation, seen: Seen, now: Moment, _rules: Rules) -> Step:
    # A replica that lags behind shows an older running status: that is a stale answer, not a change of mind.
    is_older = is_stale(operation, seen, ends=False)
    step = outrun(operation, seen) if is_older else passed_over(operation, "terminal_regressed")
    return _still_unsettled(step, seen.timing, now)


def _is_gone(operation: Operation, missing: Missing, now: Moment, _rules: Rules) -> Step:
    return finalise(operation, missing.timing, now)


def _is_unsettled(operation: Operation, failed: Refused | Unanswered, now: Moment, _rules: Rules) -> Step:
    return _still_unsettled(Step(operation=operation), failed.timing, now)


def _stays(operation: Operation, _: Observation, _now: Moment, _rules: Rules) -> Step:
    return Step(operation=operation)


# Any: each rule takes the kinds of observation that its columns stand for.
Rule = Callable[[Operation, Any, Moment, Rules], Step]

TABLE: Mapping[tuple[Phase, Answer], Rule] = {
    (Phase.FOLLOWED, Answer.RUNNING): _moves,
    (Phase.FOLLOWED, Answer.UNKNOWN): _moves,
    (Phase.FOLLOWED, Answer.ENDED): _ends,
    (Phase.FOLLOWED, Answer.MISSING): _misses,
    (Phase.FOLLOWED, Answer.REFUSED): _is_rejected,
    (Phase.FOLLOWED, Answer.UNANSWERED): _stays,
    (Phase.SETTLING, Answer.RUNNING): _has_regressed,
    (Phase.SETTLING, Answer.UNKNOWN): _has_regressed,
    (Phase.SETTLING, Answer.ENDED): _settles,
    (Phase.SETTLING, Answer.MISSING): _is_gone,
    (Phase.SETTLING, Answer.REFUSED): _is_unsettled,
    (Phase.SETTLING, Answer.UNANSWERED): _is_unsettled,
    **{(Phase.FINAL, answer): _stays for answer in Answer},
}


# ── what rules share ──────────────────────────────────────────────────────────────────────────────────────────────────


def _bounded(step: Step, timing: Timing, now: Moment) -> Step:
    """The step, and the end of an operation that upstream shows without an end past all bounds.

    A word we do not know may mean anything, so it is bounded by the life of the record; a known running status is
    believed a day longer, as long as our memory of finished operations reaches.
    """
    life = RECORD_LIFE if step.operation.status is Status.UNKNOWN else TOMBSTONE_LIFE
    if not is_past_its_record(step.operation, timing, life):
        return step
    return followed_by(step, finish(step.operation, Status.EXPIRED, timing, now))


def _still_unsettled(step: Step, timing: Timing, now: Moment) -> Step:
    """A settling read that brought nothing; after ten minutes of those the stats are final as they are."""
    operation = step.operation
    since = now.at if operation.unsettled_since is None else min(operation.unsettled_since, now.at)
    step = followed_by(step, Step(operation=operation.with_(unsettled_since=since)))
    if now.at - since >= UNSETTLED_AT_MOST:
        return followed_by(step, finalise(step.operation, timing, now))
    return step
