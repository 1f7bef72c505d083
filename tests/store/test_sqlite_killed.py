"""A process that is killed in the middle leaves whole transactions and nothing else."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.store.factories import ACCOUNT
from tests.support.stored import counted_in
from watcher.core.model import Finished
from watcher.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

BATCH = 20
WORK = f"""
import asyncio, itertools, pathlib, sys
from tests.store.factories import ACCOUNT, COMPLETED, entry, final, finished
from watcher.store import Change
from watcher.store.sqlite import SqliteStore

async def main():
    store = await SqliteStore.open(pathlib.Path(sys.argv[1]))
    begin = await store.last_position()
    for turn in itertools.count():
        names = [f"{{begin + turn}}-{{number}}" for number in range({BATCH})]
        await store.register([entry(id=name) for name in names], 1)
        ends = [
            Change(
                operation=final(id=name, registered_at=1),
                events=((1, finished()),),
                tally=COMPLETED,
            )
            for name in names
        ]
        await store.commit(ACCOUNT, ends)
        print(turn, flush=True)
        await store.mark_published(await store.last_position() - 30, turn)
        await store.prune(1, keep_since=turn - 100, limit=10)

asyncio.run(main())
"""


@pytest.mark.unmeasured
async def test_what_was_acknowledged_is_there_and_counters_equal_the_ends(path: Path) -> None:
    acknowledged = 0
    for turns in (1, 2, 7, 30, 90):
        with subprocess.Popen([sys.executable, "-c", WORK, str(path)], stdout=subprocess.PIPE) as worker:
            assert worker.stdout is not None
            for _ in range(turns):
                assert worker.stdout.readline()
            worker.kill()
            acknowledged += turns + len(worker.stdout.readlines())
        store = await SqliteStore.open(path)
        loaded = await store.load(ACCOUNT, final_since=0)
        published = await store.pending_events(0, 100_000)
        newest = [event for event in published if isinstance(event.event, Finished)]
        counted = (await counted_in(store, ACCOUNT))["operations", "completed"]
        registered = await store.last_position() - counted
        await store.close()

        assert counted % BATCH == 0
        assert registered % BATCH == 0
        assert acknowledged * BATCH <= counted <= registered <= counted + 5 * BATCH
        assert all(event.seq == 2 for event in newest)
        final = {found.id for found in loaded.operations if found.final_at is not None}
        assert {event.operation_id for event in newest} <= final
        acknowledged = int(counted) // BATCH


@pytest.mark.parametrize("attempt", range(3))
async def test_after_a_first_start_that_was_killed_the_store_can_be_opened(path: Path, attempt: int) -> None:
    with subprocess.Popen([sys.executable, "-c", WORK, str(path)], stdout=subprocess.DEVNULL) as worker:
        while not path.exists():
            assert worker.poll() is None
        worker.kill()
    store = await SqliteStore.open(path)
    assert await store.last_position() >= 0
    await store.close()
