"""What a finished operation adds to the counters."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.factories import a_tally
from watcher.core.model import SECOND, Outcome, Tally
from watcher.core.totals import DURATION_BUCKETS, Key, added_up, duration_bucket, increments, keys_of, starting_totals

tallies = st.builds(
    a_tally,
    outcome=st.sampled_from(Outcome),
    duration_seconds=st.none() | st.floats(0, 10**7),
    sent=st.integers(0, 9),
)
totals = st.dictionaries(st.tuples(st.sampled_from("abc")), st.integers(0, 100), max_size=3)


def test_all_counters_without_user_labels_are_there_at_0():
    assert starting_totals() == dict.fromkeys(
        [
            ("operations", "completed"),
            ("operations", "canceled"),
            ("operations", "expired"),
            ("operations", "not_found"),
            ("operations", "rejected"),
            ("notifications", "sent"),
            ("notifications", "failed"),
            ("notifications", "canceled"),
            ("recipients",),
            ("unaddressable",),
        ],
        0,
    )


def test_a_tally_adds_what_it_says_and_nothing_for_zeros():
    assert increments(a_tally()) == {
        ("operations", "completed"): 1,
        ("notifications", "sent"): 9,
        ("notifications", "failed"): 1,
        ("recipients",): 10,
        ("duration_bucket", "30"): 1,
        ("duration_micros",): 30 * SECOND,
    }


def test_an_outcome_without_a_duration_adds_no_duration():
    tally = a_tally(
        outcome=Outcome.EXPIRED, sent=0, failed=0, recipients=0, canceled=2, unaddressable=3, duration_seconds=None
    )
    assert increments(tally) == {
        ("operations", "expired"): 1,
        ("notifications", "canceled"): 2,
        ("unaddressable",): 3,
    }


def test_the_combination_is_at_the_end_of_every_key():
    tally = a_tally(sent=0, failed=0, recipients=0)
    assert increments(tally, ("env=x=y", "team=a")) == {
        ("operations", "completed", "env=x=y", "team=a"): 1,
        ("duration_bucket", "30", "env=x=y", "team=a"): 1,
        ("duration_micros", "env=x=y", "team=a"): 30 * SECOND,
    }


@given(st.lists(st.floats(0, 10**6), max_size=20), st.randoms())
def test_sums_of_durations_are_the_same_in_any_order(seconds: list[float], order: Random):
    added = [increments(a_tally(duration_seconds=one)).get(("duration_micros",), 0) for one in seconds]
    total = sum(added)
    order.shuffle(added)
    assert sum(added) == total


@given(tallies, st.lists(st.text(max_size=5).map("x=".__add__), max_size=2).map(tuple))
def test_every_key_that_is_counted_is_among_the_keys_of_the_combination(tally: Tally, combination: Key):
    assert increments(tally, combination).keys() <= {*keys_of(combination)}


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0, "5"), (5, "5"), (5.001, "30"), (604800, "604800"), (604801, "inf"), (1e12, "inf")],
)
def test_a_duration_falls_into_the_first_bucket_that_holds_it(seconds: float, bucket: str):
    assert duration_bucket(seconds) == bucket


def test_the_buckets_are_those_of_the_contract():
    assert (5, 30, 60, 300, 900, 3600, 14400, 86400, 259200, 604800, float("inf")) == DURATION_BUCKETS


@given(totals, totals, totals)
def test_adding_up_is_exact_in_any_order_and_changes_nothing_given(
    first: dict[Key, float], second: dict[Key, float], third: dict[Key, float]
):
    before = dict(first)
    one = added_up(added_up(first, second), third)
    assert one == added_up(added_up(first, third), second)
    assert first == before
    for key in {*first, *second, *third}:
        assert one[key] == first.get(key, 0) + second.get(key, 0) + third.get(key, 0)
