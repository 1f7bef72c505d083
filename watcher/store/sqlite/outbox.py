"""Events on their way out: written with what they tell of, told in order of position, marked as told up to one."""

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
    """Write events, each with an id of its own.

    They keep the positions they were given, counted on from `last_position` in the same transaction.
    """
    connection.executemany(
        """
        INSERT INTO events (position, account, operation_id, seq, occurred_at, labels, event, event_id)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        """,
        [(*row, event_ids(row[_OCCURRED_AT])) for row in rows],
    )


def last_position(connection: sqlite3.Connection) -> int:
    """The position of the newest event ever, 0 for none."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    return row[0] if row else 0


def published_up_to(connection: sqlite3.Connection) -> int:
    """The position up to which all is told."""
    (position,) = connection.execute("SELECT coalesce(max(up_to), 0) FROM told").fetchone()
    return int(position)


def pending_events(connection: sqlite3.Connection, after: int, limit: int) -> Sequence[StoredEvent]:
    """Events not told yet, after a position."""
    start = max(after, published_up_to(connection))
    rows = connection.execute(EVENT + "WHERE position > ? ORDER BY position LIMIT ?", (start, limit))
    return tuple(map(event_of, rows))


def count_pending(connection: sqlite3.Connection) -> int:
    """How many events wait. Positions have no gaps, and none leaves untold."""
    return last_position(connection) - published_up_to(connection)


def mark_published(connection: sqlite3.Connection, up_to: int, now: Instant) -> None:
    """Mark all events up to a position, of those there are."""
    connection.execute(
        """
        INSERT INTO told (up_to, told_at)
        SELECT :up_to, max(:now, coalesce((SELECT max(told_at) FROM told), :now))
        WHERE :up_to > (SELECT coalesce(max(up_to), 0) FROM told)
        """,
        {"up_to": min(up_to, last_position(connection)), "now": now},
    )
