"""The running daemon: store, loops, publisher and listeners of one configuration, and the switch to the next one.

    root tasks    publish · web · admin · web file · housekeeping · watch <account> (one each) · end

A reload swaps nothing before everything new is built. At the end, the loops stop with their last writes done, what they
committed is published, and the listeners close.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from watcher import __version__
from watcher.config import ConfigurationError, LoadedConfiguration
from watcher.core.account_health import AccountHealth
from watcher.core.errors import OperatorError, StoreUnusable
from watcher.core.model import SECOND, Micros
from watcher.core.settings import Account, Configuration
from watcher.daemon.account_loops import AccountLoops
from watcher.daemon.accounts import UpstreamAccess, build_watch, following, identities, open_upstream
from watcher.daemon.housekeeping import Housekeeping, KeepTimes
from watcher.daemon.http_listeners import HttpListeners
from watcher.daemon.process_context import ProcessContext
from watcher.daemon.telemetry import Telemetry
from watcher.daemon.watchdog import Watchdog
from watcher.intake import EntriesRefusedError, Intake
from watcher.metrics import Exposition
from watcher.publishing import EventPublisher
from watcher.store import Store
from watcher.store.opening import open_store
from watcher.threads import NoThreadError

LAST_WORDS_SECONDS = 1.3
"""How long the last events and answers may take. With the loops' 2 s and the rest, a stop takes less than 5 s."""

CLOSE_SECONDS = 0.5
RELOAD_SECONDS = 0.8
"""How long a stop waits for a reload that has begun to swap configurations."""

STOPPING = "the watcher is stopping"


