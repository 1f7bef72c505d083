"""What lives as long as the process, across all configurations of a daemon."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import httpx

from watcher.clock import Clock
from watcher.config import LoadedConfiguration
from watcher.core.errors import OperatorError
from watcher.logs import EventLog, LineWriter
from watcher.metrics import Instruments
from watcher.metrics.exposition import RENDERERS
from watcher.server import Addresses
from watcher.threads import NoThreadError, Threads

READERS = 2
"""Files that can be read at the same time, so that a file on a mount that hangs does not block the others."""


READ_SECONDS = 10.0
"""How long reading the configuration and its files may take."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessContext:
    """Clock, log, counters, bound addresses and threads. `load` reads the configuration, again at each call."""

    load: Callable[[], LoadedConfiguration]
    clock: Clock
    writer: LineWriter
    log: EventLog
    instruments: Instruments
    addresses: Addresses
    files: Threads = field(default_factory=lambda: Threads("files", READERS))
    secrets: Threads = field(default_factory=lambda: Threads("secrets", READERS))
    scrapes: Threads = field(default_factory=lambda: Threads("scrapes", RENDERERS))
    transport: httpx.AsyncBaseTransport | None = None

    async def read(self) -> LoadedConfiguration:
        """The configuration as it is now. Raises OperatorError."""
        return await self.in_files("the configuration was", self.load)

    async def in_files(self, what: str, work: Callable[[], T]) -> T:
        """The result of the work, done in a thread: a file may be large, a pipe, or on a mount that hangs.

        `what` is the beginning of the error message. Raises OperatorError after `READ_SECONDS`, and what the work
        raises.
        """
        try:
            async with asyncio.timeout(READ_SECONDS):
                if self.files.is_busy(what):
                    # Work of an earlier attempt that timed out is still running. It may have read the files before
                    # their last change, so its result is not used.
                    with contextlib.suppress(Exception):
                        await self.files.share(what, work)
                return await self.files.share(what, work)
        except TimeoutError as exc:
            message = f"{what} not read within {READ_SECONDS:g} s: a pipe, or a mount that hangs?"
            raise OperatorError(message) from exc
        except NoThreadError:
            # The configuration says where to listen: without it, no listener could report the lack of threads. So the
            # work is done here, although it may block the event loop.
            return work()
