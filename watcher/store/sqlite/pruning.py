"""What leaves: rows and events whose time is over, in small batches, and the pages that they took."""

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
"""The share of free pages that is left for what comes next; more goes back to the file system."""
_SPARE_PAGES = 256
_GIVEN_BACK_AT_ONCE = 1024


def prune(connection: sqlite3.Connection, now: Instant, *, keep_since: Instant, limit: int, shown: Shown | None) -> int:
    """Drop one batch; how many rows."""
    details = _details(connection, keep_since, limit, shown or _NOTHING_SHOWN)
    events = _events(connection, keep_since, limit - details)
    return details + events + _tombstones(connection, now, limit - details - events)


def give_back(connection: sqlite3.Connection) -> None:
    """Shrink the file by a bounded number of pages where it has many to spare; a transaction of its own."""
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    excess = int(free - max(_SPARE_PAGES, _SPARE * pages))
    if excess > 0:
        # `execute` would stop after the first page.
        connection.executescript(f"PRAGMA incremental_vacuum({min(excess, _GIVEN_BACK_AT_ONCE)})")


def _details(connection: sqlite3.Connection, keep_since: Instant, limit: int, shown: Shown) -> int:
    # With `storage.keep` no shorter than `metrics.hold_at_most` the times of what is shown hold nothing back.
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
        # All of them have left; the newest mark stays, as it says what is told.
        connection.execute("DELETE FROM told WHERE up_to < ?", found)
    return count


def _tombstones(connection: sqlite3.Connection, now: Instant, limit: int) -> int:
    """Those that `Trace.is_over` says are over, unless the configuration names their ids.

    One with events beside it stays, however old, because it alone knows their last `seq`.
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
