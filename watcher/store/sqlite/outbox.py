"""The outbox: events are written with the state that they describe, published in order of position, then marked.

A position is given once, without gaps, in one transaction with its event. A mark is a position up to which every event
is published, so one number says it for all:

    1 … 7      published, deleted by pruning
    8 … 12     published, kept for the history              12 = `published_up_to`
    13 … 15    pending: published next, never deleted       15 = `last_position`
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from watcher.store.sqlite.rows import EVENT, event_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from watcher.core.model import Instant
    from watcher.event_ids import EventIds
    from watcher.store import StoredEvent
    from watcher.store.sqlite.rows import NewEventRow

_OCCURRED_AT: Final = 4
"""The column of `NewEventRow`."""


def append(connection: sqlite3.Connection, rows: Iterable[NewEventRow], event_ids: EventIds) -> None:
    """Write events, each with a new event id.

    Their positions must follow `last_position` without gaps, and must have been counted in the same transaction.
    """
    connection.executemany(
        """
        INSERT INTO events (position, account, operation_id, seq, occurred_at, labels, event, event_id)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        """,
        [(*row, event_ids(row[_OCCURRED_AT])) for row in rows],
    )


def last_position(connection: sqlite3.Connection) -> int:
    """The position of the newest event that was ever written, 0 before the first."""
    # Not the highest position in the table: pruning may have deleted that event. A position that is given a second time
    # would lie below the mark, and its event would never be published.
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    return row[0] if row else 0


def published_up_to(connection: sqlite3.Connection) -> int:
    """The position up to which all events are published."""
    (position,) = connection.execute("SELECT coalesce(max(up_to), 0) FROM told").fetchone()
    return int(position)


def pending_events(connection: sqlite3.Connection, after: int, limit: int) -> Sequence[StoredEvent]:
    """Events after a position that are not published yet."""
    start = max(after, published_up_to(connection))
    rows = connection.execute(EVENT + "WHERE position > ? ORDER BY position LIMIT ?", (start, limit))
    return tuple(map(event_of, rows))


def count_pending(connection: sqlite3.Connection) -> int:
    """The number of pending events. A subtraction, as positions have no gaps and pending events are never deleted."""
    return last_position(connection) - published_up_to(connection)


def mark_published(connection: sqlite3.Connection, up_to: int, now: Instant) -> None:
    """Mark all events up to a position as published."""
    # Not beyond the newest event: later ones would count as published before they are written. `told_at` never falls,
    # also where the clock is set back: pruning deletes every event up to the newest mark that is old enough.
    connection.execute(
        """
        INSERT INTO told (up_to, told_at)
        SELECT :up_to, max(:now, coalesce((SELECT max(told_at) FROM told), :now))
        WHERE :up_to > (SELECT coalesce(max(up_to), 0) FROM told)
        """,
        {"up_to": min(up_to, last_position(connection)), "now": now},
    )
