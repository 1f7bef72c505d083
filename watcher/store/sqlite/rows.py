"""Values to columns and back.

Fields of an operation that statements select by have columns. All others are in one JSON text, so that a new field
needs no migration: where a row lacks it, it has its default.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from watcher.core.channels import Stats
from watcher.core.model import OUTCOME_OF, Evidence, Instant, Operation, OperationEvent, Outcome, Source, Status, Value
from watcher.store import StoredEvent
from watcher.store.rules import IdHistory, youngest
from watcher.store.sqlite.database import damage

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

OPERATION = """
    SELECT account, id, source, registered_at, labels, status, created_at, final_at, scraped_at, state,
        untracked_at
    FROM operations """
"""The columns that `operation_of` expects; to be followed by WHERE."""

EVENT = """
    SELECT position, event_id, account, operation_id, seq, occurred_at, labels, event
    FROM events """
"""The columns that `event_of` expects; to be followed by WHERE."""

OperationRow: TypeAlias = tuple[str, str, str, int, str, str, int | None, int | None, int | None, str, int | None]
EventRow: TypeAlias = tuple[int, str, str, str, int, int, str, str]
NewEventRow: TypeAlias = tuple[int, str, str, int, int, str, str]
"""An event that has no id yet: position, account, operation_id, seq, occurred_at, labels, event."""


_STORED_AS = {"failing_published": "failing_told"}
"""Fields that have another name in stored files."""


class State(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, rename=_STORED_AS):
    """The fields of an operation that no statement selects by. A new field is added here too, with its default."""

    word: str | None = None
    stats: Stats = Stats()
    updated_at: Instant | None = None
    progressed_at: Instant | None = None
    ended_at: Instant | None = None
    learned_at: Instant | None = None
    settled: int = 0
    prolonged: int = 0
    settling_since: Instant | None = None
    unsettled_since: Instant | None = None
    missing_since: Instant | None = None
    missed: int = 0
    failing_published: bool = False
    odd: tuple[str, ...] = ()
    evidence: Evidence | None = None


class RowState(Value, frozen=True, kw_only=True):
    """What must be known of a row before it is changed; `labels` as JSON."""

    registered_at: Instant
    created_at: Instant | None
    hint: Instant | None
    status: str
    final_at: Instant | None
    untracked_at: Instant | None
    seq: int
    position: int
    labels: str

    @property
    def trace(self) -> IdHistory:
        """The row as registration and tombstones need it."""
        outcome = OUTCOME_OF.get(Status(self.status)) if self.final_at is not None else None
        return IdHistory(
            followed=self.final_at is None and self.untracked_at is None,
            outcome=outcome,
            created_at=youngest(self.created_at, self.hint, self.registered_at),
            done_at=youngest(self.untracked_at, self.final_at) or 0,
            seq=self.seq,
        )


_ROW_STATE = RowState.__struct_fields__  # in the order in which `row_states` selects them

_SOURCES = {str(source): source for source in Source}  # `Source(text)` takes three times as long
_STATUSES = {str(status): status for status in Status}

_encoder = msgspec.json.Encoder()
_state_decoder = msgspec.json.Decoder(State)
_labels_decoder = msgspec.json.Decoder(dict[str, str])
_event_decoder: msgspec.json.Decoder[OperationEvent] = msgspec.json.Decoder(OperationEvent)
_key_decoder = msgspec.json.Decoder(tuple[str, ...])


def state_text(operation: Operation) -> str:
    """The operation's `state` column."""
    state = State(
        word=operation.word,
        stats=operation.stats,
        updated_at=operation.updated_at,
        progressed_at=operation.progressed_at,
        ended_at=operation.ended_at,
        learned_at=operation.learned_at,
        settled=operation.settled,
        prolonged=operation.prolonged,
        settling_since=operation.settling_since,
        unsettled_since=operation.unsettled_since,
        missing_since=operation.missing_since,
        missed=operation.missed,
        failing_published=operation.failing_published,
        odd=operation.odd,
        evidence=operation.evidence,
    )
    return _encoder.encode(state).decode()


