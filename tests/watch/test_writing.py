"""Changes wait until they are written: all of them, once and in order, also when the store fails meanwhile."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.factories import NOW, a_final_operation, a_running_operation, an_id, an_operation
from tests.support.failing import FailingStore
from tests.support.rig import RecordingObserver, loop_settings
from tests.support.stored import counted_in
from tests.support.virtual import run_virtually, virtual_clock
from watcher.api import Gate
from watcher.core.account_health import AccountHealth
from watcher.core.channels import Stats
from watcher.core.clocks import UpstreamClock
from watcher.core.errors import StoreUnusable
from watcher.core.governor import Governor, Share
from watcher.core.model import SECOND, Instant, Moved, Odd, Operation, Outcome, Source, Status, Tally
from watcher.store import Change, Committed, Entry
from watcher.watch.attributor import Attributor
from watcher.watch.counters import CounterSync
from watcher.watch.discovery_runner import DiscoveryRunner
from watcher.watch.store_sync import StoreSync
from watcher.watch.tracker import Tracker
from watcher.watch.write_buffer import BATCH, FULL, Pending, WriteBuffer


class SlowStore(FailingStore):
    """Writes take a second, and fail at their end."""

    batches: list[int]

    def __init__(self) -> None:
        super().__init__()
        self.batches = []

    async def commit(self, account: str, changes: Sequence[Change], *, cursor: Instant | None = None) -> Committed:
        await asyncio.sleep(1)
        self.batches.append(len(changes))
        return await super().commit(account, changes, cursor=cursor)


@dataclass
class Kept:
    """A buffer and its sync with a store in which some operations are tracked."""

    store: SlowStore = field(default_factory=SlowStore)
    observer: RecordingObserver = field(default_factory=RecordingObserver)

    def __post_init__(self) -> None:
        now, clock = virtual_clock().now, UpstreamClock()
        self.counters = CounterSync("main", self.store, (), now)
        self.buffer = WriteBuffer()
        tracker = Tracker("main", loop_settings(), buffer=self.buffer, listener=self.observer, now=now, clock=clock)
        gate = Gate(Governor(Share(per_second=5, concurrency=1), now().tick), now, lambda: 0.5)
        attributor = Attributor(tracker, gate, health=AccountHealth(), address="", now=now(), api_key=None)
        self.sync = StoreSync(
            "main",
            self.store,
            buffer=self.buffer,
            counters=self.counters,
            attributor=attributor,
            finder=DiscoveryRunner("main", self.store, clock=clock, odd=lambda: None, uses_lists=lambda: True),
            listener=self.observer,
            now=now,
        )

    async def track(self, count: int = 1) -> list[Operation]:
        ids = [an_id(number) for number in range(count)]
        await self.store.register(
            [Entry(account="main", id=operation_id, source=Source.API) for operation_id in ids], NOW
        )
        return [an_operation(id=operation_id) for operation_id in ids]

    @property
    def counted(self) -> dict[tuple[str, ...], float]:
        """The counters that are shown and not 0."""
        return {key: value for key, value in self.counters.shown.totals.items() if value}

    async def stored(self, operation_id: str) -> Operation:
        (found,) = await self.store.find(operation_id)
        return found.operation

    async def events(self) -> list[object]:
        """Every event but the first of each operation."""
        return [stored.event for stored in await self.store.pending_events(0, 10**6) if stored.seq > 1]


ODD, ODDER = Odd(kind="stale_answer"), Odd(kind="stats_fell")
TALLY = Tally(outcome=Outcome.COMPLETED)
COUNTED: dict[tuple[str, ...], float] = {("operations", "completed"): 1.0}


def test_pending_writes_of_an_earlier_registration_are_neither_published_nor_counted_for_the_new_one():
    async def live(*, fails: bool, with_stats: bool) -> tuple[dict[tuple[str, ...], float], list[object], Operation]:
        kept = Kept()
        (operation,) = await kept.track()
        kept.buffer.enter(a_final_operation(id=operation.id), [ODD], NOW, TALLY)
        writing = None
        if fails:  # the write is under way while the id is untracked and registered again
            kept.store.fails = True
            writing = asyncio.create_task(kept.sync.flush())
            await asyncio.sleep(0.5)
        kept.store.fails = False
        await kept.store.untrack("main", operation.id, NOW + 1, Source.API)
        await kept.store.register([Entry(account="main", id=operation.id, source=Source.API)], NOW + 2)
        kept.store.fails = fails
        again = a_running_operation(id=operation.id, registered_at=NOW + 2)
        if with_stats:
            kept.buffer.enter_stats(again)
        else:
            kept.buffer.enter(again, [ODDER], NOW + 3)
        if writing is not None:
            assert not await writing
        kept.store.fails = False
        assert await kept.sync.flush(with_stats=True)
        published: list[object] = [event for event in await kept.events() if event in (ODD, ODDER)]
        return kept.counted, published, await kept.stored(operation.id)

    for fails in (False, True):
        for with_stats in (False, True):
            counted, published, stored = run_virtually(live(fails=fails, with_stats=with_stats))
            assert (counted, published) == ({}, [] if with_stats else [ODDER])
            assert (stored.status, stored.final_at) == (Status.PROCESSING, None)


class FailsAfterCommit(SlowStore):
    """Commits that take effect and fail all the same."""

    is_to_fail = True

    async def commit(self, account: str, changes: Sequence[Change], *, cursor: Instant | None = None) -> Committed:
        committed = await super().commit(account, changes, cursor=cursor)
        if self.is_to_fail:
            message = "the disk does not read or write it"
            raise StoreUnusable(message)
        return committed


@pytest.mark.virtual_time
async def test_changes_that_a_failed_commit_stored_nevertheless_are_written_once():
    store = FailsAfterCommit()
    kept = Kept(store)
    running, ended = await kept.track(2)
    kept.buffer.enter(a_running_operation(id=running.id), [ODD], NOW)
    kept.buffer.enter(a_final_operation(id=ended.id), [ODDER], NOW, TALLY)
    assert not await kept.sync.flush()
    kept.buffer.enter(a_running_operation(id=running.id), [ODD, ODDER], NOW + 1)
    assert not await kept.sync.flush()
    kept.buffer.enter(a_running_operation(id=running.id, missed=1), [], NOW + 2)
    store.is_to_fail = False
    assert await kept.sync.flush()
    assert len(kept.buffer) == 0
    events = [(event.occurred_at, event.event) for event in await store.history("main", running.id)][1:]
    assert events == [(NOW, ODD), (NOW + 1, ODD), (NOW + 1, ODDER)]
    assert [event.event for event in await store.history("main", ended.id)][1:] == [ODDER]
    assert (await kept.stored(running.id)).missed == 1
    assert await counted_in(store, "main") == COUNTED


@pytest.mark.virtual_time
async def test_state_events_and_counters_are_written_together():
    kept = Kept()
    (operation,) = await kept.track()
    final = a_final_operation(id=operation.id)
    kept.buffer.enter(final, [ODD, ODDER], NOW + 5, TALLY)
    assert (len(kept.buffer), kept.buffer.has(final.id), kept.counted) == (1, True, {})
    assert await kept.sync.flush()
    assert (len(kept.buffer), kept.buffer.has(final.id)) == (0, False)
    assert (await kept.stored(final.id)).final_at == NOW
    assert await kept.events() == [ODD, ODDER]
    assert await counted_in(kept.store, "main") == kept.counted == COUNTED
    assert kept.observer.store_troubles == [None]


@pytest.mark.virtual_time
async def test_pending_changes_add_up_and_the_newest_state_wins():
    kept = Kept()
    (operation,) = await kept.track()
    kept.buffer.enter(a_running_operation(id=operation.id), [ODD], NOW)
    kept.buffer.enter(a_final_operation(id=operation.id), [ODDER], NOW, TALLY)
    assert await kept.sync.flush()
    assert kept.store.batches == [1]
    assert (await kept.stored(operation.id)).status is Status.COMPLETED
    assert await kept.events() == [ODD, ODDER]


@pytest.mark.virtual_time
async def test_stats_alone_are_written_on_request_or_together_with_other_changes():
    kept = Kept()
    one, two = await kept.track(2)
    kept.buffer.enter_stats(a_running_operation(id=one.id))
    assert (len(kept.buffer), kept.buffer.has(one.id)) == (0, True)
    assert await kept.sync.flush()
    assert (await kept.stored(one.id)).status is Status.UNSEEN
    assert await kept.sync.flush(with_stats=True)
    assert (await kept.stored(one.id)).status is Status.PROCESSING
    kept.buffer.enter(a_running_operation(id=two.id), [ODD], NOW)
    kept.buffer.enter_stats(a_running_operation(id=two.id, stats=Stats(sent=7)))
    assert await kept.sync.flush()
    assert (await kept.stored(two.id)).stats.sent == 7


@pytest.mark.virtual_time
async def test_pending_stats_are_dropped_when_a_newer_state_is_written():
    kept = Kept()
    (operation,) = await kept.track()
    kept.buffer.enter_stats(a_running_operation(id=operation.id, stats=Stats(sent=1)))
    kept.buffer.enter(a_running_operation(id=operation.id, stats=Stats(sent=2)), [ODD], NOW)
    assert await kept.sync.flush(with_stats=True)
    assert (await kept.stored(operation.id)).stats.sent == 2


@pytest.mark.virtual_time
async def test_many_changes_are_written_in_batches():
    kept = Kept()
    for operation in await kept.track(2 * BATCH + 1):
        kept.buffer.enter(operation, [ODD], NOW)
    assert await kept.sync.flush()
    assert kept.store.batches == [BATCH, BATCH, 1]
    assert kept.observer.store_troubles == [None] * 3


@pytest.mark.virtual_time
async def test_changes_that_could_not_be_written_stay_in_order_before_later_changes():
    kept = Kept()
    one, two, three = await kept.track(3)
    kept.store.fails = True
    kept.buffer.enter(a_running_operation(id=one.id), [ODD], NOW)
    kept.buffer.enter(a_running_operation(id=two.id), [ODD], NOW)
    writing = asyncio.create_task(kept.sync.flush())
    await asyncio.sleep(0.5)
    kept.buffer.enter(three, [ODD], NOW)
    kept.buffer.enter(a_final_operation(id=two.id), [ODDER], NOW, TALLY)
    assert not await writing
    assert [str(cause) for cause in kept.observer.store_troubles] == ["database or disk is full"]
    assert (len(kept.buffer), kept.counted) == (3, {})
    kept.store.fails = False
    assert await kept.sync.flush()
    assert kept.store.batches == [2, 3]
    published = [(event.operation_id, event.event) for event in await kept.store.pending_events(3, 10)]
    assert published == [(one.id, ODD), (two.id, ODD), (two.id, ODDER), (three.id, ODD)]
    assert (await kept.stored(two.id)).status is Status.COMPLETED
    assert kept.counted == COUNTED


@pytest.mark.virtual_time
async def test_stats_that_came_while_a_write_failed_are_not_forgotten():
    kept = Kept()
    (operation,) = await kept.track()
    kept.store.fails = True
    kept.buffer.enter(a_running_operation(id=operation.id, stats=Stats(sent=1)), [ODD], NOW)
    writing = asyncio.create_task(kept.sync.flush())
    await asyncio.sleep(0.5)
    kept.buffer.enter_stats(a_running_operation(id=operation.id, stats=Stats(sent=2)))
    assert not await writing
    kept.store.fails = False
    assert await kept.sync.flush(with_stats=True)
    assert (await kept.stored(operation.id)).stats.sent == 2


@pytest.mark.virtual_time
async def test_a_write_that_is_cancelled_is_put_back():
    kept = Kept()
    (operation,) = await kept.track()
    kept.buffer.enter(operation, [ODD], NOW)
    writing = asyncio.create_task(kept.sync.flush())
    await asyncio.sleep(0.5)
    assert len(kept.buffer) == 0
    writing.cancel()
    await asyncio.wait([writing])
    assert writing.cancelled()
    assert len(kept.buffer) == 1
    assert await kept.sync.flush()
    assert await kept.events() == [ODD]


@pytest.mark.virtual_time
async def test_an_untracked_operation_is_neither_written_nor_counted():
    kept = Kept()
    one, two = await kept.track(2)
    kept.buffer.enter(one, [ODD], NOW)
    kept.buffer.enter_stats(two)
    kept.buffer.drop(one.id)
    kept.buffer.drop(two.id)
    assert not kept.buffer.has(one.id)
    assert not kept.buffer.has(two.id)
    kept.buffer.enter(a_final_operation(id=one.id), [ODD], NOW, TALLY)
    await kept.store.untrack("main", one.id, NOW, Source.API)
    assert await kept.sync.flush(with_stats=True)
    assert kept.counted == await counted_in(kept.store, "main") == {}


def test_a_buffer_with_too_many_pending_changes_is_full():
    buffer = WriteBuffer()
    moved = Moved(from_status=None, to_status=Status.PROCESSING, stats=Stats(), updated_at=None, delay_seconds=None)
    for number in range(FULL):
        assert not buffer.is_full
        buffer.enter(an_operation(id=an_id(number)), [moved], NOW)
    assert buffer.is_full


@pytest.mark.virtual_time
async def test_the_waits_before_the_next_attempt_double_up_to_a_quarter_of_a_minute():
    kept = Kept()
    (operation,) = await kept.track()
    kept.buffer.enter(operation, [ODD], NOW)
    kept.store.fails = True
    waits = []
    for _ in range(6):
        assert not await kept.sync.flush()
        waits.append(kept.sync.retry_wait() // SECOND)
    assert (waits, kept.sync.is_failing) == ([1, 2, 4, 8, 15, 15], True)
    kept.store.fails = False
    assert await kept.sync.flush()
    assert (kept.sync.retry_wait(), kept.sync.is_failing) == (0, False)


operations = st.sampled_from([an_id(number) for number in range(3)])
steps = st.lists(st.tuples(st.sampled_from(["enter", "stats", "take", "fail", "write"]), operations), max_size=40)


@given(steps)
def test_every_event_leaves_the_buffer_once_and_in_order_whatever_fails(taken: list[tuple[str, str]]):
    buffer, batch = WriteBuffer(), dict[str, Pending]()
    written: defaultdict[str, list[int]] = defaultdict(list)
    entered: defaultdict[str, list[int]] = defaultdict(list)
    rest = [(step, "") for step in ("write", "take", "write", "take", "write")]
    for number, (step, operation_id) in enumerate([*taken, *rest]):
        match step:
            case "enter":
                buffer.enter(an_operation(id=operation_id, missed=number), [ODD], number)
                entered[operation_id].append(number)
            case "stats":
                buffer.enter_stats(an_operation(id=operation_id, missed=number))
            case "take" if not batch:
                batch = buffer.take()
            case "fail":
                buffer.failed(batch)
                batch = {}
            case "write":
                buffer.written(batch)
                for key, pending in batch.items():
                    written[key] += [at for at, _ in pending.events]
                batch = {}
    assert (written, len(buffer)) == (entered, 0)
