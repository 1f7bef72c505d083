from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from watcher.core.backoff import doubled
from watcher.core.model import MINUTE, SECOND


def test_the_wait_doubles_up_to_its_limit():
    assert [doubled(SECOND, times, at_most=MINUTE) // SECOND for times in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_first_wait_beyond_the_limit_stays_as_it_is():
    assert doubled(2 * MINUTE, 3, at_most=MINUTE) == 2 * MINUTE


@given(st.integers(1, 10 * MINUTE), st.integers(-5, 10**9), st.integers(1, 10 * MINUTE))
def test_it_never_shrinks_and_stays_between_its_bounds(first: int, times: int, at_most: int):
    wait = doubled(first, times, at_most=at_most)
    assert first <= wait <= max(first, at_most)
    assert wait <= doubled(first, times + 1, at_most=at_most)
