"""The `Store` over one SQLite file: every method is one piece of work for the store's own thread.

Work that was submitted is finished, also when its caller is cancelled. So a cancelled caller does not know whether it
was done.
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import Future
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from watcher.core.errors import StoreUnusable
from watcher.event_ids import EventIds, new_event_id
from watcher.store.sqlite import counting, intake, outbox, progress, pruning, reading
from watcher.store.sqlite.database import Database
from watcher.store.sqlite.migrations import released
from watcher.threads import NoThreadError, Threads

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from watcher.core.labelling import Combination, Counters
    from watcher.core.model import Instant, Operation, Source
    from watcher.store import (
        Change,
        Committed,
        Entry,
        Found,
        IntakeChanges,
        LoadedAccount,
        Registration,
        Shown,
        StoredEvent,
    )

Answer = TypeVar("Answer")

PATIENCE = timedelta(seconds=5)
"""How long another program may keep the file locked, e.g. for a backup, before a call fails."""


class SqliteStore:
    """The `Store` in a file, for one process at a time."""

    def __init__(self, database: Database, event_ids: EventIds) -> None:
        self._database = database
        self._event_ids = event_ids
        self._thread = Threads("store", most_waiting=sys.maxsize)
        self._closed: Future[None] | None = None

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        patience: timedelta = PATIENCE,
        steps: Sequence[str] | None = None,
        event_ids: EventIds = new_event_id,
    ) -> SqliteStore:
        """The store in the file, which is created or brought up to date where needed.

        `steps` are the schema's migrations, `event_ids` makes an id for each event.

        Raises StoreRefused where the file is not ours to use, StoreUnusable where it cannot be used now.
        """
        store = cls(Database(path, steps=released() if steps is None else steps, patience=patience), event_ids)
        try:
            await store._do(store._database.open)
        except BaseException:
            store._begin_closing()  # not awaited: a cancellation must not wait for the disk
            raise
        return store

    async def bind(self, accounts: Mapping[str, str]) -> None:
        """See `Store`."""
        await self._write(partial(intake.bind, accounts=accounts))

    async def load(self, account: str, *, final_since: Instant) -> LoadedAccount:
        """See `Store`."""
        return await self._read(partial(progress.load, account=account, final_since=final_since))

    async def register(
        self, entries: Sequence[Entry], now: Instant, *, configured: Sequence[str] = ()
    ) -> Sequence[Registration]:
        """See `Store`."""
        return await self._write(
            partial(intake.register, entries=entries, now=now, configured=configured, event_ids=self._event_ids)
        )

    async def untrack(self, account: str, operation_id: str, now: Instant, source: Source) -> bool:
        """See `Store`."""
        return await self._write(
            partial(
                intake.untrack,
                account=account,
                operation_id=operation_id,
                now=now,
                source=source,
                event_ids=self._event_ids,
            )
        )

    async def insert_tombstones(self, account: str, created: Mapping[str, Instant | None], now: Instant) -> None:
        """See `Store`."""
        await self._write(partial(intake.insert_tombstones, account=account, created=created, now=now))

    async def note_discovery_began(self, account: str, began_at: Instant) -> None:
        """See `Store`."""
        await self._write(partial(progress.note_discovery_began, account=account, began_at=began_at))

    async def intake(self, account: str, since: int) -> IntakeChanges:
        """See `Store`."""
        return await self._read(partial(intake.intake, account=account, since=since))

    async def commit(self, account: str, changes: Sequence[Change], *, cursor: Instant | None = None) -> Committed:
        """See `Store`."""
        return await self._write(
            partial(progress.commit, account=account, changes=changes, cursor=cursor, event_ids=self._event_ids)
        )

    async def adopt_key(self, account: str, api_key: str) -> None:
        """See `Store`."""
        await self._write(partial(progress.adopt_key, account=account, api_key=api_key))

    async def adopt_counter_labels(self, account: str, names: Sequence[str], now: Instant) -> None:
        """See `Store`."""
        await self._write(partial(counting.adopt_counter_labels, account=account, names=names, now=now))

    async def counters(self, account: str) -> Counters:
        """See `Store`."""
        return await self._read(partial(counting.counters, account=account))

    async def open_combinations(self, account: str, combinations: Collection[Combination]) -> None:
        """See `Store`."""
        await self._write(partial(counting.open_combinations, account=account, combinations=combinations))

    async def retire_combinations(
        self, account: str, combinations: Collection[Combination], *, tracked_before: Instant
    ) -> None:
        """See `Store`."""
        retire = counting.retire_combinations
        await self._write(partial(retire, account=account, combinations=combinations, tracked_before=tracked_before))

    async def pending_events(self, after: int, limit: int) -> Sequence[StoredEvent]:
        """See `Store`."""
        return await self._read(partial(outbox.pending_events, after=after, limit=limit))

    async def mark_published(self, up_to: int, now: Instant) -> None:
        """See `Store`."""
        await self._write(partial(outbox.mark_published, up_to=up_to, now=now))

    async def last_position(self) -> int:
        """See `Store`."""
        return await self._read(outbox.last_position)

    async def count_pending(self) -> int:
        """See `Store`."""
        return await self._read(outbox.count_pending)

    async def touch(self) -> None:
        """See `Store`."""
        await self._do(self._database.touch)

    async def find(self, operation_id: str, account: str | None = None) -> Sequence[Found]:
        """See `Store`."""
        return await self._read(partial(reading.find, operation_id=operation_id, account=account))

    async def page(
        self, *, account: str | None, statuses: Sequence[str], after: tuple[str, str] | None, limit: int
    ) -> Sequence[Operation]:
        """See `Store`."""
        return await self._read(partial(reading.page, account=account, statuses=statuses, after=after, limit=limit))

    async def history(self, account: str, operation_id: str) -> Sequence[StoredEvent]:
        """See `Store`."""
        return await self._read(partial(reading.history, account=account, operation_id=operation_id))

    async def prune(self, now: Instant, *, keep_since: Instant, limit: int, shown: Shown | None = None) -> int:
        """See `Store`."""
        count = await self._write(partial(pruning.prune, now=now, keep_since=keep_since, limit=limit, shown=shown))
        await self._read(pruning.give_back)
        return count

    async def size_bytes(self) -> int:
        """See `Store`."""
        return await self._do(self._database.size_bytes)

    async def close(self) -> None:
        """See `Store`."""
        await _finished(self._begin_closing())

    async def _read(self, work: Callable[[sqlite3.Connection], Answer]) -> Answer:
        return await self._do(partial(self._database.read, work))

    async def _write(self, work: Callable[[sqlite3.Connection], Answer]) -> Answer:
        return await self._do(partial(self._database.write, work))

    async def _do(self, work: Callable[[], Answer]) -> Answer:
        if self._closed is not None:
            raise StoreUnusable(f"the store {self._database.path} is closed")
        try:
            future = self._thread.submit(work)
        except NoThreadError as exc:
            raise StoreUnusable(f"the store {self._database.path} cannot be used: {exc.strerror}") from exc
        return await _finished(future)

    def _begin_closing(self) -> Future[None]:
        if self._closed is None:
            try:
                self._closed = self._thread.submit(self._database.close)
            except NoThreadError:  # without a thread, nothing was ever opened
                self._closed = Future()
                self._closed.set_result(None)
            self._thread.close()
        return self._closed


async def _finished(work: Future[Answer]) -> Answer:
    # Without the shield, cancelling the caller would also cancel work that the thread has not begun yet.
    return await asyncio.shield(asyncio.wrap_future(work))
