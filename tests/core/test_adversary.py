"""No operation is ever lost or ended wrongly, whatever lists do: thousands of small histories against an adversary.

The adversary moves rows between pages, sends short, empty and garbled pages, reorders, repeats rows and tokens, refuses
tokens, shows stale rows and hides existing ones. Fetched by id, it answers with stale data, a late 404, or not at all.
After a while it grows honest, so that every history has an end.
"""

from __future__ import annotations

import heapq
import itertools
import os
import random
from collections import Counter
from dataclasses import dataclass

import pytest

from tests.support.factories import a_reading
from watcher.core.channels import Stats
from watcher.core.clocks import ClockReading, UpstreamClock
from watcher.core.governor import FOREVER, AttemptResult, Governor, Permit, Share
from watcher.core.lifecycle import LifecycleRules, observe
from watcher.core.model import SECOND, Instant, Micros, Moment, Operation, Phase, Source, Status, Tally
from watcher.core.observation import FailureCause, Missing, Observation, Page, Record, Refused, Seen, Timing, Unanswered
from watcher.core.planner import Planner, Promise
from watcher.core.requests import Fetch, Request, Sweep
from watcher.simulator.ids import make_id

pytestmark = pytest.mark.unmeasured

HISTORIES, CHUNKS = int(os.environ.get("HISTORIES", "10000")), 16
START = Moment(1_790_000_000 * SECOND, 1000 * SECOND)
FRESHNESS = 20 * SECOND
SETTLE = (3 * SECOND,)
HONEST_AFTER = 60 * SECOND
OVER_AFTER = 600 * SECOND


@dataclass(frozen=True)
class Life:
    """What is true of one operation, in upstream's instants."""

    id: str
    created: Instant
    begins: Instant
    ends: Instant
    outcome: Status

    def record(self, at: Instant, *, with_created: bool = True) -> Record:
        word = self.outcome if at >= self.ends else Status.PROCESSING if at >= self.begins else Status.SCHEDULED
        updated = max(one for one in (self.created, self.begins, self.ends) if one <= at or one == self.created)
        return Record(
            id=self.id,
            word=word.value,
            stats=Stats(total=3, sent=3 if at >= self.ends else 0),
            created_at=self.created if with_created else None,
            updated_at=updated,
        )


class Adversary:
    """Upstream at its worst: each fault has the probability that this history drew."""

    honest_after = HONEST_AFTER
    # How far our clock is ahead of upstream's, which is the true one.
    ours_ahead: Micros = 0

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        now = START.at - self.ours_ahead
        self.lives: dict[str, Life] = {}
        for number in range(rng.randint(1, 7) + rng.randint(0, 6)):
            created = now - rng.randint(0, 40) * SECOND
            begins = created + rng.choice((0, 0, 0, 25)) * SECOND
            outcome = rng.choice((Status.COMPLETED, Status.COMPLETED, Status.CANCELED))
            life = Life(make_id(created, rng), created, begins, begins + rng.randint(1, 80) * SECOND, outcome)
            self.lives[life.id] = life
            if number == 0:
                continue
        ids = list(self.lives)
        self.ours = ids[: max(1, len(ids) - rng.randint(0, 4))]
        self.likely = {
            cause: rng.choice((0, 0, 0.2, 0.6))
            for cause in (
                "unanswered", "refused", "short", "empty", "repeated", "hidden", "stale", "garbled", "shuffled",
                "doubled", "missing", "nameless",
            )
        }  # fmt: skip
        self.size = rng.choice((1, 2, 5, 1000))

    def does(self, cause: str, now: Moment) -> bool:
        return now.tick < START.tick + self.honest_after and self.rng.random() < self.likely[cause]

    def seen_at(self, now: Moment) -> Instant:
        return now.at - self.rng.randint(0, 30) * SECOND if self.does("stale", now) else now.at

    def fetch(self, operation_id: str, timing: Timing) -> Observation:
        now, life = timing.asked, self.lives[operation_id]
        if self.does("unanswered", now):
            return Unanswered(timing=timing, cause=FailureCause.TIMEOUT)
        at = self.seen_at(now)
        if at < life.created or self.does("missing", now):
            return Missing(timing=timing)
        return Seen(timing=timing, record=self.record(life, at, now))

    def record(self, life: Life, at: Instant, now: Moment) -> Record:
        """What is shown of an operation as it was at that instant."""
        return life.record(at, with_created=not self.does("nameless", now))

    def date(self, _now: Moment) -> Instant | None:
        """The time in the answer's Date header."""
        return None

    def page(self, request: Sweep, timing: Timing) -> Page | Refused | Unanswered:
        now = timing.asked
        if self.does("unanswered", now):
            return Unanswered(timing=timing, cause=FailureCause.UPSTREAM)
        if request.token is not None and self.does("refused", now):
            return Refused(timing=timing)
        rows = self.rows(request, now)
        if self.does("shuffled", now):
            self.rng.shuffle(rows)
        first = int(request.token) if request.token is not None else 0
        size = 0 if self.does("empty", now) else self.size
        if size and self.does("short", now):
            size = self.rng.randint(0, size)
        shown = rows[first : first + size]
        token = str(first + size) if first + size < len(rows) else None
        if self.does("repeated", now):
            token = request.token or "0"
        if shown and self.does("doubled", now):
            shown.append(self.rng.choice(shown))
        garbled = 0
        if shown and self.does("garbled", now):
            shown.pop()
            garbled = 1
        return Page(timing=timing, records=tuple(shown), garbled=garbled, next_token=token)

    def rows(self, request: Sweep, now: Moment) -> list[Record]:
        found = []
        for life in self.lives.values():
            at = self.seen_at(now)
            if not request.start <= life.created <= request.end or at < life.created or self.does("hidden", now):
                continue
            record = self.record(life, at, now)
            if request.status is None or record.word == request.status.value:
                found.append(record)
        return found


