"""While it runs, a store writes only to the files that it opened: a name may come to mean another file, or none."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.store.factories import ACCOUNT, ID, NOW, OTHER, finish, track
from tests.support.stored import counted_in
from watcher.core.errors import StoreRefused, StoreUnusable
from watcher.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FILES = ("", "-wal", "-shm")


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(path, patience=timedelta(0))
    yield store
    await store.close()


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}{suffix}")


def move(path: Path, to: Path) -> None:
    for suffix in FILES:
        beside(path, suffix).rename(beside(to, suffix))


async def left_by_a_kill(path: Path, folder: Path) -> SqliteStore:
    """The store as the next process would find it if this one were killed now."""
    folder.mkdir()
    for suffix in FILES:
        if beside(path, suffix).exists():
            shutil.copy(beside(path, suffix), folder)
    return await SqliteStore.open(folder / path.name)


async def test_a_deleted_file_is_noticed_by_the_next_write_and_by_measuring_it(store: SqliteStore, path: Path) -> None:
    await track(store)
    path.unlink()
    with pytest.raises(
        StoreUnusable, match="the file is gone; put it back, or restart the watcher to start with an empty store"
    ):
        await track(store, OTHER)
    with pytest.raises(StoreUnusable, match="the file is gone"):
        await store.touch()
    with pytest.raises(StoreUnusable, match="the file is gone"):
        await store.size_bytes()
    assert not path.exists()
    assert len(await store.find(ID)) == 1  # what it holds can still be read


async def test_a_file_that_comes_back_is_used_again(store: SqliteStore, path: Path) -> None:
    await track(store)
    aside = path.with_name("aside.db")
    move(path, aside)
    with pytest.raises(StoreUnusable, match="the file is gone"):
        await finish(store)
    move(aside, path)
    await finish(store)
    await store.close()
    again = await SqliteStore.open(path)
    assert await counted_in(again, ACCOUNT) == {("operations", "completed"): 1}
    await again.close()


async def test_a_folder_that_is_renamed_and_comes_back_is_used_again(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    store = await SqliteStore.open(folder / "watcher.db", patience=timedelta(0))
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(StoreUnusable, match="the file is gone"):
        await track(store)
    folder.write_text("a file where the folder was")
    with pytest.raises(StoreUnusable, match="the file is gone"):
        await track(store)
    folder.unlink()
    (tmp_path / "elsewhere").rename(folder)
    await track(store)
    await store.close()


async def test_another_file_in_its_place_is_neither_written_nor_taken_for_it(store: SqliteStore, path: Path) -> None:
    await track(store)
    aside = path.with_name("aside.db")
    move(path, aside)
    other = await SqliteStore.open(aside.with_name("other.db"))
    await track(other, OTHER)
    await other.close()
    aside.with_name("other.db").rename(path)
    before = path.read_bytes()
    with pytest.raises(
        StoreUnusable, match="another file is in its place; put back the one that was there, or restart"
    ):
        await finish(store)
    assert path.read_bytes() == before
    path.unlink()
    move(aside, path)
    await finish(store)


async def test_what_another_process_wrote_to_it_while_it_was_away_needs_a_restart(
    store: SqliteStore, path: Path
) -> None:
    await track(store)
    aside = path.with_name("aside.db")
    move(path, aside)
    with pytest.raises(StoreUnusable, match="the file is gone"):
        await finish(store)
    other = await SqliteStore.open(aside)
    await finish(other)
    await other.close()
    for suffix in FILES:
        if beside(aside, suffix).exists():
            beside(aside, suffix).rename(beside(path, suffix))
    for _ in range(2):
        with pytest.raises(StoreUnusable, match="another program wrote to it while it was away; restart the watcher"):
            await finish(store)


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
async def test_what_is_committed_outlives_a_kill_though_a_file_beside_it_was_removed(
    store: SqliteStore, path: Path, tmp_path: Path, suffix: str
) -> None:
    await track(store)
    beside(path, suffix).unlink()
    await finish(store)
    again = await left_by_a_kill(path, tmp_path / "next")
    assert await counted_in(again, ACCOUNT) == {("operations", "completed"): 1}
    assert len(await again.history(ACCOUNT, ID)) == 2
    await again.close()


async def test_a_log_that_was_removed_and_cannot_be_written_back_is_kept_open(store: SqliteStore, path: Path) -> None:
    await track(store)
    reading = sqlite3.connect(path, isolation_level=None)
    with closing(reading):
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM events").fetchall()
        beside(path, "-wal").unlink()
        with pytest.raises(StoreUnusable, match="another program keeps it locked"):
            await finish(store)
    await finish(store)
    assert await counted_in(store, ACCOUNT) == {("operations", "completed"): 1}


async def test_a_lock_file_that_was_removed_is_created_and_locked_again(store: SqliteStore, path: Path) -> None:
    beside(path, ".lock").unlink()
    await track(store)
    with pytest.raises(StoreRefused, match="in use by another watcher"):
        await SqliteStore.open(path)


async def test_a_store_that_another_watcher_has_taken_over_is_written_no_more(store: SqliteStore, path: Path) -> None:
    await track(store)
    beside(path, ".lock").unlink()
    other = await SqliteStore.open(path)
    for _ in range(2):
        with pytest.raises(
            StoreUnusable, match="its lock file was removed, and another watcher has taken the store over"
        ):
            await finish(store)
        await other.close()


async def test_what_another_watcher_wrote_while_the_lock_file_was_missing_needs_a_restart(
    store: SqliteStore, path: Path
) -> None:
    await track(store)
    beside(path, ".lock").unlink()
    other = await SqliteStore.open(path)
    await finish(other)
    await other.close()
    beside(path, ".lock").unlink()
    for _ in range(2):
        with pytest.raises(StoreUnusable, match="another program wrote to it while its lock file was missing; restart"):
            await finish(store)


async def test_closing_leaves_the_log_of_the_store_that_is_in_its_place(store: SqliteStore, path: Path) -> None:
    await track(store)
    move(path, path.with_name("aside.db"))
    beside(path, ".lock").unlink()
    other = await SqliteStore.open(path)
    await finish_another(other)
    await store.close()
    assert beside(path, "-wal").stat().st_size
    assert beside(path, "-shm").exists()
    await other.close()


async def finish_another(store: SqliteStore) -> None:
    await track(store, OTHER)
    await finish(store, OTHER)


LEAVING = """
import asyncio, sys
from pathlib import Path
from watcher.core.errors import StoreUnusable
from watcher.store.sqlite import SqliteStore

