"""A memory store that fails on request, as a full disk would."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from watcher.core.errors import StoreUnusable
from watcher.core.labelling import Combination, Counters
from watcher.core.model import Instant
from watcher.store import Change, Committed, Entry, IntakeChanges, LoadedAccount, Registration
from watcher.store.memory import MemoryStore


class FailingStore(MemoryStore):
    """Reads and writes raise StoreUnusable while `fails`."""

    fails = False

    def _check(self) -> None:
        if self.fails:
            message = "database or disk is full"
            raise StoreUnusable(message)

    async def load(self, account: str, *, final_since: Instant) -> LoadedAccount:
        self._check()
        return await super().load(account, final_since=final_since)

    async def touch(self) -> None:
        self._check()

    async def register(
        self, entries: Sequence[Entry], now: Instant, *, configured: Sequence[str] = ()
    ) -> Sequence[Registration]:
        self._check()
        return await super().register(entries, now, configured=configured)

    async def intake(self, account: str, since: int) -> IntakeChanges:
        self._check()
        return await super().intake(account, since)

    async def adopt_counter_labels(self, account: str, names: Sequence[str], now: Instant) -> None:
        self._check()
        await super().adopt_counter_labels(account, names, now)

    async def counters(self, account: str) -> Counters:
        self._check()
        return await super().counters(account)

    async def open_combinations(self, account: str, combinations: Collection[Combination]) -> None:
        self._check()
        await super().open_combinations(account, combinations)

    async def commit(self, account: str, changes: Sequence[Change], *, cursor: Instant | None = None) -> Committed:
        self._check()
        return await super().commit(account, changes, cursor=cursor)
