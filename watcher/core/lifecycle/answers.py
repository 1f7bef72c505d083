"""How an observation is read: its column in the table of the life cycle, its order, and the age of the operation.

Upstream's timestamps come from several machines, so no single timestamp is believed: see `docs/conclusions.md`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import assert_never

from watcher.core.clocks import ClockReading
from watcher.core.model import (
    MINUTE,
    RECORD_LIFE,
    SECOND,
    TOMBSTONE_LIFE,
    Instant,
    Micros,
    Operation,
    Status,
    created_hint,
)
from watcher.core.observation import Forbidden, Missing, Observation, Refused, Seen, Unanswered

MILLISECOND: Micros = 1000

APART: Micros = MINUTE
"""Two answers that agree count as two only if they were requested at least this long apart."""

WORDS: Mapping[str, Status] = {
    status.value: status for status in (Status.SCHEDULED, Status.PROCESSING, Status.COMPLETED, Status.CANCELED)
}


class ObservationKind(enum.Enum):
    """The columns of the table of the life cycle."""

    RUNNING = enum.auto()
    UNKNOWN = enum.auto()
    ENDED = enum.auto()
    MISSING = enum.auto()
    REFUSED = enum.auto()
    FORBIDDEN = enum.auto()
    UNANSWERED = enum.auto()


def kind_of(operation: Operation, observation: Observation) -> ObservationKind:
    """The column of the table. A record without a status counts as one with the present status."""
    match observation:
        case Seen(record=record):
            status = status_of(operation, record.word)
            if status in (Status.COMPLETED, Status.CANCELED):
                return ObservationKind.ENDED
            return ObservationKind.UNKNOWN if status is Status.UNKNOWN else ObservationKind.RUNNING
        case Missing():
            return ObservationKind.MISSING
        case Refused():
            return ObservationKind.REFUSED
        case Forbidden():
            return ObservationKind.FORBIDDEN
        case Unanswered():
            return ObservationKind.UNANSWERED
        case _:
            assert_never(observation)


def status_of(operation: Operation, word: str | None) -> Status:
    """Our status for upstream's word: UNKNOWN for an unknown word, the present status if there is no word."""
    if word is not None:
        return WORDS.get(word, Status.UNKNOWN)
    return Status.UNKNOWN if operation.status is Status.UNSEEN else operation.status


class Order(enum.Enum):
    """How an answer relates to the answers before it, of the same kind: running, or after the end."""

    NEWEST = enum.auto()
    """It is accepted."""
    OVERTAKEN = enum.auto()
    """An answer that was requested later is known already: this answer is ignored."""
    OLDER = enum.auto()
    """It has an older `updatedAt` than the known one: it is set aside."""
    OLDER_AGAIN = enum.auto()
    """The answer before it was set aside, too. So the known `updatedAt` was wrong, and this answer is accepted."""


#   its `updatedAt` is …    older than the known      the same, or unknown    newer
#   requested earlier       OVERTAKEN                 OVERTAKEN               NEWEST
#   requested later         OLDER, then OLDER_AGAIN   NEWEST                  NEWEST
def order_of(operation: Operation, seen: Seen) -> Order:
    """The order of an answer relative to the known state, where both are of the same kind."""
    # A newer `updatedAt` wins over our send order: several machines answer, and one that lags behind may answer a
    # later request with an older state. By send order alone, that state would replace the newer one.
    asked_tick = seen.timing.asked.tick
    given, known = seen.record.updated_at, operation.updated_at
    if given is None or known is None or (not is_before(given, known) and not is_before(known, given)):
        return Order.OVERTAKEN if asked_tick < operation.asked_tick else Order.NEWEST
    if given > known:
        return Order.NEWEST
    if asked_tick < operation.asked_tick:
        return Order.OVERTAKEN
    # One wrong `updatedAt` that is ahead would hide all that follow, so an older answer is set aside only once. Two
    # rows of one page have the same tick and are one answer.
    was_set_aside = operation.evidence is not None and operation.evidence.set_aside
    return Order.OLDER_AGAIN if was_set_aside and asked_tick > operation.asked_tick else Order.OLDER


def is_before(first: Instant, second: Instant) -> bool:
    """Whether one upstream instant is before another, at the coarser resolution of the two.

    Upstream's machines may write whole seconds, milliseconds or more.
    """
    for unit in (SECOND, MILLISECOND):
        if first % unit == 0 or second % unit == 0:
            return first // unit < second // unit
    return first < second


def is_same(first: Instant, second: Instant) -> bool:
    """Whether two upstream instants are the same at the coarser resolution of the two."""
    return not is_before(first, second) and not is_before(second, first)


def is_apart(first_asked_at: Instant, asked_at: Instant) -> bool:
    """Whether two answers were requested at least a minute apart, in either direction of the wall clock."""
    # By the wall clock, because the first request is stored and ticks do not outlive the process. `abs`: after the
    # clock was set back by hours, the second answer must not be ignored for hours.
    return abs(asked_at - first_asked_at) >= APART


