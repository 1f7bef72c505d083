"""The governor's permits, waited for. Every attempt at upstream goes through here, retries included."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from watcher.core.governor import FOREVER, AttemptResult, Governor, Permit
from watcher.core.model import SECOND, Micros, Moment


class Gate:
    """Lets attempts of one account begin when its governor allows it."""

    def __init__(
        self, governor: Governor, now: Callable[[], Moment], jitter: Callable[[], float] = random.random
    ) -> None:
        self.governor = governor
        self._now = now
        self._jitter = jitter
        self._ended = asyncio.Event()

    async def enter(self) -> Permit:
        """A permit for an attempt that begins at once."""
        while wait := self.governor.wait(self._now().tick):
            self._ended.clear()
            try:
                async with asyncio.timeout(None if wait >= FOREVER else wait / SECOND):
                    await self._ended.wait()
            except TimeoutError:
                continue
        return self.governor.begin(self._now().tick)

    def leave(self, permit: Permit, result: AttemptResult, retry_after: Micros | None = None) -> None:
        """The attempt is over; whoever waits looks again."""
        self.governor.end(permit, result, self._now().tick, retry_after=retry_after, jitter=self._jitter())
        self._ended.set()

    def forgive(self) -> None:
        """New credentials are at hand."""
        self.governor.forgive()
        self._ended.set()

    def refuse(self) -> None:
        """Hold the account but for slow probes, unless it is held so already."""
        if not self.governor.is_refused:
            self.governor.refuse(self._now().tick)

    def hold(self) -> Micros:
        """How long nothing may begin from now on; 0 when nothing is held."""
        tick = self._now().tick
        return max(self.governor.held_until(tick) - tick, 0)
