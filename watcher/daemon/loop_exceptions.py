"""What the event loop itself complains of, in our log.

asyncio says the same thing a thousand times a second where file descriptors run out; here each is told once a minute.
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
    """Takes what an event loop would print on standard error. `tick` is a clock that never jumps."""

    def __init__(self, log: EventLog, tick: Callable[[], Micros]) -> None:
        self._log = log
        self._tick = tick
        self._reported: dict[str, Micros] = {}

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """The running loop complains to us meanwhile."""
        loop = asyncio.get_running_loop()
        before = loop.get_exception_handler()
        loop.set_exception_handler(self.take)
        try:
            yield
        finally:
            loop.set_exception_handler(before)

    def take(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """One complaint: the system's doing in a sentence, a fault of ours with its traceback."""
        message, exc = str(context["message"]), context.get("exception")
        kind = f"{message}: {exc}" if isinstance(exc, OSError) else message
        now = self._tick()
        if now < self._reported.get(kind, now - AGAIN_AFTER) + AGAIN_AFTER:
            return
        # Messages may hold addresses of objects: what is past its time is forgotten.
        self._reported = {one: reported for one, reported in self._reported.items() if now < reported + AGAIN_AFTER} | {
            kind: now
        }
        if isinstance(exc, OSError):
            self._log.about_itself.warning("loop.troubled", reason=kind)
        else:
            self._log.about_itself.error("loop.failed", reason=message, exc_info=exc)
