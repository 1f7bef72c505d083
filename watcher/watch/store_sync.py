"""What an account's loop reads from the store and writes to it, in one task at a time.

A turn of the loop starts that task and goes on, so a disk that hangs delays nothing else. While the store fails,
everything waits for the next attempt, and the waits double.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from watcher.core.backoff import doubled
from watcher.core.errors import StoreUnusable
from watcher.core.model import MINUTE, SECOND, Micros, Moment
from watcher.store import Store
from watcher.watch.attributor import Attributor
from watcher.watch.counters import CounterSync
from watcher.watch.discovery_runner import DiscoveryRunner
from watcher.watch.ports import AccountObserver
from watcher.watch.write_buffer import WriteBuffer

STATS_EVERY: Micros = MINUTE
"""How often stats are written that changed without an event."""

RETRY: Micros = SECOND
RETRY_AT_MOST: Micros = 15 * SECOND


class StoreSync:
    """Loads the tracked operations, takes in what intake changed, registers what discovery found, writes the buffer."""

    def __init__(
        self,
        account: str,
        store: Store,
        *,
        buffer: WriteBuffer,
        counters: CounterSync,
        attributor: Attributor,
        finder: DiscoveryRunner,
        listener: AccountObserver,
        now: Callable[[], Moment],
    ) -> None:
        self._account = account
        self._store = store
        self._buffer = buffer
        self._counters = counters
        self._attributor = attributor
        self._tracker = attributor.tracker
        self._finder = finder
        self._listener = listener
        self._now = now
        self._is_loaded = False
        self._revision = 0
        self._intake_due = True
        self._stats_due: Micros = now().tick + STATS_EVERY
        self._failures = 0
        self._retry_tick: Micros = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether everything that the store held of the account at the start is tracked."""
        return self._is_loaded

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt failed."""
        return self._failures > 0

    def retry_wait(self) -> Micros:
        """The time until the next attempt after a failure; 0 if the store may be used now."""
        return max(self._retry_tick - self._now().tick, 0)

    def intake_changed(self) -> None:
        """Intake registered or untracked something: it is taken in at the next turn."""
        self._intake_due = True

    # ── the task ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, tasks: asyncio.TaskGroup, done: Callable[[], None]) -> None:
        """Start the task if there is something to do and none is running. `done` is called at its end."""
        if self._task is not None or self.retry_wait():
            return
        now = self._now()
        stats_due = now.tick >= self._stats_due
        if not stats_due and not self._has_work(now):
            return
        if stats_due:
            self._stats_due = now.tick + STATS_EVERY

        def ended(_: asyncio.Task[None]) -> None:
            self._task = None
            done()

        self._task = tasks.create_task(self._turn(with_stats=stats_due), name=f"store {self._account}")
        self._task.add_done_callback(ended)

    def _has_work(self, now: Moment) -> bool:
        return (
            not self._is_loaded
            or self._intake_due
            or len(self._buffer) > 0
            or self._finder.has_found
            or self._attributor.key_to_adopt is not None
            or self._counters.is_due(now)
        )

    async def rest(self) -> None:
        """Wait for the running task, if there is one."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def finish(self) -> None:
        """Write everything that is pending. The store may take its time, bounded by the daemon."""
        await self.flush(with_stats=True)
        self._listener.committed()

    async def _turn(self, *, with_stats: bool) -> None:
        try:
            if not self._is_loaded:
                await self._load()
            if self._finder.has_found:
                await self._finder.register(self._now())
                self._intake_due = True
            if self._intake_due:
                await self._take_in()
            if self._finder.has_found:
                for record, page in self._finder.rows():
                    self._tracker.learn_first(record, page)
                await self._finder.commit(self._now)
            await self._adopt_key()
            if self._counters.is_due(self._now()):
                await self._counters.sync(self._tracker.labels_in_use)
        except StoreUnusable as exc:
            self._note(exc)
            return
        if await self.flush(with_stats=with_stats):
            if self.is_failing:  # reading failed before, and nothing was pending that could show that writing works
                self._note(None)
            self._listener.committed()

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _load(self) -> None:
        following = self._tracker.following
        loaded = await self._store.load(self._account, final_since=self._now().at - following.retention.hold_at_most)
        self._revision = loaded.revision
        await self._counters.sync(self._tracker.labels_in_use)
        await self._tracker.follow(loaded.operations)
        self._attributor.begin(loaded.api_key)
        self._finder.begin(self._tracker.following.discovers, loaded.discovery, self._now())
        self._is_loaded = True

    async def _take_in(self) -> None:
        self._intake_due = False
        try:
            intake = await self._store.intake(self._account, self._revision)
        except StoreUnusable:
            self._intake_due = True
            raise
        self._revision = intake.revision
        if intake.shows_more:
            self._counters.invalidate()
        self._tracker.untrack(intake.untracked)
        await self._tracker.follow(intake.operations)
        self._listener.committed()

    async def _adopt_key(self) -> None:
        if (key := self._attributor.key_to_adopt) is not None:
            await self._store.adopt_key(self._account, key)
            self._attributor.adopted(key)

    # ── writing ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def flush(self, *, with_stats: bool = False) -> bool:
        """Write everything that is pending. Returns whether it is written; never raises for a store that fails."""
        buffer = self._buffer
        if with_stats:
            buffer.mark_stats_due()
        while batch := buffer.take():
            try:
                for operation_id in buffer.doubtful(batch):
                    batch[operation_id].remove_stored(await self._store.history(self._account, operation_id))
                changes = [pending.as_change() for pending in batch.values()]
                committed = await self._store.commit(self._account, changes)
            except StoreUnusable as exc:
                buffer.failed(batch)
                self._counters.invalidate()  # the commit may have taken effect
                self._note(exc)
                return False
            except BaseException:
                buffer.put_back(batch)
                raise
            buffer.written(batch)
            self._counters.committed(committed)
            self._note(None)
        return True

    def _note(self, cause: StoreUnusable | None) -> None:
        """Report that the store failed once more, or works (None)."""
        if cause is None:
            self._failures, self._retry_tick = 0, 0
        else:
            self._failures += 1
            self._retry_tick = self._now().tick + doubled(RETRY, self._failures - 1, at_most=RETRY_AT_MOST)
        self._listener.store_trouble(cause)
