"""The loop that `wait` runs: the daemon's own, over a store that forgets, until all operations have ended.

An end counts as soon as it is learned: there is no settling, so stats that upstream corrects afterwards are not seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta

from msgspec.structs import replace

from watcher.cli.configured import read_in_time
from watcher.cli.reachability import Reachability
from watcher.cli.verdict import Stop
from watcher.clock import Clock
from watcher.config import LoadedConfiguration
from watcher.core.account_health import AccountEvent
from watcher.core.attempt import Attempt
from watcher.core.errors import StoreUnusable
from watcher.core.model import Micros, Operation, Source, created_hint
from watcher.core.settings import Account, Configuration
from watcher.daemon.accounts import build_watch, open_upstream
from watcher.store import Entry
from watcher.store.memory import MemoryStore
from watcher.threads import Threads
from watcher.watch import AccountWatch

CHECK_EVERY_SECONDS = 0.5
"""Stats move without anybody saying so, and so does the patience with an API that does not answer."""

_FOREVER = timedelta(days=365)

Show = Callable[[Sequence[Operation]], None]


class WaitObserver:
    """Hears what the loop tells: how the contact is, and that something may have changed."""

    def __init__(self, tick: Callable[[], Micros]) -> None:
        self._tick = tick
        self.contact = Reachability()
        self.changed = asyncio.Event()

    def attempted(self, account: str, attempt: Attempt) -> None:  # noqa: ARG002 -- there is one account
        """One attempt at upstream ended."""
        self.contact = self.contact.after(attempt)
        self.changed.set()

    def committed(self) -> None:
        """The state of operations changed."""
        self.changed.set()

    def health_changed(self, account: str, event: AccountEvent) -> None:  # noqa: ARG002 -- as above
        """A trouble of the account as a whole began or ended."""
        self.contact = self.contact.after_event(event, self._tick())
        self.changed.set()

    def anomaly(self, account: str, kind: str) -> None:
        """Nobody counts here."""

    def detected(self, account: str, delay: Micros) -> None:
        """Nobody counts here."""

    def store_trouble(self, trouble: StoreUnusable | None) -> None:
        """Memory has none."""


class WaitLoop:
    """The operations of one account, followed until `until_ended` returns."""

    def __init__(self, loaded: LoadedConfiguration, account: Account, ids: Sequence[str], clock: Clock) -> None:
        self._configuration = _settings(loaded.configuration, len(ids))
        self._account = account
        self._upstream = read_in_time(
            "the secret or the certificates of the account were",
            lambda: open_upstream(account, loaded.secrets[account.name], Threads("secrets")),
        )
        self._ids = ids
        self._clock = clock
        self._operations: dict[str, Operation] = {}
        self._telemetry = WaitObserver(lambda: clock.now().tick)

    @property
    def operations(self) -> list[Operation]:
        """What is known of each, in the order of the ids."""
        return [self._operations[one] for one in self._ids]

    @property
    def why(self) -> str:
        """What is known of the trouble with the API, if there is one."""
        return self._telemetry.contact.why or "no answer yet"

    async def until_ended(self, timeout: timedelta | None, show: Show) -> Stop:  # noqa: ASYNC109 -- an outcome, no error
        """Follow; `show` hears of the operations whenever they may have changed. Raises OperatorError."""
        upstream = self._upstream
        async with upstream.http:
            store = MemoryStore()
            watched = build_watch(
                upstream, configuration=self._configuration, store=store, now=self._clock.now, listener=self._telemetry
            )
            await self._register(store)
            async with asyncio.TaskGroup() as tasks:
                loop = tasks.create_task(watched.watch.run(asyncio.Event()), name=f"watch {self._account.name}")
                try:
                    async with asyncio.timeout(None if timeout is None else timeout.total_seconds()):
                        stop = await self._watch(watched.watch, show)
                except TimeoutError:
                    self._take(watched.watch)
                    stop = self._telemetry.contact.at_timeout()
                # Nothing is to be kept, so nothing is waited for.
                loop.cancel()
        show(self.operations)
        return stop

    async def _register(self, store: MemoryStore) -> None:
        now = self._clock.now().at
        entries = [
            Entry(account=self._account.name, id=one, source=Source.API, created_at=created_hint(one, now))
            for one in self._ids
        ]
        await store.register(entries, now)
        self._operations = {
            one: Operation(account=self._account.name, id=one, source=Source.API, registered_at=now)
            for one in self._ids
        }

    async def _watch(self, watch: AccountWatch, show: Show) -> Stop:
        while True:
            self._telemetry.changed.clear()
            self._take(watch)
            show(self.operations)
            if all(operation.outcome is not None for operation in self._operations.values()):
                return Stop.ALL_ENDED
            lost = self._telemetry.contact.lost(self._clock.now().tick)
            if lost is not None:
                return lost
            try:
                async with asyncio.timeout(CHECK_EVERY_SECONDS):
                    await self._telemetry.changed.wait()
            except TimeoutError:
                continue

    def _take(self, watch: AccountWatch) -> None:
        self._operations.update((operation.id, operation) for operation in watch.candidates())


def _settings(configuration: Configuration, count: int) -> Configuration:
    """The operator's settings, but an end is final at once and everything stays in sight."""
    return replace(
        configuration,
        polling=replace(configuration.polling, settle_after=()),
        metrics=replace(
            configuration.metrics, hold=_FOREVER, hold_at_most=_FOREVER, max_operations=count, counter_labels=()
        ),
    )
