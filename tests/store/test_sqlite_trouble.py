"""An unusable store says so, keeps its data whole, and works again by itself when the cause is gone."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.store.factories import ACCOUNT, COMPLETED, ID, NOW, OTHER, entry, final, finish, finished, track
from tests.support.stored import counted_in
from watcher.core.errors import StoreRefused, StoreUnusable
from watcher.store import Change
from watcher.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

NOBODY_UID = 65534


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(path, patience=timedelta(0))
    yield store
    await store.close()


async def pragma(store: SqliteStore, text: str) -> int:
    rows = await store._read(lambda connection: connection.execute(f"PRAGMA {text}").fetchall())
    return int(rows[0][0]) if rows else 0


async def end_of(store: SqliteStore, count: int = 500) -> None:
    """Ends many at once, in one commit."""
    names = [f"{number:04}" for number in range(count)]
    change = [Change(operation=final(id=name), events=((NOW, finished()),), tally=COMPLETED) for name in names]
    assert len((await store.commit(ACCOUNT, change)).applied) == count


@contextmanager
def without_privileges() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY_UID)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_a_full_disk_leaves_all_as_it_was_and_the_same_commit_succeeds_later(store: SqliteStore) -> None:
    await track(store, *(f"{number:04}" for number in range(500)))
    await pragma(store, f"max_page_count = {await pragma(store, 'page_count')}")
    with pytest.raises(StoreUnusable, match="cannot be used: the disk is full"):
        await end_of(store)
    assert (await counted_in(store, ACCOUNT), await store.last_position()) == ({}, 500)
    await pragma(store, "max_page_count = 1000000")
    await end_of(store)
    assert (await counted_in(store, ACCOUNT), await store.last_position()) == ({("operations", "completed"): 500}, 1000)


FILL = """
import asyncio, pathlib, resource, sys
from tests.support.stored import counted_in
from tests.store.factories import ACCOUNT, COMPLETED, entry, final, finished
from watcher.core.errors import StoreUnusable
from watcher.store import Change
from watcher.store.sqlite import SqliteStore

