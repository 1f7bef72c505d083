"""What a database must be for us to touch it, and what happens to those that are not."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.store.factories import ACCOUNT, entry, track
from watcher.core.errors import StoreRefused, StoreUnusable
from watcher.store.sqlite import SqliteStore
from watcher.store.sqlite.database import check_library
from watcher.store.sqlite.migrations import released

if TYPE_CHECKING:
    from pathlib import Path

HOLD = """
import asyncio, pathlib, sys
from watcher.store.sqlite import SqliteStore
from watcher.store.sqlite.migrations import released

async def hold():
    store = await SqliteStore.open(pathlib.Path(sys.argv[1]))
    print("held", flush=True)
    sys.stdin.read()

asyncio.run(hold())
"""


async def make(path: Path) -> None:
    store = await SqliteStore.open(path)
    await store.register([entry(id=f"{number:04}") for number in range(500)], 1)
    await store.close()


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir() if not file.name.endswith(".lock")}


async def refusal(path: Path) -> str:
    """Why opening is refused; whatever is there stays as it is, byte for byte."""
    before = contents(path.parent)
    with pytest.raises(StoreRefused) as refused:
        await SqliteStore.open(path)
    assert contents(path.parent) == before
    return str(refused.value)


async def test_what_was_written_is_there_after_reopening(path: Path) -> None:
    await make(path)
    store = await SqliteStore.open(path)
    assert len((await store.load(ACCOUNT, final_since=0)).operations) == 500
    await store.close()


async def test_a_closed_store_is_one_file_and_its_lock(path: Path) -> None:
    await make(path)
    assert sorted([*contents(path.parent), "watcher.db.lock"]) == ["watcher.db", "watcher.db.lock"]


async def test_a_second_opener_is_refused_by_the_process_that_holds_it(path: Path) -> None:
    store = await SqliteStore.open(path)
    link = path.with_name("other name.db")
    link.symlink_to(path)
    for name in (path, link):
        with pytest.raises(StoreRefused, match=rf"is in use by another watcher \(pid {os.getpid()}\)"):
            await SqliteStore.open(name)
    await track(store)
    await store.close()
    await (await SqliteStore.open(link)).close()


async def test_a_killed_process_releases_the_lock(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StoreRefused, match=rf"pid {holder.pid}\b"):
            await SqliteStore.open(path)
        holder.kill()
    await (await SqliteStore.open(path)).close()


async def test_a_newer_version_is_refused_and_left_untouched(path: Path) -> None:
    await make(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    known = len(released())
    assert f"was written by a newer watcher (schema 99, this one knows up to {known})" in await refusal(path)


async def test_a_newer_version_that_is_only_in_the_log_is_refused_too(path: Path, tmp_path: Path) -> None:
    await make(path)
    copy = tmp_path / "copy"
    copy.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
        for file in path.parent.glob("watcher.db*"):
            (copy / file.name).write_bytes(file.read_bytes())
    assert (copy / "watcher.db-wal").stat().st_size
    with pytest.raises(StoreRefused, match="newer watcher"):
        await SqliteStore.open(copy / "watcher.db")
    with closing(sqlite3.connect(copy / "watcher.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (99,)


async def test_a_database_of_another_program_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    assert "is an SQLite database of another program" in await refusal(path)


async def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_text("dear diary")
    assert "is not an SQLite database, or damaged" in await refusal(path)


async def test_a_damaged_file_is_refused_with_what_to_do(path: Path) -> None:
    await make(path)
    whole = path.read_bytes()
    for damaged in (whole[:100] + b"\xff" * 4000 + whole[4100:], whole[: len(whole) // 2], whole[:50]):
        path.write_bytes(damaged)
        assert "put back a copy or move the file away" in await refusal(path)


async def test_damage_deep_in_the_file_is_found_at_the_start(path: Path) -> None:
    await make(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-4096] + b"\xff" * 4096)
    assert "is damaged" in await refusal(path)


async def test_an_empty_file_is_a_fresh_store(path: Path) -> None:
    path.touch()
    store = await SqliteStore.open(path)
    assert await store.last_position() == 0
    await store.close()


async def test_a_missing_directory_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match=r"cannot be kept in .*/missing: the directory does not exist"):
        await SqliteStore.open(tmp_path / "missing" / "watcher.db")


async def test_a_directory_in_the_files_place_is_said(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StoreUnusable, match="is a directory"):
        await SqliteStore.open(path)


async def test_a_directory_in_the_locks_place_is_said(path: Path) -> None:
    path.with_name("watcher.db.lock").mkdir()
    with pytest.raises(StoreUnusable, match="cannot be locked: is a directory"):
        await SqliteStore.open(path)


async def test_a_file_that_another_program_keeps_to_itself_is_said(path: Path) -> None:
    await make(path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("DELETE FROM events")
        other.commit()
        with pytest.raises(StoreUnusable, match="another program keeps it locked"):
            await SqliteStore.open(path, patience=timedelta(0))
    await (await SqliteStore.open(path)).close()


async def test_a_large_file_is_not_read_whole_at_the_start(path: Path) -> None:
    await make(path)
    with path.open("r+b") as file:
        file.seek(-4096, os.SEEK_END)
        file.write(b"\xff" * 4096)
        file.truncate(65 << 20)  # the header says how many pages count
    store = await SqliteStore.open(path)
    with pytest.raises(StoreUnusable, match="damaged"):
        await store._read(lambda connection: connection.execute("PRAGMA integrity_check").fetchall())
    await store.close()


async def test_a_failed_opening_releases_the_lock(path: Path) -> None:
    path.write_text("dear diary")
    await refusal(path)
    path.unlink()
    await (await SqliteStore.open(path)).close()


def test_an_sqlite_too_old_for_the_schema_is_refused() -> None:
    check_library((3, 37, 0))
    with pytest.raises(StoreRefused, match=r"needs SQLite 3\.37\.0 or newer, but this Python has 3\.34\.1"):
        check_library((3, 34, 1))
