"""The real SQLite store on a jumping clock: its work is done where it is asked for, so no thread leaks virtual time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from watcher.event_ids import new_event_id
from watcher.store.sqlite import SqliteStore
from watcher.store.sqlite.database import Database
from watcher.store.sqlite.migrations import released
from watcher.store.sqlite.store import PATIENCE

T = TypeVar("T")


class InlineExecutor(ThreadPoolExecutor):
    """Does the work at once, in the thread that submits it."""

    def __init__(self) -> None:
        super().__init__(max_workers=1)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        done: Future[T] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as exc:  # noqa: BLE001 -- it is raised where the future is awaited
            done.set_exception(exc)
        return done


async def open_inline(path: Path) -> SqliteStore:
    """The store in the file, ready for virtual time."""
    store = SqliteStore(Database(path, steps=released(), patience=PATIENCE), new_event_id)
    store._thread = InlineExecutor()
    await store._do(store._database.open)
    return store
