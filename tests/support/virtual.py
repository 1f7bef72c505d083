"""An event loop whose time jumps: it never waits, it moves its clock to what is due next.

Everything on it must wait through asyncio alone: no threads, no sockets. A test in which nothing is due and nothing can
wake the loop has hung, and says so. Why not a library: docs/decisions/0005-virtual-time.md.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from watcher.clock import Clock

T = TypeVar("T")

EPOCH = 1_790_000_000.0
"""The wall time, in seconds, at which virtual tests begin."""


class HungError(Exception):
    """Nothing is due and nothing can happen any more."""


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.time = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            message = "nothing is due and nothing can happen any more"
            raise HungError(message)
        self.time += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop on a jumping clock."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds."""
        return self._jumping.time


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end on a loop of its own, in no time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def virtual_clock() -> Clock:
    """A clock on the running loop's time."""
    loop = asyncio.get_running_loop()
    return Clock(wall=lambda: EPOCH - 1000.0 + loop.time(), steady=loop.time)
