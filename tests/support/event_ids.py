"""Event ids that a test can foretell: the time of the event, and a number that rises."""

from __future__ import annotations

from itertools import count

from watcher.core.model import Instant
from watcher.event_ids import EventIds, uuid7


def foretold(occurred_at: Instant, number: int) -> str:
    """The id of the event that is written as this one from 1."""
    return uuid7(occurred_at, number)


def numbered() -> EventIds:
    """A source whose ids differ in a number only."""
    numbers = count(1)
    return lambda occurred_at: foretold(occurred_at, next(numbers))