class History:
    """The planner, the governor and the lifecycle against one adversary, to the end."""

    adversary: type[Adversary] = Adversary
    over_after = OVER_AFTER

    def __init__(self, seed: int) -> None:
        self.upstream = self.adversary(random.Random(seed))
        self.rules = LifecycleRules(settle_after=SETTLE)
        self.now = START
        self.planner = Planner(Promise(freshness=FRESHNESS, settle_after=SETTLE), START)
        self.governor = Governor(Share(per_second=10, concurrency=3), START.tick)
        self.operations: dict[str, Operation] = {}
        self.flights: list[tuple[Micros, int, Request, Permit, Moment]] = []
        self.number = itertools.count()
        self.requests: Counter[str] = Counter()
        self.tallies: list[Tally] = []
        self.clock = UpstreamClock()

    def reading(self) -> ClockReading:
        """The present by both clocks."""
        return a_reading(self.now)

    def run(self) -> None:
        for operation_id in self.upstream.ours:
            operation = Operation(account="a", id=operation_id, source=Source.API, registered_at=self.now.at)
            self.operations[operation_id] = operation
            self.planner.follow(operation, self.now)
        while self.now.tick < START.tick + self.over_after and not self.is_over():
            while self.flights and self.flights[0][0] <= self.now.tick:
                self.land()
            self.request()
            self.advance()

    def is_over(self) -> bool:
        return all(operation.phase is Phase.FINAL for operation in self.operations.values())

    def request(self) -> None:
        while self.governor.wait(self.now.tick) == 0 and (request := self.planner.choose(self.now)) is not None:
            if isinstance(request, Fetch):
                assert all(flight[2] != request for flight in self.flights), "requested twice at once"
                assert self.operations[request.operation_id].phase is not Phase.FINAL
            self.requests[type(request).__name__] += 1
            takes = self.upstream.rng.choice((0, 100_000, 100_000, 4 * SECOND))
            permit = self.governor.begin(self.now.tick)
            heapq.heappush(self.flights, (self.now.tick + takes, next(self.number), request, permit, self.now))

    def land(self) -> None:
        _, _, request, permit, asked = heapq.heappop(self.flights)
        self.governor.end(permit, AttemptResult.GOOD, self.now.tick, retry_after=None, jitter=0)
        timing = Timing(asked=asked, answered=self.now, date=self.upstream.date(self.now))
        self.clock.note(timing)
        self.planner.answered(request, self.now)
        if isinstance(request, Fetch):
            self.observe(request.operation_id, self.upstream.fetch(request.operation_id, timing))
        elif isinstance(request, Sweep):
            answer = self.upstream.page(request, timing)
            for record in answer.records if isinstance(answer, Page) else ():
                if record.id in self.operations:
                    self.observe(str(record.id), Seen(timing=timing, record=record))
            self.planner.swept(request, answer, self.now)

    def observe(self, operation_id: str, observation: Observation) -> None:
        step = observe(self.operations[operation_id], observation, self.reading(), self.rules)
        self.operations[operation_id] = step.operation
        if step.tally is not None:
            self.tallies.append(step.tally)
        self.planner.learned(step.operation, observation, self.now)

    def advance(self) -> None:
        ticks = [self.flights[0][0]] if self.flights else []
        wake, wait = self.planner.wake_tick(), self.governor.wait(self.now.tick)
        if wake is not None and wait < FOREVER:
            ticks.append(max(wake, self.now.tick + wait))
        tick = max(min(ticks, default=START.tick + self.over_after), self.now.tick + 1)
        self.now = Moment(START.at + tick - START.tick, tick)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_nothing_is_lost_or_ended_wrongly_whatever_lists_do(chunk: int) -> None:
    for seed in range(chunk * HISTORIES // CHUNKS, (chunk + 1) * HISTORIES // CHUNKS):
        history = History(seed)
        history.run()
        lives = history.upstream.lives
        ends = {identity: (operation.status, operation.phase) for identity, operation in history.operations.items()}
        assert ends == {identity: (lives[identity].outcome, Phase.FINAL) for identity in history.operations}, seed
        assert len(history.tallies) == len(history.operations), seed
        assert sum(history.requests.values()) <= 12 + 25 * len(history.operations), (seed, history.requests)
        assert history.planner.wake_tick() is None or not history.planner.lag(history.now), seed
