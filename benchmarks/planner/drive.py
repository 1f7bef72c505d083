"""The real planner and governor against the model of upstream, in virtual time."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.planner.policies import Policy
from benchmarks.planner.tomorrow import Tomorrow
from benchmarks.planner.world import START, World
from watcher.core.clocks import ClockReading
from watcher.core.governor import FOREVER, AttemptResult, Governor, Permit, Share
from watcher.core.lifecycle import LifecycleRules, observe
from watcher.core.model import SECOND, Instant, Micros, Moment, Operation, Phase, Source, Status
from watcher.core.observation import Observation, Page, Seen, Timing
from watcher.core.planner import Planner, Promise
from watcher.core.requests import Discover, Fetch, Probe, Request, Sweep

TICK0: Micros = 1_000 * SECOND


@dataclass(frozen=True, kw_only=True)
class Case:
    """One situation to measure."""

    in_flight: int
    tracked: float = 1.0
    freshness: float = 5.0
    latency: float = 0.1
    per_second: float = 20.0
    concurrency: int = 4
    settle_after: tuple[float, ...] = ()
    warm_up: float = 60.0
    seconds: float = 300.0


@dataclass
class Outcome:
    """What was measured: after the warm-up only."""

    requests: Counter[str] = field(default_factory=Counter)
    ended: int = 0
    delays: list[float] = field(default_factory=list)
    begun: list[float] = field(default_factory=list)
    finished: int = 0

    @property
    def per_operation(self) -> float:
        return sum(self.requests.values()) / max(self.ended, 1)

    def delay(self, quantile: float) -> float:
        ordered = sorted(self.delays)
        return ordered[min(int(len(ordered) * quantile), len(ordered) - 1)] if ordered else 0.0


MakePolicy = Callable[[Promise, Moment], Policy]


def drive(case: Case, world: World, policy: MakePolicy = Planner) -> Outcome:
    """Run our planner, or another policy, for the warm-up and the measured time."""
    return _Drive(case, world, policy).run()


class _Drive:
    def __init__(self, case: Case, world: World, policy: MakePolicy = Planner) -> None:
        self.case, self.world = case, world
        self.settle = tuple(round(wait * SECOND) for wait in case.settle_after)
        self.rules = LifecycleRules(settle_after=self.settle)
        self.now = Moment(START, TICK0)
        promise = Promise(freshness=round(case.freshness * SECOND), settle_after=self.settle)
        self.planner = policy(promise, self.now)
        self.governor = Governor(Share(per_second=case.per_second, concurrency=case.concurrency), TICK0)
        self.operations: dict[str, Operation] = {}
        self.answers: list[tuple[Micros, int, Request, Permit, Moment]] = []
        self.number = itertools.count()
        self.outcome = Outcome()
        self.measured_from = TICK0 + round(case.warm_up * SECOND)
        self.until = self.measured_from + round(case.seconds * SECOND)

    def run(self) -> Outcome:
        self._follow(self.world.running_at_start())
        while self.now.tick < self.until and not self._is_over():
            self._follow(self.world.live_until(self.now.at))
            while self.answers and self.answers[0][0] <= self.now.tick:
                _, _, request, permit, asked = heapq.heappop(self.answers)
                self._answer(request, permit, asked)
            self._ask()
            self._advance()
        low, high = self._instant(self.measured_from), self._instant(self.until)
        self.outcome.ended = sum(1 for one in self.operations if low <= self.world.ended[self.world.index[one]] < high)
        return self.outcome

    def _is_over(self) -> bool:
        return self.world.is_complete and self.outcome.finished == len(self.operations)

    def _instant(self, tick: Micros) -> Instant:
        return START + tick - TICK0

    def _follow(self, ids: list[str]) -> None:
        for operation_id in ids:
            operation = Operation(account="a", id=operation_id, source=Source.API, registered_at=self.now.at)
            self.operations[operation_id] = operation
            self.planner.follow(operation, self.now)

    def _ask(self) -> None:
        while self.governor.wait(self.now.tick) == 0:
            request = self.planner.choose(self.now)
            if request is None:
                return
            permit = self.governor.begin(self.now.tick)
            if self.now.tick >= self.measured_from:
                self.outcome.requests[_kind(request)] += 1
            due = self.now.tick + round(self.case.latency * SECOND)
            heapq.heappush(self.answers, (due, next(self.number), request, permit, self.now))

    def _answer(self, request: Request, permit: Permit, asked: Moment) -> None:
        now = self.now
        self.governor.end(permit, AttemptResult.GOOD, now.tick, retry_after=None, jitter=0.5)
        timing = Timing(asked=asked, answered=now)
        # Upstream reads its state when the request has travelled half of the round trip.
        seen_at = (asked.at + now.at) // 2
        self.planner.answered(request, now)
        match request:
            case Fetch(operation_id=operation_id):
                record = self.world.record(self.world.index[operation_id], seen_at)
                self._observe(operation_id, Seen(timing=timing, record=record))
            case Sweep():
                rows, token = self.world.page(request, seen_at)
                records = tuple(self.world.record(row, seen_at) for row in rows)
                for record in records:
                    if record.id in self.operations:
                        self._observe(str(record.id), Seen(timing=timing, record=record))
                self.planner.swept(request, Page(timing=timing, records=records, next_token=token), now)
            case Probe() | Discover():
                pass

    def _observe(self, operation_id: str, observation: Observation) -> None:
        before = self.operations[operation_id]
        if before.phase is Phase.FINAL:
            return
        if self._is_unchanged(before, observation):
            self.planner.learned(before, observation, self.now)
            return
        step = observe(before, observation, ClockReading(machine_at=self.now.at, upstream_at=self.now.at), self.rules)
        self.operations[operation_id] = step.operation
        if step.operation.learned_at is not None and before.learned_at is None:
            end = self.world.ended[self.world.index[operation_id]]
            if end >= self._instant(self.measured_from):
                self.outcome.delays.append((self.now.at - end) / SECOND)
        if before.status is Status.SCHEDULED and step.operation.status is not Status.SCHEDULED:
            # What is scheduled had its last change at its creation.
            began = self.world.begins if isinstance(self.world, Tomorrow) else self.now.at
            self.outcome.begun.append((self.now.at - began) / SECOND)
        if step.operation.phase is Phase.FINAL:
            self.outcome.finished += 1
        self.planner.learned(step.operation, observation, self.now)

    def _is_unchanged(self, operation: Operation, observation: Observation) -> bool:
        """Whether the lifecycle would only repeat itself: most of what sweeps show is as it was."""
        return isinstance(observation, Seen) and observation.record.word == operation.status == Status.PROCESSING

    def _advance(self) -> None:
        """To whatever comes next: an answer, a birth, or a question that may be asked."""
        ticks = [self.now.tick + 5 * SECOND, TICK0 + self.world.next_birth() - START]
        if self.answers:
            ticks.append(self.answers[0][0])
        wait = self.governor.wait(self.now.tick)
        wake = self.planner.wake_tick()
        if wake is not None and wait < FOREVER:
            ticks.append(max(wake, self.now.tick + wait))
        tick = max(min(ticks), self.now.tick + 1)
        self.now = Moment(START + tick - TICK0, tick)


def _kind(request: Request) -> str:
    match request:
        case Fetch():
            return "fetch"
        case Sweep(status=status):
            return "sweep all" if status is None else f"sweep {status}"
        case Probe() | Discover():
            return "probe"