# ── age ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def youngest_creation(operation: Operation, now: ClockReading) -> Instant | None:
    """The latest time at which the operation may have been created. Expiry and not counting depend on it.

    None if it is unknown. A `createdAt` that no second answer has repeated proves no age. Neither does our own
    registration, because our clock may have been wrong then.
    """
    # The younger of the two: an operation that is believed too old ends or is not counted, which cannot be taken back.
    # The time in the id never changes, so it bounds even a wrong `createdAt` of 1970.
    hint = created_hint(operation.id, now.latest_at)
    created_at, evidence = operation.created_at, operation.evidence
    if hint is not None:
        return hint if created_at is None else max(created_at, hint)
    return None if evidence is not None and evidence.created_is_new else created_at


def is_past_its_record(operation: Operation, now: ClockReading) -> bool:
    """Whether the record is past its 7 days, so that what upstream still shows may be incomplete."""
    return _is_older(operation, now, now.trusted_at, RECORD_LIFE)


def has_expired(operation: Operation, now: ClockReading, life: Micros = RECORD_LIFE) -> bool:
    """Whether the operation is older than `life` by both clocks, or than 8 days by a steady upstream clock alone."""
    # Without any `Date` there is only the machine's clock, which may be ahead and proves no age alone.
    if now.upstream_at is None:
        return False
    return _is_older(operation, now, now.earliest_at, life) or (
        now.is_steady and _is_older(operation, now, now.upstream_at, TOMBSTONE_LIFE)
    )


def is_old_and_absent(operation: Operation, now: ClockReading) -> bool:
    """Whether the operation is past its 7 days by the best clock there is, which is enough after repeated 404s."""
    return _is_older(operation, now, now.earliest_at if now.trusted_at is None else now.trusted_at, RECORD_LIFE)


def _is_older(operation: Operation, now: ClockReading, present: Instant | None, life: Micros) -> bool:
    created_at = youngest_creation(operation, now)
    return present is not None and created_at is not None and present > created_at + life


def is_doubtfully_old(operation: Operation) -> bool:
    """Whether a `createdAt` that no answer has repeated says that the record was past its 7 days when registered."""
    created_at, evidence = operation.created_at, operation.evidence
    return (
        evidence is not None
        and evidence.created_is_new
        and created_at is not None
        and created_at < operation.registered_at - RECORD_LIFE
    )


# ── creation ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def with_creation(operation: Operation, seen: Seen, *, is_later: bool) -> Operation:
    """The operation with the `createdAt` of an answer taken into account.

    The first `createdAt` is provisional until the second answer, which repeats it or replaces it. A `createdAt` that
    would make the operation too old to count must be repeated at least a minute later, because a cache may repeat a
    wrong answer at once. A confirmed `createdAt` is replaced only by two answers, at least a minute apart, that agree.

    `is_later`: the answer was requested after all known ones.
    """
    given, known = seen.record.created_at, operation.created_at
    if given is None:
        return operation
    asked_at = seen.timing.asked.at
    if known is None:
        return operation.with_(created_at=given).with_evidence(created_is_new=True, other_created_asked_at=asked_at)
    evidence = operation.evidence
    # Two rows of one page, or answers in the wrong order, are no second answer.
    if not is_later or (evidence is None and is_same(given, known)):
        return operation
    other = None if evidence is None else evidence.other_created_at
    first_asked_at = None if evidence is None else evidence.other_created_asked_at
    # The same again: it is confirmed, and a different one seen in between is dropped.
    if is_same(given, known):
        if is_doubtfully_old(operation) and first_asked_at is not None and not is_apart(first_asked_at, asked_at):
            return operation
        return operation.with_evidence(created_is_new=False, other_created_at=None, other_created_asked_at=None)
    # A different one while the known is provisional: nothing speaks for the first, so the newer takes its place.
    if evidence is not None and evidence.created_is_new:
        return operation.with_(created_at=given).with_evidence(other_created_asked_at=asked_at)
    # A different one while the known is confirmed: it waits in the evidence until an answer a minute later agrees.
    if other is None or first_asked_at is None or not is_same(given, other):
        return operation.with_evidence(other_created_at=given, other_created_asked_at=asked_at)
    if not is_apart(first_asked_at, asked_at):
        return operation
    return operation.with_(created_at=given).with_evidence(other_created_at=None, other_created_asked_at=None)


FAILURE_WORDS = frozenset({"FAILED", "FAILURE", "ERROR", "ERRORED", "REJECTED", "ABORTED", "UNDELIVERED", "TIMED_OUT"})
"""Words for a status that upstream does not have (2026-11) and that would mean failure in any API."""


def means_failure(word: str | None) -> bool:
    """Whether an unknown status word says that the operation failed."""
    if word is None:
        return False
    plain = word.upper().replace("-", "_").replace(" ", "_")
    return plain in FAILURE_WORDS or "FAIL" in plain
