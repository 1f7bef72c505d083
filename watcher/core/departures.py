"""How fast operations leave a list of one status, learned from sweeps.

Lifetimes that spread over orders of magnitude end at a rate that falls with age, whatever their spread: the chance to
leave within some time is a rate × that time / age. Where lifetimes are otherwise, learning makes up for it.
"""

from __future__ import annotations

from watcher.core.model import SECOND, Micros

FADING = 0.98
"""What was learned counts so much less with every further sweep."""


class Departures:
    """The learned rate; not told apart by list, since nearly all leave the one of PROCESSING."""

    def __init__(self) -> None:
        self._left, self._expected = 0.6, 5.0

    @property
    def rate(self) -> float:
        """Departures for each unit of time passed / age."""
        return self._left / self._expected

    def learn(self, left: int, exposure: float) -> None:
        """Of operations whose times passed / ages sum up to `exposure`, so many had left."""
        self._left = self._left * FADING + left
        self._expected = self._expected * FADING + exposure + 0.01


def relative(passed: Micros, age: Micros) -> float:
    """Time passed / age, for what is at least a second old."""
    return passed / max(age, SECOND)
