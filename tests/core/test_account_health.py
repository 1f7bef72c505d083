"""Troubles of an account are told on their edges."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.factories import at
from tests.support.strategies import unhurried
from watcher.core.account_health import (
    FAILURES_BEFORE_UNREACHABLE,
    AccountEvent,
    AccountHealth,
    Began,
    Cause,
    HealthIssue,
    Recovered,
    note,
    with_causes,
)
from watcher.core.governor import AttemptResult
from watcher.core.model import SECOND, Micros

GOOD_ONCE = AccountHealth(last_success_at=at().at)


def after(health: AccountHealth, *verdicts: tuple[float, AttemptResult]) -> tuple[AccountHealth, list[AccountEvent]]:
    told: list[AccountEvent] = []
    for seconds, result in verdicts:
        health, events = note(health, result, at(seconds), "why")
        told += events
    return health, told


def test_an_account_is_up_from_its_first_good_answer():
    assert not AccountHealth().is_up
    health, told = after(AccountHealth(), (1, AttemptResult.GOOD))
    assert health.is_up
    assert health.last_success_at == at(1).at
    assert told == []


@pytest.mark.parametrize(
    "result", [AttemptResult.THROTTLED, AttemptResult.TROUBLED, AttemptResult.ABANDONED, AttemptResult.DOUBTFUL]
)
def test_a_single_trouble_does_not_take_an_account_down(result: AttemptResult):
    health, _ = after(GOOD_ONCE, (1, result))
    assert health.is_up


def test_what_was_abandoned_says_nothing():
    assert note(GOOD_ONCE, AttemptResult.ABANDONED, at()) == (GOOD_ONCE, ())


def test_throttling_is_told_when_it_begins_and_when_half_a_minute_went_without():
    health, told = after(
        GOOD_ONCE,
        (0, AttemptResult.THROTTLED),
        (1, AttemptResult.THROTTLED),
        (10, AttemptResult.GOOD),
        (20, AttemptResult.THROTTLED),
        (49, AttemptResult.GOOD),
        (50, AttemptResult.GOOD),
    )
    assert told == [
        Began(issue=HealthIssue.THROTTLED, why="why"),
        Recovered(issue=HealthIssue.THROTTLED, lasted=50 * SECOND),
    ]
    assert health.is_up


def test_nine_failures_in_a_row_make_an_account_unreachable_until_a_good_answer():
    failures = [(float(number), AttemptResult.TROUBLED) for number in range(1, FAILURES_BEFORE_UNREACHABLE)]
    health, told = after(GOOD_ONCE, *failures)
    assert health.is_up
    assert told == []
    health, told = after(health, (9, AttemptResult.TROUBLED), (10, AttemptResult.TROUBLED))
    assert not health.is_up
    assert told == [Began(issue=HealthIssue.UNREACHABLE, why="why")]
    health, told = after(health, (19, AttemptResult.GOOD))
    assert health.is_up
    assert told == [Recovered(issue=HealthIssue.UNREACHABLE, lasted=10 * SECOND)]


def test_a_good_answer_begins_the_row_anew():
    failures = [(0.0, AttemptResult.TROUBLED)] * (FAILURES_BEFORE_UNREACHABLE - 1)
    health, told = after(GOOD_ONCE, *failures, (1, AttemptResult.GOOD), *failures)
    assert health.is_up
    assert told == []


def test_refused_credentials_take_an_account_down_until_a_good_answer():
    health, told = after(GOOD_ONCE, (0, AttemptResult.UNAUTHORIZED), (30, AttemptResult.UNAUTHORIZED))
    assert (health.is_up, health.is_unauthorized) == (False, True)
    assert told == [Began(issue=HealthIssue.UNAUTHORIZED, why="why")]
    health, told = after(health, (60, AttemptResult.GOOD))
    assert (health.is_up, health.is_unauthorized) == (True, False)
    assert told == [Recovered(issue=HealthIssue.UNAUTHORIZED, lasted=60 * SECOND)]


def test_a_good_answer_asked_for_before_the_refusal_does_not_mend_it():
    health, _ = note(GOOD_ONCE, AttemptResult.UNAUTHORIZED, at(1))
    health, told = note(health, AttemptResult.GOOD, at(2), asked=at(0).tick)
    assert (health.is_unauthorized, told) == (True, ())
    assert health.last_success_at == at(2).at
    health, told = note(health, AttemptResult.GOOD, at(32), asked=at(31).tick)
    assert told == (Recovered(issue=HealthIssue.UNAUTHORIZED, lasted=31 * SECOND),)


def test_several_troubles_last_side_by_side():
    health, _ = after(AccountHealth(), (0, AttemptResult.THROTTLED), (1, AttemptResult.UNAUTHORIZED))
    assert health.issues == {HealthIssue.THROTTLED, HealthIssue.UNAUTHORIZED}
    health, told = after(health, (5, AttemptResult.GOOD))
    assert health.issues == {HealthIssue.THROTTLED}
    assert told == [Recovered(issue=HealthIssue.UNAUTHORIZED, lasted=4 * SECOND)]


# ── what several answers together say ────────────────────────────────────────────────────────────────────────────────


def test_refused_lists_take_an_account_down_until_they_are_answered_whatever_else_is():
    health, told = with_causes(GOOD_ONCE, {Cause.LISTS_FORBIDDEN: "HTTP 403"}, at(0))
    assert told == (Began(issue=HealthIssue.UNAUTHORIZED, why="HTTP 403"),)
    assert (health.is_up, health.is_unauthorized) == (False, True)
    health, told = note(health, AttemptResult.GOOD, at(1), asked=at(1).tick)
    assert (health.is_up, told) == (False, ())
    health, told = with_causes(health, {}, at(2))
    assert told == (Recovered(issue=HealthIssue.UNAUTHORIZED, lasted=2 * SECOND),)
    assert health.is_up


def test_two_causes_of_one_trouble_are_told_once_and_over_with_the_last():
    health, _ = note(GOOD_ONCE, AttemptResult.UNAUTHORIZED, at(0), "HTTP 401")
    health, told = with_causes(health, {Cause.KEY_UNPROVEN: "why"}, at(1))
    assert told == ()
    health, told = note(health, AttemptResult.GOOD, at(2), asked=at(2).tick)
    assert (told, health.is_unauthorized) == ((), True)
    health, told = with_causes(health, {}, at(3))
    assert told == (Recovered(issue=HealthIssue.UNAUTHORIZED, lasted=2 * SECOND),)


def test_causes_of_attempts_stay_whatever_answers_together_say():
    health, _ = after(GOOD_ONCE, *[(second, AttemptResult.TROUBLED) for second in range(FAILURES_BEFORE_UNREACHABLE)])
    assert with_causes(health, {}, at(20)) == (health, ())


@unhurried
@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from(AttemptResult), st.booleans())))
def test_each_trouble_is_told_to_begin_and_to_end_in_turns(history: list[tuple[int, AttemptResult, bool]]):
    health, seconds = AccountHealth(), 0
    told: dict[HealthIssue, list[type[AccountEvent]]] = {issue: [] for issue in HealthIssue}
    for wait, result, is_slow in history:
        asked: Micros | None = at(seconds - 1).tick if is_slow else None
        seconds += wait
        health, events = note(health, result, at(seconds), asked=asked)
        for event in events:
            told[event.issue].append(type(event))
            assert isinstance(event, Began) or event.lasted >= 0
    for issue, edges in told.items():
        assert edges == list(itertools.islice(itertools.cycle((Began, Recovered)), len(edges)))
        assert (issue in health.issues) is (len(edges) % 2 == 1)
