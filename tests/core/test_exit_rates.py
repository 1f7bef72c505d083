"""Ages by doublings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.strategies import unhurried
from watcher.core.model import DAY, SECOND
from watcher.core.planner.exit_rates import ages_of, class_of


@unhurried
@given(st.integers(0, 9 * DAY))
def test_an_age_lies_between_the_ages_of_its_class(age: int):
    youngest, oldest = ages_of(class_of(age))
    assert youngest <= age < oldest


@pytest.mark.parametrize(("age", "at"), [(-5 * SECOND, 0), (0, 0), (SECOND, 1), (2 * SECOND, 2), (3 * SECOND, 2)])
def test_classes_are_doublings_of_a_second(age: int, at: int):
    assert class_of(age) == at
