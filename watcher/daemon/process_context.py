"""What outlives every configuration of a daemon."""

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
"""Files that can be read at the same time, so that one on a mount that hangs leaves room for the rest."""


READ_SECONDS = 10.0
"""How long reading the configuration and its files may take."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessContext:
    """Clock, log and counters, the addresses that were taken, and the threads. `load` reads the configuration anew."""

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
        """What the work returns, done in a thread: a file may be large, a pipe, or on a mount that hangs.

        `what` begins the sentence that says so. Raises OperatorError after `READ_SECONDS`, and what the work raises.
        """
        try:
            async with asyncio.timeout(READ_SECONDS):
                if self.files.is_busy(what):
                    # What an earlier attempt gave up on may have been read before the last change.
                    with contextlib.suppress(Exception):
                        await self.files.share(what, work)
                return await self.files.share(what, work)
        except TimeoutError as exc:
            message = f"{what} not read within {READ_SECONDS:g} s: a pipe, or a mount that hangs?"
            raise OperatorError(message) from exc
        except NoThreadError:
            # It says where to listen, so without it nobody could be told why. Here it may block the event loop.
            return work()
