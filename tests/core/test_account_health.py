"""Issues of an account are published when they begin and when they end."""

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


def after(health: AccountHealth, *results: tuple[float, AttemptResult]) -> tuple[AccountHealth, list[AccountEvent]]:
    published: list[AccountEvent] = []
    for seconds, result in results:
        health, events = note(health, result, at(seconds), "why")
        published += events
    return health, published


def test_an_account_is_up_from_its_first_good_answer():
    assert not AccountHealth().is_up
    health, published = after(AccountHealth(), (1, AttemptResult.GOOD))
    assert health.is_up
    assert health.last_success_at == at(1).at
    assert published == []


@pytest.mark.parametrize(
    "result", [AttemptResult.THROTTLED, AttemptResult.TROUBLED, AttemptResult.ABANDONED, AttemptResult.DOUBTFUL]
)
def test_a_single_failure_does_not_take_an_account_down(result: AttemptResult):
    health, _ = after(GOOD_ONCE, (1, result))
    assert health.is_up


def test_an_abandoned_attempt_changes_nothing():
    assert note(GOOD_ONCE, AttemptResult.ABANDONED, at()) == (GOOD_ONCE, ())


def test_throttling_is_published_when_it_begins_and_after_half_a_minute_without_it():
    health, published = after(
        GOOD_ONCE,
        (0, AttemptResult.THROTTLED),
        (1, AttemptResult.THROTTLED),
        (10, AttemptResult.GOOD),
        (20, AttemptResult.THROTTLED),
        (49, AttemptResult.GOOD),
        (50, AttemptResult.GOOD),
    )
    assert published == [
        Began(issue=HealthIssue.THROTTLED, why="why"),
        Recovered(issue=HealthIssue.THROTTLED, lasted=50 * SECOND),
    ]
    assert health.is_up


def test_nine_failures_in_a_row_make_an_account_unreachable_until_a_good_answer():
    failures = [(float(number), AttemptResult.TROUBLED) for number in range(1, FAILURES_BEFORE_UNREACHABLE)]
    health, published = after(GOOD_ONCE, *failures)
    assert health.is_up
    assert published == []
    health, published = after(health, (9, AttemptResult.TROUBLED), (10, AttemptResult.TROUBLED))
    assert not health.is_up
    assert published == [Began(issue=HealthIssue.UNREACHABLE, why="why")]
    health, published = after(health, (19, AttemptResult.GOOD))
    assert health.is_up
    assert published == [Recovered(issue=HealthIssue.UNREACHABLE, lasted=10 * SECOND)]


def test_a_good_answer_resets_the_count_of_failures_in_a_row():
    failures = [(0.0, AttemptResult.TROUBLED)] * (FAILURES_BEFORE_UNREACHABLE - 1)
    health, published = after(GOOD_ONCE, *failures, (1, AttemptResult.GOOD), *failures)
    assert health.is_up
    assert published == []


def test_refused_credentials_take_an_account_down_until_a_good_answer():
    health, published = after(GOOD_ONCE, (0, AttemptResult.UNAUTHORIZED), (30, AttemptResult.UNAUTHORIZED))
    assert (health.is_up, health.is_unauthorized) == (False, True)
    assert published == [Began(issue=HealthIssue.UNAUTHORIZED, why="why")]
    health, published = after(health, (60, AttemptResult.GOOD))
    assert (health.is_up, health.is_unauthorized) == (True, False)
    assert published == [Recovered(issue=HealthIssue.UNAUTHORIZED, lasted=60 * SECOND)]


def test_a_good_answer_requested_before_the_refusal_does_not_end_the_issue():
    health, _ = note(GOOD_ONCE, AttemptResult.UNAUTHORIZED, at(1))
    health, published = note(health, AttemptResult.GOOD, at(2), asked=at(0).tick)
    assert (health.is_unauthorized, published) == (True, ())
    assert health.last_success_at == at(2).at
    health, published = note(health, AttemptResult.GOOD, at(32), asked=at(31).tick)
    assert published == (Recovered(issue=HealthIssue.UNAUTHORIZED, lasted=31 * SECOND),)


def test_several_issues_can_exist_at_the_same_time():
    health, _ = after(AccountHealth(), (0, AttemptResult.THROTTLED), (1, AttemptResult.UNAUTHORIZED))
    assert health.issues == {HealthIssue.THROTTLED, HealthIssue.UNAUTHORIZED}
    health, published = after(health, (5, AttemptResult.GOOD))
    assert health.issues == {HealthIssue.THROTTLED}
    assert published == [Recovered(issue=HealthIssue.UNAUTHORIZED, lasted=4 * SECOND)]


# ── what several answers together say ────────────────────────────────────────────────────────────────────────────────


def test_refused_lists_take_an_account_down_until_they_are_answered_whatever_else_is():
    health, published = with_causes(GOOD_ONCE, {Cause.LISTS_FORBIDDEN: "HTTP 403"}, at(0))
    assert published == (Began(issue=HealthIssue.UNAUTHORIZED, why="HTTP 403"),)
    assert (health.is_up, health.is_unauthorized) == (False, True)
    health, published = note(health, AttemptResult.GOOD, at(1), asked=at(1).tick)
    assert (health.is_up, published) == (False, ())
    health, published = with_causes(health, {}, at(2))
    assert published == (Recovered(issue=HealthIssue.UNAUTHORIZED, lasted=2 * SECOND),)
    assert health.is_up


def test_an_issue_with_two_causes_is_published_once_and_ends_with_the_last():
    health, _ = note(GOOD_ONCE, AttemptResult.UNAUTHORIZED, at(0), "HTTP 401")
    health, published = with_causes(health, {Cause.KEY_UNPROVEN: "why"}, at(1))
    assert published == ()
    health, published = note(health, AttemptResult.GOOD, at(2), asked=at(2).tick)
    assert (published, health.is_unauthorized) == ((), True)
    health, published = with_causes(health, {}, at(3))
    assert published == (Recovered(issue=HealthIssue.UNAUTHORIZED, lasted=2 * SECOND),)


def test_causes_of_attempts_stay_whatever_answers_together_say():
    health, _ = after(GOOD_ONCE, *[(second, AttemptResult.TROUBLED) for second in range(FAILURES_BEFORE_UNREACHABLE)])
    assert with_causes(health, {}, at(20)) == (health, ())


@unhurried
@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from(AttemptResult), st.booleans())))
def test_the_events_of_an_issue_alternate_between_begin_and_end(history: list[tuple[int, AttemptResult, bool]]):
    health, seconds = AccountHealth(), 0
    published: dict[HealthIssue, list[type[AccountEvent]]] = {issue: [] for issue in HealthIssue}
    for wait, result, is_slow in history:
        asked: Micros | None = at(seconds - 1).tick if is_slow else None
        seconds += wait
        health, events = note(health, result, at(seconds), asked=asked)
        for event in events:
            published[event.issue].append(type(event))
            assert isinstance(event, Began) or event.lasted >= 0
    for issue, edges in published.items():
        assert edges == list(itertools.islice(itertools.cycle((Began, Recovered)), len(edges)))
        assert (issue in health.issues) is (len(edges) % 2 == 1)
