"""Small periodic jobs: pruning, measuring the store and the event loop, watching the clock, reading secrets again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from watcher.clock import Clock
from watcher.core.errors import StoreUnusable
from watcher.core.model import SECOND, Instant, Micros, micros
from watcher.metrics import Instruments
from watcher.store import Shown, Store

EVERY_SECONDS = 0.5
MEASURE_EVERY = 10
"""Turns between two measurements of the store."""

PRUNE_EVERY = 60
"""Turns between two prunings."""

LAG_OVER = 20
"""The number of last turns whose highest lag is shown."""

PRUNE_BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepTimes:
    """The settings that decide when finished operations leave the store. While they are shown, they stay."""

    keep: timedelta
    hold: timedelta
    hold_at_most: timedelta


class Housekeeping:
    """Runs beside the loops, and nothing waits for it. `jumped` is called with each jump of the wall clock."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        instruments: Instruments,
        keep: Callable[[], KeepTimes],
        jumped: Callable[[Micros], None],
        refresh_secrets: Callable[[], Awaitable[None]],
        beat: Callable[[], None],
        store_trouble: Callable[[StoreUnusable | None], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._instruments = instruments
        self._keep = keep
        self._jumped = jumped
        self._refresh_secrets = refresh_secrets
        self._beat = beat
        self._store_trouble = store_trouble
        self._store_duties: asyncio.Task[None] | None = None
        self._store_failed = False

    async def run(self) -> None:
        """Run until cancelled."""
        lags = [0.0] * LAG_OVER
        turn = 0
        async with asyncio.TaskGroup() as tasks:
            while True:
                before = self._clock.now().tick
                await asyncio.sleep(EVERY_SECONDS)
                lags[turn % LAG_OVER] = max((self._clock.now().tick - before) / SECOND - EVERY_SECONDS, 0.0)
                self._instruments.loop_lagged(max(lags))
                self._beat()
                if jump := self._clock.reanchor():
                    self._jumped(jump)
                if turn % MEASURE_EVERY == 0 and (self._store_duties is None or self._store_duties.done()):
                    prune = turn % PRUNE_EVERY == 0 or self._store_failed
                    self._store_duties = tasks.create_task(self._check_store(prune=prune))
                turn += 1

    def doubt_store(self) -> None:
        """Test writing from now on until it works: a write failed, and its caller may not write again soon."""
        self._store_failed = True

    async def _check_store(self, *, prune: bool) -> None:
        await self._refresh_secrets()
        try:
            self._instruments.measured(
                events_pending=await self._store.count_pending(), store_bytes=await self._store.size_bytes()
            )
            now = self._clock.now().at
            while prune and await self._prune(now):  # noqa: ASYNC110 -- there is no event to wait for
                # A pause between batches, so that the writes of the loops never wait long.
                await asyncio.sleep(0.01)
            if self._store_failed and prune:
                # On a full disk, reading works, and pruning works where there is nothing to delete.
                await self._store.touch()
                self._store_failed = False
                self._store_trouble(None)
        except StoreUnusable as exc:
            self._store_failed = True
            self._store_trouble(exc)

    async def _prune(self, now: Instant) -> int:
        kept = self._keep()
        shown = Shown(final_after=now - micros(kept.hold_at_most), scraped_after=now - micros(kept.hold))
        return await self._store.prune(now, keep_since=now - micros(kept.keep), limit=PRUNE_BATCH, shown=shown)