def room(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

async def main():
    store = await SqliteStore.open(pathlib.Path(sys.argv[1]))
    names = [f"{number:04}" for number in range(1000)]
    await store.register([entry(id=name) for name in names], 1)
    ends = [
        Change(
            operation=final(id=name, registered_at=1),
            events=((1, finished()),),
            tally=COMPLETED,
        )
        for name in names
    ]
    room(await store.size_bytes() // 2)
    for _ in range(3):
        try:
            await store.commit(ACCOUNT, ends)
        except StoreUnusable as error:
            print(error)
    room(0)
    try:
        await store.touch()
    except StoreUnusable as error:
        print(error)
    room(resource.RLIM_INFINITY)
    await store.touch()
    await store.commit(ACCOUNT, ends)
    print(await counted_in(store, ACCOUNT), await store.last_position(), flush=True)
    await store.close()

asyncio.run(main())
"""


def test_a_file_that_may_not_grow_is_unusable_only_as_long_as_that_lasts(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FILL, str(path)], capture_output=True, text=True, check=True)
    *failures, last = done.stdout.splitlines()
    assert len(failures) == 4
    assert all("cannot be used: " in line for line in failures)
    assert last == "{('operations', 'completed'): 1000.0} 2000"


async def test_another_programs_lock_passes(store: SqliteStore, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnusable, match="another program keeps it locked"):
            await track(store)
        assert await store.find(ID) == ()
    await track(store)
    assert len(await store.find(ID)) == 1


async def test_a_store_that_was_read_only_works_again_on_a_new_connection(store: SqliteStore) -> None:
    await pragma(store, "query_only = ON")
    with pytest.raises(StoreUnusable, match="it is read-only"):
        await track(store)
    await track(store)
    assert len(await store.find(ID)) == 1


async def test_a_file_that_is_gone_is_not_created_again(store: SqliteStore, path: Path) -> None:
    await track(store)
    await pragma(store, "query_only = ON")
    with pytest.raises(StoreUnusable):
        await track(store, OTHER)
    aside = path.rename(path.with_name("aside.db"))
    for _ in range(2):
        with pytest.raises(StoreUnusable, match="the file is gone; put it back"):
            await store.find(ID)
    assert not path.exists()
    aside.rename(path)
    assert len(await store.find(ID)) == 1


async def test_another_store_in_the_files_place_is_not_touched(store: SqliteStore, path: Path) -> None:
    await pragma(store, "query_only = ON")
    with pytest.raises(StoreUnusable):
        await track(store)
    aside = path.rename(path.with_name("aside.db"))
    path.write_text("dear diary")
    with pytest.raises(StoreUnusable, match="another file is in its place"):
        await track(store)
    assert path.read_text() == "dear diary"
    aside.rename(path)
    await track(store)


async def test_damage_found_while_running_says_what_to_do_and_a_good_copy_works(path: Path) -> None:
    store = await SqliteStore.open(path)
    await store.register([entry(id=f"{number:04}") for number in range(2000)], NOW)
    await store.close()
    whole = path.read_bytes()
    store = await SqliteStore.open(path)
    with path.open("r+b") as file:
        file.seek(8 * 4096)
        file.write(b"\xff" * (len(whole) - 8 * 4096))
    for _ in range(2):
        with pytest.raises(StoreUnusable, match=r"damaged.*put back a copy or move the file away"):
            await store.load(ACCOUNT, final_since=0)
    path.write_bytes(whole)
    assert len((await store.load(ACCOUNT, final_since=0)).operations) == 2000
    await store.close()


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE operations SET state = '{'", f"the row of operation {ACCOUNT}:{ID} cannot be read"),
        ("UPDATE operations SET status = 'ASLEEP'", f"the row of operation {ACCOUNT}:{ID} cannot be read"),
        ("UPDATE events SET event = '{}'", "event 1 cannot be read"),
    ],
)
async def test_a_row_that_cannot_be_read_is_named(store: SqliteStore, path: Path, statement: str, what: str) -> None:
    await track(store)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(statement)
    question = store.pending_events(0, 9) if "events" in statement else store.find(ID)
    with pytest.raises(StoreUnusable, match=f"it is damaged; .*{what}"):
        await question


async def test_a_transaction_that_cannot_be_rolled_back_ends_with_its_connection(store: SqliteStore) -> None:
    def forbid(connection: sqlite3.Connection) -> None:
        def authorize(action: int, what: str | None, *_: object) -> int:
            is_rollback = action == sqlite3.SQLITE_TRANSACTION and what == "ROLLBACK"
            return sqlite3.SQLITE_DENY if is_rollback else sqlite3.SQLITE_OK

        connection.set_authorizer(authorize)

    await store._read(forbid)
    with pytest.raises(sqlite3.IntegrityError):
        await store.register([entry(id=OTHER), entry(id=None)], NOW)
    assert await store.find(OTHER) == ()
    await track(store)


async def test_a_programming_error_raises_and_leaves_all_as_it_was(store: SqliteStore) -> None:
    await track(store)
    with pytest.raises(sqlite3.IntegrityError):
        await store.register([entry(id=OTHER), entry(id=None)], NOW)
    assert await store.find(OTHER) == ()
    await finish(store)


async def test_a_directory_without_permission_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with without_privileges(), pytest.raises(StoreUnusable, match="the directory is not writable by user"):
        await SqliteStore.open(tmp_path / "watcher.db")
    tmp_path.chmod(0o755)
    await (await SqliteStore.open(tmp_path / "watcher.db")).close()


async def test_a_file_without_permission_is_said() -> None:
    # Not pytest's own directory: other users cannot pass through that one.
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o777)
        path = directory / "watcher.db"
        await (await SqliteStore.open(path)).close()
        (directory / "watcher.db.lock").chmod(0o666)
        path.chmod(0o444)
        with without_privileges(), pytest.raises(StoreUnusable, match="it is read-only"):
            await SqliteStore.open(path)
        path.chmod(0o000)
        with without_privileges(), pytest.raises(StoreUnusable, match="permission denied"):
            await SqliteStore.open(path)


async def test_a_cancelled_caller_does_not_undo_its_write(store: SqliteStore) -> None:
    writes = [asyncio.create_task(track(store, name)) for name in ("a", "b", "c")]
    await asyncio.sleep(0)
    for task in writes:
        task.cancel()
    assert [type(end) for end in await asyncio.gather(*writes, return_exceptions=True)] == [asyncio.CancelledError] * 3
    assert await store.count_pending() == 3


async def can_be_opened(path: Path) -> bool:
    try:
        await (await SqliteStore.open(path)).close()
    except StoreRefused:
        return False
    return True


async def test_a_cancelled_opening_releases_the_lock(path: Path) -> None:
    opening = asyncio.create_task(SqliteStore.open(path))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    async with asyncio.timeout(10):
        while not await can_be_opened(path):  # noqa: ASYNC110 -- the thread of the first has not released it yet
            await asyncio.sleep(0)


async def test_a_closed_store_is_unusable(path: Path) -> None:
    store = await SqliteStore.open(path)
    writing = asyncio.create_task(track(store))
    await asyncio.sleep(0)
    await store.close()
    await writing
    with pytest.raises(StoreUnusable, match="is closed"):
        await store.last_position()
    store = await SqliteStore.open(path)
    assert await store.last_position() == 1
    await store.close()
