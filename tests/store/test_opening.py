"""Which store a URL means."""

from __future__ import annotations

from pathlib import Path

import pytest

from watcher.core.errors import StoreRefused
from watcher.store.opening import open_store, sqlite_path
from watcher.store.sqlite import SqliteStore


def test_three_slashes_are_relative_and_four_absolute() -> None:
    assert sqlite_path("sqlite:///watcher.db") == Path("watcher.db")
    assert sqlite_path("sqlite:///data/watcher.db") == Path("data/watcher.db")
    assert sqlite_path("sqlite:////var/lib/watcher.db") == Path("/var/lib/watcher.db")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "watcher.db",
        "sqlite:watcher.db",
        "sqlite://watcher.db",
        "sqlite:///",
        "sqlite:////var/",
        "sqlite:///:memory:",
        "memory:",
    ],
)
def test_anything_else_is_refused_with_what_would_be_right(url: str) -> None:
    with pytest.raises(StoreRefused, match=r"sqlite:///relative\.db nor sqlite:////absolute\.db"):
        sqlite_path(url)


async def test_a_url_opens_its_store(tmp_path: Path) -> None:
    store = await open_store(f"sqlite:///{tmp_path}/watcher.db")
    assert isinstance(store, SqliteStore)
    assert (tmp_path / "watcher.db").exists()
    await store.close()
