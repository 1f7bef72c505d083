"""The store's side of an account's loop: what is read from the store and written to it, in one task at a time.

A turn of the loop starts that task and goes on; a disk that hangs holds up nothing else. Where the store fails,
everything waits for the next attempt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from watcher.core.errors import StoreUnusable
from watcher.core.model import MINUTE, Micros, Moment
from watcher.store import Store
from watcher.watch.attributor import Attributor
from watcher.watch.discovery_runner import DiscoveryRunner
from watcher.watch.ledger import Ledger
from watcher.watch.patience import Patience
from watcher.watch.ports import AccountObserver

STATS_EVERY: Micros = MINUTE
"""How often stats are written that moved without anything else."""


class Keeper:
    """Loads what is followed, takes in what intake changed, registers what was found, writes what was learned."""

    def __init__(
        self,
        account: str,
        store: Store,
        *,
        finder: DiscoveryRunner,
        attributor: Attributor,
        ledger: Ledger,
        patience: Patience,
        listener: AccountObserver,
        now: Callable[[], Moment],
    ) -> None:
        self._account = account
        self._store = store
        self._tracker = attributor.tracker
        self._finder = finder
        self._attributor = attributor
        self._ledger = ledger
        self._counters = ledger.counters
        self._patience = patience
        self._listener = listener
        self._now = now
        self._is_loaded = False
        self._revision = 0
        self._intake_due = True
        self._stats_due: Micros = now().tick + STATS_EVERY
        self._task: asyncio.Task[None] | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether everything that the store held of the account at the start is followed."""
        return self._is_loaded

    def intake_changed(self) -> None:
        """Intake registered or untracked something: it is taken in at the next turn."""
        self._intake_due = True

    def start(self, tasks: asyncio.TaskGroup, done: Callable[[], None]) -> None:
        """Start the task where there is something to do and none is at work; `done` is called at its end."""
        now = self._now()
        tick = now.tick
        stats_due = tick >= self._stats_due
        if self._task is not None or self._patience.wait():
            return
        is_idle = self._is_loaded and not self._intake_due and not len(self._ledger) and not self._finder.has_found
        has_key = self._is_loaded and self._attributor.key_to_adopt is not None
        if is_idle and not stats_due and not has_key and not self._counters.is_due(now):
            return
        if stats_due:
            self._stats_due = tick + STATS_EVERY

        def ended(_: asyncio.Task[None]) -> None:
            self._task = None
            done()

        self._task = tasks.create_task(self._turn(with_stats=stats_due), name=f"store {self._account}")
        self._task.add_done_callback(ended)

    async def rest(self) -> None:
        """Wait for the task that is at work, if one is."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def finish(self) -> None:
        """Write all that waits; the store may take its time, bounded by the daemon."""
        await self._ledger.flush(with_stats=True)
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
            self._patience.observer(exc)
            return
        if await self._ledger.flush(with_stats=with_stats):
            if self._patience.is_tried:  # it was reading that failed, and there was nothing to write
                self._patience.observer(None)
            self._listener.committed()

    async def _adopt_key(self) -> None:
        if (key := self._attributor.key_to_adopt) is not None:
            await self._store.adopt_key(self._account, key)
            self._attributor.adopted(key)

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
