"""The small parts of the daemon, each alone: telemetry, housekeeping, account loops, watchdog, parts of an account."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from tests.support.factories import NOW, a_final_operation, a_timing, an_id
from tests.support.failing import FailingStore
from tests.support.virtual import virtual_clock
from watcher.config import EnvironmentSecret, FileSecret, Secret, SecretSource
from watcher.core.account_health import Began, HealthIssue
from watcher.core.attempt import Attempt
from watcher.core.errors import OperatorError, StoreUnusable
from watcher.core.governor import AttemptResult
from watcher.core.model import DAY, MINUTE, SECOND, Instant, Source
from watcher.core.requests import Endpoint
from watcher.core.settings import Account
from watcher.daemon import accounts
from watcher.daemon.account_loops import AccountLoops
from watcher.daemon.accounts import identities, open_upstream
from watcher.daemon.housekeeping import PRUNE_BATCH, Housekeeping, KeepTimes
from watcher.daemon.loop_exceptions import LoopExceptionHandler
from watcher.daemon.telemetry import Telemetry
from watcher.daemon.watchdog import Watchdog
from watcher.logs import EventLog, LineWriter
from watcher.metrics import Instruments
from watcher.publishing import EventPublisher
from watcher.store import Change, Entry, Shown
from watcher.store.memory import MemoryStore
from watcher.threads import Threads


def value(instruments: Instruments, name: str, **labels: str) -> float | None:
    """One sample, also where the series has the channel."""
    found = instruments.registry.get_sample_value(name, labels)
    return instruments.registry.get_sample_value(name, labels | {"channel": "push"}) if found is None else found


# ── telemetry ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Remembering(LineWriter):
    """Keeps the names of what is dropped in."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.lines: list[bytes] = []

    def drop_in(self, line: bytes) -> None:
        self.lines.append(line)

    def count(self, word: str) -> int:
        return sum(f'"event":"{word}"'.encode() in line for line in self.lines)


async def test_telemetry_counts_everything_and_publishes_only_changes():
    writer, instruments = Remembering(), Instruments()
    instruments.open_account("main")
    log = EventLog(writer, level="debug")
    store = MemoryStore()
    publisher = EventPublisher(store, log, writer.write, lambda: 0)
    telemetry = Telemetry(instruments, log, publisher)
    attempt = Attempt(
        endpoint=Endpoint.LIST,
        code="429",
        result=AttemptResult.THROTTLED,
        timing=a_timing(latency=0.5),
        why="HTTP 429",
    )
    telemetry.attempted("main", attempt)
    telemetry.health_changed("main", Began(issue=HealthIssue.THROTTLED, why="HTTP 429"))
    telemetry.anomaly("main", "stale_answer")
    telemetry.detected("main", 2 * SECOND)
    telemetry.store_trouble(None)
    for _ in range(3):
        telemetry.store_trouble(StoreUnusable("the disk is full"))
    usable = value(instruments, "operation_watcher_store_usable")
    for _ in range(3):
        telemetry.store_trouble(None)
    telemetry.committed()
    assert [writer.count(word) for word in ("api.attempted", "account.throttled")] == [1, 1]
    assert [writer.count(word) for word in ("store.unusable", "store.recovered")] == [1, 1]
    assert b'"reason":"the disk is full"' in next(line for line in writer.lines if b"store.unusable" in line)
    assert (usable, value(instruments, "operation_watcher_store_usable")) == (0, 1)
    assert value(instruments, "operation_watcher_store_errors_total") == 3
    labels = {"account": "main", "endpoint": "list"}
    assert value(instruments, "operation_watcher_api_requests_total", code="429", **labels) == 1
    assert value(instruments, "operation_watcher_api_request_duration_seconds_sum", **labels) == 0.5
    assert value(instruments, "operation_watcher_anomalies_total", account="main", kind="stale_answer") == 1
    assert value(instruments, "operation_watcher_detection_delay_seconds_sum", account="main") == 2


