"""The basic types as frozen values: operations, their stats, and their events.

Instants (`…_at`) are integer microseconds since 1970 in UTC. Waits inside the core are integer microseconds, too: both
are compared far more often than shown, and each of 100,000 operations has several. `Moment` pairs the wall clock with a
clock that never jumps. A stat or instant that was never received is `None`, never 0.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import msgspec

from watcher.core.channels import Stats

Instant: TypeAlias = int
Micros: TypeAlias = int

SECOND: Micros = 1_000_000
MINUTE: Micros = 60 * SECOND
HOUR: Micros = 60 * MINUTE
DAY: Micros = 24 * HOUR

RECORD_LIFE: Micros = 7 * DAY
"""Twilio: records of operations are available for 7 days after creation."""

TOMBSTONE_LIFE: Micros = 8 * DAY
"""After creation. A day longer than upstream shows the record, so that a finished operation never counts as new."""

# Twilio's pattern has no end anchor, so it is only used with `fullmatch`. Ids that match need no escaping in a path.
_OPERATION_ID = re.compile(r"comms_operation_[0-7][a-hjkmnpqrstv-z0-9]{25,34}")
_CROCKFORD = {letter: value for value, letter in enumerate("0123456789abcdefghjkmnpqrstvwxyz")}
_TYPE_ID_LENGTH = 26
_UUID_VERSION = 7
_UUID_VARIANT = 0b10
_PLAUSIBLE_FROM: Instant = 1_577_836_800 * SECOND  # 2020-01-01; the API is younger


def micros(wait: timedelta) -> Micros:
    """The wait in whole microseconds."""
    return wait // timedelta(microseconds=1)


def rfc3339(instant: Instant | None) -> str | None:
    """The instant as RFC 3339 in UTC with milliseconds, e.g. `2026-01-15T09:30:00.000Z`; `None` stays `None`."""
    if instant is None:
        return None
    moment = datetime.fromtimestamp(instant // SECOND, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{instant % SECOND // 1000:03d}Z"


def is_operation_id(text: str) -> bool:
    """Whether the whole text is an operation id (Twilio: `^comms_operation_[0-7][a-hjkmnpqrstv-z0-9]{25,34}`)."""
    return _OPERATION_ID.fullmatch(text) is not None


def created_hint(operation_id: str, now: Instant) -> Instant | None:
    """The creation time in the id, if it looks like a TypeID. Only a hint: Twilio does not document it."""
    suffix = operation_id.rpartition("_")[2]
    if len(suffix) != _TYPE_ID_LENGTH:
        return None
    number = 0
    for letter in suffix:
        value = _CROCKFORD.get(letter)
        if value is None:
            return None
        number = number << 5 | value
    # The suffix is a UUIDv7 of 128 bits in base 32: 48 bits of milliseconds, 4 of version, 12 random, 2 of variant, 62
    # random. Other ids may be random, so the version, the variant and a plausible time must all fit.
    if (number >> 76) & 0xF != _UUID_VERSION or (number >> 62) & 0b11 != _UUID_VARIANT:
        return None
    instant = (number >> 80) * 1000
    return instant if _PLAUSIBLE_FROM <= instant <= now + DAY else None


class Value(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of the frozen values. They form no reference cycles, so the garbage collector need not track them."""


class Moment(msgspec.Struct, frozen=True, gc=False):
    """One instant on both clocks: `at` by the wall clock, `tick` in microseconds of a clock that only moves forward."""

    at: Instant
    tick: Micros

    def later(self, wait: Micros) -> Moment:
        """The moment `wait` microseconds later on both clocks."""
        return Moment(self.at + wait, self.tick + wait)


class Word(enum.StrEnum):
    """Base of enums whose members are texts. They are hashed as texts, because an enum's own hash is a Python call."""

    __hash__ = str.__hash__


class Status(Word):
    """The status of an operation: upstream's own words, and ours for states that upstream does not have."""

    UNSEEN = "UNSEEN"
    SCHEDULED = "SCHEDULED"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"
    UNKNOWN = "UNKNOWN"
    EXPIRED = "EXPIRED"
    NOT_FOUND = "NOT_FOUND"
    REJECTED = "REJECTED"


class Outcome(Word):
    """How an operation ended."""

    COMPLETED = "completed"
    CANCELED = "canceled"
    EXPIRED = "expired"
    NOT_FOUND = "not_found"
    REJECTED = "rejected"


OUTCOME_OF: Mapping[Status, Outcome] = {
    Status.COMPLETED: Outcome.COMPLETED,
    Status.CANCELED: Outcome.CANCELED,
    Status.EXPIRED: Outcome.EXPIRED,
    Status.NOT_FOUND: Outcome.NOT_FOUND,
    Status.REJECTED: Outcome.REJECTED,
}


class Phase(Word):
    """The phase of an operation here: polled until it ends, read again after its end, or not polled any more."""

    FOLLOWED = "followed"
    SETTLING = "settling"
    FINAL = "final"


class Source(Word):
    """Where an operation came from."""

    CONFIG = "config"
    API = "api"
    DISCOVERY = "discovery"


