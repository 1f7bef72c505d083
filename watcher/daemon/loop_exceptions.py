"""Logs the exceptions that reach the event loop itself.

Where file descriptors run out, asyncio reports the same error a thousand times a second. Here it is logged once a
minute.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from watcher.core.model import MINUTE, Micros
from watcher.logs import EventLog

AGAIN_AFTER: Micros = MINUTE


class LoopExceptionHandler:
    """Logs what an event loop would print on standard error. `tick` is a clock that never jumps."""

    def __init__(self, log: EventLog, tick: Callable[[], Micros]) -> None:
        self._log = log
        self._tick = tick
        self._reported: dict[str, Micros] = {}

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """While the context lasts, the running loop reports its exceptions to `take`."""
        loop = asyncio.get_running_loop()
        before = loop.get_exception_handler()
        loop.set_exception_handler(self.take)
        try:
            yield
        finally:
            loop.set_exception_handler(before)

    def take(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log a report: an error of the system as a sentence, a fault of ours with its traceback."""
        message, exc = str(context["message"]), context.get("exception")
        kind = f"{message}: {exc}" if isinstance(exc, OSError) else message
        now = self._tick()
        if now < self._reported.get(kind, now - AGAIN_AFTER) + AGAIN_AFTER:
            return
        # Messages may contain addresses of objects, so there is no end of them: those past their time are dropped.
        recent = {known: reported for known, reported in self._reported.items() if now < reported + AGAIN_AFTER}
        self._reported = recent | {kind: now}
        if isinstance(exc, OSError):
            self._log.about_itself.warning("loop.troubled", reason=kind)
        else:
            self._log.about_itself.error("loop.failed", reason=message, exc_info=exc)