async def test_a_thousand_equal_errors_of_the_event_loop_are_one_line_a_minute():
    writer, ticks = Remembering(), [0]
    handler = LoopExceptionHandler(EventLog(writer), lambda: ticks[0])
    loop = asyncio.get_running_loop()
    with handler.handled():
        for ticks[0] in (1, 2, MINUTE, MINUTE + 1):
            for _ in range(1000):
                loop.call_exception_handler({"message": "no room", "exception": OSError(24, "too many open files")})
            loop.call_exception_handler({"message": "a bug", "exception": ValueError("7")})
            loop.call_exception_handler({"message": "an oddity"})
    assert (writer.count("loop.troubled"), writer.count("loop.failed")) == (2, 4)
    assert b'"reason":"no room: [Errno 24] too many open files"' in writer.lines[0]
    assert b"ValueError: 7" in writer.lines[1]
    assert loop.get_exception_handler() is None


# ── housekeeping ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Kept(FailingStore):
    """Counts and prunes fail on demand, each by itself."""

    pruning_fails = False
    touching_fails = False

    def __init__(self) -> None:
        super().__init__()
        self.pruned_at: list[float] = []

    async def count_pending(self) -> int:
        self._check()
        return await super().count_pending()

    async def touch(self) -> None:
        if self.touching_fails:
            message = "database or disk is full"
            raise StoreUnusable(message)
        await super().touch()

    async def prune(self, now: Instant, *, keep_since: Instant, limit: int, shown: Shown | None = None) -> int:
        if self.pruning_fails:
            message = "database or disk is full"
            raise StoreUnusable(message)
        assert limit == PRUNE_BATCH
        self.pruned_at.append(asyncio.get_running_loop().time() - 1000)
        return await super().prune(now, keep_since=keep_since, limit=limit, shown=shown)


class House:
    """Housekeeping in virtual time, and what it did."""

    def __init__(self) -> None:
        self.store = Kept()
        self.instruments = Instruments()
        self.jumps: list[int] = []
        self.issues: list[str] = []
        self.refreshed = self.beats = 0
        self.hold_at_most = timedelta(days=1)
        self.clock = virtual_clock()
        self.keeping = Housekeeping(
            store=self.store,
            clock=self.clock,
            instruments=self.instruments,
            keep=lambda: KeepTimes(keep=timedelta(hours=1), hold=timedelta(minutes=10), hold_at_most=self.hold_at_most),
            jumped=self.jumps.append,
            refresh_secrets=self._refresh,
            beat=self._beat,
            store_trouble=lambda issue: self.issues.append("recovered" if issue is None else str(issue)),
        )

    async def _refresh(self) -> None:
        self.refreshed += 1

    def _beat(self) -> None:
        self.beats += 1


@contextlib.asynccontextmanager
async def house() -> AsyncIterator[House]:
    one = House()
    task = asyncio.create_task(one.keeping.run())
    try:
        yield one
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.virtual_time
async def test_the_store_is_measured_every_five_seconds_and_secrets_are_read_again():
    async with house() as one:
        await one.store.register([Entry(account="main", id=an_id(1), source=Source.API)], NOW)
        await asyncio.sleep(0.6)
        assert value(one.instruments, "operation_watcher_events_pending") == 1
        await one.store.mark_published(1, NOW)
        await asyncio.sleep(5)
        assert value(one.instruments, "operation_watcher_events_pending") == 0
        assert (one.refreshed, one.beats) == (2, 11)
        assert value(one.instruments, "operation_watcher_event_loop_lag_seconds") == 0


@pytest.mark.virtual_time
async def test_what_is_older_than_is_kept_is_dropped_in_batches_every_half_minute():
    async with house() as one:
        ids = [an_id(number) for number in range(PRUNE_BATCH)]
        long_ago = one.clock.now().at - 2 * DAY
        await one.store.register([Entry(account="main", id=one, source=Source.API) for one in ids], long_ago)
        changes = [
            Change(operation=a_final_operation(id=one, registered_at=long_ago, final_at=long_ago)) for one in ids
        ]
        await one.store.commit("main", changes)
        await one.store.mark_published(PRUNE_BATCH, long_ago)
        await asyncio.sleep(0.7)
        assert await one.store.find(ids[0]) == ()
        assert await one.store.history("main", ids[0]) == ()
        assert len(one.store.pruned_at) == 3
        await asyncio.sleep(30)
        assert one.store.pruned_at[3:] == [30.5]


