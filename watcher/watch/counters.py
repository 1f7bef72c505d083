"""The counters of an account as they are shown, kept equal to the store's.

Each commit returns what it counted. Everything else (a combination that is newly shown, opens, or is retired) changes
in the store, and then all counters are read again. They are also read again after a failed write, which may have taken
effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from watcher.core.labelling import (
    LEAVES_AFTER,
    OPENS_AFTER,
    Combination,
    Counters,
    base_of,
    combination_in,
    combination_of,
    other_than,
)
from watcher.core.model import MINUTE, Micros, Moment
from watcher.core.totals import added_up, starting_totals
from watcher.store import Committed, Store

RETIRE_EVERY: Micros = 10 * MINUTE
"""The time between two searches for combinations that may be retired."""

SLICE = 1000
"""Operations that are searched before the event loop turns."""


class CounterSync:
    """The counters that are shown (`shown`), and the writes that keep the store's equal. Only `sync` waits for it."""

    def __init__(self, account: str, store: Store, names: Sequence[str], now: Callable[[], Moment]) -> None:
        self._account = account
        self._store = store
        self._now = now
        self._names = tuple(names)
        self.shown = Counters(names=self._names, totals=starting_totals(base_of(self._names)))
        self._is_adopted = False
        self._is_stale = True
        self._changed: dict[Combination, int] = {}
        """The version of `shown` in which the values of a combination last changed."""
        self._scraped_version = -1
        """The newest version that a completed scrape carried."""
        self._opens_at: dict[Combination, Micros] = {}
        """For each closed combination (shown, with its counts held back), the tick at which it opens unscraped."""
        self._retire_tick: Micros = now().tick + RETIRE_EVERY

    # ── changes ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def adopt(self, names: Sequence[str]) -> None:
        """Use the counter labels of a new configuration, in order."""
        if tuple(names) != self._names:
            self._names = tuple(names)
            self._is_adopted = False

    def invalidate(self) -> None:
        """Read all counters again at the next `sync`: the store may have counted more than is shown."""
        self._is_stale = True

    def committed(self, committed: Committed) -> None:
        """Add what a commit counted to what is shown."""
        self._is_stale |= committed.shows_more
        if committed.counted:
            self._replace(replace(self.shown, totals=added_up(self.shown.totals, committed.counted)), committed.counted)

    def scraped(self, carried: Counters) -> None:
        """Note that a completed scrape carried these counters; without effect where the counter labels have changed."""
        if carried.names == self._names:
            self._scraped_version = max(self._scraped_version, carried.version)

    # ── work in the store ─────────────────────────────────────────────────────────────────────────────────────────────

    def is_due(self, now: Moment) -> bool:
        """Whether `sync` has something to do."""
        return not self._is_adopted or self._is_stale or bool(self._opening(now)) or now.tick >= self._retire_tick

    def wake_tick(self) -> Micros:
        """When `sync` falls due by itself."""
        return min(self._opens_at.values(), default=self._retire_tick)

    async def sync(self, labels_in_use: Callable[[], Sequence[Mapping[str, str]]]) -> None:
        """Do what is due in the store. Raises StoreUnusable; what was not done stays due."""
        if not self._is_adopted:
            names = self._names
            await self._store.adopt_counter_labels(self._account, names, self._now().at)
            self._is_adopted = names == self._names  # another reload may have changed them during the await
            self._is_stale = True
        if opening := self._opening(self._now()):
            self._is_stale = True
            await self._store.open_combinations(self._account, opening)
        if self._now().tick >= self._retire_tick:
            await self._retire(labels_in_use)
        if self._is_stale:
            # Cleared before the read: an `invalidate` during the read must cause another one.
            self._is_stale = False
            try:
                counters = await self._store.counters(self._account)
            except BaseException:
                self._is_stale = True
                raise
            self._adopt_stored(counters)

    def _opening(self, now: Moment) -> list[Combination]:
        """The closed combinations whose values were scraped, or that waited `OPENS_AFTER` for a scrape."""
        return [
            combination
            for combination, tick in self._opens_at.items()
            if self._is_scraped(combination) or tick <= now.tick
        ]

    async def _retire(self, labels_in_use: Callable[[], Sequence[Mapping[str, str]]]) -> None:
        """Retire combinations that were idle for `LEAVES_AFTER` and whose last values were scraped."""
        now = self._now()
        names, before = self.shown.names, now.at - LEAVES_AFTER
        base = base_of(names)
        idle = {
            combination
            for combination, state in self.shown.combinations.items()
            if state.is_open and state.tracked_at < before and combination != base and self._is_scraped(combination)
        }
        in_use = labels_in_use() if idle else ()
        for start in range(0, len(in_use), SLICE):
            for labels in in_use[start : start + SLICE]:
                combination = combination_of(names, labels)
                idle.discard(combination)
                if combination not in self.shown.combinations:
                    idle.discard(other_than(combination))
            await asyncio.sleep(0)
        if idle:
            self._is_stale = True
            await self._store.retire_combinations(self._account, sorted(idle), tracked_before=before)
        self._retire_tick = now.tick + RETIRE_EVERY

    def _is_scraped(self, combination: Combination) -> bool:
        return self._changed.get(combination, 0) <= self._scraped_version

    def _adopt_stored(self, counters: Counters) -> None:
        before, now = self.shown, self._now()
        changed = {key: value for key, value in counters.totals.items() if before.totals.get(key) != value}
        closed = {combination: state for combination, state in counters.combinations.items() if not state.is_open}
        self._opens_at = {
            combination: self._opens_at[combination]
            if combination in self._opens_at and before.combinations[combination].shown_at == state.shown_at
            # After a restart, the rest of the wait. The clock may have been set back, so never more than all of it.
            else now.tick + min(max((state.shown_at or now.at) + OPENS_AFTER - now.at, 0), OPENS_AFTER)
            for combination, state in closed.items()
        }
        self._changed = {
            combination: version
            for combination, version in self._changed.items()
            if combination in counters.combinations
        }
        self._replace(counters, changed)

    def _replace(self, counters: Counters, changed: Mapping[tuple[str, ...], float]) -> None:
        version = self.shown.version + 1
        self.shown = replace(counters, version=version)
        self._changed |= dict.fromkeys(map(combination_in, changed), version)