class Runtime:
    """A running daemon. `open` creates it; `run` returns when `stop` was set and everything has ended."""

    def __init__(self, base: ProcessContext, loaded: LoadedConfiguration, store: Store) -> None:
        self._base = base
        self._loaded = loaded
        self._store = store
        self._loops = AccountLoops(lambda: self._configuration.metrics.max_operations, base.secrets)
        self._waiting: Mapping[str, UpstreamAccess] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._publisher = EventPublisher(store, base.log, base.writer.write, lambda: base.clock.now().at)
        self._telemetry = Telemetry(base.instruments, base.log, self._publisher)
        self._intake = Intake(
            store,
            lambda: self._configuration.account_names,
            self._wake,
            lambda: base.clock.now().at,
            store_trouble=self._on_intake_trouble,
        )
        self._exposition = Exposition(base.instruments.registry, self._loops.snapshots, base.scrapes)
        self._show_labels()
        self._watchdog = Watchdog()
        self._housekeeping = Housekeeping(
            store=store,
            clock=base.clock,
            instruments=base.instruments,
            keep=self._kept,
            jumped=self._on_jump,
            refresh_secrets=self._refresh_secrets,
            beat=self._watchdog.beat,
            store_trouble=self._telemetry.store_trouble,
        )
        self._listeners = HttpListeners(
            base, lambda: self._loaded, rejected=self._on_bad_web_file, reloaded=self._on_good_web_file
        )
        self._is_refused = False
        self._reloading = asyncio.Lock()
        self._reading: asyncio.Task[tuple[LoadedConfiguration, Mapping[str, UpstreamAccess]]] | None = None
        self._is_stopping = False
        self._are_secrets_unread = False

    @classmethod
    async def open(cls, base: ProcessContext, loaded: LoadedConfiguration) -> Runtime:
        """Do everything that can fail, in the order in which errors are to be reported: secrets, store, addresses.

        Raises OperatorError, StoreUnusable.
        """
        upstreams = await _open_upstreams(base, loaded, loaded.configuration.accounts)
        store = await open_store(loaded.configuration.storage.url)
        runtime = cls(base, loaded, store)
        try:
            runtime._listeners.bind(
                loops=runtime._loops,
                store=store,
                intake=runtime._intake,
                exposition=runtime._exposition,
                reload=runtime.reload,
            )
            await store.bind(identities(loaded.configuration.accounts))
            await runtime._publisher.prepare()
            await runtime._intake.from_configuration(loaded.configuration.accounts)
        except BaseException:
            runtime._listeners.unbind()
            await store.close()
            for upstream in upstreams.values():
                await upstream.http.aclose()
            raise
        runtime._waiting = upstreams
        return runtime

    @property
    def addresses(self) -> Mapping[str, Sequence[str]]:
        """The URLs at which `web` and `admin` listen."""
        return self._listeners.addresses

    # ── the run ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Run until `stop` is set and everything has ended.

        A root task that raises ends all others. Its exception is raised in an ExceptionGroup.
        """
        self._watchdog.start()
        try:
            await self._run_tasks(stop, ready)
        finally:
            self._watchdog.stop()

    async def _run_tasks(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            publishing = tasks.create_task(self._publisher.run(), name="publish")
            serving = self._listeners.serve(tasks)
            duties = [
                tasks.create_task(self._housekeeping.run(), name="housekeeping"),
                self._listeners.watch_web_file(tasks),
            ]
            for upstream in self._waiting.values():
                self._start(upstream)
            self._log_start()
            ready()
            tasks.create_task(self._end(stop, publishing, serving, duties), name="end")

    def _start(self, upstream: UpstreamAccess, health: AccountHealth | None = None) -> None:
        assert self._tasks is not None  # noqa: S101 -- only while running
        self._base.instruments.open_account(upstream.account.name)
        watched = build_watch(
            upstream,
            configuration=self._configuration,
            store=self._store,
            now=self._base.clock.now,
            listener=self._telemetry,
            health=health,
        )
        self._loops.start(watched, self._tasks)

    def _log_start(self) -> None:
        self._base.instruments.configured(self._base.clock.now().at)
        self._base.log.event(
            "daemon.started",
            version=__version__,
            accounts=list(self._loops.names),
            web=list(self._listeners.addresses["web"]),
            admin=list(self._listeners.addresses["admin"]),
        )

    async def _end(
        self,
        stop: asyncio.Event,
        publishing: asyncio.Task[None],
        serving: Sequence[asyncio.Task[None]],
        duties: Sequence[asyncio.Task[None]],
    ) -> None:
        await stop.wait()
        self._is_stopping = True
        await self._end_reload()
        unfinished = self._loops.unfinished
        self._base.log.event("daemon.stopping", unfinished=unfinished)
        await self._loops.stop(self._loops.names)
        for duty in duties:
            duty.cancel()
        self._publisher.stop()
        self._listeners.stop()
        await asyncio.wait([publishing, *serving], timeout=LAST_WORDS_SECONDS)
        for task in (publishing, *serving):
            task.cancel()
        await _within(CLOSE_SECONDS, self._store.close())
        self._base.log.event("daemon.stopped", unfinished=unfinished)

    async def _end_reload(self) -> None:
        """Cancel a reload that still reads. Wait for one that swaps configurations; it starts no more loops."""
        if self._reading is not None:
            self._reading.cancel()
        await _within(RELOAD_SECONDS, self._reloading.acquire())

    async def _refresh_secrets(self) -> None:
        try:
            await self._loops.refresh_secrets()
        except (TimeoutError, NoThreadError) as exc:
            if not self._are_secrets_unread:
                self._are_secrets_unread = True
                reason = exc.strerror or "they were not read in time: a mount that hangs?"
                self._base.log.about_itself.warning("secrets.unread", reason=reason)
        else:
            self._are_secrets_unread = False

    def _on_intake_trouble(self, trouble: StoreUnusable | None) -> None:
        self._telemetry.store_trouble(trouble)
        if trouble is not None:
            self._housekeeping.doubt_store()

    def _on_jump(self, jump: Micros) -> None:
        self._base.log.event("daemon.clock_jumped", "warning", seconds=round(jump / SECOND, 3))

    # ── reload ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def reload(self) -> Sequence[str]:
        """Read the configuration again. Returns why it was rejected; empty when it is in force."""
        async with self._reloading:
            if self._is_stopping:
                return [STOPPING]
            try:
                self._reading = asyncio.create_task(self._read(), name="read the configuration")
                accounts = await self._adopt(*await self._reading)
            except asyncio.CancelledError:
                if self._reading is None or not self._reading.cancelled():
                    raise
                return [STOPPING]
            except ConfigurationError as exc:
                reasons = [str(problem) for problem in exc.problems]
            except (OperatorError, StoreUnusable) as exc:
                reasons = [str(exc)]
            else:
                self._is_refused = False
                self._base.instruments.configured(self._base.clock.now().at)
                self._base.log.event("config.reloaded", accounts=accounts)
                return []
            self._is_refused = True
            self._base.instruments.refused_configuration()
            self._base.log.event("config.rejected", "error", reasons=reasons)
            return reasons

    async def _read(self) -> tuple[LoadedConfiguration, Mapping[str, UpstreamAccess]]:
        """The configuration as it is now, and the credentials and connections of new and changed accounts.

        Raises OperatorError.
        """
        try:
            loaded = await self._base.read()
            _refuse_fixed(self._configuration, loaded.configuration)
            return loaded, await _open_upstreams(self._base, loaded, _changed(self._loaded, loaded))
        except OperatorError:
            raise
        except Exception as exc:
            # A fault of ours. The old configuration stays in force.
            self._base.log.about_itself.error("reload.failed", exc_info=exc)
            message = f"a fault of the watcher ({type(exc).__name__}): the event reload.failed says more"
            raise OperatorError(message) from exc

    async def _adopt(self, loaded: LoadedConfiguration, upstreams: Mapping[str, UpstreamAccess]) -> Sequence[str]:
        """Do the writes, which can fail, then swap. Raises OperatorError, StoreUnusable; then nothing has changed."""
        old, new = self._loaded, loaded
        going = [account.name for account in old.configuration.accounts if not _same_account(old, new, account.name)]
        try:
            await self._store.bind(identities(new.configuration.accounts))
            # The last step that can fail. The loops that are started below load what it wrote.
            with contextlib.suppress(EntriesRefusedError):
                await self._intake.from_configuration(new.configuration.accounts)
            self._refuse_when_stopping()
        except BaseException:
            for upstream in upstreams.values():
                await upstream.http.aclose()
            raise
        self._loaded = new
        self._listeners.adopt(new)
        health_by_account = await self._loops.stop(going)
        names = {account.name for account in new.configuration.accounts}
        self._base.instruments.close_accounts([name for name in going if name not in names])
        self._show_labels()
        self._base.log.adopt(level=new.configuration.log.level, form=new.configuration.log.format)
        for watched in self._loops:
            watched.watch.adopt(following(new.configuration, watched.settings))
        for name, upstream in upstreams.items():
            if self._is_stopping:  # a loop that is started now would never be stopped
                await upstream.http.aclose()
                continue
            # With the health so far, the new loop reports the end of a problem that the old one reported.
            self._start(upstream, health_by_account.get(name))
        return new.configuration.account_names

    def _refuse_when_stopping(self) -> None:
        if self._is_stopping:
            raise OperatorError(STOPPING)

    # ── callbacks ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _configuration(self) -> Configuration:
        return self._loaded.configuration

    def _kept(self) -> KeepTimes:
        storage, metrics = self._configuration.storage, self._configuration.metrics
        return KeepTimes(keep=storage.keep, hold=metrics.hold, hold_at_most=metrics.hold_at_most)

    def _wake(self, account: str) -> None:
        self._loops.wake(account)
        self._publisher.wake()

    def _show_labels(self) -> None:
        self._exposition.labels = self._configuration.metrics.labels
        self._exposition.counter_labels = self._configuration.metrics.counter_labels

    def _on_bad_web_file(self, reasons: Sequence[str]) -> None:
        self._base.instruments.refused_configuration()
        self._base.log.event("config.rejected", "error", reasons=[*reasons])

    def _on_good_web_file(self, path: str) -> None:
        # The web file does not make a configuration valid that was rejected before.
        if not self._is_refused:
            self._base.instruments.configured(self._base.clock.now().at)
        self._base.log.about_itself.info("web.reloaded", file=path)


async def _open_upstreams(
    base: ProcessContext, loaded: LoadedConfiguration, accounts: Sequence[Account]
) -> Mapping[str, UpstreamAccess]:
    """Credentials and connections by account, read in a thread: a file may be on a mount that hangs.

    Raises OperatorError.
    """

    def open_all() -> Mapping[str, UpstreamAccess]:
        return {
            account.name: open_upstream(account, loaded.secrets[account.name], base.secrets, base.transport)
            for account in accounts
        }

    return await base.in_files("secrets and certificates of the accounts were", open_all)


def _changed(old: LoadedConfiguration, new: LoadedConfiguration) -> Sequence[Account]:
    """Accounts that are new, or whose loop cannot continue with the new settings."""
    return [account for account in new.configuration.accounts if not _same_account(old, new, account.name)]


def _same_account(old: LoadedConfiguration, new: LoadedConfiguration, name: str) -> bool:
    """Whether an account's loop can continue. The ids in `operations` do not matter: intake registers them."""
    before, after = (
        next((account for account in loaded.configuration.accounts if account.name == name), None)
        for loaded in (old, new)
    )
    if before is None or after is None:
        return False
    timeouts = (old.configuration.polling.request_timeout, new.configuration.polling.request_timeout)
    return (
        msgspec.structs.replace(before, operations=()) == msgspec.structs.replace(after, operations=())
        and old.secrets[name] == new.secrets[name]
        and timeouts[0] == timeouts[1]
    )


def _refuse_fixed(old: Configuration, new: Configuration) -> None:
    """Raise OperatorError where listen addresses or storage differ: they cannot change while running."""
    fixed = {
        "web.listen": (old.web.listen, new.web.listen),
        "admin.listen": (old.admin.listen, new.admin.listen),
        "storage.url": (old.storage.url, new.storage.url),
    }
    changed = [
        f"{name} cannot change from {was} to {now} while running" for name, (was, now) in fixed.items() if was != now
    ]
    if changed:
        raise OperatorError("; ".join(changed) + "; restart the watcher for that")


async def _within(seconds: float, doing: Awaitable[object]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await doing
