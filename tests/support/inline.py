"""The real SQLite store on a jumping clock: its work is done in the calling thread, so virtual time does not leak."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from watcher.event_ids import new_event_id
from watcher.store.sqlite import SqliteStore
from watcher.store.sqlite.database import Database
from watcher.store.sqlite.migrations import released
from watcher.store.sqlite.store import PATIENCE
from watcher.threads import Threads

T = TypeVar("T")


class InlineThreads(Threads):
    """Does the work at once, in the thread that submits it."""

    def submit(self, work: Callable[[], T]) -> Future[T]:
        done: Future[T] = Future()
        try:
            done.set_result(work())
        except BaseException as exc:  # noqa: BLE001 -- it is raised where the future is awaited
            done.set_exception(exc)
        return done


async def open_inline(path: Path) -> SqliteStore:
    """The store in the file, ready for virtual time."""
    store = SqliteStore(Database(path, steps=released(), patience=PATIENCE), new_event_id)
    store._thread = InlineThreads("inline")
    await store._do(store._database.open)
    return store
