"""What an observation says of an operation: which column of the table it is, and whether something newer is known."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import assert_never

from watcher.core.model import RECORD_LIFE, Instant, Micros, Operation, Status, created_hint
from watcher.core.observation import Missing, Observation, Refused, Seen, Timing, Unanswered

WORDS: Mapping[str, Status] = {
    status.value: status for status in (Status.SCHEDULED, Status.PROCESSING, Status.COMPLETED, Status.CANCELED)
}


class Answer(enum.Enum):
    """What an observation says, as a column of the table."""

    RUNNING = enum.auto()
    UNKNOWN = enum.auto()
    ENDED = enum.auto()
    MISSING = enum.auto()
    REFUSED = enum.auto()
    UNANSWERED = enum.auto()


def kind_of(operation: Operation, observation: Observation) -> Answer:
    """The column of the table; a record without a status stands for the status it had."""
    match observation:
        case Seen(record=record):
            status = status_of(operation, record.word)
            if status in (Status.COMPLETED, Status.CANCELED):
                return Answer.ENDED
            return Answer.UNKNOWN if status is Status.UNKNOWN else Answer.RUNNING
        case Missing():
            return Answer.MISSING
        case Refused():
            return Answer.REFUSED
        case Unanswered():
            return Answer.UNANSWERED
        case _:
            assert_never(observation)


def status_of(operation: Operation, word: str | None) -> Status:
    """Our status for upstream's word; UNKNOWN for one we do not know, the present one where none was given."""
    if word is not None:
        return WORDS.get(word, Status.UNKNOWN)
    return Status.UNKNOWN if operation.status is Status.UNSEEN else operation.status


def is_stale(operation: Operation, seen: Seen, *, ends: bool) -> bool:
    """Whether what is known already is newer than the answer."""
    given, known = seen.record.updated_at, operation.updated_at
    if given is not None and known is not None and given != known:
        return given < known
    if ends:
        return False
    return seen.timing.asked.tick < operation.asked_tick


def is_past_its_record(operation: Operation, timing: Timing, life: Micros = RECORD_LIFE) -> bool:
    """Whether upstream's record of it is past its time, by upstream's clock (Twilio: 7 days after creation)."""
    created_at = creation_of(operation, timing)
    return created_at is not None and timing.upstream_now > created_at + life


def creation_of(operation: Operation, timing: Timing) -> Instant | None:
    """Upstream's instant of the creation; what the id hints at where that was never received."""
    return operation.created_at if operation.created_at is not None else created_hint(operation.id, timing.upstream_now)
