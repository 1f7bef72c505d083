"""What a store holds, read past its protocol: the truth that tests compare with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, assert_never

from watcher.core.model import OUTCOME_OF, Outcome, Status
from watcher.core.totals import Key
from watcher.store import Store
from watcher.store.memory import MemoryStore
from watcher.store.sqlite import SqliteStore
from watcher.store.sqlite.rows import key_of

if TYPE_CHECKING:
    import sqlite3


async def counted_in(store: Store, account: str) -> Mapping[Key, float]:
    """All that was ever counted for the account, shown or not: (series, label values…) to value."""
    match store:
        case MemoryStore():
            stored = store._account(account)
            return {key: stored.shown.get(key, 0) + stored.held.get(key, 0) for key in {**stored.shown, **stored.held}}
        case SqliteStore():
            rows = await store._read(
                lambda connection: connection.execute(
                    "SELECT key, value + held FROM counters WHERE account = ?", (account,)
                ).fetchall()
            )
            return {key_of(key): value for key, value in rows}
        case _:
            assert_never(store)  # type: ignore[arg-type]


async def outcome_in(store: Store, account: str, operation_id: str) -> Outcome | None:
    """How the operation ended, from its row or its tombstone."""
    key = account, operation_id
    match store:
        case MemoryStore():
            if (row := store._rows.get(key)) is not None:
                return row.operation.outcome
            return store._tombstones[key].outcome if key in store._tombstones else None
        case SqliteStore():
            return await store._read(lambda connection: _outcome(connection, key))
        case _:
            assert_never(store)  # type: ignore[arg-type]


def _outcome(connection: sqlite3.Connection, key: tuple[str, str]) -> Outcome | None:
    row = connection.execute("SELECT status FROM operations WHERE account = ? AND id = ?", key).fetchone()
    if row is not None:
        return OUTCOME_OF.get(Status(row[0]))
    tombstone = connection.execute("SELECT outcome FROM tombstones WHERE account = ? AND id = ?", key).fetchone()
    return None if tombstone is None or tombstone[0] is None else Outcome(tombstone[0])
