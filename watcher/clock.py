"""The clock of the process: the wall time at the start, plus a clock that never jumps.

Setting the wall clock moves no due time. `reanchor` adopts a difference above 30 s and returns it, to be logged.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from watcher.core.model import SECOND, Instant, Micros, Moment

JUMP: Micros = 30 * SECOND


class Clock:
    """`now()` returns the present moment. Both sources of time return seconds."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._steady = steady
        self._anchor: Instant = self._wall_now() - self._tick()

    def now(self) -> Moment:
        """The present moment on both clocks."""
        tick = self._tick()
        return Moment(self._anchor + tick, tick)

    def reanchor(self) -> Micros:
        """Adopt the wall clock where it jumped by more than 30 s. Returns the jump, 0 where it was not adopted."""
        tick = self._tick()
        jump = self._wall_now() - (self._anchor + tick)
        if abs(jump) <= JUMP:
            return 0
        self._anchor += jump
        return jump

    def _wall_now(self) -> Instant:
        return round(self._wall() * SECOND)

    def _tick(self) -> Micros:
        return round(self._steady() * SECOND)