@pytest.mark.virtual_time
async def test_what_is_to_be_shown_longer_than_is_kept_stays_until_then():
    async with house() as one:
        one.hold_at_most = timedelta(days=3)
        before = one.clock.now().at - 2 * DAY
        scraped = {an_id(1): None, an_id(2): before}
        entries = [Entry(account="main", id=name, source=Source.API) for name in scraped]
        await one.store.register(entries, before)
        changes = [
            Change(operation=a_final_operation(id=name, registered_at=before, final_at=before, scraped_at=at))
            for name, at in scraped.items()
        ]
        await one.store.commit("main", changes)
        await one.store.mark_published(2, before)
        await asyncio.sleep(0.7)
        assert [len(await one.store.find(name)) for name in scraped] == [1, 0]
        one.hold_at_most = timedelta(days=2)
        await asyncio.sleep(30)
        assert await one.store.find(an_id(1)) == ()


@pytest.mark.virtual_time
async def test_a_store_that_fails_only_in_housekeeping_is_reported_and_recovers_once_a_whole_round_works():
    async with house() as one:
        await asyncio.sleep(1)
        one.store.fails = True
        await asyncio.sleep(10)
        assert one.issues == ["database or disk is full"] * 2
        one.store.fails = False
        one.store.pruning_fails = True
        await asyncio.sleep(10)
        assert one.issues == ["database or disk is full"] * 4
        one.store.pruning_fails = False
        await asyncio.sleep(5)
        assert one.issues[4:] == ["recovered"]
        await asyncio.sleep(60)
        assert one.issues[5:] == []


@pytest.mark.virtual_time
async def test_a_store_that_could_not_be_written_is_tried_every_five_seconds_until_writing_works():
    async with house() as one:
        await asyncio.sleep(1)
        one.store.touching_fails = True
        one.keeping.doubt_store()
        await asyncio.sleep(10)
        assert one.issues == ["database or disk is full"] * 2
        one.store.touching_fails = False
        await asyncio.sleep(5)
        assert one.issues[2:] == ["recovered"]


# ── account loops and watchdog ────────────────────────────────────────────────────────────────────────────────────────


async def test_without_accounts_the_loops_answer_nevertheless():
    loops = AccountLoops(lambda: 10)
    loops.wake("gone")
    loops.scraped(loops.snapshots())
    await loops.stop(())
    await loops.refresh_secrets()
    assert (loops.names, loops.unfinished, loops.overdue(), loops.snapshots()) == ((), 0, [], [])
    assert loops.next_poll("gone", an_id(1)) is None


class Watched:
    """A watchdog over a clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.ended: list[int] = []
        self.dumps = 0
        self.dog = Watchdog(self.ended.append, lambda: self.seconds, self._dump)

    def _dump(self) -> None:
        self.dumps += 1

    def later(self, seconds: float) -> tuple[int, list[int]]:
        self.seconds += seconds
        self.dog.check()
        return self.dumps, self.ended


def test_a_loop_that_is_blocked_is_shown_once_and_ends_the_process_after_a_minute(capsys: pytest.CaptureFixture[str]):
    one = Watched()
    assert one.later(9.9) == (0, [])
    assert one.later(0.2) == (1, [])
    assert one.later(40) == (1, [])
    assert capsys.readouterr().err == "watcher: the event loop has been blocked for 10 s\n"
    assert one.later(10) == (1, [70])


def test_a_loop_that_runs_again_is_not_ended():
    one = Watched()
    assert one.later(15) == (1, [])
    one.dog.beat()
    assert one.later(9) == (1, [])
    assert one.later(2) == (2, [])


# ── what an account is built of ───────────────────────────────────────────────────────────────────────────────────────

SECRET = EnvironmentSecret(variable="TWILIO_AUTH_TOKEN", secret=Secret("a-secret"))


def an_account(**changes: Any) -> Account:
    return Account(**{"name": "main", "account_id": "AC" + "0" * 32} | changes)


def test_an_account_is_identified_by_its_id_and_not_by_its_key():
    accounts = [an_account(), an_account(name="key", account_id=None, api_key="SK" + "1" * 32)]
    assert identities(accounts) == {"main": "AC" + "0" * 32}


async def test_without_a_file_of_its_own_the_systems_certificates_are_trusted():
    upstream = open_upstream(an_account(base_url="https://comms.example/v1"), SECRET, Threads("secrets"))
    await upstream.http.aclose()
    assert "a-secret" not in repr(upstream)


@pytest.mark.parametrize("content", ["no certificates", None])
def test_unreadable_certificates_are_an_error_of_the_operator(tmp_path: Path, content: str | None):
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(OperatorError, match=f"accounts: main: ca_file {file}: not a readable file of certificates"):
        open_upstream(an_account(ca_file=str(file)), SECRET, Threads("secrets"))


def test_an_unreadable_secret_is_an_error_of_the_operator():
    with pytest.raises(OperatorError, match="cannot read /nowhere/token"):
        open_upstream(an_account(), FileSecret(path="/nowhere/token"), Threads("secrets"))


class HangingSecret:
    """A secret file on a mount that hangs from its second reading on."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.readings = 0

    def read(self) -> Secret:
        self.readings += 1
        if self.readings > 1:
            assert self.answers.wait(30)
        return Secret(f"word {self.readings}")


