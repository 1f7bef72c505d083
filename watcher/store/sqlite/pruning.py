"""Deletes rows and events whose time is over, in small batches, and gives their pages back to the file system."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watcher.core.model import TOMBSTONE_LIFE
from watcher.store import Shown
from watcher.store.sqlite import outbox

if TYPE_CHECKING:
    import sqlite3

    from watcher.core.model import Instant

_NOTHING_SHOWN = Shown(final_after=2**63 - 1, scraped_after=2**63 - 1)

_SPARE = 0.25
"""The share of the file that stays free for new rows. More free pages than that go back to the file system."""
_SPARE_PAGES = 256
_GIVEN_BACK_AT_ONCE = 1024


def prune(connection: sqlite3.Connection, now: Instant, *, keep_since: Instant, limit: int, shown: Shown | None) -> int:
    """Delete one batch. Returns the number of rows."""
    details = _details(connection, keep_since, limit, shown or _NOTHING_SHOWN)
    events = _events(connection, keep_since, limit - details)
    return details + events + _tombstones(connection, now, limit - details - events)


def give_back(connection: sqlite3.Connection) -> None:
    """Shrink the file by a bounded number of pages where many are free, in a transaction of its own."""
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    excess = int(free - max(_SPARE_PAGES, _SPARE * pages))
    if excess > 0:
        # `execute` would stop after the first page.
        connection.executescript(f"PRAGMA incremental_vacuum({min(excess, _GIVEN_BACK_AT_ONCE)})")


def _details(connection: sqlite3.Connection, keep_since: Instant, limit: int, shown: Shown) -> int:
    # Rows of operations that are still shown stay. Where `storage.keep` is at least `metrics.hold_at_most`, these times
    # keep no further row.
    return connection.execute(
        """
        DELETE FROM operations WHERE key IN (
            SELECT key FROM operations
            WHERE done_at < :keep_since AND position <= :told
                AND (untracked_at IS NOT NULL OR final_at <= :final_after OR scraped_at <= :scraped_after)
            ORDER BY done_at LIMIT :limit
        )
        """,
        {
            "keep_since": keep_since,
            "told": outbox.published_up_to(connection),
            "final_after": shown.final_after,
            "scraped_after": shown.scraped_after,
            "limit": limit,
        },
    ).rowcount


def _events(connection: sqlite3.Connection, keep_since: Instant, limit: int) -> int:
    found = connection.execute(
        "SELECT up_to FROM told WHERE told_at < ? ORDER BY told_at DESC, up_to DESC LIMIT 1", (keep_since,)
    ).fetchone()
    if found is None:
        return 0
    count = connection.execute(
        "DELETE FROM events WHERE position IN (SELECT position FROM events WHERE position <= ? LIMIT ?)",
        (found[0], limit),
    ).rowcount
    if count < limit:
        # All events up to this mark are deleted. The newest mark stays: it says up to where events are published.
        connection.execute("DELETE FROM told WHERE up_to < ?", found)
    return count


def _tombstones(connection: sqlite3.Connection, now: Instant, limit: int) -> int:
    """Delete tombstones that are over by the rule of `IdHistory.is_over`, unless the configuration names their ids.

    While events of an operation are kept, its tombstone stays, because only it knows their last `seq`. Without it, the
    id would be registered as unknown, and its events would start with `seq` 1 a second time.
    """
    return connection.execute(
        """
        DELETE FROM tombstones WHERE (account, id) IN (
            SELECT account, id FROM tombstones AS stone
            WHERE done_at < :before AND created_at NOT BETWEEN :before AND :ahead
                AND NOT EXISTS (
                    SELECT 1 FROM events WHERE events.account = stone.account AND operation_id = stone.id
                )
                AND NOT EXISTS (
                    SELECT 1 FROM configured WHERE configured.account = stone.account AND configured.id = stone.id
                )
            ORDER BY done_at LIMIT :limit
        )
        """,
        {"before": now - TOMBSTONE_LIFE, "ahead": now + TOMBSTONE_LIFE, "limit": limit},
    ).rowcount
