"""Looks in order of the creation of their operations, as lists are bounded by it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from watcher.core.model import Instant
from watcher.core.polls import Poll


class CreationIndex:
    """Two lists side by side: `instants` in order, and the look at each."""

    def __init__(self) -> None:
        self.instants: list[Instant] = []
        self.polls: list[Poll] = []

    def put(self, poll: Poll, place: Instant) -> None:
        """Let the look lie at its operation's creation, where it may have been unknown or elsewhere before."""
        if poll.place == place:
            return
        self.remove(poll)
        poll.place = place
        position = bisect_right(self.instants, place)
        self.instants.insert(position, place)
        self.polls.insert(position, poll)

    def remove(self, poll: Poll) -> None:
        """The look lies nowhere any more."""
        if poll.place is None:
            return
        position = self.position(poll, poll.place)
        del self.instants[position], self.polls[position]
        poll.place = None

    def position(self, poll: Poll, place: Instant) -> int:
        """Where the look is among all; many may have been created at the same instant."""
        return self.polls.index(poll, bisect_left(self.instants, place))

    def between(self, start: Instant, end: Instant) -> list[Poll]:
        """The looks at what was created from `start` to `end`."""
        return self.polls[bisect_left(self.instants, start) : bisect_right(self.instants, end)]
