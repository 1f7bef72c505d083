"""The queue of polls by the time at which they are due."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.strategies import unhurried
from watcher.core.planner.due_queue import DueQueue
from watcher.core.planner.polls import NOWHERE, Poll


def test_an_empty_queue_has_no_front():
    assert DueQueue().front() is None


def test_of_those_due_at_one_tick_the_first_comes_first():
    queue, polls = DueQueue(), [Poll("a", 0), Poll("b", 0)]
    for poll in polls:
        queue.put(poll, 7)
    assert queue.front() == (7, polls[0])
    polls[0].queued = NOWHERE
    assert queue.front() == (7, polls[1])


@unhurried
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9) | st.none())))
def test_the_poll_put_last_at_the_earliest_tick_is_in_front(moves: list[tuple[int, int | None]]):
    queue, polls = DueQueue(), [Poll(str(number), 0) for number in range(4)]
    due: dict[int, int] = {}
    for number, tick in moves:
        if tick is None:
            polls[number].queued = NOWHERE
            due.pop(number, None)
        else:
            queue.put(polls[number], tick)
            due[number] = tick
        front = queue.front()
        assert (front is None) is (not due)
        assert front is None or front[0] == min(due.values()) == due[int(front[1].id)]
