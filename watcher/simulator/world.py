"""All lives, by account and present status. Time advances only on request; equal seeds give equal worlds."""

import heapq
import random
from collections.abc import Iterator

import msgspec

from watcher.simulator.ids import make_id
from watcher.simulator.life import ENDED, Life, Status, turns
from watcher.simulator.population import Plan, arrivals_per_second, draw_plan, live, scripted
from watcher.simulator.scenario import Scenario
from watcher.simulator.timeline import Timeline
from watcher.simulator.timestamps import SECOND

# Longest step of time, after which lives older than the retention are dropped.
_STRIDE = 3600 * SECOND
_NOTHING = Timeline()


class World:
    """The operations of a scenario, from `started_at` on."""

    def __init__(self, scenario: Scenario, started_at: int) -> None:
        self.started_at = started_at
        self._scenario = scenario
        self._now = started_at
        # Sends of clients must not change which operations arrive, so each has its own random generator.
        self._rng = random.Random(scenario.seed)  # noqa: S311 - repeatable, nothing secret
        self._rng_of_sends = random.Random(f"{scenario.seed} sends")  # noqa: S311 - as above
        self._lives: dict[str, Life] = {}
        self._standing: dict[str, Status] = {}
        self._timelines: dict[tuple[str, Status | None], Timeline] = {}
        # A heap of coming changes: time, number (so that lives are never compared), life, index into its turns.
        self._coming: list[tuple[int, int, Life, int]] = []
        self._number = 0
        self._rate = arrivals_per_second(scenario.population) / SECOND
        self._populate()
        self._next_arrival_at = self._draw_arrival(started_at, self._rng)
        self.advance(started_at)

    def advance(self, now: int) -> None:
        """Apply all changes until `now`. An earlier time changes nothing."""
        while self._now < now:
            self._live_until(min(now, self._now + _STRIDE))
        self._live_until(self._now)

    def find(self, operation_id: str) -> Life | None:
        """Return the life of that id, of any account; None if it does not exist yet or is past its retention."""
        return self._lives.get(operation_id)

    def timeline(self, account_id: str, status: Status | None) -> Timeline:
        """Return the lives of the account that have the status now; all of them for None."""
        return self._timelines.get((account_id, status), _NOTHING)

    def lives(self) -> Iterator[Life]:
        """Return all lives of all accounts."""
        return iter(self._lives.values())

    def in_flight(self) -> int:
        """Return the number of lives that have not ended."""
        return sum(len(found) for (_, status), found in self._timelines.items() if status and status not in ENDED)

    def send(self, account_id: str, now: int, **wanted: float | None) -> Life:
        """Create an operation, drawn from the population except for the given fields of its plan."""
        self.advance(now)
        plan = msgspec.structs.replace(draw_plan(self._scenario.population, self._rng_of_sends), **wanted)
        plan = msgspec.structs.replace(plan, unaddressable=min(plan.unaddressable, plan.recipients))
        plan = msgspec.structs.replace(plan, failed=min(plan.failed, plan.recipients - plan.unaddressable))
        life = self._begin(plan, account_id, now, self._rng_of_sends)
        self.advance(now)
        return life

    def _populate(self) -> None:
        for script in self._scenario.operations:
            account_id = script.account or self._scenario.accounts[0].account_id
            self._expect(
                scripted(script, account_id=account_id, started_at=self.started_at, rng=self._rng),
            )
        for _ in range(self._scenario.population.in_flight):
            plan = draw_plan(self._scenario.population, self._rng, in_flight=True)
            age = int((plan.scheduled_for + plan.lifetime) * (plan.canceled_at or 1) * self._rng.random())
            age = min(age, self._scenario.retention - 1)
            self._begin(plan, self._draw_account(self._rng), self.started_at - age, self._rng)
        self._populate_history()

    def _populate_history(self) -> None:
        """Create operations of the time before the start, at the rate of later arrivals.

        Operations that would still run are left out: `in_flight` is the exact number that run at the start.
        """
        population = self._scenario.population
        # A random generator of its own, so that a history does not change running and later operations.
        rng = random.Random(f"{self._scenario.seed} history")  # noqa: S311 - as above
        oldest = self.started_at - min(population.history, self._scenario.retention - 1)
        created_at = self._draw_arrival(oldest, rng)
        while created_at is not None and created_at < self.started_at:
            plan, account_id = draw_plan(population, rng), self._draw_account(rng)
            life = live(plan, account_id=account_id, operation_id=make_id(created_at, rng), created_at=created_at)
            if life.ended_at <= self.started_at:
                self._expect(life)
            created_at = self._draw_arrival(created_at, rng)

    def _begin(self, plan: Plan, account_id: str, created_at: int, rng: random.Random) -> Life:
        operation_id = make_id(created_at, rng)
        life = live(plan, account_id=account_id, operation_id=operation_id, created_at=created_at)
        self._expect(life)
        return life

    def _expect(self, life: Life) -> None:
        self._await_turn(life, 0, life.created_at)

    def _await_turn(self, life: Life, position: int, at: int) -> None:
        self._number += 1
        heapq.heappush(self._coming, (at, self._number, life, position))

    def _live_until(self, now: int) -> None:
        while self._next_arrival_at is not None and self._next_arrival_at <= now:
            created_at = self._next_arrival_at
            plan = draw_plan(self._scenario.population, self._rng)
            self._begin(plan, self._draw_account(self._rng), created_at, self._rng)
            self._next_arrival_at = self._draw_arrival(created_at, self._rng)
        while self._coming and self._coming[0][0] <= now:
            _, _, life, position = heapq.heappop(self._coming)
            self._turn(life, position)
        self._now = now
        self._forget(now - self._scenario.retention)

    def _turn(self, life: Life, position: int) -> None:
        ahead = turns(life)
        status = ahead[position][1]
        if position == 0:
            self._lives[life.id] = life
            self._line(life.account_id, None).add(life)
        elif life.id in self._lives:
            self._line(life.account_id, self._standing[life.id]).remove(life)
        else:  # dropped by the retention before it ended
            return
        self._standing[life.id] = status
        self._line(life.account_id, status).add(life)
        if position + 1 < len(ahead):
            self._await_turn(life, position + 1, ahead[position + 1][0])

    def _forget(self, created_until: int) -> None:
        for account in self._scenario.accounts:
            everything = self._line(account.account_id, None)
            while (life := everything.oldest()) is not None and life.created_at <= created_until:
                everything.remove(life)
                self._line(account.account_id, self._standing.pop(life.id)).remove(life)
                del self._lives[life.id]

    def _line(self, account_id: str, status: Status | None) -> Timeline:
        return self._timelines.setdefault((account_id, status), Timeline())

    def _draw_account(self, rng: random.Random) -> str:
        accounts = self._scenario.accounts
        if len(accounts) == 1:
            return accounts[0].account_id
        return rng.choices(accounts, [account.weight for account in accounts])[0].account_id

    def _draw_arrival(self, after: int, rng: random.Random) -> int | None:
        return after + 1 + round(rng.expovariate(self._rate)) if self._rate else None
