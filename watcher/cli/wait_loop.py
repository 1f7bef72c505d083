"""The loop that `wait` runs: the daemon's own, over a memory store, until all operations have ended.

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
"""How often the state is checked without a signal: stats may change, and the time to give up may be reached."""

_FOREVER = timedelta(days=365)

Show = Callable[[Sequence[Operation]], None]


class WaitObserver:
    """Receives what the loop reports: whether the API can be reached, and that operations may have changed."""

    def __init__(self, tick: Callable[[], Micros]) -> None:
        self._tick = tick
        self.contact = Reachability()
        self.changed = asyncio.Event()

    def attempted(self, account: str, attempt: Attempt) -> None:  # noqa: ARG002 -- there is one account
        """One request to upstream was answered or failed."""
        self.contact = self.contact.after(attempt)
        self.changed.set()

    def committed(self) -> None:
        """The state of operations changed."""
        self.changed.set()

    def health_changed(self, account: str, event: AccountEvent) -> None:  # noqa: ARG002 -- as above
        """A health issue of the account as a whole began or ended."""
        self.contact = self.contact.after_event(event, self._tick())
        self.changed.set()

    def anomaly(self, account: str, kind: str) -> None:
        """Not counted by `wait`."""

    def detected(self, account: str, delay: Micros) -> None:
        """Not measured by `wait`."""

    def store_trouble(self, trouble: StoreUnusable | None) -> None:
        """Never called: a memory store cannot fail."""


class WaitLoop:
    """The operations of one account, tracked until `until_ended` returns."""

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
        """The present state of each operation, in the order of the ids."""
        return [self._operations[one] for one in self._ids]

    @property
    def why(self) -> str:
        """The last failure of the API, or that it has not answered yet."""
        return self._telemetry.contact.why or "no answer yet"

    async def until_ended(self, timeout: timedelta | None, show: Show) -> Stop:  # noqa: ASYNC109 -- an outcome, no error
        """Track to the end; call `show` whenever operations may have changed. Raises OperatorError."""
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
                # No state has to be stored, so the loop need not finish its turn.
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
    """Return the operator's settings, changed so that an end is final at once and no operation is hidden."""
    return replace(
        configuration,
        polling=replace(configuration.polling, settle_after=()),
        metrics=replace(
            configuration.metrics, hold=_FOREVER, hold_at_most=_FOREVER, max_operations=count, counter_labels=()
        ),
    )
