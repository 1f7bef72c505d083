"""Who is due when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.strategies import unhurried
from watcher.core.due_queue import DueQueue
from watcher.core.polls import NOWHERE, Poll


def test_nobody_is_due_on_an_empty_agenda():
    assert DueQueue().front() is None


def test_of_those_due_at_one_tick_the_first_comes_first():
    agenda, polls = DueQueue(), [Poll("a", 0), Poll("b", 0)]
    for poll in polls:
        agenda.put(poll, 7)
    assert agenda.front() == (7, polls[0])
    polls[0].queued = NOWHERE
    assert agenda.front() == (7, polls[1])


@unhurried
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9) | st.none())))
def test_whoever_was_put_last_to_the_earliest_tick_is_in_front(moves: list[tuple[int, int | None]]):
    agenda, polls = DueQueue(), [Poll(str(number), 0) for number in range(4)]
    due: dict[int, int] = {}
    for number, tick in moves:
        if tick is None:
            polls[number].queued = NOWHERE
            due.pop(number, None)
        else:
            agenda.put(polls[number], tick)
            due[number] = tick
        front = agenda.front()
        assert (front is None) is (not due)
        assert front is None or front[0] == min(due.values()) == due[int(front[1].id)]
