"""Sweeps: operations that a list shows, operations that left it, and lists that cannot be read to their end."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.support.factories import (
    NOW,
    TICK,
    a_running_operation,
    a_settling_operation,
    an_id,
    at,
    missing,
    refused,
    seen,
    unanswered,
)
from watcher.core.model import DAY, SECOND, Moment, Operation, Status
from watcher.core.observation import Page, Record, Refused, Seen, Timing, Unanswered
from watcher.core.planner.planner import FEW, Planner, Promise
from watcher.core.requests import Discover, Fetch, Request, Sweep

COUNT = 40
OPERATIONS = [
    a_running_operation(id=an_id(number), created_at=NOW - (100 + number) * SECOND, updated_at=NOW - 90 * SECOND)
    for number in range(COUNT)
]


class DrivenPlanner:
    """A planner whose requests the test answers."""

    def __init__(self, operations: Sequence[Operation] = OPERATIONS, *, settle: tuple[int, ...] = ()) -> None:
        self.now = at()
        self.planner = Planner(Promise(freshness=5 * SECOND, settle_after=settle), self.now)
        self.operations = {operation.id: operation for operation in operations}
        for operation in operations:
            self.planner.follow(operation, self.now)

    def wait(self, seconds: float) -> None:
        self.now = self.now.later(round(seconds * SECOND))

    def request(self) -> Request | None:
        return self.planner.choose(self.now)

    def sweep(self) -> Sweep:
        request = self.request()
        assert isinstance(request, Sweep)
        return request

    def requests(self) -> list[Request]:
        found = []
        while (request := self.request()) is not None:
            found.append(request)
        return found

    def timing(self) -> Timing:
        return Timing(asked=self.now, answered=self.now)

    def show(self, request: Sweep, operations: Sequence[Operation], token: str | None = None) -> None:
        """The request is answered with a page of these operations, as they are."""
        records = tuple(
            Record(
                id=operation.id,
                word=operation.status.value,
                created_at=operation.created_at,
                updated_at=operation.updated_at,
            )
            for operation in operations
        )
        self.planner.answered(request, self.now)
        for operation, record in zip(operations, records, strict=True):
            if operation.id in self.operations:
                self.planner.learned(operation, Seen(timing=self.timing(), record=record), self.now)
        self.planner.swept(request, Page(timing=self.timing(), records=records, next_token=token), self.now)

    def refuse(self, request: Sweep) -> None:
        self.planner.answered(request, self.now)
        self.planner.swept(request, Refused(timing=self.timing()), self.now)

    def fail(self, request: Sweep) -> None:
        self.planner.answered(request, self.now)
        self.planner.swept(request, unanswered(), self.now)

    def seen_by_id(self, request: Request | None) -> None:
        assert isinstance(request, Fetch)
        self.planner.answered(request, self.now)
        self.planner.learned(
            self.operations[request.operation_id], Seen(timing=self.timing(), record=Record()), self.now
        )


@pytest.fixture
def app() -> DrivenPlanner:
    """All have been seen by one sweep, and are due again."""
    app = DrivenPlanner()
    app.seen_by_id(app.request())
    app.wait(5)
    app.show(app.sweep(), OPERATIONS)
    app.wait(5)
    return app


def test_operations_due_together_are_polled_once_by_one_sweep(app: DrivenPlanner):
    request = app.sweep()
    assert request.start <= NOW - 139 * SECOND
    assert request.end >= NOW - 100 * SECOND
    assert app.request() is None
    poll = app.planner.next_poll(an_id(0))
    assert poll is not None
    assert (poll.how, poll.why) == ("sweep that is under way", "a request for it is under way")


def test_of_many_new_operations_the_first_is_fetched_by_id_and_the_others_wait_for_a_sweep():
    app = DrivenPlanner()
    assert len(app.requests()) == 1
    app.wait(4.9)
    assert app.request() is None
    app.wait(0.1)
    assert isinstance(app.request(), Sweep)


def test_new_operations_wait_for_the_next_sweep_of_new_operations():
    app = DrivenPlanner()
    app.seen_by_id(app.request())
    app.wait(5)
    app.show(app.sweep(), OPERATIONS)
    app.wait(1)
    app.planner.follow(a_running_operation(id=an_id(99), created_at=NOW), app.now)
    assert app.request() is None
    poll = app.planner.next_poll(an_id(99))
    assert poll is not None
    assert poll.due_tick == TICK + 10 * SECOND


def test_the_explanation_of_a_planned_sweep_names_its_list_and_its_size(app: DrivenPlanner):
    poll = app.planner.next_poll(an_id(0))
    assert poll is not None
    assert poll.how == "sweep of all operations created within 43 s, with 39 others of ours"
    assert poll.why == "freshness after the last poll"


def test_an_operation_missing_from_its_list_is_fetched_by_id_at_once(app: DrivenPlanner):
    app.show(app.sweep(), OPERATIONS[1:])
    poll = app.planner.next_poll(an_id(0))
    assert poll is not None
    assert (poll.how, poll.why) == ("GET by id", "it has left the list that showed it")
    assert app.requests() == [Fetch(operation_id=an_id(0))]


def test_an_operation_fetched_by_id_joins_sweeps_again(app: DrivenPlanner):
    app.show(app.sweep(), OPERATIONS[1:])
    app.seen_by_id(app.request())
    app.wait(5)
    app.show(app.sweep(), OPERATIONS)
    assert app.request() is None


def test_an_operation_not_found_by_id_is_not_expected_on_lists(app: DrivenPlanner):
    app.show(app.sweep(), OPERATIONS[1:])
    request = app.request()
    assert isinstance(request, Fetch)
    app.planner.answered(request, app.now)
    app.planner.learned(OPERATIONS[0].with_(missed=1), missing(10), app.now)
    app.wait(5)
    app.show(app.sweep(), OPERATIONS[1:])
    assert app.request() is None, "a slow try stays slow"


def test_a_retry_after_is_honoured_also_when_a_list_misses_the_operation(app: DrivenPlanner):
    sweep = app.sweep()
    hinted = Seen(timing=app.timing(), record=Record(), retry_after=60 * SECOND)
    app.show(sweep, OPERATIONS[1:])
    app.planner.learned(OPERATIONS[0], hinted, app.now)
    app.wait(30)
    app.show(app.sweep(), OPERATIONS[1:])
    assert app.request() is None
    app.wait(30)
    assert Fetch(operation_id=an_id(0)) in app.requests()


def test_the_next_page_comes_before_everything_else(app: DrivenPlanner):
    sweep = app.sweep()
    app.show(sweep, OPERATIONS[:20], token="more")
    assert app.planner.wake_tick() == 0
    second = app.sweep()
    assert (second.token, second.start, second.end) == ("more", sweep.start, sweep.end)
    app.show(second, OPERATIONS[20:])
    assert app.request() is None


def test_empty_and_short_pages_are_read_on(app: DrivenPlanner):
    app.show(app.sweep(), [], token="more")
    app.show(app.sweep(), OPERATIONS)
    assert app.request() is None


def test_a_repeated_token_ends_a_sweep_and_operations_not_shown_are_polled(app: DrivenPlanner):
    app.show(app.sweep(), OPERATIONS[:20], token="again")
    app.show(app.sweep(), OPERATIONS[:20], token="again")
    requests = app.requests()
    assert requests
    assert not [request for request in requests if isinstance(request, Sweep) and request.token == "again"]


def test_a_list_much_longer_than_planned_is_abandoned_and_the_next_window_is_smaller():
    app = DrivenPlanner()
    app.seen_by_id(app.request())
    app.wait(5)
    first = app.sweep()
    foreign = [a_running_operation(id=an_id(1000 + n), created_at=NOW - (100 + n % 40) * SECOND) for n in range(990)]
    app.show(first, foreign, token="1")
    app.show(app.sweep(), foreign, token="2")
    requests = app.requests()
    assert not [request for request in requests if isinstance(request, Sweep) and request.token is not None]
    windows = [request for request in requests if isinstance(request, Sweep)]
    assert all(request.end - request.start < first.end - first.start for request in windows)
    assert any(isinstance(request, Fetch) for request in requests)


def test_a_stale_token_restarts_the_list_only_once(app: DrivenPlanner):
    sweep = app.sweep()
    app.show(sweep, OPERATIONS[:5], token="old")
    app.refuse(app.sweep())
    again = app.sweep()
    assert again == sweep
    app.show(again, OPERATIONS[:5], token="new")
    app.refuse(app.sweep())
    assert all(isinstance(request, Fetch) or request != sweep for request in app.requests())


def test_a_page_without_an_answer_is_requested_again_with_its_token_then_given_up(app: DrivenPlanner):
    app.show(app.sweep(), OPERATIONS[:20], token="more")
    for _ in range(3):
        page = app.sweep()
        assert page.token == "more"
        app.fail(page)
    assert not [request for request in app.requests() if isinstance(request, Sweep) and request.token == "more"]


def test_where_lists_are_refused_all_operations_are_soon_fetched_by_id(app: DrivenPlanner):
    sweeps = 0
    fetched = set()
    while (request := app.request()) is not None:
        if isinstance(request, Sweep):
            sweeps += 1
            app.refuse(request)
        else:
            assert isinstance(request, Fetch)
            fetched.add(request.operation_id)
    assert fetched == {operation.id for operation in OPERATIONS}
    assert sweeps <= 7


def test_an_answer_to_a_sweep_that_is_over_changes_nothing(app: DrivenPlanner):
    sweep = app.sweep()
    app.show(sweep, OPERATIONS)
    app.show(sweep, OPERATIONS, token="more")
    assert app.request() is None


def test_an_operation_tracked_again_during_a_sweep_does_not_depend_on_that_sweep(app: DrivenPlanner):
    sweep = app.sweep()
    app.planner.forget(an_id(0))
    app.planner.follow(OPERATIONS[0], app.now)
    app.show(sweep, OPERATIONS[1:])
    app.wait(5)
    assert app.requests()
    poll = app.planner.next_poll(an_id(0))
    assert poll is not None
    assert poll.why == "a request for it is under way"


def test_an_operation_shown_during_its_fetch_is_not_fetched_twice_at_once():
    app = DrivenPlanner(OPERATIONS[:1])
    request = app.request()
    assert isinstance(request, Fetch)
    app.planner.learned(OPERATIONS[0], seen(seconds=0), app.now)
    app.wait(60)
    assert app.request() is None
    app.planner.answered(request, app.now)
    assert app.request() == request, "also where nothing is learned from the answer"


def test_an_operation_in_back_off_is_not_fetched_early_when_a_list_misses_it(app: DrivenPlanner):
    app.planner.learned(OPERATIONS[0], unanswered(0), app.now)
    sweep = app.sweep()
    app.show(sweep, OPERATIONS[1:])
    assert app.request() is None, "in back-off after a failure, so not fetched sooner by its id"


def test_a_creation_that_was_corrected_moves_the_operation(app: DrivenPlanner):
    app.show(app.sweep(), OPERATIONS[1:])
    moved = OPERATIONS[0].with_(created_at=NOW - DAY)
    request = app.request()
    assert isinstance(request, Fetch)
    app.planner.answered(request, app.now)
    app.planner.learned(moved, Seen(timing=app.timing(), record=Record()), app.now)
    app.wait(5)
    sweep = app.sweep()
    assert sweep.start < NOW - DAY < sweep.end


def test_a_page_of_discovery_counts_as_a_probe():
    app = DrivenPlanner([])
    app.planner.answered(Discover(status=None, start=NOW), app.now)
    assert app.request() is None
    assert app.planner.wake_tick() == app.now.tick + 300 * SECOND


# ── settling ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def ended(number: int, learned: Moment) -> Operation:
    return a_settling_operation(id=an_id(number), created_at=NOW - (100 + number) * SECOND, learned_at=learned.at)


def test_a_settling_read_waits_for_a_sweep_no_longer_than_it_was_planned_ahead():
    app = DrivenPlanner([*(ended(number, at()) for number in range(COUNT)), ended(90, at(-25))], settle=(30 * SECOND,))
    app.wait(9.9)
    assert app.request() is None, "due since 5 s"
    app.wait(0.1)
    assert app.request() == Fetch(operation_id=an_id(90))


def test_a_row_before_a_settling_read_is_due_does_not_shorten_its_wait_for_a_sweep():
    settling = [ended(number, at()) for number in range(COUNT)]
    app = DrivenPlanner(settling, settle=(30 * SECOND,))
    app.wait(29)
    for operation in settling:
        app.planner.learned(operation, seen("COMPLETED", seconds=29), app.now)
    assert app.planner.wake_tick() == at(55).tick


def test_settling_reads_due_together_share_a_sweep_of_the_unfiltered_list():
    app = DrivenPlanner([ended(number, at()) for number in range(COUNT)], settle=(30 * SECOND,))
    app.wait(30)
    assert app.sweep().status is None
    assert app.request() is None


def test_settling_reads_that_are_not_due_do_not_justify_a_sweep():
    running = [a_running_operation(id=an_id(90), created_at=NOW - 101 * SECOND)]
    app = DrivenPlanner([*(ended(number, at()) for number in range(COUNT)), *running], settle=(30 * SECOND,))
    assert app.request() == Fetch(operation_id=an_id(90))


def test_a_few_settling_reads_are_not_delayed():
    app = DrivenPlanner([ended(1, at())], settle=(30 * SECOND,))
    assert app.planner.wake_tick() == at(30).tick


def test_a_lagging_list_does_not_put_off_a_settling_read_that_is_planned():
    operation = ended(1, at()).with_(unsettled_since=NOW)
    app = DrivenPlanner([operation], settle=(30 * SECOND,))
    app.wait(10)
    app.planner.learned(operation, seen("PROCESSING", seconds=10), app.now)
    assert app.planner.wake_tick() == at(30).tick
    app.wait(25)
    app.planner.learned(operation, seen("PROCESSING", seconds=35), app.now)
    assert app.planner.wake_tick() == at(65).tick


# ── scheduled ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_scheduled_operations_are_polled_less_often_as_they_age():
    young = a_running_operation(status=Status.SCHEDULED, created_at=NOW - 60 * SECOND)
    old = young.with_(id=an_id(2), created_at=NOW - DAY)
    unknown = young.with_(id=an_id(3), created_at=None, registered_at=NOW - 3 * SECOND)
    app = DrivenPlanner([young, old, unknown])
    due = {}
    for operation in (young, old, unknown):
        app.planner.learned(operation, seen("SCHEDULED", seconds=0), at())
        poll = app.planner.next_poll(operation.id)
        assert poll is not None
        due[operation.id] = (poll.due_tick - TICK) / SECOND
    assert list(due.values()) == [20, 120, 5]


def test_a_refusal_of_the_id_backs_off(app: DrivenPlanner):
    app.planner.learned(OPERATIONS[0], refused(10), app.now)
    poll = app.planner.next_poll(an_id(0))
    assert poll is not None
    assert poll.due_tick == app.now.tick + 5 * SECOND


def test_missing_answers_of_every_kind_end_a_page() -> None:
    app = DrivenPlanner()
    app.seen_by_id(app.request())
    app.wait(5)
    sweep = app.sweep()
    app.planner.swept(sweep, missing(5), app.now)
    assert isinstance(app.request(), Fetch | Sweep)
    assert isinstance(unanswered(), Unanswered)


def test_a_few_new_operations_are_fetched_without_waiting_for_a_sweep():
    app = DrivenPlanner([a_running_operation(id=an_id(number)) for number in range(FEW)])
    app.requests()
    polls = [app.planner.next_poll(operation_id) for operation_id in app.operations]
    assert {poll.why for poll in polls if poll is not None} == {"a request for it is under way"}


def test_more_than_a_few_new_operations_wait_for_a_sweep():
    app = DrivenPlanner([a_running_operation(id=an_id(number)) for number in range(FEW + 1)])
    assert len(app.requests()) == 1
    app.planner.forget(an_id(FEW))
    assert app.requests() == []
    assert app.planner.wake_tick() == app.now.later(5 * SECOND).tick
