"""Who is due when, the longest due first.

Operations that were shown by one page fall due at the same tick, so it is ticks that are kept in order, each with
everybody who is due then. An entry that is no longer true is passed over when its turn comes.
"""

from __future__ import annotations

import heapq
from collections import deque

from watcher.core.model import Micros
from watcher.core.polls import Poll


class DueQueue:
    """The looks ahead. A look is brought up at the tick where it was put last."""

    def __init__(self) -> None:
        self._ticks: list[Micros] = []
        self._polls: dict[Micros, deque[Poll]] = {}

    def put(self, poll: Poll, tick: Micros) -> None:
        """Bring the look up at that tick, and no more where it was put before."""
        poll.queued = tick
        polls = self._polls.get(tick)
        if polls is None:
            self._polls[tick] = deque((poll,))
            heapq.heappush(self._ticks, tick)
        else:
            polls.append(poll)

    def front(self) -> tuple[Micros, Poll] | None:
        """Who is due first, and when; it stays there."""
        while self._ticks:
            tick = self._ticks[0]
            polls = self._polls[tick]
            while polls:
                poll = polls[0]
                if poll.queued == tick:
                    return tick, poll
                polls.popleft()
            heapq.heappop(self._ticks)
            del self._polls[tick]
        return None
