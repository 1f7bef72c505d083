"""No operation is lost, ended wrongly or counted twice, whatever times answers carry: thousands of small histories.

Beside all that `test_adversary` does to lists, each answer comes from one of several machines. They write whole
seconds, milliseconds or microseconds, some are ahead or behind, and now and then one writes a wrong `updatedAt`,
`createdAt` or `Date`, or a wrong end. Old answers come again, late ones overtake others, and our own clock may be wrong
as well. No lie is repeated as two answers a minute apart would repeat it: against that there is no defence.

`HISTORIES` in the environment sets the number; the seeds are fixed.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass

import msgspec
import pytest

from tests.core.test_adversary import HONEST_AFTER, START, Adversary, History, Life
from tests.support.factories import an_id
from watcher.core.channels import Stats
from watcher.core.clocks import ClockReading
from watcher.core.model import DAY, HOUR, MINUTE, SECOND, Instant, Micros, Moment, Phase, Status
from watcher.core.observation import Missing, Observation, Record, Seen, Timing

HISTORIES, CHUNKS = int(os.environ.get("HISTORIES", "1600")), 16
CACHED_FOR = 50 * SECOND
LIES = ("misdated", "misborn", "misended", "mistimed", "replayed", "timeless")


@dataclass(frozen=True)
class Machine:
    """One of those that answer: how far its clock is off, and how exactly it writes instants."""

    ahead: Micros
    unit: Micros

    def writes(self, instant: Instant) -> Instant:
        return (instant + self.ahead) // self.unit * self.unit


@dataclass(frozen=True)
class MovingLife(Life):
    """Its stats move once more, a while after the end."""

    moves: Instant

    def record(self, at: Instant, *, with_created: bool = True) -> Record:
        record = super().record(at, with_created=with_created)
        if at < self.ends:
            return record
        stats = Stats(total=3, sent=2 if at < self.moves else 3)
        return msgspec.structs.replace(record, stats=stats, updated_at=self.moves if at >= self.moves else self.ends)


class Liar(Adversary):
    """An adversary with several clocks."""

    def __init__(self, rng: random.Random) -> None:
        self.ours_ahead = rng.choice((0, 0, 0, 0, 3 * HOUR, -3 * HOUR, 9 * DAY, -9 * DAY))
        super().__init__(rng)
        self.honest_after = rng.choice((HONEST_AFTER, HONEST_AFTER, HONEST_AFTER, 6 * MINUTE))
        self.has_dates = rng.random() < 0.8
        offsets = (0, 0, 40_000, -40_000, 30 * MINUTE, -30 * MINUTE, 9 * DAY)
        self.machines = [Machine(rng.choice(offsets), rng.choice((1, 1000, SECOND))) for _ in range(3)]
        self.likely |= {lie: rng.choice((0, 0, 0.2, 0.6)) for lie in LIES}
        self.ours = [self._renamed(number, one) for number, one in enumerate(self.ours[:3])]
        self.shown: dict[str, tuple[Micros, Record]] = {}
        self.has_misended: set[str] = set()
        self.has_misborn: set[str] = set()
        self.missing_since: dict[str, Instant] = {}

    def _renamed(self, number: int, operation_id: str) -> str:
        """Some ids contain no time."""
        life = self.lives.pop(operation_id)
        name = an_id(number) if self.rng.random() < 0.4 else operation_id
        moves = life.ends + self.rng.choice((0, 0, 2, 20, 60)) * SECOND
        parts = {field: getattr(life, field) for field in ("created", "begins", "ends", "outcome")}
        self.lives[name] = MovingLife(id=name, **parts, moves=moves)
        return name

    def seen_at(self, now: Moment) -> Instant:
        return super().seen_at(now) - self.ours_ahead

    def fetch(self, operation_id: str, timing: Timing) -> Observation:
        answer = super().fetch(operation_id, timing)
        since = self.missing_since.get(operation_id)
        now = timing.asked.at
        if isinstance(answer, Seen):
            self.missing_since.pop(operation_id, None)
        elif not isinstance(answer, Missing):
            return answer
        elif since is None:
            self.missing_since[operation_id] = now
        elif now - since > CACHED_FOR and now - self.ours_ahead >= self.lives[operation_id].created:
            # Said again a minute later it would be believed.
            return super().fetch(operation_id, replace_asked(timing, START.later(self.honest_after)))
        return answer

    def record(self, life: Life, at: Instant, now: Moment) -> Record:
        machine = self.rng.choice(self.machines)
        record = super().record(life, at, now)
        first_tick, again = self.shown.get(life.id, (0, record))
        if now.tick < first_tick + CACHED_FOR and self.does("replayed", now):
            return again
        honest = now.tick >= START.tick + self.honest_after
        writer = Machine(0, machine.unit) if honest else machine
        changes: dict[str, object] = {"updated_at": writer.writes(record.updated_at or 0)}
        if record.created_at is not None:
            changes["created_at"] = Machine(0, machine.unit).writes(record.created_at)
        if self.does("misdated", now):
            changes["updated_at"] = at + self.rng.randint(-HOUR, HOUR)
        if self.does("misborn", now):
            # The same wrong one a minute later would be believed.
            born = 0 if life.id not in self.has_misborn else at - self.rng.randint(0, 30 * DAY)
            self.has_misborn.add(life.id)
            changes["created_at"] = self.rng.choice((born, at + self.rng.randint(0, HOUR)))
        if at < life.ends and life.id not in self.has_misended and self.does("misended", now):
            self.has_misended.add(life.id)
            changes["word"] = self.rng.choice((Status.COMPLETED, Status.CANCELED)).value
            return msgspec.structs.replace(record, **changes)
        shown = msgspec.structs.replace(record, **changes)
        self.shown[life.id] = (now.tick, shown)
        return shown

    def date(self, now: Moment) -> Instant | None:
        if not self.has_dates or self.does("timeless", now):
            return None
        # Both clocks wrong by the same would be the present.
        ahead = self.rng.randint(-9 * DAY, 9 * DAY if self.ours_ahead <= 0 else 0) if self.does("mistimed", now) else 0
        return (now.at - self.ours_ahead + ahead) // SECOND * SECOND


def replace_asked(timing: Timing, asked: Moment) -> Timing:
    return msgspec.structs.replace(timing, asked=Moment(timing.asked.at, asked.tick))


class LongHistory(History):
    """Ours is a clock of its own, and an end that was taken back takes its time."""

    adversary = Liar
    over_after = 3 * HOUR

    def reading(self) -> ClockReading:
        return self.clock.read(self.now)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_nothing_is_lost_ended_wrongly_or_counted_twice_whatever_times_answers_carry(chunk: int) -> None:
    for seed in range(chunk * HISTORIES // CHUNKS, (chunk + 1) * HISTORIES // CHUNKS):
        history = LongHistory(seed)
        history.run()
        lives = history.upstream.lives
        ended = {one: (operation.status, operation.phase) for one, operation in history.operations.items()}
        assert ended == {one: (lives[one].outcome, Phase.FINAL) for one in history.operations}, seed
        assert len(history.tallies) == len(history.operations), seed
        assert all((tally.stats.sent or 0) >= 2 for tally in history.tallies), seed
