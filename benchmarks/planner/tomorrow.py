"""Small worlds: one operation alone, and a campaign that waits.

Of the campaign all are SCHEDULED, to begin at one time and to end within some minutes of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.planner.world import LONGEST, SHORTEST, START, World
from watcher.core.channels import Stats
from watcher.core.model import HOUR, SECOND, Instant, Status
from watcher.core.observation import Record

CREATED_BEFORE = HOUR
NEVER = 1e9
"""Seconds until the next birth."""


@dataclass
class Tomorrow(World):
    """`in_flight` operations that begin so many seconds after the start."""

    begin_after: float = 86_400.0

    def __post_init__(self) -> None:
        self.per_second = 0.0
        for number in range(self.in_flight):
            self._add(START - CREATED_BEFORE + number * 20_000)
        self.begins = START + round(self.begin_after * SECOND)
        self.ended = [self.begins + round(60 * SECOND * (1 + 9 * self.rng.random())) for _ in self.ids]
        self._next = NEVER

    def status(self, position: int, now: Instant) -> Status:
        if now < self.begins:
            return Status.SCHEDULED
        return Status.PROCESSING if now < self.ended[position] else self.outcomes[position]

    def record(self, position: int, now: Instant) -> Record:
        status = self.status(position, now)
        known = [at for at in (self.created[position], self.begins, self.ended[position]) if at <= now]
        return Record(
            id=self.ids[position],
            word=status.value,
            stats=Stats(total=1),
            created_at=self.created[position],
            updated_at=known[-1],
        )

    def is_on(self, status: Status | None, position: int, now: Instant) -> bool:
        return status is None or self.status(position, now) is status


@dataclass
class Lone(World):
    """One operation and nothing else, created half a second before the start."""

    def __post_init__(self) -> None:
        self.per_second = 0.0
        self._add(START - SECOND // 2)
        lifetime = SHORTEST * (LONGEST / SHORTEST) ** self.rng.random()
        self.ended = [self.created[0] + round(lifetime * SECOND)]
        self._next = NEVER
