"""Which window is the best question."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.factories import NOW, TICK, an_id, at
from watcher.core.model import HOUR, SECOND, Status
from watcher.core.planner.creation_index import CreationIndex
from watcher.core.planner.exit_rates import ExitRates
from watcher.core.planner.polls import Poll
from watcher.core.planner.row_density import ROWS_A_PAGE, RowDensity
from watcher.core.planner.windows import PAD, Window, WindowChooser

DUE, SEEN = TICK, TICK - 5 * SECOND


class Account:
    """Polls in an index, and what is known of lists."""

    def __init__(self) -> None:
        self.index, self.density, self.exit_rates = CreationIndex(), RowDensity(), ExitRates()
        self.chooser = WindowChooser(self.index, self.density, self.exit_rates)

    def put(self, count: int, start: int, step: int, **changes: Any) -> list[Poll]:
        polls = []
        for number in range(count):
            fields: dict[str, Any] = {
                "since": SEEN,
                "due": DUE,
                "status": Status.PROCESSING,
                "was_seen": True,
                **changes,
            }
            poll = Poll(id=an_id(len(self.index.polls)), **fields)
            self.index.put(poll, start + number * step)
            polls.append(poll)
        return polls

    def fill(self, status: Status | None, rows: int) -> None:
        """A list with `rows` rows in the last two hours."""
        start = NOW - 2 * HOUR
        self.density.learn_whole(status, start, NOW, [start + 2 * HOUR * n // rows for n in range(rows)])

    def best(self, poll: Poll) -> Window:
        window = self.chooser.best(poll, at())
        assert window is not None
        return window


@pytest.fixture
def account() -> Account:
    return Account()


def test_a_single_operation_is_fetched_by_id(account: Account):
    (poll,) = account.put(1, NOW - HOUR, 0)
    assert account.chooser.best(poll, at()) is None


def test_a_bulk_of_one_second_is_read_as_one_long_list(account: Account):
    polls = account.put(5000, NOW - HOUR, 0)
    window = account.best(polls[17])
    assert window.pages == -(-5000 // ROWS_A_PAGE)
    assert len(window.members) == 5000
    assert window.end - window.start == 2 * PAD


def test_polls_under_way_or_by_id_only_or_settling_later_are_no_members_of_a_window(account: Account):
    polls = account.put(50, NOW - HOUR, SECOND)
    polls[1].asked = 7
    polls[2].alone = True
    polls[3].settles, polls[3].status, polls[3].due = True, None, DUE + SECOND
    members = account.best(polls[20]).members
    assert {poll.id for poll in polls} - {poll.id for poll in members} == {poll.id for poll in polls[1:4]}


def test_old_operations_use_the_list_of_their_status_where_the_unfiltered_list_is_long(account: Account):
    account.fill(None, 100_000)
    account.fill(Status.PROCESSING, 1000)
    polls = account.put(400, NOW - HOUR, 2 * SECOND)
    window = account.best(polls[200])
    assert window.status is Status.PROCESSING
    assert len(window.members) == 400


def test_young_operations_use_the_unfiltered_list(account: Account):
    account.fill(None, 7200)
    account.fill(Status.PROCESSING, 7000)
    polls = account.put(60, NOW - 60 * SECOND, SECOND)
    assert account.best(polls[-1]).status is None


def test_an_operation_that_left_its_list_is_fetched_by_id_unless_others_left_nearby(account: Account):
    account.fill(None, 100_000)
    account.fill(Status.PROCESSING, 1000)
    polls = account.put(400, NOW - HOUR, 2 * SECOND)
    polls[200].status = None
    assert account.chooser.best(polls[200], at()) is None
    for poll in polls[201:206]:
        poll.status = None
    window = account.best(polls[200])
    assert window.status is None
    assert {poll.id for poll in polls[200:206]} <= {poll.id for poll in window.members}


@pytest.mark.unmeasured
def test_foreign_rows_make_windows_small_and_then_not_worth_it(account: Account):
    polls = account.put(100, NOW - HOUR, 30 * SECOND)
    assert len(account.best(polls[50]).members) == 100
    account.fill(None, 500_000)
    account.fill(Status.PROCESSING, 500_000)
    assert account.chooser.best(polls[50], at()) is None


def test_a_window_spans_gaps_as_far_as_its_pages_allow(account: Account):
    account.fill(Status.SCHEDULED, 14_400)
    account.fill(None, 144_000)
    polls = account.put(5, NOW - HOUR, SECOND, status=Status.SCHEDULED)
    account.put(5, NOW - HOUR - 1000 * SECOND, SECOND, status=Status.SCHEDULED)
    window = account.best(polls[0])
    assert window.status is Status.SCHEDULED
    assert NOW - HOUR - 200 * SECOND < window.start < NOW - HOUR - 60 * SECOND


def test_the_index_moves_a_poll_when_its_creation_time_changes(account: Account):
    first, second = account.put(2, NOW, 0)
    account.index.put(second, NOW)
    account.index.put(first, NOW + SECOND)
    assert account.index.polls == [second, first]
    account.index.remove(second)
    account.index.remove(second)
    assert account.index.instants == [NOW + SECOND]
