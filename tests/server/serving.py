"""The app with a store in memory, and real listeners, for one test."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
from starlette.types import ASGIApp

from tests.support.event_ids import numbered
from watcher.core.channels import Stats
from watcher.core.model import SECOND, Moment, Operation, Source, Status
from watcher.core.snapshot import AccountSnapshot, NextPoll
from watcher.intake import Intake
from watcher.server import AccessRules, AppContext, Listener, WebConfig, admin_app, web_app
from watcher.server.api.app_context import Exposition
from watcher.server.http.limits import Limits
from watcher.store.memory import MemoryStore

NOW = Moment(1_800_000_000 * SECOND, 500 * SECOND)
AN_ID = "comms_operation_01h9krwprkeee8fzqspvwy6nq8"


def an_id(number: int) -> str:
    return f"comms_operation_0{number:025d}"


def an_operation(**changes: Any) -> Operation:
    given: dict[str, Any] = {"account": "main", "id": AN_ID, "source": Source.API, "registered_at": NOW.at} | changes
    return Operation(**given)


def a_running_operation(**changes: Any) -> Operation:
    stats = Stats(total=100, recipients=90, sent=40, failed=5, queued=55, unaddressable=2)
    given = {"status": Status.PROCESSING, "stats": stats, "progressed_at": NOW.at - 3 * SECOND} | changes
    return an_operation(**given)


def a_snapshot(*operations: Operation, account: str = "main", **changes: Any) -> AccountSnapshot:
    return AccountSnapshot(account=account, taken=NOW, shown=operations, up=True, **changes)


class AppParts:
    """The parts that the daemon would give to the app, and what the app reported. A test changes each of them."""

    def __init__(self, *accounts: str, store: MemoryStore | None = None) -> None:
        self.accounts = list(accounts or ("main",))
        self.store = store or MemoryStore(numbered())
        self.snapshots: Sequence[AccountSnapshot] = ()
        self.exposition: bytes = b"up 1\n"
        self.exposition_headers: Mapping[str, str] = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        self.reasons: Sequence[str] = ()
        self.overdue: Sequence[str] = ()
        self.next_polls: dict[tuple[str, str], NextPoll] = {}
        self.metric_labels: Sequence[str] = ()
        self.woken: list[str] = []
        self.scraped: list[object] = []
        self.failures: list[Exception] = []
        self.now: Callable[[], Moment] = lambda: NOW
        self.requested_formats: list[tuple[str, str]] = []
        self.metrics: Callable[[str, str], Awaitable[Exposition]] = self._render
        self.reload: Callable[[], Awaitable[Sequence[str]]] = self._reload
        self.intake = Intake(self.store, lambda: self.accounts, self.woken.append, lambda: NOW.at)

    async def _render(self, accept: str, accept_encoding: str) -> Exposition:
        self.requested_formats.append((accept, accept_encoding))
        return self.exposition, self.exposition_headers, len(self.requested_formats)

    async def _reload(self) -> Sequence[str]:
        return self.reasons

    def app(self) -> AppContext:
        return AppContext(
            accounts=lambda: self.accounts,
            snapshots=lambda: self.snapshots,
            store=self.store,
            intake=self.intake,
            metrics=self.metrics,
            scraped=self.scraped.append,
            reload=self.reload,
            healthy=lambda: self.overdue,
            next_poll=lambda account, operation_id: self.next_polls.get((account, operation_id)),
            metric_labels=lambda: self.metric_labels,
            now=lambda: self.now(),  # noqa: PLW0108 -- a test may replace it later
            failed=self.failures.append,
            version="1.2.3",
        )

    def web(self, config: WebConfig | None = None) -> ASGIApp:
        return web_app(self.app(), config)

    def admin(self, **rules: Any) -> ASGIApp:
        return admin_app(self.app(), AccessRules(**rules))


@asynccontextmanager
async def listening(
    app: ASGIApp, listen: str = "127.0.0.1:0", config: WebConfig | None = None, **limits: Any
) -> AsyncIterator[Listener]:
    config = config or WebConfig()
    listener = Listener.bind(listen, app, setting="web.listen", limits=Limits(**limits), tls=lambda: config.tls)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(listener.serve())
        try:
            yield listener
        finally:
            listener.stop()


def plain_client(**given: Any) -> httpx.AsyncClient:
    """A client for plain HTTP. With verification it would read all certificate authorities, 20 ms of CPU each time."""
    return httpx.AsyncClient(trust_env=False, verify=False, **given)


@asynccontextmanager
async def client_of(app: ASGIApp, **limits: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        listening(app, **limits) as listener,
        plain_client(base_url=listener.addresses[0]) as client,
    ):
        yield client


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until the condition is true."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 -- what it waits for has no event
            await asyncio.sleep(0)
