"""What is compared: the daemon's own scrape, and the same series through prometheus-client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from operator import attrgetter
from typing import cast

import httpx
import msgspec
from prometheus_client import CollectorRegistry, Gauge, Metric, generate_latest
from prometheus_client.registry import Collector

from watcher.api import BasicCredentials, Client, Gate
from watcher.clock import Clock
from watcher.core.census import Retention
from watcher.core.channels import PUSH, STATES, Stats
from watcher.core.governor import Governor, Share
from watcher.core.lifecycle import LifecycleRules
from watcher.core.model import SECOND, Instant, Moment, Operation, Source, Status
from watcher.core.planner import Promise
from watcher.core.settings import Account
from watcher.core.snapshot import AccountSnapshot
from watcher.daemon.account_loops import AccountLoops
from watcher.daemon.accounts import AccountRuntime
from watcher.metrics import Exposition, Instruments
from watcher.metrics.census import COUNTS, INFO, INSTANTS, MESSAGES, PER_OPERATION, STATUS, CensusCollector
from watcher.store import LoadedAccount
from watcher.store.memory import MemoryStore
from watcher.watch import AccountObserver, AccountWatch, WatchSettings
from watcher.watch.tracker import SLICE

ACCOUNT = "main"
LABELS = ("campaign",)


def an_operation(number: int, now: Instant) -> Operation:
    """One of many that run, with every value that such a one has: 13 series. Upstream's instants are whole seconds."""
    created = now - 3600 * SECOND + number // 10 * SECOND
    return Operation(
        account=ACCOUNT,
        id=f"comms_operation_0{number * 7919 % 10**9:025d}",
        source=Source.API,
        registered_at=created,
        labels={"campaign": f"campaign {number % 50}"},
        status=Status.PROCESSING,
        stats=Stats(
            total=5000,
            recipients=4000,
            unaddressable=3,
            scheduled=0,
            queued=4000,
            sent=number % 1000,
            failed=0,
            canceled=0,
        ),
        created_at=created,
        updated_at=created + 60 * SECOND,
        progressed_at=created + 61 * SECOND,
    )


def changed(operation: Operation, seen_at: Instant) -> Operation:
    """The operation after a poll that showed more sent."""
    sent = (operation.stats.sent or 0) + 1
    return operation.with_(
        stats=msgspec.structs.replace(operation.stats, sent=sent, queued=5000 - sent),
        updated_at=(operation.updated_at or 0) + 5 * SECOND,
        progressed_at=seen_at,
    )


# ── ours ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Full(MemoryStore):
    """A store in which operations were followed before."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        super().__init__()
        self._operations = operations

    async def load(self, account: str, *, final_since: Instant) -> LoadedAccount:
        loaded = await super().load(account, final_since=final_since)
        return msgspec.structs.replace(loaded, operations=self._operations)


class _Silent:
    """A client whose questions stay without an answer."""

    async def fetch(self, _: str) -> None:
        await asyncio.Event().wait()

    async def page(self, _: object) -> None:
        await asyncio.Event().wait()


class _Deaf:
    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_: None


class Ours:
    """The daemon's parts that take part in a scrape: an account's loop, all loops, the exposition."""

    def __init__(self, loops: AccountLoops, watch: AccountWatch, exposition: Exposition) -> None:
        self.loops = loops
        self.exposition = exposition
        self._watch = watch

    def change(self, share: float) -> None:
        """As if answers had shown every operation, and that this share of them moved on."""
        held = self._watch._tracker.operations  # noqa: SLF001 -- answers of upstream would cost more than the scrape
        every = list(held)
        moved = round(share * len(every))
        now = self._watch.now().at
        for number, operation in enumerate(every):
            polled = operation.with_(asked_tick=operation.asked_tick + 1)
            # Rows of a page are taken in slices, each in an instant.
            held.put(changed(polled, now + number // SLICE * 1000) if number < moved else polled)


@asynccontextmanager
async def ours(operations: Sequence[Operation], max_operations: int) -> AsyncIterator[Ours]:
    """A running loop that holds the operations."""
    clock = Clock()
    gate = Gate(Governor(Share(), clock.now().tick), clock.now)
    retention = Retention(max_operations=max_operations)
    watch = AccountWatch(
        ACCOUNT,
        following=WatchSettings(rules=LifecycleRules(), promise=Promise(), retention=retention),
        store=_Full(operations),
        connect=lambda _: cast("Client", _Silent()),
        gate=gate,
        now=clock.now,
        listener=cast("AccountObserver", _Deaf()),
    )
    instruments = Instruments()
    instruments.open_account(ACCOUNT)
    loops = AccountLoops(lambda: max_operations)
    exposition = Exposition(instruments.registry, loops.snapshots)
    exposition.labels = LABELS
    async with asyncio.TaskGroup() as tasks, httpx.AsyncClient() as http:
        credentials = BasicCredentials(ACCOUNT, lambda: "")
        settings = Account(name=ACCOUNT)
        loops.start(AccountRuntime(settings=settings, watch=watch, credentials=credentials, http=http), tasks)
        while watch.unfinished < len(operations):  # noqa: ASYNC110 -- no event is set for it
            await asyncio.sleep(0.01)
        yield Ours(loops, watch, exposition)
        await loops.stop([ACCOUNT])


# ── prometheus-client ─────────────────────────────────────────────────────────────────────────────────────────────────


class _Collector(Collector):
    """What a custom collector makes of the operations at each scrape."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        snapshot = AccountSnapshot(account=ACCOUNT, taken=Moment(0, 0), shown=operations)
        self._census = CensusCollector([snapshot], labels=LABELS)

    def collect(self) -> Iterator[Metric]:
        return self._census.operations()


def by_collector(operations: Sequence[Operation]) -> Callable[[], bytes]:
    """Scrapes by prometheus-client out of a custom collector."""
    collector = _Collector(operations)
    return lambda: generate_latest(collector)


def by_gauges(operations: Sequence[Operation]) -> Callable[[], bytes]:
    """Scrapes by prometheus-client out of gauges with labels that are set already."""
    registry = CollectorRegistry()
    who = PER_OPERATION
    states = Gauge(*MESSAGES, (*who, "state"), registry=registry)
    plain = [(Gauge(name, text, who, registry=registry), attrgetter(path), 1) for name, text, path in COUNTS]
    plain += [(Gauge(name, text, who, registry=registry), attrgetter(path), SECOND) for name, text, path in INSTANTS]
    status = Gauge(*STATUS, (*who, "status"), registry=registry)
    info = Gauge(*INFO, (*who, *LABELS), registry=registry)
    for operation in operations:
        key = (operation.account, PUSH.name, operation.id)
        for state in STATES:
            states.labels(*key, state).set(getattr(operation.stats, state))
        for gauge, read, unit in plain:
            if (value := read(operation)) is not None:
                gauge.labels(*key).set(value / unit)
        status.labels(*key, operation.status.value).set(1)
        info.labels(*key, *(operation.labels[name] for name in LABELS)).set(1)
    return lambda: generate_latest(registry)
