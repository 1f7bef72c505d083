"""From start to exit code: signals, standby, and the runtime.

    exit codes    0 stopped cleanly · 2 the operator must change something · 70 a root task died

On the first signal everything ends cleanly; a second one ends the process at once. With `--stay`, a daemon that cannot
start goes on standby: its listeners answer, the metrics and one event say what is wrong, and it tries again.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import httpx

from watcher import signals
from watcher.clock import Clock
from watcher.config import ConfigurationError, LoadedConfiguration
from watcher.core.errors import OperatorError, StoreRefused, StoreUnusable, WatcherError
from watcher.core.settings import Configuration
from watcher.daemon.loop_exceptions import LoopExceptionHandler
from watcher.daemon.process_context import ProcessContext
from watcher.daemon.runtime import Runtime
from watcher.daemon.standby import Standby, standing_by
from watcher.logs import EventLog, LineWriter
from watcher.metrics import Instruments
from watcher.server import Addresses

GOOD, OPERATOR, DIED = 0, 2, 70
DRAIN_SECONDS = 0.3
START_ENDS_SECONDS = 1.0
"""How long a stop waits for a start that is in progress."""

RETRY_SECONDS = 5.0
"""The time between two attempts to start with `--stay`."""


async def run(load: Callable[[], LoadedConfiguration], *, stay: bool = False, linger: timedelta | None = None) -> int:
    """Run the daemon until a signal ends it. Returns the exit code. `load` reads the configuration, also on reload."""
    daemon = Daemon(load, stay=stay, linger=linger)
    with daemon.listening_to_signals():
        return await daemon.run()


class Daemon:
    """The daemon as an object, so that the demo and tests can run one inside their own event loop."""

    def __init__(
        self,
        load: Callable[[], LoadedConfiguration],
        *,
        stay: bool = False,
        linger: timedelta | None = None,
        writer: LineWriter | None = None,
        clock: Clock | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        writer = writer or LineWriter()
        self._base = ProcessContext(
            load=load,
            clock=clock or Clock(),
            writer=writer,
            log=EventLog(writer),
            instruments=Instruments(),
            addresses=Addresses(),
            transport=transport,
        )
        self._stay = stay
        self._linger = linger
        self._retry_seconds = retry_seconds
        self._stop_asked = asyncio.Event()
        self._stop = asyncio.Event()
        self._runtime: Runtime | None = None
        self._reload_asked = asyncio.Event()
        self._store_trouble: str | None = None
        self._refusal: str | None = None
        self._known = Configuration()
        self._background: set[asyncio.Task[object]] = set()
        self.ready = asyncio.Event()
        """Set once the configuration is read and the listeners are open, also on standby."""

    @property
    def addresses(self) -> Mapping[str, Sequence[str]]:
        """Where `web` and `admin` listen, as URLs; empty before it is ready."""
        return {} if self._runtime is None else self._runtime.addresses

    def stop(self) -> None:
        """End cleanly, after `linger` where it is set. A second call ends without waiting for the rest of it."""
        if self._linger is None or self._stop_asked.is_set():
            self._stop.set()
        else:
            asyncio.get_running_loop().call_later(self._linger.total_seconds(), self._stop.set)
        self._stop_asked.set()

    @contextlib.contextmanager
    def listening_to_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT stop, SIGHUP reloads. A stop signal after the stop has begun ends the process at once."""
        loop = asyncio.get_running_loop()
        # Counted in the signal handler, not in the event loop: a blocked loop must not keep the process from ending.
        left = 1 if self._linger is None else 2

        def on_stop() -> bool:
            nonlocal left
            if left == 0 or self._stop.is_set():
                return False
            left -= 1
            loop.call_soon_threadsafe(self.stop)
            return True

        with signals.handled(on_stop=on_stop, on_reload=lambda: _soon(loop, self._on_reload_signal)):
            yield

    async def run(self) -> int:
        """Run until stopped. Returns the exit code."""
        unhandled = LoopExceptionHandler(self._base.log, lambda: self._base.clock.now().tick)
        try:
            with unhandled.handled():
                await self._run()
        except (OperatorError, StoreUnusable) as exc:
            print(f"watcher: {exc}", file=sys.stderr)  # noqa: T201 -- for the operator, without a log line
            return OPERATOR
        except Exception as exc:  # noqa: BLE001 -- every exception of a root task is logged and ends the daemon
            self._base.log.about_itself.critical("daemon.died", exc_info=exc)
            return DIED
        finally:
            self._base.addresses.close()
            self._base.writer.drain(DRAIN_SECONDS)
        return GOOD

    async def _run(self) -> None:
        runtime = await self._unless_stopped(self._start())
        if runtime is None:
            return
        self._runtime = runtime
        try:
            await runtime.run(self._stop, self._on_ready)
        finally:
            self._runtime = None

    async def _unless_stopped(self, start: Coroutine[Any, Any, Runtime | None]) -> Runtime | None:
        """The result of the start; None when stopped meanwhile, also where the start hangs."""
        starting = asyncio.create_task(start, name="start")
        stopped = asyncio.create_task(self._stop.wait(), name="stopped")
        try:
            await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                # On standby the start ends by itself. One that waits for a file or a disk that hangs is cancelled.
                await asyncio.wait([starting], timeout=START_ENDS_SECONDS)
                starting.cancel()
                await asyncio.wait([starting], timeout=START_ENDS_SECONDS)
            return starting.result() if starting.done() and not starting.cancelled() else None
        finally:
            starting.cancel()
            stopped.cancel()

    async def _start(self) -> Runtime | None:
        """The runtime, once it could be opened. With `--stay` it tries until it can; None when stopped meanwhile."""
        try:
            return await self._open()
        except (OperatorError, StoreUnusable) as exc:
            if not self._stay:
                raise
            self._report_failure(exc)
            standby = Standby(exc, again=self._reload_asked)
        async with standing_by(self._base, self._known, standby):
            self.ready.set()
            while not await self._stopped_within(self._retry_seconds):
                try:
                    runtime = await self._open()
                except (OperatorError, StoreUnusable) as exc:
                    self._report_failure(exc)
                    standby.trouble = exc
                else:
                    self._report_store_works()
                    return runtime
            self._base.log.event("daemon.stopping", unfinished=None)
        self._base.log.event("daemon.stopped", unfinished=None)
        return None

    async def _open(self) -> Runtime:
        # Cleared before the read: a reload requested from now on may be about a change that this read misses, and is
        # done when this attempt is over.
        self._reload_asked.clear()
        try:
            loaded = await self._base.read()
        except ConfigurationError as exc:
            self._known = exc.readable
            raise
        self._known = loaded.configuration
        log = loaded.configuration.log
        self._base.log.adopt(level=log.level, form=log.format)
        return await Runtime.open(self._base, loaded)

    async def _stopped_within(self, seconds: float) -> bool:
        """Wait `seconds`, or until a reload or a stop is requested. Returns whether a stop is."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self._stop, self._reload_asked)]
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        return self._stop.is_set()

    def _report_failure(self, trouble: WatcherError) -> None:
        """Log the failure, unless it is the same as the last one.

        An unusable store counts as unusable until it was opened: a bad configuration in between shows nothing about it.
        """
        if isinstance(trouble, StoreUnusable | StoreRefused):
            self._base.instruments.store_failed()
            if self._store_trouble != str(trouble):
                self._store_trouble = str(trouble)
                self._base.log.event("store.unusable", "error", reason=str(trouble))
            return
        self._base.instruments.refused_configuration()
        if self._refusal != str(trouble):
            self._refusal = str(trouble)
            problems = trouble.problems if isinstance(trouble, ConfigurationError) else [trouble]
            self._base.log.event("config.rejected", "error", reasons=[str(problem) for problem in problems])

    def _report_store_works(self) -> None:
        self._base.instruments.store_works()
        if self._store_trouble is not None:
            self._store_trouble = None
            self._base.log.event("store.recovered")

    def _on_ready(self) -> None:
        self.ready.set()
        if self._reload_asked.is_set():
            self._on_reload_signal()

    def _on_reload_signal(self) -> None:
        if self._runtime is None:
            self._reload_asked.set()
        else:
            task = asyncio.get_running_loop().create_task(self._runtime.reload(), name="reload")
            self._background.add(task)
            task.add_done_callback(self._background.discard)


def _soon(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(what)
