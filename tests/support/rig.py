"""An account's loop on the simulated API in virtual time: the real parts but for socket and disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import httpx
import msgspec

from tests.support.rereading import at_once
from tests.support.virtual import virtual_clock
from watcher.api import BasicCredentials, Client, Gate
from watcher.clock import Clock
from watcher.core.account_health import AccountEvent
from watcher.core.attempt import Attempt
from watcher.core.census import Census, Retention, choose_shown
from watcher.core.errors import StoreUnusable
from watcher.core.governor import Governor, Share
from watcher.core.lifecycle import LifecycleRules
from watcher.core.model import SECOND, Micros, Source
from watcher.core.planner import Promise
from watcher.core.snapshot import AccountSnapshot
from watcher.simulator import Scenario, SimulatedTransport, Upstream
from watcher.store import Entry, Store, StoredEvent
from watcher.store.memory import MemoryStore
from watcher.watch import AccountWatch, WatchSettings

ACCOUNT = "main"
BASE_URL = "https://comms.example/v1"


@dataclass
class RecordingObserver:
    """An observer that records every call."""

    attempts: list[Attempt] = field(default_factory=list)
    health_by_account: list[AccountEvent] = field(default_factory=list)
    anomalies: list[str] = field(default_factory=list)
    delays: list[Micros] = field(default_factory=list)
    store_troubles: list[StoreUnusable | None] = field(default_factory=list)

    def attempted(self, account: str, attempt: Attempt) -> None:
        self.attempts.append(attempt)

    def health_changed(self, account: str, event: AccountEvent) -> None:
        self.health_by_account.append(event)

    def anomaly(self, account: str, kind: str) -> None:
        self.anomalies.append(kind)

    def detected(self, account: str, delay: Micros) -> None:
        self.delays.append(delay)

    def committed(self) -> None:
        pass

    def store_trouble(self, cause: StoreUnusable | None) -> None:
        self.store_troubles.append(cause)


@dataclass
class Rig:
    """A running loop and all that is around it."""

    clock: Clock
    true_clock: Clock
    upstream: Upstream
    store: Store
    observer: RecordingObserver
    watch: AccountWatch
    stop: asyncio.Event
    max_operations: int = 1000
    census: Census = field(default_factory=Census)

    def snapshot(self) -> AccountSnapshot:
        """The account as the daemon would show it."""
        candidates = self.watch.candidates()
        self.census, shown = choose_shown(self.census, candidates, self.clock.now(), self.max_operations)
        return self.watch.snapshot(shown, suppressed=len(candidates) - len(shown))

    async def track(self, ids: Sequence[str], labels: Mapping[str, str] | None = None) -> None:
        """Register as the API would."""
        entries = [
            Entry(account=ACCOUNT, id=operation_id, source=Source.API, labels=labels or {}) for operation_id in ids
        ]
        await self.store.register(entries, self.clock.now().at)
        self.watch.wake()

    async def untrack(self, operation_id: str) -> None:
        """Untrack as the API would."""
        await self.store.untrack(ACCOUNT, operation_id, self.clock.now().at, Source.API)
        self.watch.wake()

    async def until(self, holds: Callable[[], bool], *, within: float) -> None:
        """Let virtual time pass until a condition is true; fails after `within` virtual seconds."""
        async with asyncio.timeout(within):
            while not holds():  # noqa: ASYNC110 -- virtual time, and no event is set for a state
                await asyncio.sleep(0.25)

    async def events(self, operation_id: str | None = None) -> Sequence[StoredEvent]:
        """Everything committed, in order."""
        events = await self.store.pending_events(0, 10**6)
        return [event for event in events if operation_id in (None, event.operation_id)]


def loop_settings(
    *,
    freshness: float = 5.0,
    settle_after: Sequence[float] = (30.0, 120.0),
    grace: float = 120.0,
    retention: Retention | None = None,
    counter_labels: tuple[str, ...] = (),
) -> WatchSettings:
    """Settings of a loop, in seconds."""
    settle = tuple(round(wait * SECOND) for wait in settle_after)
    return WatchSettings(
        rules=LifecycleRules(settle_after=settle, not_found_grace=round(grace * SECOND)),
        promise=Promise(freshness=round(freshness * SECOND), settle_after=settle),
        retention=retention or Retention(),
        counter_labels=counter_labels,
    )


@contextlib.asynccontextmanager
async def running(
    scenario: Scenario,
    *,
    store: Store | None = None,
    upstream: Upstream | None = None,
    settings: WatchSettings | None = None,
    share: Share | None = None,
    secret: Callable[[], str] | None = None,
    request_timeout: float = 10.0,
    base_url: str = BASE_URL,
    api_key: str | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Rig]:
    """A loop that runs as long as the context lasts, and is then stopped with its last writes done.

    `clock` is the machine's, where that one is not to be right.
    """
    true_clock = virtual_clock()
    clock = clock or true_clock
    upstream = upstream or Upstream(scenario, true_clock.now().at)
    # By its key where one is given, whichever account that opens.
    account = next((one for one in scenario.accounts if api_key in (None, one.api_key)), scenario.accounts[0])
    user, own_secret = account.account_id, account.auth_token
    if api_key is not None:
        user, own_secret = api_key, account.api_key_secret or ""
    share = share or Share()
    gate = Gate(Governor(share, clock.now().tick), clock.now)
    observer = RecordingObserver()
    http = httpx.AsyncClient(
        transport=SimulatedTransport(upstream, lambda: true_clock.now().at),
        timeout=None,  # noqa: S113 -- the client has its own
        verify=False,
    )

    credentials = BasicCredentials(user, secret or (lambda: own_secret))

    def connect(on_attempt: Callable[[Attempt], None]) -> Client:
        return Client(
            http=http,
            base_url=base_url,
            credentials=credentials,
            reread=at_once(credentials),
            gate=gate,
            request_timeout=round(request_timeout * SECOND),
            now=clock.now,
            on_attempt=on_attempt,
        )

    store = store or MemoryStore()
    watch = AccountWatch(
        ACCOUNT,
        following=msgspec.structs.replace(settings or loop_settings(), api_key=api_key),
        store=store,
        connect=connect,
        gate=gate,
        now=clock.now,
        listener=observer,
    )
    stop = asyncio.Event()
    task = asyncio.create_task(watch.run(stop))
    max_operations = (settings or loop_settings()).retention.max_operations
    rig = Rig(
        clock=clock,
        true_clock=true_clock,
        upstream=upstream,
        store=store,
        observer=observer,
        watch=watch,
        stop=stop,
        max_operations=max_operations,
    )
    try:
        yield rig
    finally:
        stop.set()
        watch.wake()
        await task
        await http.aclose()
