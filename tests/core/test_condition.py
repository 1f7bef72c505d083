"""Troubles of an account are told on their edges."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.factories import at
from tests.support.strategies import unhurried
from watcher.core.condition import (
    FAILURES_BEFORE_UNREACHABLE,
    AccountEvent,
    Began,
    Cause,
    Condition,
    Recovered,
    Trouble,
    note,
    with_causes,
)
from watcher.core.governor import Verdict
from watcher.core.model import SECOND, Micros

GOOD_ONCE = Condition(last_success_at=at().at)


def after(condition: Condition, *verdicts: tuple[float, Verdict]) -> tuple[Condition, list[AccountEvent]]:
    told: list[AccountEvent] = []
    for seconds, verdict in verdicts:
        condition, events = note(condition, verdict, at(seconds), "why")
        told += events
    return condition, told


def test_an_account_is_up_from_its_first_good_answer():
    assert not Condition().is_up
    condition, told = after(Condition(), (1, Verdict.GOOD))
    assert condition.is_up
    assert condition.last_success_at == at(1).at
    assert told == []


@pytest.mark.parametrize("verdict", [Verdict.THROTTLED, Verdict.TROUBLED, Verdict.ABANDONED, Verdict.DOUBTFUL])
def test_a_single_trouble_does_not_take_an_account_down(verdict: Verdict):
    condition, _ = after(GOOD_ONCE, (1, verdict))
    assert condition.is_up


def test_what_was_abandoned_says_nothing():
    assert note(GOOD_ONCE, Verdict.ABANDONED, at()) == (GOOD_ONCE, ())


def test_throttling_is_told_when_it_begins_and_when_half_a_minute_went_without():
    condition, told = after(
        GOOD_ONCE,
        (0, Verdict.THROTTLED),
        (1, Verdict.THROTTLED),
        (10, Verdict.GOOD),
        (20, Verdict.THROTTLED),
        (49, Verdict.GOOD),
        (50, Verdict.GOOD),
    )
    assert told == [
        Began(trouble=Trouble.THROTTLED, why="why"),
        Recovered(trouble=Trouble.THROTTLED, lasted=50 * SECOND),
    ]
    assert condition.is_up


def test_nine_failures_in_a_row_make_an_account_unreachable_until_a_good_answer():
    failures = [(float(number), Verdict.TROUBLED) for number in range(1, FAILURES_BEFORE_UNREACHABLE)]
    condition, told = after(GOOD_ONCE, *failures)
    assert condition.is_up
    assert told == []
    condition, told = after(condition, (9, Verdict.TROUBLED), (10, Verdict.TROUBLED))
    assert not condition.is_up
    assert told == [Began(trouble=Trouble.UNREACHABLE, why="why")]
    condition, told = after(condition, (19, Verdict.GOOD))
    assert condition.is_up
    assert told == [Recovered(trouble=Trouble.UNREACHABLE, lasted=10 * SECOND)]


def test_a_good_answer_begins_the_row_anew():
    failures = [(0.0, Verdict.TROUBLED)] * (FAILURES_BEFORE_UNREACHABLE - 1)
    condition, told = after(GOOD_ONCE, *failures, (1, Verdict.GOOD), *failures)
    assert condition.is_up
    assert told == []


def test_refused_credentials_take_an_account_down_until_a_good_answer():
    condition, told = after(GOOD_ONCE, (0, Verdict.UNAUTHORIZED), (30, Verdict.UNAUTHORIZED))
    assert (condition.is_up, condition.is_unauthorized) == (False, True)
    assert told == [Began(trouble=Trouble.UNAUTHORIZED, why="why")]
    condition, told = after(condition, (60, Verdict.GOOD))
    assert (condition.is_up, condition.is_unauthorized) == (True, False)
    assert told == [Recovered(trouble=Trouble.UNAUTHORIZED, lasted=60 * SECOND)]


def test_a_good_answer_asked_for_before_the_refusal_does_not_mend_it():
    condition, _ = note(GOOD_ONCE, Verdict.UNAUTHORIZED, at(1))
    condition, told = note(condition, Verdict.GOOD, at(2), asked=at(0).tick)
    assert (condition.is_unauthorized, told) == (True, ())
    assert condition.last_success_at == at(2).at
    condition, told = note(condition, Verdict.GOOD, at(32), asked=at(31).tick)
    assert told == (Recovered(trouble=Trouble.UNAUTHORIZED, lasted=31 * SECOND),)


def test_several_troubles_last_side_by_side():
    condition, _ = after(Condition(), (0, Verdict.THROTTLED), (1, Verdict.UNAUTHORIZED))
    assert condition.troubles == {Trouble.THROTTLED, Trouble.UNAUTHORIZED}
    condition, told = after(condition, (5, Verdict.GOOD))
    assert condition.troubles == {Trouble.THROTTLED}
    assert told == [Recovered(trouble=Trouble.UNAUTHORIZED, lasted=4 * SECOND)]


# ── what several answers together say ────────────────────────────────────────────────────────────────────────────────


def test_refused_lists_take_an_account_down_until_they_are_answered_whatever_else_is():
    condition, told = with_causes(GOOD_ONCE, {Cause.LISTS_FORBIDDEN: "HTTP 403"}, at(0))
    assert told == (Began(trouble=Trouble.UNAUTHORIZED, why="HTTP 403"),)
    assert (condition.is_up, condition.is_unauthorized) == (False, True)
    condition, told = note(condition, Verdict.GOOD, at(1), asked=at(1).tick)
    assert (condition.is_up, told) == (False, ())
    condition, told = with_causes(condition, {}, at(2))
    assert told == (Recovered(trouble=Trouble.UNAUTHORIZED, lasted=2 * SECOND),)
    assert condition.is_up


def test_two_causes_of_one_trouble_are_told_once_and_over_with_the_last():
    condition, _ = note(GOOD_ONCE, Verdict.UNAUTHORIZED, at(0), "HTTP 401")
    condition, told = with_causes(condition, {Cause.KEY_UNPROVEN: "why"}, at(1))
    assert told == ()
    condition, told = note(condition, Verdict.GOOD, at(2), asked=at(2).tick)
    assert (told, condition.is_unauthorized) == ((), True)
    condition, told = with_causes(condition, {}, at(3))
    assert told == (Recovered(trouble=Trouble.UNAUTHORIZED, lasted=2 * SECOND),)


def test_causes_of_attempts_stay_whatever_answers_together_say():
    condition, _ = after(GOOD_ONCE, *[(second, Verdict.TROUBLED) for second in range(FAILURES_BEFORE_UNREACHABLE)])
    assert with_causes(condition, {}, at(20)) == (condition, ())


@unhurried
@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from(Verdict), st.booleans())))
def test_each_trouble_is_told_to_begin_and_to_end_in_turns(history: list[tuple[int, Verdict, bool]]):
    condition, seconds = Condition(), 0
    told: dict[Trouble, list[type[AccountEvent]]] = {trouble: [] for trouble in Trouble}
    for wait, verdict, is_slow in history:
        asked: Micros | None = at(seconds - 1).tick if is_slow else None
        seconds += wait
        condition, events = note(condition, verdict, at(seconds), asked=asked)
        for event in events:
            told[event.trouble].append(type(event))
            assert isinstance(event, Began) or event.lasted >= 0
    for trouble, edges in told.items():
        assert edges == list(itertools.islice(itertools.cycle((Began, Recovered)), len(edges)))
        assert (trouble in condition.troubles) is (len(edges) % 2 == 1)
