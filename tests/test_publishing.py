"""Commit, then publish: in order, at least once, also when standard output or the store fails; in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from tests.support.failing import FailingStore
from tests.support.virtual import virtual_clock
from watcher.core.errors import StoreUnusable
from watcher.core.model import Instant, Source
from watcher.logs import EventLog, LineWriter
from watcher.publishing import BATCH, EventPublisher
from watcher.store import Entry, StoredEvent

START = 1000.0  # where virtual time begins


class PublishersStore(FailingStore):
    """Fails for the publisher too: every call, or only marking. Counts the reads."""

    marking_fails = False
    reads = 0

    async def pending_events(self, after: int, limit: int) -> Sequence[StoredEvent]:
        self.reads += 1
        self._check()
        return await super().pending_events(after, limit)

    async def mark_published(self, up_to: int, now: Instant) -> None:
        self._check()
        if self.marking_fails:
            message = "database is locked"
            raise StoreUnusable(message)
        await super().mark_published(up_to, now)


class Output:
    """A standard output that takes lines, refuses them or blocks."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.tries: list[float] = []
        self.is_broken = False
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def write(self, lines: Sequence[bytes]) -> None:
        self.tries.append(asyncio.get_running_loop().time() - START)
        if self.is_broken:
            raise BrokenPipeError
        await self.is_open.wait()
        self.lines += [json.loads(line) for line in lines]

    @property
    def ids(self) -> list[str]:
        return [line["event_id"] for line in self.lines]


class Publishing:
    """A publisher that runs, with its parts."""

    def __init__(self, store: PublishersStore) -> None:
        clock = virtual_clock()
        self.store = store
        self.output = Output()
        self.publisher = EventPublisher(store, EventLog(LineWriter(-1)), self.output.write, lambda: clock.now().at)
        self.number = 0

    async def commit(self, *names: str) -> list[str]:
        """Commit one event for each operation and wake the publisher; the ids of the events."""
        entries = [Entry(account="main", id=name, source=Source.API, labels={"n": name}) for name in names]
        await self.store.register(entries, 0)
        self.publisher.wake()
        return [(await self.store.history("main", name))[0].event_id for name in names]

    async def stopped(self, task: asyncio.Task[None]) -> None:
        self.publisher.stop()
        await task


@contextlib.asynccontextmanager
async def publishing(store: PublishersStore | None = None) -> AsyncIterator[Publishing]:
    one = Publishing(store or PublishersStore())
    await one.publisher.prepare()
    task = asyncio.create_task(one.publisher.run())
    try:
        yield one
    finally:
        one.output.is_open.set()
        await one.stopped(task)


@pytest.mark.virtual_time
async def test_committed_events_are_published_in_order_once_and_marked():
    async with publishing() as one:
        expected = await one.commit("a", "b")
        await asyncio.sleep(0.5)
        expected += await one.commit("c")
        await asyncio.sleep(10)
        assert one.output.ids == expected
        assert await one.store.count_pending() == 0
        reads = one.store.reads
        await asyncio.sleep(3600)
        assert one.store.reads == reads  # nothing happens, so nothing is read


@pytest.mark.virtual_time
async def test_a_line_names_the_event_the_account_and_the_operation():
    async with publishing() as one:
        await one.commit("a")
        await asyncio.sleep(1)
        line = one.output.lines[0]
    del line["timestamp"]
    assert line == {
        "level": "info",
        "event": "operation.tracked",
        "account": "main",
        "operation_id": "a",
        "labels": {"n": "a"},
        "event_id": line["event_id"],
        "seq": 1,
        "occurred_at": "1970-01-01T00:00:00.000Z",
        "replayed": False,
        "source": "api",
    }


@pytest.mark.virtual_time
async def test_more_events_than_a_batch_are_published_in_batches():
    async with publishing() as one:
        expected = await one.commit(*(f"op{number:05d}" for number in range(2 * BATCH + 1)))
        await asyncio.sleep(0.1)
        assert one.output.ids == expected
        assert len(one.output.tries) == 3


