"""Creates lives: drawn from a population, requested by a send, or scripted in a scenario."""

import random

import msgspec

from watcher.simulator.ids import make_id
from watcher.simulator.life import Life, Stats, Step
from watcher.simulator.scenario import FinalStats, Population, ScriptedOperation
from watcher.simulator.timestamps import NEVER


class Plan(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The plan for an operation; durations are in microseconds."""

    recipients: int
    unaddressable: int
    failed: int
    scheduled_for: int
    lifetime: int
    # Canceled after this share of its time; None: not canceled.
    canceled_at: float | None
    corrected_after: int


def draw_plan(population: Population, rng: random.Random, *, in_flight: bool = False) -> Plan:
    """Return a random plan. Operations in flight get longer lifetimes, since long ones are found running more often."""
    recipients = population.recipients.draw(rng)
    unaddressable = failed = scheduled_for = corrected_after = 0
    canceled_at = None
    # An operation is found running in proportion to its lifetime, so lifetimes that are log-uniform
    # at creation are uniform among running operations.
    lifetime = population.lifetime.draw_evenly(rng) if in_flight else population.lifetime.draw(rng)
    if rng.random() < population.share_unaddressable:
        unaddressable = _part(recipients, population.unaddressable_at_most, rng)
    if rng.random() < population.share_failing:
        failed = _part(recipients - unaddressable, population.failed_at_most, rng)
    if rng.random() < population.share_scheduled:
        scheduled_for = population.scheduled_for.draw(rng)
    if rng.random() < population.share_canceled:
        canceled_at = rng.uniform(0.05, 0.95)
    if failed and rng.random() < population.share_corrected:
        corrected_after = population.corrected_after.draw(rng)
    return Plan(
        recipients=recipients,
        unaddressable=unaddressable,
        failed=failed,
        scheduled_for=scheduled_for,
        lifetime=max(1, lifetime),
        canceled_at=canceled_at,
        corrected_after=corrected_after,
    )


def arrivals_per_second(population: Population) -> float:
    """Return the configured rate, or the rate that keeps `in_flight` operations running on average."""
    if population.arrivals_per_second is not None:
        return population.arrivals_per_second
    lifetime = population.lifetime.mean * (1 - population.share_canceled / 2)
    lifetime += population.scheduled_for.mean * population.share_scheduled
    return population.in_flight / max(1.0, lifetime) * 1_000_000


def live(plan: Plan, *, account_id: str, operation_id: str, created_at: int) -> Life:
    """Return the life for the plan; its stats add up at the end."""
    total = plan.recipients - plan.unaddressable
    whole = plan.scheduled_for + plan.lifetime
    ended_at = created_at + (whole if plan.canceled_at is None else max(1, int(whole * plan.canceled_at)))
    processing_at = min(created_at + plan.scheduled_for, ended_at)
    done = total * (ended_at - processing_at) // plan.lifetime
    failed = plan.failed * done // total if total else 0
    corrected = failed // 2 if plan.corrected_after else 0
    never_processed = processing_at == ended_at
    return Life(
        id=operation_id,
        account_id=account_id,
        created_at=created_at,
        processing_at=processing_at,
        ended_at=ended_at,
        outcome="COMPLETED" if plan.canceled_at is None else "CANCELED",
        final=Stats(
            total=total,
            recipients=plan.recipients,
            sent=done - failed,
            failed=failed,
            canceled=total - done,
            unaddressable=0 if never_processed else plan.unaddressable,
        ),
        corrected=corrected,
        corrected_at=ended_at + plan.corrected_after if corrected else 0,
    )


def scripted(script: ScriptedOperation, *, account_id: str, started_at: int, rng: random.Random) -> Life:
    """Return the life that a scenario scripts."""
    created_at = started_at + script.created
    ends = script.completed if script.completed is not None else script.canceled
    ended_at = NEVER if ends is None else started_at + ends
    processing_at = created_at if script.processing is None else started_at + script.processing
    if script.steps:
        processing_at = ended_at = started_at + script.steps[-1].at
    return Life(
        id=script.id if script.id is not None else make_id(created_at, rng),
        account_id=account_id,
        created_at=created_at,
        processing_at=processing_at,
        ended_at=ended_at,
        outcome="COMPLETED" if script.canceled is None else "CANCELED",
        final=_final(script.stats),
        steps=tuple(
            Step(at=started_at + step.at, status=step.status, stats=Stats(**msgspec.structs.asdict(step.stats)))
            for step in script.steps
        ),
    )


def _final(stats: FinalStats) -> Stats:
    recipients = stats.recipients
    if recipients is None:
        total = stats.total if stats.total is not None else (stats.sent or 0) + stats.failed + stats.canceled
        recipients = total + stats.unaddressable
    total = stats.total if stats.total is not None else max(0, recipients - stats.unaddressable)
    return Stats(
        total=total,
        recipients=recipients,
        sent=stats.sent if stats.sent is not None else max(0, total - stats.failed - stats.canceled),
        failed=stats.failed,
        canceled=stats.canceled,
        unaddressable=stats.unaddressable,
    )


def _part(whole: int, at_most: float, rng: random.Random) -> int:
    return max(1, round(whole * rng.uniform(0, at_most))) if whole else 0
