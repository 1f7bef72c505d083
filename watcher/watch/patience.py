"""What the loop makes of a store that fails: its listener is informed, and it waits before the next attempt."""

from __future__ import annotations

from collections.abc import Callable

from watcher.core.backoff import doubled
from watcher.core.errors import StoreUnusable
from watcher.core.model import SECOND, Micros, Moment
from watcher.watch.ports import AccountObserver

RETRY: Micros = SECOND
RETRY_AT_MOST: Micros = 15 * SECOND


class Patience:
    """Waits double with each failure in a row."""

    def __init__(self, listener: AccountObserver, now: Callable[[], Moment]) -> None:
        self._listener = listener
        self._now = now
        self._failures = 0
        self._retry_tick: Micros = 0

    @property
    def is_tried(self) -> bool:
        """Whether the last attempt failed."""
        return self._failures > 0

    def observer(self, cause: StoreUnusable | None) -> None:
        """The store failed once more, or works (None)."""
        if cause is None:
            self._failures, self._retry_tick = 0, 0
        else:
            self._failures += 1
            self._retry_tick = self._now().tick + doubled(RETRY, self._failures - 1, at_most=RETRY_AT_MOST)
        self._listener.store_trouble(cause)

    def wait(self) -> Micros:
        """How long not to try; 0 when nothing speaks against it."""
        return max(self._retry_tick - self._now().tick, 0)