async def test_a_refused_request_waits_a_limited_time_for_its_secret(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(accounts, "SECRET_SECONDS", 0.01)
    source = HangingSecret()
    upstream = open_upstream(an_account(), cast("SecretSource", source), Threads("secrets"))
    old = upstream.credentials.header
    for _ in range(20):
        await upstream.reread_secret()
    assert upstream.credentials.header == old
    assert source.readings == 2  # however often it is refused, one thread waits for the file
    source.answers.set()
    monkeypatch.setattr(accounts, "SECRET_SECONDS", 30)
    await upstream.reread_secret()
    assert upstream.credentials.header != old
    await upstream.http.aclose()


@pytest.mark.parametrize("proxy", ["socks5://user:word@127.0.0.1:1", "rubbish://127.0.0.1:1", "http://[::1"])
def test_an_unusable_proxy_is_an_error_of_the_operator(monkeypatch: pytest.MonkeyPatch, proxy: str):
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(OperatorError, match="HTTPS_PROXY") as caught:
        open_upstream(an_account(), SECRET, Threads("secrets"))
    assert "word" not in str(caught.value)


class Proxy:
    """Refuses every request, and records it."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            await server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


async def requests_through(monkeypatch: pytest.MonkeyPatch, base_url: str, no_proxy: str = "") -> Sequence[bytes]:
    """What a proxy receives of one request to upstream."""
    proxy = Proxy()
    async with proxy.serving() as url:
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, url)
            monkeypatch.delenv(name.lower(), raising=False)
        monkeypatch.setenv("NO_PROXY", no_proxy)
        monkeypatch.setenv("no_proxy", no_proxy)
        upstream = open_upstream(an_account(base_url=base_url), SECRET, Threads("secrets"))
        headers = {"Authorization": upstream.credentials.header}
        with contextlib.suppress(Exception):
            await upstream.http.get(f"{base_url}/PushNotifications/Operations", headers=headers, timeout=5)
        await upstream.http.aclose()
    return proxy.requests


async def test_a_proxy_of_the_environment_is_used_and_sees_no_credentials_under_tls(
    monkeypatch: pytest.MonkeyPatch,
):
    (request,) = await requests_through(monkeypatch, "https://comms.example/v1")
    assert request.startswith(b"CONNECT comms.example:443 HTTP/1.1\r\n")
    assert b"authorization" not in request.lower()


async def test_plain_http_goes_through_the_proxy_of_its_own(monkeypatch: pytest.MonkeyPatch):
    (request,) = await requests_through(monkeypatch, "http://upstream.example:8080/v1")
    assert request.startswith(b"GET http://upstream.example:8080/v1/PushNotifications/Operations HTTP/1.1\r\n")


async def test_hosts_in_no_proxy_are_connected_directly(monkeypatch: pytest.MonkeyPatch):
    assert await requests_through(monkeypatch, "http://127.0.0.1:1/v1", no_proxy="127.0.0.1") == []


def test_tls_older_than_1_2_is_refused():
    from watcher.daemon.accounts import _trust

    context = _trust(an_account())
    assert isinstance(context, ssl.SSLContext)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
