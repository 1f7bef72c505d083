"""What is asked next and when: freshness within the budget, evenly late beyond it."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.factories import (
    NOW,
    PLAIN_ID,
    TICK,
    a_final_operation,
    a_running_operation,
    a_settling_operation,
    an_id,
    an_operation,
    at,
    forbidden,
    missing,
    refused,
    seen,
    unanswered,
)
from tests.support.strategies import unhurried
from watcher.core.governor import FOREVER, AttemptResult, Governor, Permit, Share
from watcher.core.model import MINUTE, SECOND, Micros, Moment, Operation, Stats, Status
from watcher.core.observation import Observation, Record, Seen, Timing
from watcher.core.planner import IDLE_EVERY, Planner, Promise
from watcher.core.polls import SETTLE_SLACK, Poll, running_plan, second_question
from watcher.core.requests import Fetch, Probe, Request
from watcher.core.snapshot import NextPoll

PROMISE = Promise(freshness=5 * SECOND, settle_after=(30 * SECOND, 2 * MINUTE))


def a_planner(*operations: Operation, promise: Promise = PROMISE) -> Planner:
    planner = Planner(promise, at())
    for operation in operations:
        planner.follow(operation, at())
    return planner


def poll(
    planner: Planner, operation: Operation, observation: Observation, *, learned: Operation | None = None
) -> NextPoll:
    """One look from question to answer, and what is planned then."""
    asked, answered = observation.timing.asked, observation.timing.answered
    request = planner.choose(asked)
    assert request == Fetch(operation_id=operation.id)
    planner.answered(request, answered)
    planner.learned(learned or operation, observation, answered)
    following = planner.next_poll(operation.id)
    assert following is not None
    return following


def due(following: NextPoll) -> float:
    """When the look is due, in seconds into the test."""
    return (following.due_tick - TICK) / SECOND


# ── one operation ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_new_is_asked_about_at_once():
    planner = a_planner(an_operation())
    assert planner.next_poll(PLAIN_ID) == NextPoll(due_tick=TICK, how="GET by id", why="first poll")
    assert planner.wake_tick() == TICK
    assert planner.choose(at()) == Fetch(operation_id=PLAIN_ID)


def test_what_is_asked_about_is_not_asked_again_before_the_answer():
    planner = a_planner(an_operation())
    planner.choose(at())
    assert planner.choose(at(3600)) is None
    assert planner.wake_tick() is None
    following = planner.next_poll(PLAIN_ID)
    assert following is not None
    assert following.why == "asked about at this moment"


def test_what_was_seen_is_asked_about_again_freshness_after_it_was_asked():
    planner = a_planner(a_running_operation())
    following = poll(planner, a_running_operation(), seen(seconds=1))
    assert (due(following), following.why) == (6, "freshness after the last poll")
    assert planner.choose(at(5.999)) is None
    assert planner.wake_tick() == at(6).tick
    assert planner.choose(at(6)) == Fetch(operation_id=PLAIN_ID)


def test_a_hint_of_upstream_is_a_floor():
    planner = a_planner(a_running_operation())
    hinted = Seen(timing=seen().timing, record=seen().record, retry_after=60 * SECOND)
    following = poll(planner, a_running_operation(), hinted)
    assert (due(following), following.why) == (60.1, "upstream asked to be left alone until then")
    assert planner.lag(at(60)) == 0


def test_a_hint_below_freshness_changes_nothing():
    hinted = Seen(timing=seen().timing, record=seen().record, retry_after=4 * SECOND)
    assert due(poll(a_planner(a_running_operation()), a_running_operation(), hinted)) == 5


def test_looks_without_an_answer_back_off_up_to_half_a_minute_and_the_promise_stays():
    operation = a_running_operation()
    planner, waits, seconds = a_planner(operation), [], 0.0
    for _ in range(5):
        following = poll(planner, operation, unanswered(seconds))
        assert following.why == "the last poll was not answered"
        waits.append(round(due(following) - seconds - 0.1, 6))
        seconds = due(following)
    assert waits == [5, 10, 20, 30, 30]
    assert planner.lag(at(100)) == 95 * SECOND


def test_one_answer_begins_the_back_off_anew():
    operation = a_running_operation()
    planner = a_planner(operation)
    poll(planner, operation, unanswered(0))
    poll(planner, operation, unanswered(10))
    poll(planner, operation, seen(seconds=30))
    assert due(poll(planner, operation, unanswered(40))) == 45.1


def test_a_refusal_that_ended_nothing_backs_off_too():
    assert due(poll(a_planner(a_running_operation()), a_running_operation(), refused())) == 5.1


def test_what_is_not_shown_yet_is_asked_about_ever_more_slowly():
    planner, waits, seconds = a_planner(an_operation()), [], 0.0
    for _ in range(5):
        following = poll(planner, an_operation(), missing(seconds))
        assert following.why == "not shown yet, within the not-found grace"
        waits.append(round(due(following) - seconds - 0.1, 6))
        seconds = due(following)
    assert waits == [5, 10, 20, 30, 30]
    assert planner.lag(at(seconds)) == 0


def test_beyond_the_grace_tries_are_slow():
    following = poll(a_planner(an_operation()), an_operation(), missing(), learned=an_operation(missed=1))
    assert (due(following), following.why) == (60.1, "a slow try before it is given up")
    following = poll(a_planner(an_operation()), an_operation(), refused(), learned=an_operation(missed=1))
    assert (due(following), following.why) == (60.1, "a slow try before it is given up")


def test_a_freshness_above_the_back_off_is_kept():
    planner = a_planner(an_operation(), promise=Promise(freshness=2 * MINUTE))
    assert due(poll(planner, an_operation(), unanswered())) == 120.1


def test_what_has_ended_is_asked_about_when_it_settles():
    planner = a_planner(a_running_operation())
    ended = a_settling_operation(learned_at=at(0.1).at)
    following = poll(planner, a_running_operation(), seen("COMPLETED"), learned=ended)
    assert (due(following), following.why) == (30.1, "settling read 1 of 2")
    following = poll(planner, ended, seen("COMPLETED", seconds=40), learned=ended.with_(settled=1))
    assert (due(following), following.why) == (120.1, "settling read 2 of 2")
    assert planner.lag(at(150)) == 0
    assert planner.lag(at(151)) == 151 * SECOND - (120_100_000 + SETTLE_SLACK)


def test_a_settling_read_that_failed_is_tried_again_within_its_slack():
    operation = a_settling_operation(learned_at=NOW - 60 * SECOND)
    planner = a_planner(operation)
    following = poll(planner, operation, unanswered(), learned=operation.with_(unsettled_since=NOW))
    assert (due(following), following.why) == (30.1, "settling read 1 of 2, again after one that failed")
    assert planner.lag(at(60)) == 0


def test_settling_reads_overdue_from_before_a_restart_are_due_at_once():
    planner = a_planner(a_settling_operation(learned_at=NOW - 3600 * SECOND))
    assert planner.choose(at()) == Fetch(operation_id=PLAIN_ID)


@pytest.mark.parametrize("learned_at", [NOW + 3600 * SECOND, None])
def test_no_settling_read_waits_longer_than_its_wait_whatever_the_clock_did(learned_at: int | None):
    planner = a_planner(a_settling_operation(learned_at=learned_at))
    assert planner.wake_tick() == at(30).tick


@pytest.mark.parametrize(("steps", "waits"), [((), 0), ((10 * SECOND,), 10)])
def test_fewer_settling_reads_after_a_reload_are_no_trouble(steps: tuple[Micros, ...], waits: float):
    planner = a_planner(promise=Promise(settle_after=steps))
    planner.follow(a_settling_operation(settled=3), at())
    assert planner.wake_tick() == at(waits).tick


def test_what_is_final_is_never_asked_about_again():
    planner = a_planner(a_final_operation())
    assert planner.next_poll(PLAIN_ID) is None
    planner.follow(a_settling_operation(learned_at=NOW - MINUTE), at())
    request = planner.choose(at())
    assert request == Fetch(operation_id=PLAIN_ID)
    planner.answered(request, at(1))
    planner.learned(a_final_operation(), seen("COMPLETED"), at(1))
    assert planner.next_poll(PLAIN_ID) is None
    assert planner.lag(at(3600)) == 0


def test_what_is_forgotten_is_not_asked_about():
    planner = a_planner(an_operation(), an_operation(id=an_id(2)))
    planner.forget(PLAIN_ID)
    assert planner.choose(at(5)) == Fetch(operation_id=an_id(2))
    planner.forget(an_id(2))
    planner.learned(an_operation(id=an_id(2)), seen(), at(1))
    assert planner.next_poll(an_id(2)) is None


def test_following_twice_plans_once():
    planner = a_planner(an_operation(), an_operation())
    assert planner.choose(at()) == Fetch(operation_id=PLAIN_ID)
    assert planner.choose(at()) is None


@pytest.mark.parametrize("again", [an_operation(), a_settling_operation(learned_at=NOW - MINUTE)])
def test_what_is_followed_anew_while_it_is_asked_about_waits_for_that_answer(again: Operation):
    planner = a_planner(an_operation())
    request = planner.choose(at())
    planner.forget(PLAIN_ID)
    planner.follow(again, at())
    assert planner.choose(at(60)) is None
    assert request is not None
    planner.answered(request, at(60))
    planner.learned(a_running_operation(), seen(seconds=0), at(60))
    assert planner.choose(at(60)) == request


def test_a_new_promise_holds_from_the_next_look_on():
    planner = a_planner(a_running_operation())
    poll(planner, a_running_operation(), seen())
    planner.adopt(Promise(freshness=SECOND))
    assert planner.wake_tick() == at(5).tick
    assert due(poll(planner, a_running_operation(), seen(seconds=5))) == 6


def test_lag_is_that_of_the_latest_look():
    planner = a_planner()
    assert planner.lag(at(3600)) == 0
    planner.follow(an_operation(), at())
    planner.follow(an_operation(id=an_id(2)), at(10))
    assert [planner.lag(at(seconds)) for seconds in (5, 6, 20)] == [0, SECOND, 15 * SECOND]


# ── the probe ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_idle_account_is_asked_once_at_the_start_and_every_five_minutes():
    planner = a_planner()
    assert planner.wake_tick() == TICK
    assert planner.choose(at()) == Probe()
    assert planner.choose(at(600)) is None
    assert planner.wake_tick() is None
    planner.answered(Probe(), at(1))
    assert planner.wake_tick() == at(1).tick + IDLE_EVERY
    assert planner.choose(at(300)) is None
    assert planner.choose(at(301)) == Probe()


def test_an_account_with_something_followed_is_not_probed():
    planner = a_planner(a_running_operation())
    poll(planner, a_running_operation(), seen())
    assert planner.choose(at(4)) is None
    planner.forget(PLAIN_ID)
    assert planner.choose(at(4)) is None
    assert planner.choose(at(301)) == Probe()


# ── many operations under a governor ─────────────────────────────────────────────────────────────────────────────────


def watched(
    count: int, seconds: int, share: Share, *, latency: Micros = 100_000
) -> tuple[dict[str, list[Micros]], list[Micros]]:
    """When each of so many running operations was asked about, and the lag at each question."""
    planner, governor = Planner(PROMISE, at()), Governor(share, TICK)
    # Without a known creation nothing can be swept, so that all of it is GETs.
    ids = [an_id(number) for number in range(count)]
    operations = {one: a_running_operation(id=one, created_at=None) for one in ids}
    for operation in operations.values():
        planner.follow(operation, at())
    asked: dict[str, list[Micros]] = {operation_id: [] for operation_id in operations}
    flights: list[tuple[Micros, str, Permit]] = []
    lags, now = [], at()
    while now.tick < at(seconds).tick:
        while flights and flights[0][0] <= now.tick:
            _, operation_id, permit = heapq.heappop(flights)
            governor.end(permit, AttemptResult.GOOD, now.tick, retry_after=None, jitter=0)
            planner.answered(Fetch(operation_id=operation_id), now)
            began = (permit.began - TICK) / SECOND
            planner.learned(operations[operation_id], seen(seconds=began), now)
        while governor.wait(now.tick) == 0 and (request := planner.choose(now)) is not None:
            assert isinstance(request, Fetch)
            lags.append(planner.lag(now))
            asked[request.operation_id].append(now.tick)
            heapq.heappush(flights, (now.tick + latency, request.operation_id, governor.begin(now.tick)))
        wake = planner.wake_tick()
        waits = [flights[0][0] - now.tick] if flights else []
        if wake is not None and (wait := governor.wait(now.tick)) < FOREVER:
            waits.append(max(wake - now.tick, wait))
        now = now.later(max(min(waits), 1))
    return asked, lags


def gaps(instants: list[Micros]) -> list[Micros]:
    return [later - earlier for earlier, later in itertools.pairwise(instants)]


@pytest.mark.parametrize("count", [1, 10, 24])
def test_freshness_is_kept_where_the_budget_allows_it(count: int):
    asked, lags = watched(count, 300, Share(per_second=5.0, concurrency=4))
    for instants in asked.values():
        assert all(5 * SECOND <= gap <= 5 * SECOND + 300_000 for gap in gaps(instants)[1:])
        assert len(instants) >= 300 / 5.3 - 2
    # In the first rounds all are new at once.
    assert max(lags[2 * count :]) <= 300_000


def test_where_the_budget_does_not_allow_it_all_grow_late_evenly():
    asked, lags = watched(100, 600, Share(per_second=5.0, concurrency=4))
    counts = Counter(len(instants) for instants in asked.values())
    assert max(counts) - min(counts) <= 1
    assert sum(len(instants) for instants in asked.values()) >= 0.98 * 600 * 5
    settled = [gap for instants in asked.values() for gap in gaps(instants)[1:]]
    assert max(settled) - min(settled) <= SECOND
    assert lags[-1] == pytest.approx(15 * SECOND, abs=SECOND)


def test_one_operation_is_asked_about_twelve_times_a_minute():
    asked, _ = watched(1, 600, Share(per_second=5.0, concurrency=4))
    assert len(next(iter(asked.values()))) == 120


# ── for all histories ────────────────────────────────────────────────────────────────────────────────────────────────

IDS = [an_id(number) for number in range(4)]
LIVING = (
    an_operation(),
    a_running_operation(created_at=None),
    an_operation(missed=2),
    a_settling_operation(created_at=None),
    a_settling_operation(created_at=None, settled=1, unsettled_since=NOW),
)
living = st.sampled_from(LIVING)
states = st.sampled_from((*LIVING, a_final_operation()))
moves: st.SearchStrategy[tuple[str, tuple[Any, ...]]] = st.one_of(
    st.tuples(
        st.just("follow"),
        st.tuples(st.builds(lambda one, state: state.with_(id=one), st.sampled_from(IDS), living)),
    ),
    st.tuples(st.just("forget"), st.tuples(st.sampled_from(IDS))),
    st.tuples(st.just("choose"), st.just(())),
    st.tuples(st.just("answer"), st.tuples(st.integers(0, 9), states)),
    st.tuples(st.just("wait"), st.tuples(st.integers(1, 400))),
)


class Desk:
    """A planner with what it asked and not yet heard, and what is followed."""

    def __init__(self) -> None:
        self.now = Moment(NOW, TICK)
        self.planner = Planner(PROMISE, self.now)
        self.asked: list[Request] = []
        self.followed: dict[str, Operation] = {}

    def follow(self, operation: Operation) -> None:
        self.followed[operation.id] = operation
        self.planner.follow(operation, self.now)

    def forget(self, operation_id: str) -> None:
        self.followed.pop(operation_id, None)
        self.planner.forget(operation_id)

    def choose(self) -> None:
        request = self.planner.choose(self.now)
        if request is None:
            return
        assert request not in self.asked
        if isinstance(request, Probe):
            assert not [one for one in self.followed.values() if one.final_at is None]
        else:
            assert isinstance(request, Fetch)
            assert self.followed[request.operation_id].final_at is None
        self.asked.append(request)

    def answer(self, number: int, state: Operation) -> None:
        if not self.asked:
            return
        request = self.asked.pop(number % len(self.asked))
        self.planner.answered(request, self.now)
        if isinstance(request, Fetch) and request.operation_id in self.followed:
            operation = state.with_(id=request.operation_id, stats=Stats())
            self.followed[request.operation_id] = operation
            self.planner.learned(operation, seen(seconds=(self.now.tick - TICK) / SECOND), self.now)

    def wait(self, seconds: int) -> None:
        self.now = self.now.later(seconds * SECOND)


def a_desk_after(history: list[tuple[str, tuple[Any, ...]]]) -> Desk:
    app = Desk()
    for name, arguments in history:
        getattr(app, name)(*arguments)
    return app


@unhurried
@given(st.lists(moves, max_size=60))
def test_nothing_is_asked_twice_at_once_and_a_probe_only_where_nothing_is_followed(history):
    # The desk asserts both at each question.
    assert len(a_desk_after(history).asked) <= len(IDS) + 1


@unhurried
@given(st.lists(moves, max_size=60))
def test_nothing_that_is_followed_is_ever_left_out(history):
    app = a_desk_after(history)
    waiting = {request.operation_id for request in app.asked if isinstance(request, Fetch)}
    expected = {one.id for one in app.followed.values() if one.final_at is None}
    app.wait(3600)
    asked = set()
    while isinstance(request := app.planner.choose(app.now), Fetch):
        asked.add(request.operation_id)
    assert asked == expected - waiting


@unhurried
@given(
    state=st.fixed_dictionaries(
        {
            "since": st.integers(0, 20).map(SECOND.__mul__),
            "by_list": st.booleans(),
            "fruitless": st.integers(0, 3),
            "alone": st.booleans(),
            "not_before": st.integers(0, 9),
        }
    ),
    asked=st.integers(0, 20),
    latency=st.integers(0, 4 * SECOND),
    freshness=st.sampled_from([SECOND, 5 * SECOND]),
)
def test_a_look_that_runs_on_is_what_taking_and_planning_make_of_it(
    state: dict[str, Any], asked: int, latency: Micros, freshness: Micros
):
    short, long = (Poll("an id", status=Status.PROCESSING, **state) for _ in range(2))
    short.run_on(asked * SECOND, freshness, second_question(freshness, latency))
    moment = Moment(0, asked * SECOND)
    long.take(Seen(timing=Timing(asked=moment, answered=moment), record=Record()))
    long.keep(running_plan(long, asked * SECOND, freshness, latency))
    assert msgspec.structs.astuple(short) == msgspec.structs.astuple(long)


def test_a_forbidden_operation_is_polled_at_growing_intervals_when_nothing_else_is_due():
    planner = Planner(Promise(), at())
    operation = a_running_operation(asked_tick=0)
    planner.follow(operation, at())
    waits = []
    now = 0.0
    for _ in range(5):
        request = planner.choose(at(now))
        assert request == Fetch(operation_id=operation.id)
        planner.answered(request, at(now))
        planner.learned(operation, forbidden(now), at(now))
        due = planner.wake_tick()
        assert due is not None
        waits.append((due - at(now).tick) // SECOND)
        assert planner.choose(at(now + waits[-1] - 1)) is None
        assert planner.lag(at(now + waits[-1])) == 0
        now += waits[-1]
    assert waits == [60, 240, 960, 3600, 3600]
    # Where others are always due, it has its turn after an hour all the same.
    other = a_running_operation(id=an_id(1), asked_tick=0)
    planner.follow(other, at(now - 1))
    assert planner.choose(at(now)) == Fetch(operation_id=other.id)
    planner.answered(Fetch(operation_id=other.id), at(now))
    assert planner.choose(at(now + 3600)) == Fetch(operation_id=operation.id)


def test_while_lists_are_refused_every_operation_is_fetched_by_its_id():
    planner = Planner(Promise(), at())
    planner.uses_lists = False
    operations = [a_running_operation(id=an_id(number), asked_tick=0) for number in range(100)]
    for operation in operations:
        planner.follow(operation, at())
    requests = [planner.choose(at(10)) for _ in range(50)]
    assert all(isinstance(request, Fetch) for request in requests)
    assert planner.next_poll(operations[99].id).how == "GET by id"  # type: ignore[union-attr]  # it is planned