@pytest.mark.virtual_time
async def test_only_events_of_an_earlier_process_are_marked_as_replayed():
    store = PublishersStore()
    await store.register([Entry(account="main", id="before", source=Source.API)], 0)
    async with publishing(store) as one:
        await one.commit("after")
        await asyncio.sleep(1)
        assert [(line["operation_id"], line["replayed"]) for line in one.output.lines] == [
            ("before", True),
            ("after", False),
        ]
    async with publishing(store) as again:
        await again.commit("later")
        await asyncio.sleep(1)
        assert [(line["operation_id"], line["replayed"]) for line in again.output.lines] == [("later", False)]


@pytest.mark.virtual_time
async def test_events_stay_pending_while_the_output_is_blocked():
    async with publishing() as one:
        one.output.is_open.clear()
        expected = await one.commit("a")
        await asyncio.sleep(3600)
        expected += await one.commit("b")
        assert (one.output.ids, await one.store.count_pending()) == ([], 2)
        one.output.is_open.set()
        await asyncio.sleep(0.1)
        assert (one.output.ids, await one.store.count_pending()) == (expected, 0)


@pytest.mark.virtual_time
async def test_a_broken_output_is_tried_again_at_growing_intervals_and_nothing_is_lost():
    async with publishing() as one:
        one.output.is_broken = True
        expected = await one.commit("a")
        await asyncio.sleep(62)
        assert one.output.tries == [0, 1, 3, 7, 15, 30, 45, 60]
        one.output.is_broken = False
        await asyncio.sleep(15)
        assert (one.output.ids, await one.store.count_pending()) == (expected, 0)
        one.output.is_broken = True
        expected += await one.commit("b")
        await asyncio.sleep(0.1)
        assert one.output.tries[-1] == 77.0
        await asyncio.sleep(1)
        assert one.output.tries[-1] == 78.0


@pytest.mark.virtual_time
async def test_while_the_store_fails_nothing_is_published_and_afterwards_everything():
    async with publishing() as one:
        expected = await one.commit("a")
        await asyncio.sleep(0.1)
        expected += await one.commit("b")
        one.store.fails = True
        await asyncio.sleep(20)
        assert one.output.ids == expected[:1]
        one.store.fails = False
        await asyncio.sleep(15)
        assert (one.output.ids, await one.store.count_pending()) == (expected, 0)


@pytest.mark.virtual_time
async def test_events_are_not_published_again_while_they_cannot_be_marked():
    async with publishing() as one:
        one.store.marking_fails = True
        expected = await one.commit("a")
        await asyncio.sleep(60)
        assert (one.output.ids, await one.store.count_pending()) == (expected, 1)
        one.store.marking_fails = False
        await asyncio.sleep(2)
        assert (one.output.ids, await one.store.count_pending()) == (expected, 0)


@pytest.mark.virtual_time
async def test_events_that_could_not_be_marked_are_published_again_by_the_next_process_under_the_same_id():
    store = PublishersStore()
    store.marking_fails = True
    async with publishing(store) as one:
        expected = await one.commit("a")
        await asyncio.sleep(1)
    store.marking_fails = False
    async with publishing(store) as again:
        await asyncio.sleep(1)
    assert one.output.ids == again.output.ids == expected
    assert again.output.lines[0]["replayed"] is True


@pytest.mark.virtual_time
async def test_a_stop_publishes_all_pending_events():
    async with publishing() as one:
        await asyncio.sleep(1)
        expected = await one.commit(*(f"op{number:05d}" for number in range(BATCH + 1)))
    assert one.output.ids == expected
    assert await one.store.count_pending() == 0


@pytest.mark.virtual_time
async def test_a_stop_does_not_wait_for_an_output_that_stays_broken():
    async with publishing() as one:
        one.output.is_broken = True
        await one.commit("a")
        await asyncio.sleep(2)
        stopped_at = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() == stopped_at
    assert one.output.tries == [0, 1, 2]
    assert await one.store.count_pending() == 1
