"""Which request comes next and when: freshness within the budget, evenly late beyond it."""

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
from watcher.core.channels import Stats
from watcher.core.governor import FOREVER, AttemptResult, Governor, Permit, Share
from watcher.core.model import MINUTE, SECOND, Micros, Moment, Operation, Status
from watcher.core.observation import Observation, Record, Seen, Timing
from watcher.core.planner.planner import IDLE_EVERY, Planner, Promise
from watcher.core.planner.polls import SETTLE_SLACK, Poll, running_plan, second_question
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
    """One poll from request to answer, and what is planned then."""
    asked, answered = observation.timing.asked, observation.timing.answered
    request = planner.choose(asked)
    assert request == Fetch(operation_id=operation.id)
    planner.answered(request, answered)
    planner.learned(learned or operation, observation, answered)
    planned = planner.next_poll(operation.id)
    assert planned is not None
    return planned


def due(planned: NextPoll) -> float:
    """When the poll is due, in seconds into the test."""
    return (planned.due_tick - TICK) / SECOND


# ── one operation ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_operation_is_polled_at_once():
    planner = a_planner(an_operation())
    assert planner.next_poll(PLAIN_ID) == NextPoll(due_tick=TICK, how="GET by id", why="first poll")
    assert planner.wake_tick() == TICK
    assert planner.choose(at()) == Fetch(operation_id=PLAIN_ID)


def test_an_operation_is_not_polled_again_before_the_answer():
    planner = a_planner(an_operation())
    planner.choose(at())
    assert planner.choose(at(3600)) is None
    assert planner.wake_tick() is None
    planned = planner.next_poll(PLAIN_ID)
    assert planned is not None
    assert planned.why == "a request for it is under way"


def test_the_next_poll_is_due_freshness_after_the_last_request():
    planner = a_planner(a_running_operation())
    planned = poll(planner, a_running_operation(), seen(seconds=1))
    assert (due(planned), planned.why) == (6, "freshness after the last poll")
    assert planner.choose(at(5.999)) is None
    assert planner.wake_tick() == at(6).tick
    assert planner.choose(at(6)) == Fetch(operation_id=PLAIN_ID)


def test_a_retry_after_on_a_good_answer_delays_the_next_poll():
    planner = a_planner(a_running_operation())
    hinted = Seen(timing=seen().timing, record=seen().record, retry_after=60 * SECOND)
    planned = poll(planner, a_running_operation(), hinted)
    assert (due(planned), planned.why) == (60.1, "upstream asked for a pause until then")
    assert planner.lag(at(60)) == 0


def test_a_retry_after_below_freshness_changes_nothing():
    hinted = Seen(timing=seen().timing, record=seen().record, retry_after=4 * SECOND)
    assert due(poll(a_planner(a_running_operation()), a_running_operation(), hinted)) == 5


def test_polls_without_an_answer_back_off_up_to_30_seconds_and_lag_counts_from_the_promised_time():
    operation = a_running_operation()
    planner, waits, seconds = a_planner(operation), [], 0.0
    for _ in range(5):
        planned = poll(planner, operation, unanswered(seconds))
        assert planned.why == "the last poll was not answered"
        waits.append(round(due(planned) - seconds - 0.1, 6))
        seconds = due(planned)
    assert waits == [5, 10, 20, 30, 30]
    assert planner.lag(at(100)) == 95 * SECOND


def test_an_answer_resets_the_back_off():
    operation = a_running_operation()
    planner = a_planner(operation)
    poll(planner, operation, unanswered(0))
    poll(planner, operation, unanswered(10))
    poll(planner, operation, seen(seconds=30))
    assert due(poll(planner, operation, unanswered(40))) == 45.1


def test_a_refusal_that_ended_nothing_backs_off_too():
    assert due(poll(a_planner(a_running_operation()), a_running_operation(), refused())) == 5.1


