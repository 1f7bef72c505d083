"""No operation is ever missed, whatever lists and clocks do: thousands of small histories of one account.

Rows become visible late, and later still in lists of one status. They are reordered, and carry wrong creations now and
then. Answers carry a `Date` that is right, missing, frozen, wrong at times or wrong throughout, and the machine's clock
is ahead, behind, or corrected. Pages fail, and the process is restarted with what it had stored.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from watcher.core.clocks import UpstreamClock
from watcher.core.discovery import SOON, Discovery, DiscoveryProgress, Scope
from watcher.core.model import DAY, HOUR, MINUTE, SECOND, Instant, Micros, Moment
from watcher.core.observation import FailureCause, Page, Record, Refused, Timing, Unanswered
from watcher.core.requests import Discover
from watcher.simulator.ids import make_id

HISTORIES = int(os.environ.get("HISTORIES", "480"))
CHUNKS = 16
START: Instant = 1_790_000_000 * SECOND
SCOPE = Scope(every=5 * SECOND, since=6 * HOUR)
LARGE_PAGE = 1000
COMING: Micros = 6 * MINUTE
OVER_AFTER: Micros = COMING + 20 * MINUTE
"""What becomes visible 14 min late is shown by a wide round within a few minutes."""


@dataclass(frozen=True)
class Life:
    """What is true of one operation."""

    id: str
    created: Instant
    visible: Instant
    listed: Instant
    begins: Instant
    ends: Instant

    def word(self, at: Instant) -> str:
        return "SCHEDULED" if at < self.begins else "PROCESSING" if at < self.ends else "COMPLETED"

    def indexed_word(self, at: Instant) -> str:
        """Under which status it is listed: an index may lag."""
        return self.word(at - (self.listed - self.created))


class World:
    """The account and its clocks, as this history drew them."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.date = rng.choice(["right", "right", "none", "frozen", "at_times", "ahead", "behind"])
        self.date_off = rng.choice([5 * MINUTE, HOUR, 9 * DAY])
        self.machine_off = rng.choice([0, 0, 0, 3 * HOUR, -3 * HOUR])
        if self.date in {"ahead", "at_times"}:
            self.machine_off = min(self.machine_off, 0)  # two clocks that are ahead together would be believed
        self.corrected_at = START + rng.choice([10 * MINUTE, 2 * DAY])
        self.has_times = rng.random() < 0.7
        self.newest_first = rng.random() < 0.5
        self.page = rng.choice([10, LARGE_PAGE])
        self.fails = rng.choice([0.0, 0.1])
        self.garbles = rng.choice([0.0, 0.02])
        self.lag = rng.choice([0, 5 * SECOND, 80 * SECOND, 14 * MINUTE])
        self.index_lag = rng.choice([0, 0, 60 * SECOND])
        self.number = 0
        self.lives = [self._life(START - rng.randrange(HOUR)) for _ in range(rng.randrange(12))]
        self.lives += [self._life(START + rng.randrange(COMING)) for _ in range(rng.randrange(20))]
        if rng.random() < 0.3:
            burst = START + rng.randrange(COMING)
            self.lives += [self._life(burst + rng.randrange(SECOND)) for _ in range(40)]

    def _life(self, created: Instant) -> Life:
        rng, self.number = self.rng, self.number + 1
        identity = make_id(created, rng) if self.has_times else f"comms_operation_7{self.number:025}"
        begins = created + rng.choice([0, 0, 30 * SECOND, 5 * MINUTE])
        visible = created + round(self.lag * rng.random())
        listed = created + round(self.index_lag * rng.random())
        ends = begins + round(2 ** rng.uniform(0, 11) * SECOND)
        return Life(identity, created, visible, listed, begins, ends)

    def machine_at(self, at: Instant) -> Instant:
        return at + (self.machine_off if at < self.corrected_at else 0)

    def date_at(self, at: Instant) -> Instant | None:
        right = at // SECOND * SECOND
        match self.date:
            case "right":
                return right
            case "none":
                return None
            case "frozen":
                return START
            case "at_times":
                return right + (self.date_off * self.rng.choice([1, -1]) if self.rng.random() < 0.1 else 0)
            case "ahead":
                return right + self.date_off
        return right - self.date_off

    def answer(self, request: Discover, now: Moment, true_at: Instant) -> Page | Unanswered | Refused:
        later = Moment(self.machine_at(true_at + SECOND // 10), now.tick + SECOND // 10)
        timing = Timing(asked=now, answered=later, date=self.date_at(true_at))
        if self.rng.random() < self.fails:
            if request.token is not None and self.rng.random() < 0.3:
                return Refused(timing=timing)
            return Unanswered(timing=timing, cause=FailureCause.TIMEOUT)
        rows = [life for life in self.lives if self._is_on(life, request, true_at)]
        rows.sort(key=lambda life: (life.created, life.id), reverse=self.newest_first)
        if request.token is not None:
            created, identity = request.token.split("/")
            place = int(created), identity
            rows = [row for row in rows if ((row.created, row.id) < place) is self.newest_first and row.id != identity]
        shown, rest = rows[: self.page], rows[self.page :]
        token = f"{shown[-1].created}/{shown[-1].id}" if rest else None
        records = [self._record(life, true_at) for life in shown]
        self.rng.shuffle(records)
        return Page(timing=timing, records=tuple(records), next_token=token)

    def _is_on(self, life: Life, request: Discover, at: Instant) -> bool:
        if life.visible > at or life.created > at or life.created <= request.start:
            return False
        if request.end is not None and life.created >= request.end:
            return False
        return request.status is None or life.indexed_word(at) == request.status

    def _record(self, life: Life, at: Instant) -> Record:
        created_at = life.created
        if self.rng.random() < self.garbles:
            created_at = self.rng.choice([0, START - 300 * DAY, at + 30 * MINUTE])
        steps = [step for step in (life.created, life.begins, life.ends) if step <= at] or [life.created]
        return Record(id=life.id, word=life.word(at), created_at=created_at, updated_at=max(steps))


class Process:
    """Discovery with its clock, as one process runs it; only `progress` outlives it."""

    def __init__(self, progress: DiscoveryProgress, now: Moment) -> None:
        self.clock = UpstreamClock()
        self.discovery = Discovery(SCOPE, progress, now)


@dataclass
class Played:
    """The result of one history: ids found, ids ignored, pages read, and when the first answer was requested.

    That is the first answer of the process that completed the first round; one that ended before leaves nothing.
    """

    world: World
    found: set[str]
    passed: set[str]
    pages: int = 0
    answered_at: Instant | None = None

    def lost(self) -> Sequence[Life]:
        """What had not ended soon after discovery began, and was visible within 15 min, but was never found."""
        began = (self.answered_at or START) + SOON + SECOND
        return [life for life in self.world.lives if life.ends > began and life.id not in self.found]

    def passed_wrongly(self) -> set[str]:
        """What was taken for ended before discovery began, though it was created later."""
        began = (self.answered_at or START) + SECOND
        return self.passed & {life.id for life in self.world.lives if life.created > began}


def play(seed: int) -> Played:
    """One history, drawn from the seed."""
    rng = random.Random(seed)
    world = World(rng)
    played = Played(world, set(), set())
    after, progress = 0, DiscoveryProgress()
    restarts = sorted(rng.randrange(COMING + 10 * MINUTE) for _ in range(rng.choice([0, 0, 1, 3])))
    process = Process(progress, Moment(world.machine_at(START), 1000 * SECOND))
    while after < OVER_AFTER:
        true_at = START + after
        now = Moment(world.machine_at(true_at), 1000 * SECOND + after)
        if restarts and restarts[0] <= after:
            del restarts[0]
            process = Process(progress, now)
            if progress == DiscoveryProgress():
                played.answered_at = None  # discovery begins with the process that first has something to store
        request = process.discovery.choose(now, process.clock.read(now))
        if request is None:
            after = max((process.discovery.wake_tick() or 0) - 1000 * SECOND, after + 1)
            continue
        answer = world.answer(request, now, true_at)
        after += SECOND // 10
        played.pages += 1
        process.clock.note(answer.timing)
        later = answer.timing.answered
        if not isinstance(answer, Page):
            process.discovery.failed(answer, later)
            continue
        if played.answered_at is None:
            played.answered_at = true_at
        chosen = process.discovery.sort(answer)
        played.passed |= {record.id or "" for record in chosen.ended_before} - played.found
        played.found |= {record.id or "" for record in chosen.wanted} - played.passed
        progress = process.discovery.committed(request, answer, later, process.clock.read(later)) or progress
    return played


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_operation_that_had_not_ended_is_found(chunk: int) -> None:
    for seed in range(chunk, HISTORIES, CHUNKS):
        played = play(seed)
        assert not played.lost(), (seed, vars(played.world))
        assert not played.passed_wrongly(), seed
        if played.world.page == LARGE_PAGE:
            assert played.pages < OVER_AFTER // SCOPE.every * 1.2, seed