class Evidence(Value, frozen=True, kw_only=True, omit_defaults=True):
    """What single answers have shown, and what counts only once another answer repeats it.

    `set_aside`: the last answer was older than the known state. `created_is_new`: no second answer has repeated
    `created_at`. `other_created_at`: a different creation time that waits for its repetition.
    `other_created_asked_at`: the first request that showed the one of these two that waits. While settling,
    `running_asked_at` is the request of the last running answer that contradicts the end, and `running_answers` the
    number of those after the first, each at least a minute later. `other_end_asked_at`: the first request that showed
    the other terminal status. `absent_asked_at`: the request of the first 404. `is_moving`: the stats have changed
    since the last settling read.
    """

    set_aside: bool = False
    created_is_new: bool = False
    other_created_at: Instant | None = None
    other_created_asked_at: Instant | None = None
    running_asked_at: Instant | None = None
    running_answers: int = 0
    other_end_asked_at: Instant | None = None
    absent_asked_at: Instant | None = None
    is_moving: bool = False


_NO_EVIDENCE = Evidence()


class Operation(Value, frozen=True, kw_only=True):
    """All that is known of one tracked operation.

    By upstream's clock: `created_at`, `updated_at`, `ended_at`. By ours: `registered_at`, `progressed_at` (the last
    poll that changed something), `learned_at` (when its end was learned), `final_at`, `missing_since`,
    `unsettled_since`, `scraped_at` (the first completed scrape that carried the final stats). `asked_tick` is the
    request of the newest accepted answer. It belongs to this process and is not stored: 0 means that there is no answer
    yet. `evidence` is None where no answer waits for a repetition. `settling_since` is when settling began anew, if the
    end was taken back in between. `prolonged` is the number of settling reads beyond the configured ones.
    """

    account: str
    id: str
    source: Source
    registered_at: Instant
    labels: Mapping[str, str] = {}
    status: Status = Status.UNSEEN
    word: str | None = None
    stats: Stats = Stats()
    created_at: Instant | None = None
    updated_at: Instant | None = None
    progressed_at: Instant | None = None
    ended_at: Instant | None = None
    learned_at: Instant | None = None
    final_at: Instant | None = None
    settled: int = 0
    prolonged: int = 0
    settling_since: Instant | None = None
    unsettled_since: Instant | None = None
    missing_since: Instant | None = None
    missed: int = 0
    failing_published: bool = False
    odd: tuple[str, ...] = ()
    scraped_at: Instant | None = None
    asked_tick: Micros = 0
    evidence: Evidence | None = None

    @property
    def phase(self) -> Phase:
        """The phase that follows from the status and `final_at`."""
        if self.final_at is not None:
            return Phase.FINAL
        return Phase.FOLLOWED if self.status not in OUTCOME_OF else Phase.SETTLING

    @property
    def outcome(self) -> Outcome | None:
        """How the operation ended, or None before its end is known."""
        return OUTCOME_OF.get(self.status)

    def with_(self, **changes: object) -> Operation:
        """The operation with some fields replaced."""
        return msgspec.structs.replace(self, **changes)

    def with_evidence(self, **changes: object) -> Operation:
        """The operation with some of its evidence replaced."""
        # No evidence is None and never an empty value: the short ways of the life cycle check for None.
        evidence = msgspec.structs.replace(self.evidence or _NO_EVIDENCE, **changes)
        return msgspec.structs.replace(self, evidence=None if evidence == _NO_EVIDENCE else evidence)


# ── events of an operation: each is published as one log event, named by its tag ──────────────────────────────────────


class Tracked(Value, frozen=True, tag="operation.tracked", tag_field="event"):
    """The operation is tracked from now on."""

    source: Source


class Untracked(Value, frozen=True, tag="operation.untracked", tag_field="event"):
    """The operation is not tracked any more, by request."""

    source: Source


class Moved(Value, frozen=True, tag="operation.moved", tag_field="event"):
    """The status changed. `from_status` and `delay_seconds` are null the first time."""

    from_status: Status | None
    to_status: Status
    stats: Stats
    updated_at: str | None
    delay_seconds: float | None
    status_word: str | None = None


class Failing(Value, frozen=True, tag="operation.failing", tag_field="event"):
    """Failed or unaddressable rose above 0 before the end. Published once."""

    stats: Stats


class Finished(Value, frozen=True, tag="operation.finished", tag_field="event"):
    """The end was learned."""

    outcome: Outcome
    stats: Stats
    duration_seconds: float | None


class Corrected(Value, frozen=True, tag="operation.corrected", tag_field="event"):
    """The stats moved between the end and final."""

    stats: Stats
    before: Stats


class Odd(Value, frozen=True, tag="operation.odd", tag_field="event"):
    """An anomaly in an answer. Published once for each kind and operation, counted each time."""

    kind: str
    detail: str | None = None


OperationEvent: TypeAlias = Tracked | Untracked | Moved | Failing | Finished | Corrected | Odd


class Tally(Value, frozen=True, kw_only=True):
    """What one operation adds to the counters at the moment its stats become final."""

    outcome: Outcome
    stats: Stats = Stats()
    duration_seconds: float | None = None
