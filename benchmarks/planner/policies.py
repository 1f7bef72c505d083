"""Common ways to poll, beside our planner: with the same requests and answers, so that the same drive counts them.

`Polling` asks for each operation by its id, at waits that its policy says. `Sweeping` reads the list of PROCESSING as
one chain of pages, and asks by id for each that was on it and is not any more.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec

from watcher.core.model import DAY, MINUTE, SECOND, Micros, Moment, Operation, Phase, Status
from watcher.core.observation import Missing, Observation, Page, Refused, Unanswered
from watcher.core.requests import Fetch, Request, Sweep

FIRST_WAIT: Micros = SECOND
LONGEST_WAIT: Micros = 60 * SECOND
AGE_SHARE = 10
SPREAD: Micros = 6_180_339

Wait = Callable[[int, Micros], Micros]
"""How long until the next poll, from the number of polls so far and the operation's age."""


class Policy(Protocol):
    """What the drive needs of a planner."""

    def follow(self, operation: Operation, now: Moment) -> None: ...
    def choose(self, now: Moment) -> Request | None: ...
    def wake_tick(self) -> Micros | None: ...
    def answered(self, request: Request, now: Moment) -> None: ...
    def learned(self, operation: Operation, observation: Observation, now: Moment) -> None: ...
    def swept(self, request: Sweep, answer: Page | Missing | Refused | Unanswered, now: Moment) -> None: ...


def every(seconds: float) -> Wait:
    """Always the same wait."""
    return lambda _, __: round(seconds * SECOND)


def exponential(polls: int, _: Micros) -> Micros:
    """Twice as long each time, up to a minute."""
    return min(FIRST_WAIT << min(polls, 20), LONGEST_WAIT)


def by_age(_: int, age: Micros) -> Micros:
    """A tenth of the age, from a second to a minute."""
    return min(max(age // AGE_SHARE, FIRST_WAIT), LONGEST_WAIT)


class Polling:
    """A GET for each operation, on and on."""

    def __init__(self, wait: Wait, now: Moment) -> None:
        self._wait = wait
        self._start = now.tick
        self._polls: dict[str, int] = {}
        self._queue: list[tuple[Micros, str]] = []

    def follow(self, operation: Operation, now: Moment) -> None:
        # What is found at the start is spread, as it would be after running for a while.
        spread = len(self._polls) * SPREAD % self._wait(3, MINUTE) if now.tick == self._start else 0
        self._polls[operation.id] = 0
        heapq.heappush(self._queue, (now.tick + spread, operation.id))

    def choose(self, now: Moment) -> Request | None:
        if not self._queue or self._queue[0][0] > now.tick:
            return None
        return Fetch(operation_id=heapq.heappop(self._queue)[1])

    def wake_tick(self) -> Micros | None:
        return self._queue[0][0] if self._queue else None

    def answered(self, request: Request, now: Moment) -> None:
        pass

    def learned(self, operation: Operation, observation: Observation, now: Moment) -> None:
        if operation.phase is Phase.FINAL:
            self._polls.pop(operation.id, None)
            return
        polls = self._polls[operation.id] = self._polls[operation.id] + 1
        age = now.at - (operation.created_at or now.at)
        heapq.heappush(self._queue, (observation.timing.asked.tick + self._wait(polls, age), operation.id))

    def swept(self, request: Sweep, answer: Page | Missing | Refused | Unanswered, now: Moment) -> None:
        pass


class Sweeping:
    """The list of PROCESSING from its first page to its last, again and again."""

    def __init__(self, freshness: Micros, now: Moment) -> None:
        self._freshness = freshness
        self._due = now.tick
        self._under_way = False
        self._questions: deque[Request] = deque()
        self._tracked: set[str] = set()
        self._expected: set[str] = set()
        self._seen: set[str] = set()

    def follow(self, operation: Operation, now: Moment) -> None:
        self._tracked.add(operation.id)

    def choose(self, now: Moment) -> Request | None:
        if self._questions:
            return self._questions.popleft()
        if self._under_way or self._due > now.tick:
            return None
        self._under_way, self._due = True, now.tick + self._freshness
        self._expected, self._seen = set(self._tracked), set()
        return Sweep(number=1, status=Status.PROCESSING, start=now.at - 8 * DAY, end=now.at)

    def wake_tick(self) -> Micros | None:
        if self._questions:
            return 0
        return None if self._under_way else self._due

    def answered(self, request: Request, now: Moment) -> None:
        pass

    def learned(self, operation: Operation, observation: Observation, now: Moment) -> None:
        if operation.phase is Phase.FINAL:
            self._tracked.discard(operation.id)
        self._seen.add(operation.id)

    def swept(self, request: Sweep, answer: Page | Missing | Refused | Unanswered, now: Moment) -> None:
        if isinstance(answer, Page) and answer.next_token is not None:
            self._questions.appendleft(msgspec.structs.replace(request, token=answer.next_token))
            return
        self._under_way = False
        gone = (self._expected - self._seen) & self._tracked
        self._questions.extend(Fetch(operation_id=one) for one in sorted(gone))
