"""What to ask upstream next, and when to wake.

`freshness` is the promise: a change is known at most so long after it happened, while limits allow. Whoever is due longest decides what is asked next: the operation alone, or the
window of a list around it that spares the most looks (`windows`). So sweeps arrange themselves: what was shown together falls due together. Where the account's
share does not allow the promise, all grow late evenly and `lag` says by how much. Holds and back-off move the next look, never the promise.

A sweep only ever shows; absence is never an end. Who was not shown by a sweep that was read to its end has left that list and is looked at again, in
another way. A newly registered operation is looked at at once, unless another newcomer was less than `freshness` ago: then it waits for company. One that is scheduled is
looked at the less often the longer it has waited, for upstream does not say when it begins.

The planner answers with an `Ask` at a time and hears what became of it: first `answered`, then `learned` for each operation that it showed, then `swept`.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import deque
from typing import assert_never

import msgspec

from watcher.core.asks import Ask, Fetch, Probe, Sweep
from watcher.core.densities import Densities
from watcher.core.model import MINUTE, SECOND, Instant, Micros, Moment, Operation, Phase, Status, Value, created_hint
from watcher.core.observation import Missing, Observation, Page, Refused, Seen, Unanswered
from watcher.core.snapshot import NextLook
from watcher.core.windows import WORTHWHILE, Candidate, Window, grow

SETTLE_SLACK: Micros = 30 * SECOND
"""A settling read may come so much later than it is due."""

SETTLE_COMPANY: Micros = 25 * SECOND
"""So long, and at most as long as it was ahead, a settling read that is due waits for a sweep that shows it anyway, or for others to be swept
with, unless only a `FEW` are followed."""

FEW = 20

IDLE_EVERY: Micros = 5 * MINUTE
"""An account with nothing followed is asked so often, so that what we say of it is true."""

SCHEDULED_AT_MOST: Micros = 2 * MINUTE
SCHEDULED_SHARE = 3
"""A scheduled operation is looked at again after a third of the time that it has waited, at most after two minutes."""

MISSING_AT_MOST: Micros = 30 * SECOND
SLOW_TRY_EVERY: Micros = MINUTE
UNANSWERED_AT_MOST: Micros = 30 * SECOND
TRIES_OF_A_PAGE = 3
SWEEPS_AGAIN_AT_MOST: Micros = 10 * MINUTE
RISK_OF_THE_UNSEEN = 0.3
SWEPT_STATUSES = (Status.PROCESSING, Status.SCHEDULED)


class Promise(Value, frozen=True, kw_only=True):
    """What of the settings decides when operations are looked at."""

    freshness: Micros = 5 * SECOND
    settle_after: tuple[Micros, ...] = (30 * SECOND, 2 * MINUTE)


class _Look(msgspec.Struct, gc=False):
    """The next look at one operation.

    `turn` tells the heap entry that is still true, 0 that there is none. `since` is when it was last seen: from then on a look grows in worth until it is `due`. `place` is its
    creation, as far as that is known. `status` names the list that should show it, None for no list of one status. `alone`: no sweep is to be trusted with it.
    """

    due: Micros
    promised: Micros
    why: str
    turn: int = 0
    fruitless: int = 0
    since: Micros = 0
    place: Instant | None = None
    status: Status | None = None
    settles: bool = False
    alone: bool = False
    was_seen: bool = False
    how: str = "GET by id"


class _Tour(msgspec.Struct):
    """A sweep under way: who should be shown, what was, and how far it has come."""

    window: Window
    began: Micros
    members: set[str]
    created: list[tuple[Status | None, Instant]]
    tokens: set[str]
    exposure: float
    pages: int = 0
    restarts: int = 0
    tries: int = 0


class _Hazard:
    """How fast operations leave a list: the chance is `rate` × time passed / age, with `rate` learned.

    Lifetimes spread over orders of magnitude end at such a rate whatever their spread; where they do not, learning makes up for it.
    """

    def __init__(self) -> None:
        self._left, self._expected = 0.6, 5.0

    def of(self, passed: Micros, age: Micros) -> float:
        return min(self._left / self._expected * passed / max(age, SECOND), 1.0)

    def learn(self, left: int, passed_by_age: float) -> None:
        fading = 0.98
        self._left = self._left * fading + left
        self._expected = self._expected * fading + passed_by_age + 0.01


class Planner:
    """The looks ahead of one account. Pure: the present moment comes with every call."""

    def __init__(self, promise: Promise, now: Moment) -> None:
        self._promise = promise
        self._looks: dict[str, _Look] = {}
        self._order: list[tuple[Instant, str]] = []
        self._heap: list[tuple[Micros, int, str]] = []
        self._turns = 0
        self._asked: set[str] = set()
        self._tours: dict[int, _Tour] = {}
        self._pages: deque[Sweep] = deque()
        self._sweeps = 0
        self._fruitless_sweeps = 0
        self._sweeps_from: Micros = now.tick
        self._densities = Densities()
        self._hazard = _Hazard()
        self._newcomer_tick: Micros | None = None
        self._latency: Micros = 0
        self._probe_due: Micros = now.tick
        self._probe_under_way = False

    def adopt(self, promise: Promise) -> None:
        """A new promise from the operator; it holds from each operation's next look on."""
        self._promise = promise

    def follow(self, operation: Operation, now: Moment) -> None:
        """Plan the first look at an operation that is new here or was loaded."""
        if operation.phase is Phase.FINAL or operation.id in self._looks:
            return
        if operation.phase is Phase.SETTLING:
            self._plan(operation, now, *self._settling(operation, now))
            return
        freshness = self._promise.freshness
        due = now.tick
        if self._newcomer_tick is not None:
            due = max(due, min(self._newcomer_tick + freshness, now.tick + freshness))
        if due == now.tick:
            self._newcomer_tick = now.tick
        self._plan(operation, now, due, now.tick + freshness, "first look")

    def forget(self, operation_id: str) -> None:
        """No look is planned any more."""
        look = self._looks.pop(operation_id, None)
        if look is not None and look.place is not None:
            self._unplace(look.place, operation_id)

    # ── asking ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def choose(self, now: Moment) -> Ask | None:
        """The best question that is due, taken as asked; None when none is."""
        if self._pages:
            return self._pages.popleft()
        front = self._front()
        if front is not None and front[0] <= now.tick:
            _, _, operation_id = heapq.heappop(self._heap)
            window = self._best_window(operation_id, now)
            if window is not None:
                return self._begin(window, now)
            self._asked.add(operation_id)
            self._looks[operation_id].how = "GET by id"
            return Fetch(operation_id=operation_id)
        if self._probe_is_due(now):
            self._probe_under_way = True
            return Probe()
        return None

    def wake_tick(self) -> Micros | None:
        """When the next question falls due; None when none is planned."""
        if self._pages:
            return 0
        front = self._front()
        if front is not None:
            return front[0]
        return None if self._looks or self._probe_under_way else self._probe_due

    # ── hearing ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def answered(self, ask: Ask, now: Moment) -> None:
        """The question came back, whatever it brought."""
        self._probe_due = now.tick + IDLE_EVERY
        match ask:
            case Probe():
                self._probe_under_way = False
            case Fetch(operation_id=operation_id):
                self._asked.discard(operation_id)
            case Sweep():
                pass
            case _:
                assert_never(ask)

    def learned(self, operation: Operation, observation: Observation, now: Moment) -> None:
        """Plan the next look after what an observation made of the operation."""
        look = self._looks.get(operation.id)
        self._asked.discard(operation.id)
        if look is None or operation.phase is Phase.FINAL:
            self.forget(operation.id)
            return
        if isinstance(observation, Seen):
            look.fruitless, look.alone, look.was_seen = 0, False, True
            look.since = max(look.since, observation.timing.asked.tick)
            taken = observation.timing.answered.tick - observation.timing.asked.tick
            self._latency += (min(taken, self._promise.freshness) - self._latency) // 8
        else:
            look.fruitless += 1
        if operation.phase is Phase.SETTLING:
            self._plan(operation, now, *self._settling(operation, now))
        else:
            self._plan(operation, now, *self._following(operation, observation, look, now))

    def swept(self, ask: Sweep, answer: Page | Missing | Refused | Unanswered, now: Moment) -> None:
        """A page of a sweep came back, after `learned` for each operation on it."""
        tour = self._tours.get(ask.number)
        if tour is None:
            return
        match answer:
            case Page():
                self._turn_page(ask, tour, answer, now)
            case Refused() if ask.token is not None and not tour.restarts:
                # Tokens may go stale; the list is begun once more.
                tour.restarts += 1
                tour.tokens, tour.created = set(), []
                self._pages.append(_first_page(ask))
            case Unanswered() if tour.tries + 1 < TRIES_OF_A_PAGE:
                tour.tries += 1
                self._pages.append(ask)
            case Missing() | Refused() | Unanswered():
                if not tour.pages:
                    # Lists that give nothing at all are left alone for a while, the longer the more often that happens.
                    self._fruitless_sweeps += 1
                    wait = _growing(self._promise.freshness, self._fruitless_sweeps, SWEEPS_AGAIN_AT_MOST)
                    self._sweeps_from = now.tick + wait
                self._give_up(ask.number, tour, now)
            case _:
                assert_never(answer)

    # ── being asked ───────────────────────────────────────────────────────────────────────────────────────────────────

    def lag(self, now: Moment) -> Micros:
        """How far past its promise the latest look is; 0 when nothing is followed or all is in time."""
        return max((now.tick - look.promised for look in self._looks.values() if look.promised < now.tick), default=0)

    def next_look(self, operation_id: str) -> NextLook | None:
        """When, how and why an operation is looked at next."""
        look = self._looks.get(operation_id)
        if look is None:
            return None
        why = "asked about at this moment" if operation_id in self._asked else look.why
        return NextLook(due_tick=look.due, how=look.how, why=why)

    # ── when to look next ─────────────────────────────────────────────────────────────────────────────────────────────

    def _following(
        self, operation: Operation, observation: Observation, look: _Look, now: Moment
    ) -> tuple[Micros, Micros, str]:
        freshness = self._promise.freshness
        asked = observation.timing.asked.tick
        match observation:
            case Seen(retry_after=retry_after):
                if retry_after is not None and retry_after > freshness:
                    return now.tick + retry_after, now.tick + retry_after, "upstream asked to be left alone until then"
                if operation.status is Status.SCHEDULED:
                    wait = self._scheduled_wait(operation, now)
                    return asked + wait, asked + wait, "scheduled: the longer it has waited, the less often"
                promised = max(look.since, asked) + freshness
                return promised - self._margin(look), promised, "freshness after the last look"
            case Missing() if operation.missed:
                return now.tick + SLOW_TRY_EVERY, now.tick + SLOW_TRY_EVERY, "a slow try after the not-found grace"
            case Missing():
                wait = _growing(freshness, look.fruitless, MISSING_AT_MOST)
                return now.tick + wait, now.tick + wait, "not shown yet, within the not-found grace"
            case Unanswered() | Refused():
                wait = _growing(freshness, look.fruitless, UNANSWERED_AT_MOST)
                return now.tick + wait, look.promised, "the last look stayed without an answer"
            case _:
                assert_never(observation)

    def _margin(self, look: _Look) -> Micros:
        """Who is watched through the list of a status needs time for a second question when it has left that list."""
        if look.how.startswith("GET") or look.status is None:
            return 0
        return min(2 * self._latency, self._promise.freshness // 4)

    def _scheduled_wait(self, operation: Operation, now: Moment) -> Micros:
        created_at = operation.created_at if operation.created_at is not None else operation.registered_at
        waited = max(now.at - created_at, 0)
        return max(self._promise.freshness, min(waited // SCHEDULED_SHARE, SCHEDULED_AT_MOST))

    def _settling(self, operation: Operation, now: Moment) -> tuple[Micros, Micros, str]:
        step = operation.settled
        why = f"settling read {step + 1} of {len(self._promise.settle_after)}"
        if operation.unsettled_since is not None:
            return now.tick + SETTLE_SLACK, now.tick + 2 * SETTLE_SLACK, f"{why}, again after one that failed"
        # After a reload there may be fewer steps than were taken already, or none.
        steps = self._promise.settle_after or (0,)
        after = steps[min(step, len(steps) - 1)]
        learned_at = operation.learned_at if operation.learned_at is not None else now.at
        # Never later than the wait itself, whatever the wall clock did meanwhile.
        wait = min(max(learned_at + after - now.at, 0), after)
        return now.tick + wait, now.tick + wait + SETTLE_SLACK, why

    def _plan(self, operation: Operation, now: Moment, due: Micros, promised: Micros, why: str) -> None:
        look = self._looks.get(operation.id)
        if look is None:
            look = self._looks[operation.id] = _Look(due, promised, why, since=now.tick)
        look.due, look.promised, look.why = due, promised, why
        look.settles = operation.phase is Phase.SETTLING
        look.status = _list_of(operation.status)
        self._place(operation, look, now)
        if operation.id in self._asked:
            # The answer that is on its way plans what comes next.
            look.turn = 0
            return
        self._push(operation.id, look, self._acted_on(look))

    def _acted_on(self, look: _Look) -> Micros:
        """When a question is asked for this look, if no other has brought it before."""
        if not look.settles or len(self._looks) <= FEW:
            return look.due
        return look.due + min(SETTLE_COMPANY, max(look.due - look.since, 0))

    def _push(self, operation_id: str, look: _Look, tick: Micros) -> None:
        self._turns += 1
        look.turn = self._turns
        heapq.heappush(self._heap, (tick, self._turns, operation_id))

    def _front(self) -> tuple[Micros, int, str] | None:
        """The top of the heap, after dropping entries that are no longer true."""
        while self._heap:
            due, turn, operation_id = self._heap[0]
            look = self._looks.get(operation_id)
            if look is not None and look.turn == turn and operation_id not in self._asked:
                return due, turn, operation_id
            heapq.heappop(self._heap)
        return None

    def _probe_is_due(self, now: Moment) -> bool:
        return not self._looks and not self._probe_under_way and self._probe_due <= now.tick

    # ── sweeps ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _best_window(self, operation_id: str, now: Moment) -> Window | None:
        """The window that spares the most looks for a request; None where the operation is better asked for alone."""
        look = self._looks[operation_id]
        if look.alone or look.place is None or now.tick < self._sweeps_from:
            return None
        position = bisect_left(self._order, (look.place, operation_id))

        def candidate(at: int) -> Candidate | None:
            return self._candidate(at, now)

        lists = (None,) if look.status is None else (None, look.status)
        windows = [grow(position, len(self._order), candidate, status, self._densities) for status in lists]
        best = max(windows, key=lambda window: window.yield_)
        return best if best.yield_ >= WORTHWHILE else None

    def _candidate(self, position: int, now: Moment) -> Candidate | None:
        place, operation_id = self._order[position]
        if operation_id in self._asked:
            return None
        look = self._looks[operation_id]
        risk = 0.0
        if look.settles:
            worth = 1.0 if look.due <= now.tick else 0.0
        else:
            passed = now.tick - look.since
            worth = min(passed / max(look.due - look.since, 1), 1.0)
            risk = max(self._hazard.of(passed, now.at - place), 0.0 if look.was_seen else RISK_OF_THE_UNSEEN)
        return Candidate(operation_id, place, look.status, worth, risk)

    def _begin(self, window: Window, now: Moment) -> Sweep:
        self._sweeps += 1
        members = set(window.members)
        self._tours[self._sweeps] = _Tour(
            window=window, began=now.tick, members=members, created=[], tokens=set(), exposure=self._exposure(members, now)
        )
        self._asked |= members
        how = "sweep of all operations" if window.status is None else f"sweep of the {window.status} list"
        for operation_id in members:
            self._looks[operation_id].how = how
        return Sweep(number=self._sweeps, status=window.status, start=window.start, end=window.end)

    def _exposure(self, members: set[str], now: Moment) -> float:
        """Time passed since the last look by age, summed over those that were seen before."""
        looks = (self._looks[operation_id] for operation_id in members)
        return sum(
            (now.tick - look.since) / max(now.at - look.place, SECOND)
            for look in looks
            if look.was_seen and look.place is not None
        )

    def _turn_page(self, ask: Sweep, tour: _Tour, page: Page, now: Moment) -> None:
        tour.pages += 1
        tour.tries = 0
        self._fruitless_sweeps = 0
        tour.created += [
            (_listed(record.word), record.created_at) for record in page.records if record.created_at is not None
        ]
        token = page.next_token
        if token is None:
            self._complete(ask.number, tour, now)
        elif token in tour.tokens or tour.pages > tour.window.pages + 1:
            # Repeated tokens never end; and a list much longer than it is worth is better left.
            self._give_up(ask.number, tour, now)
        else:
            tour.tokens.add(token)
            self._pages.append(msgspec.structs.replace(ask, token=token))

    def _complete(self, number: int, tour: _Tour, now: Moment) -> None:
        """The sweep was read to its end: whom it did not show has left the list."""
        window = tour.window
        del self._tours[number]
        self._learn_densities(tour)
        vanished = self._not_shown(tour)
        if window.status is not None:
            left = sum(self._looks[operation_id].was_seen for operation_id in vanished)
            self._hazard.learn(left, tour.exposure)
        for operation_id in vanished:
            look = self._looks[operation_id]
            look.why = "it has left the list that showed it"
            if window.status is None:
                look.alone = True
            look.status = None
            self._release(operation_id, look, now.tick)

    def _give_up(self, number: int, tour: _Tour, now: Moment) -> None:
        """The sweep cannot be read to its end: what it showed is known, what it did not is asked for in another way."""
        del self._tours[number]
        window = tour.window
        self._densities.learn_some(window.status, window.start, window.end, [at for _, at in tour.created])
        for position, operation_id in enumerate(self._not_shown(tour)):
            look = self._looks[operation_id]
            # With each sweep that fails, one more is asked for by itself: that always gets on.
            look.alone = look.alone or position == 0
            self._release(operation_id, look, look.due)

    def _learn_densities(self, tour: _Tour) -> None:
        window = tour.window
        lists = (window.status,) if window.status is not None else (None, *SWEPT_STATUSES)
        for status in lists:
            created = [at for listed, at in tour.created if status in (None, listed)]
            self._densities.learn_whole(status, window.start, window.end, created)

    def _not_shown(self, tour: _Tour) -> list[str]:
        """Members that are still followed and that nothing has shown since the sweep began, the longest due first."""
        looks = [(look.due, one) for one in tour.members if (look := self._looks.get(one)) is not None]
        return [one for _, one in sorted(looks) if one in self._asked and self._looks[one].since < tour.began]

    def _release(self, operation_id: str, look: _Look, due: Micros) -> None:
        self._asked.discard(operation_id)
        look.due = due
        self._push(operation_id, look, due)

    # ── the order of creation ─────────────────────────────────────────────────────────────────────────────────────────

    def _place(self, operation: Operation, look: _Look, now: Moment) -> None:
        place = operation.created_at
        if place is None and look.place is None:
            place = created_hint(operation.id, now.at)
        if place is None or place == look.place:
            return
        if look.place is not None:
            self._unplace(look.place, operation.id)
        look.place = place
        insort(self._order, (place, operation.id))

    def _unplace(self, place: Instant, operation_id: str) -> None:
        position = bisect_left(self._order, (place, operation_id))
        del self._order[position]


def _growing(first: Micros, times: int, at_most: Micros) -> Micros:
    """Doubling from `first` with each time, up to `at_most` or `first` where that is more."""
    return min(first << min(max(times - 1, 0), 20), max(at_most, first))


def _list_of(status: Status) -> Status | None:
    """The list of one status that is likely to show it: most of what is new is being processed."""
    if status is Status.UNSEEN:
        return Status.PROCESSING
    return status if status in SWEPT_STATUSES else None


def _listed(word: str | None) -> Status | None:
    """The list of one status that a row with this word is on."""
    return next((status for status in SWEPT_STATUSES if status.value == word), None)


def _first_page(ask: Sweep) -> Sweep:
    return msgspec.structs.replace(ask, token=None)
