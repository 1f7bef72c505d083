"""A virtual operation: its life is fixed at creation, and what the API shows of it is a function of the time.

Notifications are processed one by one at an even pace, so queued falls while sent and failed rise. `updatedAt` is the
time of the last change. A scripted life replaces all of that by steps, which may contradict themselves.
"""

from typing import Literal

import msgspec

from watcher.simulator.timestamps import rfc3339

Status = Literal["SCHEDULED", "PROCESSING", "COMPLETED", "CANCELED"]
Outcome = Literal["COMPLETED", "CANCELED"]

ENDED: frozenset[str] = frozenset({"COMPLETED", "CANCELED"})


class Stats(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Counters of notifications, except for `recipients` and `unaddressable`, which count people."""

    total: int = 0
    recipients: int = 0
    queued: int = 0
    sent: int = 0
    scheduled: int = 0
    unaddressable: int = 0
    failed: int = 0
    canceled: int = 0


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="camel"):
    """An operation as the API shows it at one time."""

    id: str
    status: str
    stats: Stats
    created_at: str
    updated_at: str


class Step(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """From `at` on, exactly this is shown."""

    at: int
    status: Status
    stats: Stats


class Life(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """All that happens to one operation. Never processed (canceled while scheduled): processing_at = ended_at."""

    id: str
    account_id: str
    created_at: int
    processing_at: int
    ended_at: int
    outcome: Outcome
    # The stats at the end, after corrections.
    final: Stats
    # This number of notifications count as sent first, and as failed from `corrected_at` on, after the end.
    corrected: int = 0
    corrected_at: int = 0
    steps: tuple[Step, ...] = ()


def state(life: Life, now: int) -> Record:
    """Return the operation as the API shows it at `now`, which must not be before its creation."""
    if life.steps:
        return _scripted(life, now)
    if now >= life.ended_at:
        return _ended(life, now)
    if now >= life.processing_at:
        return _processing(life, now)
    final = life.final
    stats = Stats(total=final.total, recipients=final.recipients, scheduled=final.total)
    return _record(life, "SCHEDULED", stats, life.created_at)


def last_stats(life: Life) -> Stats:
    """Return the stats after all corrections."""
    return life.steps[-1].stats if life.steps else life.final


def turns(life: Life) -> tuple[tuple[int, Status], ...]:
    """Return each status with the time at which it begins; the first begins at creation."""
    if life.steps:
        later = tuple((step.at, step.status) for step in life.steps[1:])
        return ((life.created_at, life.steps[0].status), *later)
    end: tuple[int, Status] = (life.ended_at, life.outcome)
    if life.processing_at <= life.created_at:
        return ((life.created_at, "PROCESSING"), end)
    if life.processing_at >= life.ended_at:
        return ((life.created_at, "SCHEDULED"), end)
    return ((life.created_at, "SCHEDULED"), (life.processing_at, "PROCESSING"), end)


def _processing(life: Life, now: int) -> Record:
    final = life.final
    all_of_them = final.sent + final.failed
    duration = life.ended_at - life.processing_at
    done = all_of_them * (now - life.processing_at) // duration
    failed = done * (final.failed - life.corrected) // all_of_them if all_of_them else 0
    # The earliest time at which `done` has this value: the division above solved for `now`, rounded up.
    changed_at = life.processing_at - (-done * duration // all_of_them if all_of_them else 0)
    stats = Stats(
        total=final.total,
        recipients=final.recipients,
        queued=max(0, final.total - done),
        sent=done - failed,
        failed=failed,
        unaddressable=final.unaddressable,
    )
    return _record(life, "PROCESSING", stats, changed_at)


def _ended(life: Life, now: int) -> Record:
    if not life.corrected or now >= life.corrected_at:
        return _record(life, life.outcome, life.final, life.corrected_at if life.corrected else life.ended_at)
    final = life.final
    early = msgspec.structs.replace(final, sent=final.sent + life.corrected, failed=final.failed - life.corrected)
    return _record(life, life.outcome, early, life.ended_at)


def _scripted(life: Life, now: int) -> Record:
    shown = life.steps[0]
    for step in life.steps:
        if step.at <= now:
            shown = step
    return _record(life, shown.status, shown.stats, shown.at)


def _record(life: Life, status: str, stats: Stats, changed_at: int) -> Record:
    return Record(
        id=life.id,
        status=status,
        stats=stats,
        created_at=rfc3339(life.created_at),
        updated_at=rfc3339(changed_at),
    )
