"""How long to wait before a store that failed is tried again."""

from __future__ import annotations

from watcher.core.model import SECOND, Micros

RETRY: Micros = SECOND
RETRY_AT_MOST: Micros = 15 * SECOND


class Patience:
    """Waits double with each failure in a row."""

    def __init__(self) -> None:
        self._failures = 0
        self._retry_tick: Micros = 0

    @property
    def is_tried(self) -> bool:
        """Whether the last attempt failed."""
        return self._failures > 0

    def failed(self, tick: Micros) -> None:
        """It failed once more."""
        self._failures += 1
        self._retry_tick = tick + min(RETRY << min(self._failures - 1, 4), RETRY_AT_MOST)

    def worked(self) -> None:
        """It works again."""
        self._failures = 0
        self._retry_tick = 0

    def wait(self, tick: Micros) -> Micros:
        """How long not to try; 0 when nothing speaks against it."""
        return max(self._retry_tick - tick, 0)
