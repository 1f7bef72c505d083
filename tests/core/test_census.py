"""Which operations have series, for how long, and which lose them first at the limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.factories import (
    NOW,
    a_final_operation,
    a_running_operation,
    a_settling_operation,
    an_id,
    at,
)
from tests.support.strategies import unhurried
from watcher.core.census import SHOWN_AT_LEAST, Census, Retention, choose_shown, is_retired, surplus_finals
from watcher.core.channels import Stats
from watcher.core.model import DAY, MINUTE, SECOND, Operation

RETENTION = Retention(hold=10 * MINUTE, hold_at_most=DAY)
CLEAN = Stats(sent=9)
FAILED = Stats(failed=1)


def shown(census: Census, operations: list[Operation], seconds: float, most: int) -> tuple[Census, list[str]]:
    census, chosen = choose_shown(census, operations, at(seconds), most)
    return census, [operation.id for operation in chosen]


# ── leaving ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_not_final_is_never_retired():
    for operation in (a_running_operation(), a_settling_operation(scraped_at=NOW)):
        assert not is_retired(operation, NOW + 100 * DAY, RETENTION)


@pytest.mark.parametrize(
    ("scraped_at", "now", "retired"),
    [
        (None, NOW + DAY - 1, False),
        (None, NOW + DAY, True),
        (NOW + MINUTE, NOW + 11 * MINUTE - 1, False),
        (NOW + MINUTE, NOW + 11 * MINUTE, True),
        (NOW + DAY - MINUTE, NOW + DAY - 1, False),
        (NOW + DAY - MINUTE, NOW + DAY, True),
        (NOW + MINUTE, NOW - MINUTE, False),
    ],
)
def test_what_is_final_leaves_after_a_scrape_and_its_hold_or_at_the_latest(scraped_at: int | None, now: int, retired):
    assert is_retired(a_final_operation(scraped_at=scraped_at), now, RETENTION) is retired


# ── being shown ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_below_the_limit_all_operations_are_shown_in_the_order_of_tracking():
    operations = [a_running_operation(id=an_id(number)) for number in (3, 1, 2)]
    census, ids = shown(Census(), operations, 0, 3)
    assert ids == [an_id(3), an_id(1), an_id(2)]
    assert census == Census(shown_since=dict.fromkeys(ids, at().tick))
    assert shown(census, operations, 60, 3) == (census, ids)


def test_a_hidden_operation_loses_its_time_and_a_shown_one_keeps_it():
    census, _ = shown(Census(), [a_running_operation(id=an_id(number)) for number in (1, 2)], 0, 3)
    census, _ = shown(census, [a_running_operation(id=an_id(number)) for number in (2, 3)], 5, 3)
    assert census.shown_since == {an_id(2): at(0).tick, an_id(3): at(5).tick}
    assert shown(census, [a_running_operation(id=an_id(number)) for number in (2, 3)], 9, 3)[0] is census


def test_failing_come_before_running_before_finished_and_clean():
    operations = [
        a_final_operation(id=an_id(1), stats=CLEAN),
        a_running_operation(id=an_id(2), stats=CLEAN),
        a_final_operation(id=an_id(3), stats=FAILED),
        a_settling_operation(id=an_id(4), stats=CLEAN),
        a_running_operation(id=an_id(5), stats=Stats(unaddressable=1)),
    ]
    assert shown(Census(), operations, 0, 2)[1] == [an_id(3), an_id(5)]
    assert shown(Census(), operations, 0, 4)[1] == [an_id(2), an_id(3), an_id(4), an_id(5)]


def test_among_equals_the_newest_come_first():
    operations = [a_running_operation(id=an_id(number), registered_at=NOW + number) for number in range(3)]
    assert shown(Census(), operations, 0, 1)[1] == [an_id(2)]


def test_among_equals_the_operation_that_is_shown_stays():
    old = a_running_operation(id=an_id(1))
    census, _ = shown(Census(), [old], 0, 1)
    newer = a_running_operation(id=an_id(2), registered_at=NOW + SECOND)
    assert shown(census, [old, newer], 3600, 1)[1] == [an_id(1)]


@pytest.mark.parametrize(("seconds", "stays"), [(59.9, 1), (60, 2)])
def test_what_is_shown_stays_for_a_minute_before_something_running(seconds: float, stays: int):
    clean = a_final_operation(id=an_id(1), stats=CLEAN)
    census, _ = shown(Census(), [clean], 0, 1)
    running = a_running_operation(id=an_id(2), stats=CLEAN)
    assert shown(census, [clean, running], seconds, 1)[1] == [an_id(stays)]
    assert SHOWN_AT_LEAST == MINUTE


def test_only_something_with_failures_displaces_within_the_minute():
    clean = a_final_operation(id=an_id(1), stats=CLEAN)
    census, _ = shown(Census(), [clean], 0, 1)
    failing = a_running_operation(id=an_id(2), stats=FAILED)
    census, ids = shown(census, [clean, failing], 1, 1)
    assert ids == [an_id(2)]
    assert census.shown_since == {an_id(2): at(1).tick}


states = st.sampled_from([a_running_operation, a_settling_operation, a_final_operation])
candidates_by_account = st.lists(
    st.builds(
        lambda number, make, stats, age: make(id=an_id(number), stats=stats, registered_at=NOW + age),
        st.integers(0, 12),
        states,
        st.sampled_from([CLEAN, FAILED, Stats()]),
        st.integers(0, 5),
    ),
    max_size=10,
    unique_by=lambda operation: operation.id,
)


@unhurried
@given(st.lists(st.tuples(candidates_by_account, st.integers(1, 70)), max_size=8), st.integers(1, 5))
def test_a_shown_operation_stays_for_a_minute_unless_failing_operations_need_its_place(
    turns: list[tuple[list[Operation], int]], most: int
):
    census, seconds = Census(), 0
    for candidates_of_account, wait in turns:
        seconds += wait
        before = census.shown_since
        census, chosen = choose_shown(census, candidates_of_account, at(seconds), most)
        ids = {operation.id for operation in chosen}
        assert len(chosen) == min(len(candidates_of_account), most)
        assert set(census.shown_since) == ids
        assert all(
            census.shown_since[shown_operation] == before.get(shown_operation, at(seconds).tick)
            for shown_operation in ids
        )
        for left in candidates_of_account:
            since = before.get(left.id)
            if left.id not in ids and since is not None and at(seconds).tick - since < SHOWN_AT_LEAST:
                assert all(
                    shown_operation.stats.has_failures
                    or at(seconds).tick - before.get(shown_operation.id, -SHOWN_AT_LEAST) < SHOWN_AT_LEAST
                    for shown_operation in chosen
                )


@unhurried
@given(candidates_by_account, st.integers(1, 5))
def test_nothing_with_failures_is_hidden_behind_something_without(candidates_of_account: list[Operation], most: int):
    _, chosen = choose_shown(Census(), candidates_of_account, at(), most)
    hidden = [operation for operation in candidates_of_account if operation not in chosen]
    if any(operation.stats.has_failures for operation in hidden):
        assert all(operation.stats.has_failures for operation in chosen)


# ── memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_finished_operations_within_the_limit_stay_and_running_operations_do_not_count():
    operations = [a_final_operation(id=an_id(1)), *(a_running_operation(id=an_id(number)) for number in (2, 3, 4))]
    assert surplus_finals(operations, 1) == ()


def test_above_the_limit_the_least_important_finished_operations_go_first():
    ranked = [
        a_final_operation(id=an_id(1), stats=CLEAN, scraped_at=NOW, final_at=NOW),
        a_final_operation(id=an_id(2), stats=CLEAN, scraped_at=NOW, final_at=NOW + 1),
        a_final_operation(id=an_id(3), stats=CLEAN, final_at=NOW),
        a_final_operation(id=an_id(4), stats=FAILED, scraped_at=NOW),
        a_final_operation(id=an_id(5), stats=FAILED),
    ]
    for kept in range(6):
        assert list(surplus_finals(reversed(ranked), kept)) == [operation.id for operation in ranked[: 5 - kept]]
