"""Reads for the API and the commands: an operation, its history, a page of operations."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from watcher.store import Found, StoredEvent
from watcher.store.sqlite.rows import EVENT, OPERATION, event_of, operation_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from watcher.core.model import Operation


def find(connection: sqlite3.Connection, operation_id: str, account: str | None) -> Sequence[Found]:
    """The operation in one or all accounts."""
    # By the names of the accounts, because the index is on (account, id): by id alone, every row would be read.
    where = "WHERE account IN (SELECT name FROM accounts WHERE name = coalesce(?, name)) AND id = ? ORDER BY account"
    rows = connection.execute(OPERATION + where, (account, operation_id))
    return tuple(Found(operation=operation_of(row), untracked_at=row[-1]) for row in rows)


def page(
    connection: sqlite3.Connection,
    *,
    account: str | None,
    statuses: Sequence[str],
    after: tuple[str, str] | None,
    limit: int,
) -> Sequence[Operation]:
    """Operations in order of their keys. Without `statuses`, those of every status."""
    where = """
        WHERE (account, id) > (:account_after, :id_after) AND account = coalesce(:account, account)
            AND untracked_at IS NULL
            AND (:any_status OR status IN (SELECT value FROM json_each(:statuses)))
        ORDER BY account, id LIMIT :limit
    """
    account_after, id_after = max(after or ("", ""), (account or "", ""))
    values = {
        "account_after": account_after,
        "id_after": id_after,
        "account": account,
        "any_status": not statuses,
        "statuses": json.dumps(list(statuses)),
        "limit": limit,
    }
    return tuple(map(operation_of, connection.execute(OPERATION + where, values)))


def history(connection: sqlite3.Connection, account: str, operation_id: str) -> Sequence[StoredEvent]:
    """The operation's events in order."""
    rows = connection.execute(EVENT + "WHERE account = ? AND operation_id = ? ORDER BY seq", (account, operation_id))
    return tuple(map(event_of, rows))
