"""Opening a store by its URL: `sqlite:///relative.db`, `sqlite:////absolute.db`, or `memory:`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from watcher.core.errors import StoreRefused
from watcher.store.memory import MemoryStore

if TYPE_CHECKING:
    from watcher.store import Store

MEMORY_URL = "memory:"
_SQLITE = "sqlite:///"


def sqlite_path(url: str) -> Path | None:
    """The file that a URL means; `None` where it means memory.

    Raises StoreRefused for anything else.
    """
    if url == MEMORY_URL:
        return None
    path = url.removeprefix(_SQLITE)
    if path == url or path.startswith(":") or path.endswith("/") or not path or "\0" in path:
        raise StoreRefused(
            f"storage.url {url!r} is none of sqlite:///relative.db, sqlite:////absolute.db and {MEMORY_URL}"
        )
    return Path(path)


async def open_store(url: str) -> Store:
    """The store behind the URL, held by this process alone until it is closed.

    Raises StoreRefused where it is not ours to use, StoreUnusable where it cannot be read or written now.
    """
    path = sqlite_path(url)
    if path is None:
        return MemoryStore()
    from watcher.store.sqlite import SqliteStore

    return await SqliteStore.open(path)
