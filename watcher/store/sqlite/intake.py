"""Accounts, registration and untracking of operations, and what changed since a revision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from watcher.core.model import Instant, Source, Status, Tracked, Untracked, Value
from watcher.store import Entry, IntakeChanges, Registration, RegistrationResult
from watcher.store.rules import IdHistory, other_identity, registration_time, result_for, youngest
from watcher.store.sqlite import counting, outbox
from watcher.store.sqlite.rows import (
    OPERATION,
    RowState,
    event_text,
    insert_tombstones_of,
    labels_of,
    labels_text,
    operation_of,
    row_states,
    tombstones,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from watcher.core.labelling import CounterBook
    from watcher.event_ids import EventIds
    from watcher.store.sqlite.rows import NewEventRow


def bind(connection: sqlite3.Connection, accounts: Mapping[str, str]) -> None:
    """Store the identities; raises StoreRefused where another one is stored."""
    stored = dict(connection.execute("SELECT name, identity FROM accounts"))
    for name, identity in accounts.items():
        if stored.get(name) not in {None, identity}:
            raise other_identity(name)
    connection.executemany(
        "INSERT INTO accounts (name, identity) VALUES (?, ?) ON CONFLICT DO UPDATE SET identity = excluded.identity",
        list(accounts.items()),
    )


def revision_of(connection: sqlite3.Connection, account: str) -> int:
    """The number of times that intake changed the account."""
    row = connection.execute("SELECT revision FROM accounts WHERE name = ?", (account,)).fetchone()
    return row[0] if row else 0


def intake(connection: sqlite3.Connection, account: str, since: int) -> IntakeChanges:
    """What intake changed after a revision."""
    operations = connection.execute(
        OPERATION + "WHERE account = ? AND revision > ? AND untracked_at IS NULL ORDER BY revision", (account, since)
    )
    untracked = connection.execute(
        "SELECT id FROM operations WHERE account = ? AND revision > ? AND untracked_at IS NOT NULL ORDER BY revision",
        (account, since),
    )
    return IntakeChanges(
        revision=revision_of(connection, account),
        operations=tuple(map(operation_of, operations)),
        untracked=tuple(operation_id for (operation_id,) in untracked),
        shows_more=counting.shows_more(connection, account, since),
    )


def register(
    connection: sqlite3.Connection,
    entries: Sequence[Entry],
    now: Instant,
    *,
    configured: Sequence[str],
    event_ids: EventIds,
) -> Sequence[Registration]:
    """Register the entries in order, and store which ids the configuration names for the `configured` accounts."""
    for account in configured:
        _remember_configured(connection, account, {entry.id for entry in entries if entry.account == account})
    by_account: dict[str, list[Entry]] = {}
    for entry in entries:
        by_account.setdefault(entry.account, []).append(entry)
    position = outbox.last_position(connection)
    batches = {}
    for account, own in by_account.items():
        ids = [entry.id for entry in own]
        book = counting.open_book(connection, account, revision=revision_of(connection, account) + 1)
        batches[account] = RegistrationBatch(
            now, row_states(connection, account, ids), tombstones(connection, account, ids), book
        )
    registrations = []
    for entry in entries:
        batch = batches[entry.account]
        registrations.append(batch.take(entry, position + 1))
        # Only a new operation has an event. Positions have no gaps, as `outbox.count_pending` subtracts them.
        position += registrations[-1].result is RegistrationResult.NEW
    for account, batch in batches.items():
        batch.write(connection, account, event_ids)
    return tuple(registrations)


def _remember_configured(connection: sqlite3.Connection, account: str, ids: set[str]) -> None:
    """Store the ids that the configuration names for the account. Writes nothing where they have not changed."""
    known = {name for (name,) in connection.execute("SELECT id FROM configured WHERE account = ?", (account,))}
    connection.executemany(
        "DELETE FROM configured WHERE account = ? AND id = ?", [(account, name) for name in sorted(known - ids)]
    )
    connection.executemany(
        "INSERT INTO configured (account, id) VALUES (?, ?)", [(account, name) for name in sorted(ids - known)]
    )


def untrack(
    connection: sqlite3.Connection,
    account: str,
    operation_id: str,
    *,
    now: Instant,
    source: Source,
    event_ids: EventIds,
) -> bool:
    """Mark the row as untracked, with its event and tombstone."""
    row_state = row_states(connection, account, [operation_id]).get(operation_id)
    if row_state is None or row_state.untracked_at is not None:
        return False
    revision = _next_revision(connection, account)
    if row_state.final_at is None:  # otherwise its combination was noted when it was counted
        book = counting.open_book(connection, account)
        book.leave(labels_of(row_state.labels), now)
        counting.write_book(connection, account, book)
    position = outbox.last_position(connection) + 1
    gone = replace(row_state, untracked_at=now, seq=row_state.seq + 1, position=position)
    connection.execute(
        """
        UPDATE operations SET untracked_at = ?, revision = ?, seq = ?, position = ? WHERE account = ? AND id = ?
        """,
        (now, revision, gone.seq, gone.position, account, operation_id),
    )
    event = event_text(Untracked(source=source))
    outbox.append(connection, [(position, account, operation_id, gone.seq, now, gone.labels, event)], event_ids)
    insert_tombstones_of(connection, account, {operation_id: gone.trace})
    return True


def insert_tombstones(
    connection: sqlite3.Connection, account: str, created: Mapping[str, Instant | None], now: Instant
) -> None:
    """Insert tombstones without an outcome for the ids that have neither a row nor a tombstone."""
    known = row_states(connection, account, created).keys() | tombstones(connection, account, created).keys()
    # With an unknown creation, the newest possible one: the tombstone must not leave early.
    fresh = {
        operation_id: IdHistory(created_at=now if created_at is None else created_at, done_at=now)
        for operation_id, created_at in created.items()
        if operation_id not in known
    }
    if fresh:
        insert_tombstones_of(connection, account, fresh)


class _NewRow(Value, frozen=True, kw_only=True):
    """An operation that is registered in this batch. `hint`: its creation as known so far."""

    entry: Entry
    labels: str
    seq: int
    position: int
    hint: Instant | None


class RegistrationBatch:
    """Takes one account's entries in order, then writes all of them at once."""

    def __init__(
        self, now: Instant, rows: Mapping[str, RowState], tombstones: Mapping[str, IdHistory], book: CounterBook
    ) -> None:
        self._now = now
        self._rows = rows
        self._labels = {operation_id: row.labels for operation_id, row in rows.items()}
        self._histories = {**tombstones, **{operation_id: row.trace for operation_id, row in rows.items()}}
        self._tombstones = tombstones
        self._fresh: dict[str, _NewRow] = {}
        self._book = book
        self._relabelled: set[str] = set()

    def take(self, entry: Entry, position: int) -> Registration:
        """The result of the entry. `position` is the position of its event, if it is new."""
        trace = self._histories.get(entry.id)
        result = result_for(entry, trace)
        if result is RegistrationResult.NEW:
            self._take_in(entry, trace or IdHistory(), position)
        elif result is RegistrationResult.KNOWN and entry.labels:
            self._relabel(entry)
        outcome = trace.outcome if trace is not None and result is RegistrationResult.FINISHED else None
        return Registration(account=entry.account, id=entry.id, result=result, outcome=outcome)

    def write(self, connection: sqlite3.Connection, account: str, event_ids: EventIds) -> None:
        """Write new and relabelled operations. Writes nothing where there are none."""
        if not self._fresh and not self._relabelled:
            return
        revision = _next_revision(connection, account)
        connection.executemany(
            "DELETE FROM tombstones WHERE account = ? AND id = ?",
            [(account, operation_id) for operation_id in self._fresh if operation_id in self._tombstones],
        )
        # REPLACE deletes the row of an earlier registration of the same id.
        connection.executemany(
            """
            INSERT OR REPLACE INTO operations
                (account, id, source, registered_at, hint, labels, status, state, revision, seq, position)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [self._row(account, operation_id, fresh, revision) for operation_id, fresh in self._fresh.items()],
        )
        connection.executemany(
            "UPDATE operations SET labels = ?, revision = ? WHERE account = ? AND id = ?",
            [
                (self._labels[operation_id], revision, account, operation_id)
                for operation_id in self._relabelled - self._fresh.keys()
            ],
        )
        events = [self._event(account, operation_id, fresh) for operation_id, fresh in self._fresh.items()]
        outbox.append(connection, events, event_ids)
        counting.write_book(connection, account, self._book)

    def _take_in(self, entry: Entry, trace: IdHistory, position: int) -> None:
        hint = youngest(entry.created_at, trace.created_at)
        labels = labels_text(entry.labels)
        self._labels[entry.id] = labels
        # A second entry of this id in the batch finds it tracked, and only adds its labels.
        self._histories[entry.id] = IdHistory(followed=True)
        self._fresh[entry.id] = _NewRow(entry=entry, labels=labels, seq=trace.seq + 1, position=position, hint=hint)
        self._book.track(entry.labels, self._now)

    def _relabel(self, entry: Entry) -> None:
        labels = labels_of(self._labels[entry.id])
        merged = {**labels, **entry.labels}
        if merged != labels:
            self._labels[entry.id] = labels_text(merged)
            self._relabelled.add(entry.id)
            self._book.leave(labels, self._now)
            self._book.track(merged, self._now)

    def _row(self, account: str, operation_id: str, fresh: _NewRow, revision: int) -> tuple[object, ...]:
        earlier = self._rows.get(operation_id)
        return (
            account,
            operation_id,
            fresh.entry.source,
            registration_time(self._now, None if earlier is None else earlier.registered_at),
            fresh.hint,
            self._labels[operation_id],
            Status.UNSEEN,
            "{}",
            revision,
            fresh.seq,
            fresh.position,
        )

    def _event(self, account: str, operation_id: str, fresh: _NewRow) -> NewEventRow:
        # With the labels of its own entry. Those that later entries of the batch add are only in the row.
        event = event_text(Tracked(source=fresh.entry.source))
        return fresh.position, account, operation_id, fresh.seq, self._now, fresh.labels, event


def _next_revision(connection: sqlite3.Connection, account: str) -> int:
    ((revision,),) = connection.execute(
        """
        INSERT INTO accounts (name, revision) VALUES (?, 1)
        ON CONFLICT DO UPDATE SET revision = revision + 1 RETURNING revision
        """,
        (account,),
    ).fetchall()  # read to its end, because COMMIT fails while a statement is unfinished
    return int(revision)