def operation_of(row: OperationRow) -> Operation:
    """The operation in a row of `OPERATION`."""
    account, operation_id, source, registered_at, labels, status, created_at, final_at, scraped_at, text, _ = row
    try:
        state = _state_decoder.decode(text)
        return Operation(
            account=account,
            id=operation_id,
            source=_SOURCES[source],
            registered_at=registered_at,
            labels=labels_of(labels),
            status=_STATUSES[status],
            word=state.word,
            stats=state.stats,
            created_at=created_at,
            updated_at=state.updated_at,
            progressed_at=state.progressed_at,
            ended_at=state.ended_at,
            learned_at=state.learned_at,
            final_at=final_at,
            settled=state.settled,
            prolonged=state.prolonged,
            settling_since=state.settling_since,
            unsettled_since=state.unsettled_since,
            missing_since=state.missing_since,
            missed=state.missed,
            failing_published=state.failing_published,
            odd=state.odd,
            evidence=state.evidence,
            scraped_at=scraped_at,
        )
    except (LookupError, ValueError, msgspec.MsgspecError) as error:
        raise damage(f"the row of operation {account}:{operation_id} cannot be read") from error


def event_text(event: OperationEvent) -> str:
    """The `event` column."""
    return _encoder.encode(event).decode()


def event_of(row: EventRow) -> StoredEvent:
    """The event in a row of `EVENT`."""
    position, event_id, account, operation_id, seq, occurred_at, labels, text = row
    try:
        return StoredEvent(
            position=position,
            event_id=event_id,
            account=account,
            operation_id=operation_id,
            seq=seq,
            occurred_at=occurred_at,
            labels=labels_of(labels),
            event=_event_decoder.decode(text),
        )
    except (ValueError, msgspec.MsgspecError) as error:
        raise damage(f"event {position} cannot be read") from error


def labels_text(labels: Mapping[str, str]) -> str:
    """The `labels` column."""
    return _encoder.encode(labels).decode() if labels else "{}"


def labels_of(text: str) -> dict[str, str]:
    """The labels in a `labels` column."""
    return {} if text == "{}" else _labels_decoder.decode(text)


def key_text(key: Sequence[str]) -> str:
    """A counter's `key` column."""
    return _encoder.encode(key).decode()


def key_of(text: str) -> tuple[str, ...]:
    """A counter's key."""
    return _key_decoder.decode(text)


def row_states(connection: sqlite3.Connection, account: str, ids: Iterable[str]) -> dict[str, RowState]:
    """The stored rows of these ids."""
    found = connection.execute(
        """
        SELECT id, registered_at, created_at, hint, status, final_at, untracked_at, seq, position, labels
        FROM operations WHERE account = ? AND id IN (SELECT value FROM json_each(?))
        """,
        (account, json.dumps(list(ids))),
    )
    return {operation_id: RowState(**dict(zip(_ROW_STATE, columns, strict=True))) for operation_id, *columns in found}


def tombstones(connection: sqlite3.Connection, account: str, ids: Iterable[str]) -> dict[str, IdHistory]:
    """The stored tombstones of these ids."""
    found = connection.execute(
        """
        SELECT id, outcome, created_at, done_at, seq
        FROM tombstones WHERE account = ? AND id IN (SELECT value FROM json_each(?))
        """,
        (account, json.dumps(list(ids))),
    )
    return {
        operation_id: IdHistory(
            outcome=Outcome(outcome) if outcome else None, created_at=created_at, done_at=done_at, seq=seq
        )
        for operation_id, outcome, created_at, done_at, seq in found
    }


def insert_tombstones_of(connection: sqlite3.Connection, account: str, traces: Mapping[str, IdHistory]) -> None:
    """Insert or replace the tombstones of these ids."""
    connection.executemany(
        "INSERT OR REPLACE INTO tombstones (account, id, outcome, created_at, done_at, seq) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (account, operation_id, trace.outcome, trace.created_at, trace.done_at, trace.seq)
            for operation_id, trace in traces.items()
        ],
    )
