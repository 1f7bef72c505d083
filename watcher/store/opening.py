"""Opening a store by its URL: `sqlite:///relative.db` or `sqlite:////absolute.db`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from watcher.core.errors import StoreRefused

if TYPE_CHECKING:
    from watcher.store import Store

_SQLITE = "sqlite:///"


def sqlite_path(url: str) -> Path:
    """The file of the URL. Raises StoreRefused for a URL of another kind."""
    path = url.removeprefix(_SQLITE)
    if path == url or path.startswith(":") or path.endswith("/") or not path or "\0" in path:
        raise StoreRefused(f"storage.url {url!r} is neither sqlite:///relative.db nor sqlite:////absolute.db")
    return Path(path)


async def open_store(url: str) -> Store:
    """The store behind the URL, held by this process alone until it is closed.

    Raises StoreRefused where it is not ours to use, StoreUnusable where it cannot be read or written now.
    """
    path = sqlite_path(url)
    from watcher.store.sqlite import SqliteStore

    return await SqliteStore.open(path)