def test_an_operation_not_shown_yet_is_polled_at_growing_intervals():
    planner, waits, seconds = a_planner(an_operation()), [], 0.0
    for _ in range(5):
        planned = poll(planner, an_operation(), missing(seconds))
        assert planned.why == "not shown yet, within the not-found grace"
        waits.append(round(due(planned) - seconds - 0.1, 6))
        seconds = due(planned)
    assert waits == [5, 10, 20, 30, 30]
    assert planner.lag(at(seconds)) == 0


def test_after_the_not_found_grace_polls_are_a_minute_apart():
    planned = poll(a_planner(an_operation()), an_operation(), missing(), learned=an_operation(missed=1))
    assert (due(planned), planned.why) == (60.1, "a slow try before it is given up")
    planned = poll(a_planner(an_operation()), an_operation(), refused(), learned=an_operation(missed=1))
    assert (due(planned), planned.why) == (60.1, "a slow try before it is given up")


def test_a_freshness_above_the_back_off_is_kept():
    planner = a_planner(an_operation(), promise=Promise(freshness=2 * MINUTE))
    assert due(poll(planner, an_operation(), unanswered())) == 120.1


def test_an_ended_operation_is_polled_at_its_settling_times():
    planner = a_planner(a_running_operation())
    ended = a_settling_operation(learned_at=at(0.1).at)
    planned = poll(planner, a_running_operation(), seen("COMPLETED"), learned=ended)
    assert (due(planned), planned.why) == (30.1, "settling read 1 of 2")
    planned = poll(planner, ended, seen("COMPLETED", seconds=40), learned=ended.with_(settled=1))
    assert (due(planned), planned.why) == (120.1, "settling read 2 of 2")
    assert planner.lag(at(150)) == 0
    assert planner.lag(at(151)) == 151 * SECOND - (120_100_000 + SETTLE_SLACK)


def test_a_settling_read_that_failed_is_tried_again_within_its_slack():
    operation = a_settling_operation(learned_at=NOW - 60 * SECOND)
    planner = a_planner(operation)
    planned = poll(planner, operation, unanswered(), learned=operation.with_(unsettled_since=NOW))
    assert (due(planned), planned.why) == (30.1, "settling read 1 of 2, again after one that failed")
    assert planner.lag(at(60)) == 0


def test_settling_reads_overdue_from_before_a_restart_are_due_at_once():
    planner = a_planner(a_settling_operation(learned_at=NOW - 3600 * SECOND))
    assert planner.choose(at()) == Fetch(operation_id=PLAIN_ID)


@pytest.mark.parametrize("learned_at", [NOW + 3600 * SECOND, None])
def test_no_settling_read_waits_longer_than_its_wait_whatever_the_clock_did(learned_at: int | None):
    planner = a_planner(a_settling_operation(learned_at=learned_at))
    assert planner.wake_tick() == at(30).tick


@pytest.mark.parametrize(("steps", "waits"), [((), 0), ((10 * SECOND,), 10)])
def test_after_a_reload_with_fewer_settling_reads_one_more_read_is_planned(steps: tuple[Micros, ...], waits: float):
    planner = a_planner(promise=Promise(settle_after=steps))
    planner.follow(a_settling_operation(settled=3), at())
    assert planner.wake_tick() == at(waits).tick


def test_a_final_operation_is_never_polled_again():
    planner = a_planner(a_final_operation())
    assert planner.next_poll(PLAIN_ID) is None
    planner.follow(a_settling_operation(learned_at=NOW - MINUTE), at())
    request = planner.choose(at())
    assert request == Fetch(operation_id=PLAIN_ID)
    planner.answered(request, at(1))
    planner.learned(a_final_operation(), seen("COMPLETED"), at(1))
    assert planner.next_poll(PLAIN_ID) is None
    assert planner.lag(at(3600)) == 0


def test_a_forgotten_operation_is_not_polled():
    planner = a_planner(an_operation(), an_operation(id=an_id(2)))
    planner.forget(PLAIN_ID)
    assert planner.choose(at(5)) == Fetch(operation_id=an_id(2))
    planner.forget(an_id(2))
    planner.learned(an_operation(id=an_id(2)), seen(), at(1))
    assert planner.next_poll(an_id(2)) is None


