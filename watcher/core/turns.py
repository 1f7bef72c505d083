"""Which part of an account's loop sends the next request: the one place for priorities.

1. Checks, which resolve doubtful answers. Until they are answered, nothing is concluded.
2. Polls (sweeps, harvest windows, single operations) and discovery, by due time. Where several are due at once, the one
   that was not served for the longest time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from watcher.core.model import Micros, Moment
from watcher.core.requests import Request


class RequestSource(Protocol):
    """A part of the loop that has requests to send."""

    def wake_tick(self) -> Micros | None:
        """When its next request falls due: 0 for at once, None where none is planned."""

    def choose(self, now: Moment) -> Request | None:
        """The due request, counted as sent; None when none is due."""


class Turns:
    """Sources that take turns by due time, after those that always come first."""

    def __init__(self, first: Sequence[RequestSource], others: Sequence[RequestSource]) -> None:
        self._first = first
        self._others = list(others)

    def choose(self, now: Moment) -> Request | None:
        """The next request of all sources, counted as sent; None when none is due."""
        for source in (*self._first, *self._in_order()):
            request = source.choose(now)
            if request is not None:
                if source in self._others:
                    self._others.remove(source)
                    self._others.append(source)
                return request
        return None

    def wake_tick(self) -> Micros | None:
        """When the next request of any source falls due; None where none is planned."""
        ticks = (source.wake_tick() for source in (*self._first, *self._others))
        return min((tick for tick in ticks if tick is not None), default=None)

    def _in_order(self) -> Sequence[RequestSource]:
        ticks = [source.wake_tick() for source in self._others]
        # A further page of a sweep is due at tick 0, which is earlier than any tick. Without turns, a long sweep would
        # stop discovery: so the sources are kept in the order in which they were served, the last one at the end.
        if 0 in ticks:
            return list(self._others)
        # A source that does not know its next tick may have a request all the same, so it is asked last.
        by_tick = sorted(zip(self._others, ticks, strict=True), key=lambda pair: (pair[1] is None, pair[1] or 0))
        return [source for source, _ in by_tick]
