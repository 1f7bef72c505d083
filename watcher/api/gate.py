"""Waits for the governor's permits. Every HTTP attempt at upstream needs one, retries included."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from watcher.core.governor import FOREVER, AttemptResult, Governor, Permit
from watcher.core.model import SECOND, Micros, Moment


class Gate:
    """Lets the attempts of one account begin when its governor allows it."""

    def __init__(
        self, governor: Governor, now: Callable[[], Moment], jitter: Callable[[], float] = random.random
    ) -> None:
        self.governor = governor
        self._now = now
        self._jitter = jitter
        self._ended = asyncio.Event()

    async def enter(self) -> Permit:
        """Wait until an attempt is allowed. Returns the permit for it; the attempt must begin at once."""
        while wait := self.governor.wait(self._now().tick):
            self._ended.clear()
            try:
                async with asyncio.timeout(None if wait >= FOREVER else wait / SECOND):
                    await self._ended.wait()
            except TimeoutError:
                continue
        return self.governor.begin(self._now().tick)

    def leave(self, permit: Permit, result: AttemptResult, retry_after: Micros | None = None) -> None:
        """Return the permit after the attempt, and let waiting callers check again."""
        self.governor.end(permit, result, self._now().tick, retry_after=retry_after, jitter=self._jitter())
        self._ended.set()

    def forgive(self) -> None:
        """End the hold of `refuse`: there are new credentials, or the account is answered again."""
        self.governor.forgive()
        self._ended.set()

    def refuse(self) -> None:
        """Hold the account, slow probes excepted, unless it is held this way already."""
        if not self.governor.is_refused:
            self.governor.refuse(self._now().tick)

    def hold(self) -> Micros:
        """The time until an attempt may begin; 0 when the account is not held."""
        tick = self._now().tick
        return max(self.governor.held_until(tick) - tick, 0)