def test_tracking_an_operation_twice_plans_one_poll():
    planner = a_planner(an_operation(), an_operation())
    assert planner.choose(at()) == Fetch(operation_id=PLAIN_ID)
    assert planner.choose(at()) is None


@pytest.mark.parametrize("again", [an_operation(), a_settling_operation(learned_at=NOW - MINUTE)])
def test_an_operation_tracked_again_during_its_poll_waits_for_that_answer(again: Operation):
    planner = a_planner(an_operation())
    request = planner.choose(at())
    planner.forget(PLAIN_ID)
    planner.follow(again, at())
    assert planner.choose(at(60)) is None
    assert request is not None
    planner.answered(request, at(60))
    planner.learned(a_running_operation(), seen(seconds=0), at(60))
    assert planner.choose(at(60)) == request


def test_a_new_freshness_applies_from_the_next_poll():
    planner = a_planner(a_running_operation())
    poll(planner, a_running_operation(), seen())
    planner.adopt(Promise(freshness=SECOND))
    assert planner.wake_tick() == at(5).tick
    assert due(poll(planner, a_running_operation(), seen(seconds=5))) == 6


def test_lag_is_that_of_the_most_overdue_poll():
    planner = a_planner()
    assert planner.lag(at(3600)) == 0
    planner.follow(an_operation(), at())
    planner.follow(an_operation(id=an_id(2)), at(10))
    assert [planner.lag(at(seconds)) for seconds in (5, 6, 20)] == [0, SECOND, 15 * SECOND]


# ── the probe ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_idle_account_is_probed_at_the_start_and_every_five_minutes():
    planner = a_planner()
    assert planner.wake_tick() == TICK
    assert planner.choose(at()) == Probe()
    assert planner.choose(at(600)) is None
    assert planner.wake_tick() is None
    planner.answered(Probe(), at(1))
    assert planner.wake_tick() == at(1).tick + IDLE_EVERY
    assert planner.choose(at(300)) is None
    assert planner.choose(at(301)) == Probe()


def test_an_account_with_tracked_operations_is_not_probed():
    planner = a_planner(a_running_operation())
    poll(planner, a_running_operation(), seen())
    assert planner.choose(at(4)) is None
    planner.forget(PLAIN_ID)
    assert planner.choose(at(4)) is None
    assert planner.choose(at(301)) == Probe()


# ── many operations under a governor ─────────────────────────────────────────────────────────────────────────────────


def polls_of(
    count: int, seconds: int, share: Share, *, latency: Micros = 100_000
) -> tuple[dict[str, list[Micros]], list[Micros]]:
    """When each of `count` running operations was polled, and the lag at each request."""
    planner, governor = Planner(PROMISE, at()), Governor(share, TICK)
    # Without a known creation nothing can be swept, so that all of it is GETs.
    ids = [an_id(number) for number in range(count)]
    operations = {operation_id: a_running_operation(id=operation_id, created_at=None) for operation_id in ids}
    for operation in operations.values():
        planner.follow(operation, at())
    polled_at: dict[str, list[Micros]] = {operation_id: [] for operation_id in operations}
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
            polled_at[request.operation_id].append(now.tick)
            heapq.heappush(flights, (now.tick + latency, request.operation_id, governor.begin(now.tick)))
        wake = planner.wake_tick()
        waits = [flights[0][0] - now.tick] if flights else []
        if wake is not None and (wait := governor.wait(now.tick)) < FOREVER:
            waits.append(max(wake - now.tick, wait))
        now = now.later(max(min(waits), 1))
    return polled_at, lags


def gaps(instants: list[Micros]) -> list[Micros]:
    return [later - earlier for earlier, later in itertools.pairwise(instants)]


@pytest.mark.parametrize("count", [1, 10, 24])
def test_freshness_is_kept_where_the_budget_allows_it(count: int):
    polled_at, lags = polls_of(count, 300, Share(per_second=5.0, concurrency=4))
    for instants in polled_at.values():
        assert all(5 * SECOND <= gap <= 5 * SECOND + 300_000 for gap in gaps(instants)[1:])
        assert len(instants) >= 300 / 5.3 - 2
    # In the first rounds all are new at once.
    assert max(lags[2 * count :]) <= 300_000


