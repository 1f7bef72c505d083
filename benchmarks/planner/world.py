"""A model of upstream that is quick enough for a hundred thousand operations: consistent lists, no faults.

Lifetimes are log-uniform, a few operations are canceled. Rows lie in order of creation; a list is read newest first,
as upstream's examples show.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

from watcher.core.channels import Stats
from watcher.core.model import SECOND, Instant, Status
from watcher.core.observation import Record
from watcher.core.requests import PAGE_SIZE, Sweep
from watcher.simulator.ids import make_id

START: Instant = 1_790_000_000 * SECOND
SHORTEST, LONGEST = 2.0, 7200.0
CANCELED = 0.03


def mean_lifetime() -> float:
    """Seconds, of a log-uniform lifetime."""
    return (LONGEST - SHORTEST) / math.log(LONGEST / SHORTEST)


@dataclass
class World:
    """All operations that ever were, by creation; `tracked` is the share that is registered with the watcher."""

    in_flight: int
    tracked: float
    rng: random.Random
    created: list[Instant] = field(default_factory=list)
    ended: list[Instant] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    outcomes: list[Status] = field(default_factory=list)
    index: dict[str, int] = field(default_factory=dict)
    ours: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Everything created in the two hours before the start: what still runs then is as many as asked for."""
        self.per_second = self.in_flight / mean_lifetime()
        at = float(-LONGEST)
        while at < 0:
            self._add(START + round(at * SECOND))
            at += self.rng.expovariate(self.per_second)
        self._next = at

    def live_until(self, now: Instant) -> list[str]:
        """Create what is due; the ids of those that are registered with the watcher."""
        new = []
        while START + round(self._next * SECOND) <= now:
            operation_id = self._add(START + round(self._next * SECOND))
            if operation_id in self.ours:
                new.append(operation_id)
            self._next += self.rng.expovariate(self.per_second)
        return new

    def next_birth(self) -> Instant:
        return START + round(self._next * SECOND)

    def running_at_start(self) -> list[str]:
        """Ours that run at the start."""
        return [one for one in self.ids if one in self.ours and self.ended[self.index[one]] > START]

    def record(self, position: int, now: Instant) -> Record:
        """What upstream shows of one."""
        end = self.ended[position]
        ended = end <= now
        return Record(
            id=self.ids[position],
            word=self.outcomes[position].value if ended else "PROCESSING",
            stats=Stats(total=1, sent=1) if ended else Stats(total=1, sent=0),
            created_at=self.created[position],
            updated_at=end if ended else self.created[position],
        )

    def page(self, request: Sweep, now: Instant) -> tuple[list[int], str | None]:
        """Positions of a page's rows, and the token of the next page."""
        low = bisect_left(self.created, request.start)
        position = (int(request.token) if request.token else bisect_right(self.created, min(request.end, now))) - 1
        rows: list[int] = []
        while position >= low and len(rows) < PAGE_SIZE:
            if self.is_on(request.status, position, now):
                rows.append(position)
            position -= 1
        return rows, str(position + 1) if position >= low else None

    @property
    def is_complete(self) -> bool:
        """Whether nothing will be created any more."""
        return self.per_second == 0

    def is_on(self, status: Status | None, position: int, now: Instant) -> bool:
        """Whether a list shows it; nothing here is ever SCHEDULED."""
        return status is None or (status is Status.PROCESSING and self.ended[position] > now)

    def _add(self, created: Instant) -> str:
        lifetime = SHORTEST * (LONGEST / SHORTEST) ** self.rng.random()
        operation_id = make_id(created, self.rng)
        self.index[operation_id] = len(self.ids)
        self.created.append(created)
        self.ended.append(created + round(lifetime * SECOND))
        self.ids.append(operation_id)
        self.outcomes.append(Status.CANCELED if self.rng.random() < CANCELED else Status.COMPLETED)
        if self.rng.random() < self.tracked:
            self.ours.add(operation_id)
        return operation_id