async def main():
    path = Path(sys.argv[1])
    store = await SqliteStore.open(path)
    print("opened", flush=True)
    sys.stdin.readline()
    await store.close()

asyncio.run(main())
"""


async def test_a_process_that_ends_leaves_the_log_of_the_store_that_is_in_its_place(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LEAVING, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as leaving:
        assert leaving.stdout is not None
        assert (await asyncio.to_thread(leaving.stdout.readline)) == "opened\n"
        move(path, path.with_name("aside.db"))
        beside(path, ".lock").unlink()
        other = await SqliteStore.open(path)
        await finish_another(other)
        await asyncio.to_thread(leaving.communicate, "\n")
        assert leaving.returncode == 0
    assert beside(path, "-wal").stat().st_size
    assert beside(path, "-shm").exists()
    assert await counted_in(other, ACCOUNT) == {("operations", "completed"): 1}
    await other.close()


async def test_a_file_that_cannot_be_seen_is_no_file_that_is_gone(store: SqliteStore, path: Path) -> None:
    # A name with a loop in it is an error of its own, for root too.
    aside = path.with_name("aside.db")
    move(path, aside)
    path.symlink_to(path)
    with pytest.raises(StoreUnusable, match="too many levels of symbolic links"):
        await track(store, now=NOW)
    path.unlink()
    move(aside, path)
    beside(path, ".lock").unlink()
    beside(path, ".lock").symlink_to(beside(path, ".lock"))
    with pytest.raises(StoreUnusable, match="too many levels of symbolic links"):
        await track(store)
    beside(path, ".lock").unlink()
    await track(store)