def test_where_the_budget_does_not_allow_it_all_polls_are_late_evenly():
    polled_at, lags = polls_of(100, 600, Share(per_second=5.0, concurrency=4))
    counts = Counter(len(instants) for instants in polled_at.values())
    assert max(counts) - min(counts) <= 1
    assert sum(len(instants) for instants in polled_at.values()) >= 0.98 * 600 * 5
    settled = [gap for instants in polled_at.values() for gap in gaps(instants)[1:]]
    assert max(settled) - min(settled) <= SECOND
    assert lags[-1] == pytest.approx(15 * SECOND, abs=SECOND)


def test_a_single_operation_is_polled_twelve_times_a_minute():
    polled_at, _ = polls_of(1, 600, Share(per_second=5.0, concurrency=4))
    assert len(next(iter(polled_at.values()))) == 120


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
        st.just("track"),
        st.tuples(st.builds(lambda chosen, state: state.with_(id=chosen), st.sampled_from(IDS), living)),
    ),
    st.tuples(st.just("forget"), st.tuples(st.sampled_from(IDS))),
    st.tuples(st.just("choose"), st.just(())),
    st.tuples(st.just("answer"), st.tuples(st.integers(0, 9), states)),
    st.tuples(st.just("wait"), st.tuples(st.integers(1, 400))),
)


class DrivenPlanner:
    """A planner with its requests under way and the operations that it tracks."""

    def __init__(self) -> None:
        self.now = Moment(NOW, TICK)
        self.planner = Planner(PROMISE, self.now)
        self.under_way: list[Request] = []
        self.tracked: dict[str, Operation] = {}

    def track(self, operation: Operation) -> None:
        self.tracked[operation.id] = operation
        self.planner.follow(operation, self.now)

    def forget(self, operation_id: str) -> None:
        self.tracked.pop(operation_id, None)
        self.planner.forget(operation_id)

    def choose(self) -> None:
        request = self.planner.choose(self.now)
        if request is None:
            return
        assert request not in self.under_way
        if isinstance(request, Probe):
            assert not [operation for operation in self.tracked.values() if operation.final_at is None]
        else:
            assert isinstance(request, Fetch)
            assert self.tracked[request.operation_id].final_at is None
        self.under_way.append(request)

    def answer(self, number: int, state: Operation) -> None:
        if not self.under_way:
            return
        request = self.under_way.pop(number % len(self.under_way))
        self.planner.answered(request, self.now)
        if isinstance(request, Fetch) and request.operation_id in self.tracked:
            operation = state.with_(id=request.operation_id, stats=Stats())
            self.tracked[request.operation_id] = operation
            self.planner.learned(operation, seen(seconds=(self.now.tick - TICK) / SECOND), self.now)

    def wait(self, seconds: int) -> None:
        self.now = self.now.later(seconds * SECOND)


def driven_by(history: list[tuple[str, tuple[Any, ...]]]) -> DrivenPlanner:
    app = DrivenPlanner()
    for name, arguments in history:
        getattr(app, name)(*arguments)
    return app


@unhurried
@given(st.lists(moves, max_size=60))
def test_no_request_is_sent_twice_at_once_and_probes_only_where_nothing_is_tracked(history):
    # DrivenPlanner asserts both at each request.
    assert len(driven_by(history).under_way) <= len(IDS) + 1


@unhurried
@given(st.lists(moves, max_size=60))
def test_every_tracked_operation_is_polled(history):
    app = driven_by(history)
    waiting = {request.operation_id for request in app.under_way if isinstance(request, Fetch)}
    expected = {operation.id for operation in app.tracked.values() if operation.final_at is None}
    app.wait(3600)
    polled = set()
    while isinstance(request := app.planner.choose(app.now), Fetch):
        polled.add(request.operation_id)
    assert polled == expected - waiting


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
def test_run_on_plans_the_same_as_take_and_keep(state: dict[str, Any], asked: int, latency: Micros, freshness: Micros):
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
