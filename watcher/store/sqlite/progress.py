"""What the account's loop loads, and what it writes back: states, events and counters in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from watcher.core.discovery import DiscoveryProgress
from watcher.store import Committed, LoadedAccount
from watcher.store.rules import Applicability, applicability_of, settle_counters
from watcher.store.sqlite import counting, outbox
from watcher.store.sqlite.rows import (
    OPERATION,
    RowState,
    event_text,
    insert_tombstones_of,
    labels_of,
    operation_of,
    row_states,
    state_text,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from watcher.core.labelling import CounterBook
    from watcher.core.model import Instant, Operation, OperationEvent
    from watcher.event_ids import EventIds
    from watcher.store import Change
    from watcher.store.rules import IdHistory
    from watcher.store.sqlite.rows import NewEventRow


def load(connection: sqlite3.Connection, account: str, final_since: Instant) -> LoadedAccount:
    """The account's operations that are tracked, or final since `final_since`, in order of their creation."""
    rows = connection.execute(
        OPERATION + "WHERE account = ? AND untracked_at IS NULL AND (final_at IS NULL OR final_at >= ?)",
        (account, final_since),
    )
    # In this order the planner only ever appends to its list by creation.
    operations = tuple(sorted(map(operation_of, rows), key=_created))
    found = connection.execute(
        "SELECT revision, cursor, discovery_began_at, api_key FROM accounts WHERE name = ?", (account,)
    ).fetchone()
    revision, cursor, began_at, api_key = found or (0, None, None, None)
    discovery = DiscoveryProgress(cursor=cursor, began_at=began_at)
    return LoadedAccount(operations=operations, revision=revision, discovery=discovery, api_key=api_key)


def adopt_key(connection: sqlite3.Connection, account: str, api_key: str) -> None:
    """Store the API key as a key of the account."""
    connection.execute(
        "INSERT INTO accounts (name, api_key) VALUES (?, ?) ON CONFLICT DO UPDATE SET api_key = excluded.api_key",
        (account, api_key),
    )


def note_discovery_began(connection: sqlite3.Connection, account: str, began_at: Instant) -> None:
    """Store when discovery got its very first answer."""
    connection.execute(
        """
        INSERT INTO accounts (name, discovery_began_at) VALUES (?, ?)
        ON CONFLICT DO UPDATE SET discovery_began_at = excluded.discovery_began_at
        """,
        (account, began_at),
    )


def _created(operation: Operation) -> Instant:
    return operation.registered_at if operation.created_at is None else operation.created_at


def commit(
    connection: sqlite3.Connection,
    account: str,
    changes: Sequence[Change],
    *,
    cursor: Instant | None,
    event_ids: EventIds,
) -> Committed:
    """Write the changes that still apply."""
    if cursor is not None:
        connection.execute(
            "INSERT INTO accounts (name, cursor) VALUES (?, ?) ON CONFLICT DO UPDATE SET cursor = excluded.cursor",
            (account, cursor),
        )
    if not changes:
        return Committed()
    rows = row_states(connection, account, (change.operation.id for change in changes))
    book = counting.open_book(connection, account)
    batch = _WriteBatch(account, rows, outbox.last_position(connection), book)
    applied = frozenset(change.operation.id for change in changes if batch.take(change))
    batch.write(connection, event_ids)
    return Committed(applied=applied, counted=book.counted, shows_more=book.shows_more)


class _WriteBatch:
    """Checks changes in order against the rows, then writes everything at once."""

    def __init__(self, account: str, rows: dict[str, RowState], position: int, book: CounterBook) -> None:
        self._account = account
        self._rows = rows
        self._position = position
        self._states: dict[str, Operation] = {}
        self._scrapes: dict[str, Instant] = {}
        self._events: list[NewEventRow] = []
        self._tombstones: dict[str, IdHistory] = {}
        self._book = book

    def take(self, change: Change) -> bool:
        """Whether the change applies. If it does, `write` writes it."""
        operation = change.operation
        row = self._rows.get(operation.id)
        if row is None:
            return False
        reach = applicability_of(
            operation, registered_at=row.registered_at, untracked_at=row.untracked_at, final_at=row.final_at
        )
        if reach is Applicability.WHOLE:
            self._take_whole(row, change)
        elif reach is Applicability.SCRAPE and operation.scraped_at is not None:
            self._scrapes[operation.id] = operation.scraped_at
        return reach is not Applicability.NOTHING

    def write(self, connection: sqlite3.Connection, event_ids: EventIds) -> None:
        """Write everything that was taken."""
        connection.executemany(
            """
            UPDATE operations
            SET status = ?, created_at = ?, final_at = ?, scraped_at = ?, state = ?, seq = ?, position = ?
            WHERE account = ? AND id = ?
            """,
            [self._state_row(operation_id, operation) for operation_id, operation in self._states.items()],
        )
        connection.executemany(
            "UPDATE operations SET scraped_at = ? WHERE account = ? AND id = ?",
            [(scraped_at, self._account, operation_id) for operation_id, scraped_at in self._scrapes.items()],
        )
        outbox.append(connection, self._events, event_ids)
        insert_tombstones_of(connection, self._account, self._tombstones)
        counting.write_book(connection, self._account, self._book)

    def _take_whole(self, row: RowState, change: Change) -> None:
        operation = change.operation
        for occurred_at, event in change.events:
            row = self._add_event(row, operation.id, occurred_at, event)
        row = replace(row, status=operation.status, created_at=operation.created_at, final_at=operation.final_at)
        # A later change of the same operation in this batch is checked against this state, so it counts only once.
        self._rows[operation.id] = row
        self._states[operation.id] = operation
        settle_counters(self._book, labels_of(row.labels), change)
        if operation.final_at is not None:
            self._tombstones[operation.id] = row.trace

    def _add_event(self, row: RowState, operation_id: str, occurred_at: Instant, event: OperationEvent) -> RowState:
        self._position += 1
        row = replace(row, seq=row.seq + 1, position=self._position)
        self._events.append(
            (self._position, self._account, operation_id, row.seq, occurred_at, row.labels, event_text(event))
        )
        return row

    def _state_row(self, operation_id: str, operation: Operation) -> tuple[object, ...]:
        row = self._rows[operation_id]
        return (
            operation.status,
            operation.created_at,
            operation.final_at,
            operation.scraped_at,
            state_text(operation),
            row.seq,
            row.position,
            self._account,
            operation_id,
        )
