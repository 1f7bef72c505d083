"""Polls ordered by the creation time of their operations, because windows of lists are bounded by it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from watcher.core.model import Instant
from watcher.core.planner.polls import Poll


class CreationIndex:
    """Two parallel lists: the creation times in order, and the poll of each."""

    def __init__(self) -> None:
        self.instants: list[Instant] = []
        self.polls: list[Poll] = []

    def put(self, poll: Poll, place: Instant) -> None:
        """Enter the poll at this creation time, which may have been unknown or different before."""
        if poll.place == place:
            return
        self.remove(poll)
        poll.place = place
        position = bisect_right(self.instants, place)
        self.instants.insert(position, place)
        self.polls.insert(position, poll)

    def remove(self, poll: Poll) -> None:
        """Remove the poll, if it is entered."""
        if poll.place is None:
            return
        position = self.position(poll, poll.place)
        del self.instants[position], self.polls[position]
        poll.place = None

    def position(self, poll: Poll, place: Instant) -> int:
        """The position of the poll in both lists."""
        # Several operations may have the same creation time, so `bisect` finds only the first of them. Polls are
        # compared by identity, so `index` finds this one.
        return self.polls.index(poll, bisect_left(self.instants, place))

    def between(self, start: Instant, end: Instant) -> list[Poll]:
        """The polls of operations created from `start` to `end`, both included."""
        return self.polls[bisect_left(self.instants, start) : bisect_right(self.instants, end)]
