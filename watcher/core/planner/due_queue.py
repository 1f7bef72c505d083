"""Polls ordered by when they are due, the most overdue first.

Operations that came from one page are due at the same tick. So the heap orders ticks, and each tick has the queue of
its polls. An entry that is out of date is dropped when it comes to the front.
"""

from __future__ import annotations

import heapq
from collections import deque

from watcher.core.model import Micros
from watcher.core.planner.polls import Poll


class DueQueue:
    """The polls to come. A poll is due at the tick of its last `put`."""

    def __init__(self) -> None:
        self._ticks: list[Micros] = []
        self._polls: dict[Micros, deque[Poll]] = {}

    def put(self, poll: Poll, tick: Micros) -> None:
        """Make the poll due at that tick instead of the tick it was put at before."""
        # The old entry stays in its queue: removing it would search that queue. `front` drops it, as `queued` differs.
        poll.queued = tick
        polls = self._polls.get(tick)
        if polls is None:
            self._polls[tick] = deque((poll,))
            heapq.heappush(self._ticks, tick)
        else:
            polls.append(poll)

    def front(self) -> tuple[Micros, Poll] | None:
        """The tick and the poll that is due first, or None. The entry stays in the queue."""
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
