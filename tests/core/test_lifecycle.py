"""What each observation makes of an operation, for every row and column of the table."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.support.factories import (
    CREATED,
    HINTED,
    NOW,
    OPERATION_ID,
    TICK,
    a_final_operation,
    a_reading,
    a_running_operation,
    a_settling_operation,
    an_operation,
    at,
    days,
    forbidden,
    missing,
    refused,
    seen,
    unanswered,
)
from tests.support.strategies import harmless, observations, timings, unhurried
from watcher.core import lifecycle
from watcher.core.channels import STAT_NAMES, Stats
from watcher.core.clocks import ClockReading
from watcher.core.lifecycle import LifecycleRules
from watcher.core.lifecycle.answers import ObservationKind, is_before, kind_of, means_failure
from watcher.core.lifecycle.rules import TABLE, progresses, repeats
from watcher.core.lifecycle.steps import Step, duration_seconds
from watcher.core.lifecycle.tracked import SLOW_TRIES
from watcher.core.model import (
    MINUTE,
    SECOND,
    Corrected,
    Evidence,
    Failing,
    Finished,
    Moment,
    Moved,
    Odd,
    Operation,
    OperationEvent,
    Outcome,
    Phase,
    Status,
    Tally,
)
from watcher.core.observation import Missing, Observation, Record, Seen, Timing

RULES = LifecycleRules()
AT_ONCE = LifecycleRules(settle_after=())


def clocks(observation: Observation, now: Moment) -> ClockReading:
    """Both clocks agree; where the answer carries a `Date`, upstream's is a steady one that shows it."""
    return a_reading(now, upstream=observation.timing.date)


def observe(operation: Operation, observation: Observation, now: Moment, rules: LifecycleRules) -> Step:
    return lifecycle.observe(operation, observation, clocks(observation, now), rules)


def after(operation: Operation, *seen_in_order: Observation, rules: LifecycleRules = RULES) -> list[Step]:
    """The steps; each observation is processed when it was answered."""
    steps = []
    for observation in seen_in_order:
        steps.append(observe(operation, observation, observation.timing.answered, rules))
        operation = steps[-1].operation
    return steps


def kinds(events: Iterable[OperationEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_table_has_a_rule_for_every_phase_and_answer():
    assert set(TABLE) == {(phase, answer) for phase in Phase for answer in ObservationKind}


@pytest.mark.parametrize(
    ("observation", "answer"),
    [
        (seen("SCHEDULED"), ObservationKind.RUNNING),
        (seen("PROCESSING"), ObservationKind.RUNNING),
        (seen("PAUSED"), ObservationKind.UNKNOWN),
        (seen("EXPIRED"), ObservationKind.UNKNOWN),
        (seen("UNSEEN"), ObservationKind.UNKNOWN),
        (seen(None), ObservationKind.UNKNOWN),
        (seen("COMPLETED"), ObservationKind.ENDED),
        (seen("CANCELED"), ObservationKind.ENDED),
        (missing(), ObservationKind.MISSING),
        (refused(), ObservationKind.REFUSED),
        (forbidden(), ObservationKind.FORBIDDEN),
        (unanswered(), ObservationKind.UNANSWERED),
    ],
)
def test_each_observation_of_something_never_seen_has_its_column(observation: Observation, answer: ObservationKind):
    assert kind_of(an_operation(), observation) is answer


@pytest.mark.parametrize(
    ("operation", "answer"),
    [(a_running_operation(), ObservationKind.RUNNING), (a_settling_operation(), ObservationKind.ENDED)],
)
def test_a_record_without_a_status_stands_for_the_status_it_had(operation: Operation, answer: ObservationKind):
    assert kind_of(operation, seen(None)) is answer


# ── tracked ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_first_poll_moves_from_no_status_and_has_no_delay():
    step = observe(an_operation(), seen("PROCESSING"), at(0.1), RULES)
    assert step == Step(
        operation=an_operation(
            status=Status.PROCESSING,
            stats=Stats(total=10, recipients=10, sent=5, failed=0),
            created_at=CREATED,
            updated_at=CREATED + 20 * SECOND,
            progressed_at=at(0.1).at,
            asked_tick=TICK,
            evidence=Evidence(created_is_new=True, other_created_asked_at=NOW),
        ),
        events=(
            Moved(
                from_status=None,
                to_status=Status.PROCESSING,
                stats=Stats(total=10, recipients=10, sent=5, failed=0),
                updated_at="2026-09-21T14:12:40.000Z",
                delay_seconds=None,
            ),
        ),
    )


def test_a_later_poll_moves_with_the_delay_since_upstreams_change():
    step = observe(a_running_operation(status=Status.SCHEDULED), seen(updated_at=NOW - 3 * SECOND), at(0.1), RULES)
    (moved,) = step.events
    assert isinstance(moved, Moved)
    assert (moved.from_status, moved.to_status) == (Status.SCHEDULED, Status.PROCESSING)
    assert (moved.delay_seconds, step.delay) == (3.1, 3_100_000)


def test_the_delay_goes_by_upstreams_clock_where_ours_is_off():
    moved = seen(updated_at=NOW - 100 * SECOND, date=NOW - 98 * SECOND)
    assert observe(a_running_operation(updated_at=CREATED - 60 * SECOND), moved, at(0.1), RULES).delay == 2 * SECOND


def test_the_whole_seconds_of_a_date_do_not_make_our_clock_wrong():
    moved = seen(updated_at=NOW - 3 * SECOND, date=NOW - SECOND)
    assert observe(a_running_operation(), moved, at(0.1), RULES).delay == 3_100_000


def test_a_delay_is_never_negative():
    assert observe(a_running_operation(), seen(updated_at=NOW + SECOND), at(0.1), RULES).delay == 0


def test_a_change_from_before_this_process_has_a_delay_in_its_event_but_not_in_the_metric():
    step = observe(a_running_operation(asked_tick=0), seen("COMPLETED", updated_at=NOW - 40 * SECOND), at(0.1), RULES)
    moved = step.events[0]
    assert isinstance(moved, Moved)
    assert (moved.delay_seconds, step.delay) == (40.1, None)


def test_an_answer_without_a_newer_instant_has_no_delay():
    operation = a_running_operation()
    for updated_at in (None, operation.updated_at):
        assert observe(operation, seen(updated_at=updated_at), at(0.1), RULES).delay is None


def test_mere_stats_move_without_an_event():
    operation = a_running_operation()
    step = observe(operation, seen(), at(0.1), RULES)
    assert step.events == ()
    assert step.operation.stats == Stats(total=10, recipients=10, sent=5, failed=0)
    assert step.operation.progressed_at == at(0.1).at


def test_a_poll_without_a_change_is_no_progress():
    operation = a_running_operation()
    step = observe(operation, seen(stats=operation.stats, updated_at=operation.updated_at), at(0.1), RULES)
    assert step.operation == operation.with_(asked_tick=TICK)


def test_what_a_record_lacks_stays_as_it_was():
    operation = a_running_operation()
    step = observe(operation, seen(None, stats=None, created_at=None, updated_at=None), at(0.1), RULES)
    assert step.operation == operation.with_(asked_tick=TICK)


def test_a_stat_that_was_never_received_stays_absent():
    step = observe(an_operation(), seen(stats=Stats(sent=0)), at(0.1), RULES)
    assert step.operation.stats == Stats(sent=0)
    assert step.operation.stats.failed is None


def test_an_unknown_status_is_an_anomaly_every_time_and_published_once():
    first, again = after(a_running_operation(), seen("PAUSED"), seen("PAUSED", seconds=5))
    assert first.operation.status is Status.UNKNOWN
    assert first.operation.word == "PAUSED"
    assert kinds(first.events) == ["Moved", "Odd"]
    assert first.events[1] == Odd(kind="unknown_status", detail="PAUSED")
    assert (first.anomalies, again.anomalies) == (("unknown_status",), ("unknown_status",))
    assert again.events == ()


def test_an_unknown_status_is_kept_until_another_status_is_received():
    unknown, silent, known = after(
        a_running_operation(), seen("PAUSED"), seen(None, seconds=5), seen("PROCESSING", seconds=10)
    )
    moved = unknown.events[0]
    assert isinstance(moved, Moved)
    assert moved.status_word == "PAUSED"
    assert silent.operation.word == "PAUSED"
    assert known.operation.word is None
    assert kinds(known.events) == ["Moved"]


def test_oddities_of_the_record_are_anomalies():
    step = observe(a_running_operation(), seen(odd=("stats_garbled",)), at(0.1), RULES)
    assert step.anomalies == ("stats_garbled",)
    assert step.events == (Odd(kind="stats_garbled"),)
    assert step.operation.odd == ("stats_garbled",)


@pytest.mark.parametrize("name", ["sent", "failed", "unaddressable"])
def test_a_count_that_can_only_rise_and_falls_is_odd_and_believed(name: str):
    operation = a_running_operation(stats=Stats(**{name: 5}), failing_published=True)
    step = observe(operation, seen(stats=Stats(**{name: 4})), at(0.1), RULES)
    assert step.anomalies == ("stats_fell",)
    assert step.operation.stats == Stats(**{name: 4})


def test_a_queue_may_empty():
    step = observe(a_running_operation(stats=Stats(queued=5)), seen(stats=Stats(queued=4)), at(0.1), RULES)
    assert step.anomalies == ()


@pytest.mark.parametrize("stats", [Stats(failed=1), Stats(unaddressable=1)])
def test_failures_before_the_end_are_published_once(stats: Stats):
    first, again = after(a_running_operation(), seen(stats=stats), seen(stats=Stats(failed=2), seconds=5))
    assert first.events == (Failing(stats=first.operation.stats),)
    assert again.events == ()


def test_failures_that_come_with_the_end_are_published_with_the_end():
    step = observe(a_running_operation(), seen("COMPLETED", stats=Stats(failed=3)), at(0.1), RULES)
    assert kinds(step.events) == ["Moved", "Finished"]
    assert not step.operation.failing_published


def test_an_end_is_published_and_settles():
    step = observe(a_running_operation(), seen("COMPLETED", updated_at=NOW - 2 * SECOND), at(0.1), RULES)
    operation = step.operation
    assert kinds(step.events) == ["Moved", "Finished"]
    assert step.events[1] == Finished(outcome=Outcome.COMPLETED, stats=operation.stats, duration_seconds=58.0)
    assert (operation.phase, operation.ended_at, operation.learned_at) == (
        Phase.SETTLING,
        NOW - 2 * SECOND,
        at(0.1).at,
    )
    assert step.tally is None


def test_an_end_without_a_time_is_dated_by_the_answer():
    step = observe(a_running_operation(), seen("CANCELED", updated_at=None, date=NOW + MINUTE), at(0.1), RULES)
    assert step.operation.ended_at == NOW + MINUTE
    assert step.operation.updated_at == a_running_operation().updated_at


def test_an_end_is_final_with_the_next_answer_that_confirms_it_where_nothing_settles():
    ended = seen("CANCELED", stats=Stats(canceled=9))
    first, last = after(
        a_running_operation(), ended, seen("CANCELED", seconds=5, stats=Stats(canceled=9)), rules=AT_ONCE
    )
    assert (first.operation.phase, first.tally) == (Phase.SETTLING, None)
    assert last.operation.final_at == at(5.1).at
    assert last.tally == Tally(outcome=Outcome.CANCELED, stats=last.operation.stats, duration_seconds=20.0)
    assert (last.operation.stats.sent, last.operation.stats.canceled) == (1, 9)


def test_an_end_detected_after_the_life_of_the_record_is_final_at_once():
    step = observe(a_running_operation(), seen("COMPLETED", date=CREATED + days(7.1)), at(0.1), RULES)
    assert step.operation.phase is Phase.FINAL
    assert step.tally is not None


def test_the_tally_counts_what_was_never_received_as_nothing():
    operation = an_operation(labels={"team": "a"})
    answers = (seen("COMPLETED", seconds=seconds, stats=None) for seconds in (0, 5))
    _, step = after(operation, *answers, rules=AT_ONCE)
    assert step.tally == Tally(outcome=Outcome.COMPLETED, duration_seconds=20.0)


@pytest.mark.parametrize(
    ("created_at", "ended_at", "duration"),
    [(0, 5 * SECOND, 5.0), (None, 5, None), (5, None, None), (6, 5, None), (5, 5, 0.0)],
)
def test_a_duration_needs_both_ends_in_order(created_at: int | None, ended_at: int | None, duration: float | None):
    assert duration_seconds(an_operation(created_at=created_at, ended_at=ended_at)) == duration


def test_polls_without_an_answer_never_change_an_operation():
    operation = a_running_operation()
    assert [step.operation for step in after(operation, *map(unanswered, range(100)))] == [operation] * 100


def test_a_refusal_of_what_was_shown_before_is_believed_at_the_fourth_in_a_row():
    steps = after(a_running_operation(), *(refused(minute) for minute in range(4)))
    assert [step.operation.phase for step in steps] == [Phase.FOLLOWED] * 3 + [Phase.FINAL]
    assert [step.events for step in steps[:3]] == [()] * 3
    assert steps[-1].operation.status is Status.REJECTED


def test_a_refusal_of_what_is_shown_again_is_forgotten():
    steps = after(a_running_operation(), refused(1), refused(2), refused(3), seen(seconds=4), refused(5))
    assert steps[3].operation.missed == 0
    assert steps[4].operation.phase is Phase.FOLLOWED


def test_a_refusal_rejects_at_once_and_counts():
    step = observe(an_operation(), refused(), at(0.1), RULES)
    assert step.operation.status is Status.REJECTED
    assert step.operation.phase is Phase.FINAL
    assert step.tally == Tally(outcome=Outcome.REJECTED)
    assert step.events == (
        Moved(from_status=None, to_status=Status.REJECTED, stats=Stats(), updated_at=None, delay_seconds=None),
        Finished(outcome=Outcome.REJECTED, stats=Stats(), duration_seconds=None),
    )


def test_a_403_of_an_operation_is_an_anomaly_each_time_published_once_and_no_outcome():
    first, again = after(a_running_operation(), forbidden(), forbidden(60))
    assert (first.anomalies, first.events) == (("forbidden",), (Odd(kind="forbidden"),))
    assert (again.anomalies, again.events) == (("forbidden",), ())
    assert again.operation == a_running_operation(odd=("forbidden",))


def test_a_forbidden_operation_is_bounded_by_its_record():
    step = observe(a_running_operation(created_at=NOW - days(8.1)), forbidden(), at(), RULES)
    assert step.operation.status is Status.EXPIRED


def test_settling_reads_that_are_forbidden_end_the_settling_as_failed_reads_do():
    steps = after(a_settling_operation(), *(forbidden(minute * 60) for minute in range(11)))
    assert [step.operation.phase for step in steps] == [Phase.SETTLING] * 10 + [Phase.FINAL]


@pytest.mark.parametrize("word", ["FAILED", "ERROR", "REJECTED", "failed", "DELIVERY_FAILED", "Timed out"])
def test_a_status_that_means_failure_is_published_as_such_also_after_another_unknown_status(word: str):
    steps = after(
        a_running_operation(), seen("PAUSED", seconds=1, updated_at=NOW), seen(word, seconds=2, updated_at=NOW + SECOND)
    )
    assert Odd(kind="unknown_status", detail="PAUSED") in steps[0].events
    assert steps[1].events == (Odd(kind="failure_status", detail=word),)
    assert steps[1].operation.status is Status.UNKNOWN


def test_a_status_that_is_missing_says_nothing_of_failure():
    assert not means_failure(None)


# ── the order of answers ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("word", ["PROCESSING", "PAUSED"])
def test_an_older_answer_is_set_aside_once_and_odd(word: str):
    operation = a_running_operation()
    step = observe(operation, seen(word, updated_at=CREATED), at(0.1), RULES)
    assert step.operation == operation.with_(odd=("stale_answer",), asked_tick=TICK, evidence=Evidence(set_aside=True))
    assert (step.anomalies, step.events) == (("stale_answer",), (Odd(kind="stale_answer"),))


@pytest.mark.parametrize("updated_at", [None, CREATED + 10 * SECOND])
def test_among_running_answers_of_equal_age_the_later_request_wins(updated_at: int | None):
    operation = a_running_operation(updated_at=updated_at and CREATED + 10 * SECOND, asked_tick=TICK)
    stats = Stats(sent=7)
    earlier = observe(operation, seen(seconds=-1, updated_at=updated_at, stats=stats), at(1), RULES)
    same = observe(operation, seen(seconds=0, updated_at=updated_at, stats=stats), at(1), RULES)
    assert earlier.operation.stats.sent == 1
    assert same.operation.stats.sent == 7


def test_a_newer_answer_wins_though_it_was_requested_earlier():
    operation = a_running_operation(asked_tick=TICK)
    step = observe(operation, seen(seconds=-5), at(0.1), RULES)
    assert step.operation.stats.sent == 5
    assert step.operation.asked_tick == TICK


def test_an_end_beats_a_running_status_of_equal_age_though_it_was_requested_earlier():
    operation = a_running_operation(asked_tick=TICK)
    step = observe(operation, seen("COMPLETED", seconds=-5, updated_at=operation.updated_at), at(0.1), RULES)
    assert step.operation.status is Status.COMPLETED


def test_of_two_ends_of_equal_age_the_later_request_wins():
    operation = a_settling_operation(asked_tick=TICK)
    older = seen("COMPLETED", seconds=-1, updated_at=operation.updated_at, stats=Stats(sent=3))
    step = observe(operation, older, at(0.1), RULES)
    assert (step.operation.stats, step.operation.settled) == (operation.stats, 0)
    assert (step.anomalies, step.events) == ((), ())


@pytest.mark.parametrize("overtaken", [missing(-1), refused(-1), forbidden(-1)])
@pytest.mark.parametrize("operation", [a_running_operation(asked_tick=TICK), a_settling_operation(asked_tick=TICK)])
def test_an_absence_requested_before_the_newest_answer_changes_nothing(operation: Operation, overtaken: Observation):
    assert observe(operation, overtaken, at(0.1), RULES) == Step(operation=operation)


@unhurried
@given(st.permutations(range(5)), st.booleans())
def test_in_any_order_of_arrival_the_newest_running_answer_counts(order: Sequence[int], dated):
    answers = [
        seen(seconds=age, updated_at=CREATED + age * SECOND if dated else None, stats=Stats(sent=age))
        for age in range(5)
    ]
    operation = an_operation()
    for index in order:
        operation = observe(operation, answers[index], at(10), RULES).operation
    assert operation.stats.sent == 4


@unhurried
@given(st.lists(observations, max_size=12))
def test_an_answer_with_an_older_instant_replaces_a_newer_only_after_another_was_set_aside(history: list[Observation]):
    operation = an_operation()
    was_set_aside = False
    for observation in history:
        later = observe(operation, observation, at(4000), RULES).operation
        known, given_at = operation.updated_at, later.updated_at
        has_ended = operation.phase is not later.phase
        if known is not None and given_at is not None and is_before(given_at, known):
            assert has_ended or was_set_aside or operation.phase is Phase.SETTLING
        was_set_aside = later.evidence is not None and later.evidence.set_aside
        operation = later


# ── not there ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_operation_may_be_missing_within_the_grace_and_is_polled_slowly_after_it():
    steps = after(an_operation(), missing(5), missing(60), *(missing(180 + 60 * tried) for tried in range(4)))
    assert [step.operation.missed for step in steps] == [0, 0, 1, 2, 3, 3]
    assert [step.operation.phase for step in steps] == [Phase.FOLLOWED] * 5 + [Phase.FINAL]
    assert steps[-1].operation.status is Status.NOT_FOUND
    assert steps[-1].tally == Tally(outcome=Outcome.NOT_FOUND)
    assert [step.events for step in steps[:-1]] == [()] * 5
    assert SLOW_TRIES == 3


def test_the_grace_of_what_was_never_seen_begins_with_its_registration():
    step = observe(an_operation(), missing(120), at(120), RULES)
    assert (step.operation.missing_since, step.operation.missed) == (NOW, 1)


def test_the_grace_of_what_was_seen_begins_when_it_is_missed():
    operation = a_running_operation(registered_at=NOW - days(1))
    first, second = after(operation, missing(0), missing(119))
    assert (first.operation.missing_since, first.operation.missed) == (at(0.1).at, 0)
    assert second.operation.missed == 0
    assert observe(second.operation, missing(121), at(121), RULES).operation.missed == 1


def test_a_grace_does_not_begin_in_the_future():
    step = observe(an_operation(registered_at=NOW + days(1)), missing(), at(0.1), RULES)
    assert step.operation.missing_since == at(0.1).at


@pytest.mark.parametrize("shown", [seen(seconds=400), seen(seconds=400, updated_at=CREATED)])
def test_what_is_shown_again_is_not_missing_any_more(shown: Seen):
    operation = a_running_operation(missing_since=NOW, missed=3)
    step = observe(operation, shown, at(400), RULES)
    assert (step.operation.missing_since, step.operation.missed) == (None, 0)


def test_what_is_missing_after_the_life_of_its_record_has_expired():
    late = days(7) + SECOND
    step = observe(a_running_operation(), missing(late / SECOND, date=CREATED + late), at(late / SECOND), RULES)
    assert step.operation.status is Status.EXPIRED
    assert step.operation.phase is Phase.FINAL
    assert kinds(step.events) == ["Moved", "Finished"]
    assert step.tally == Tally(outcome=Outcome.EXPIRED, stats=a_running_operation().stats)


def test_what_is_missing_within_the_life_of_its_record_has_not_expired():
    step = observe(a_running_operation(), missing(date=CREATED + days(7)), at(0.1), RULES)
    assert step.operation.phase is Phase.FOLLOWED


def test_no_operation_expires_by_our_clock_alone():
    operation = a_running_operation()
    late = Timing(asked=at(days(9) / SECOND), answered=at(days(9) / SECOND), date=NOW)
    assert observe(operation, unanswered(days(30) / SECOND), at(days(30) / SECOND), RULES).operation == operation
    step = observe(operation, Missing(timing=late), late.answered, RULES)
    assert step.operation.status is Status.PROCESSING


def test_an_id_that_was_old_when_it_was_registered_expires_uncounted():
    step = observe(an_operation(id=OPERATION_ID), missing(date=NOW), at(0.1), RULES)
    assert step.operation.status is Status.EXPIRED
    assert kinds(step.events) == ["Moved", "Finished"]
    assert step.tally is None


def test_an_end_of_an_operation_that_was_old_when_registered_is_published_but_not_counted_again():
    old = {"created_at": NOW - days(9), "updated_at": NOW - days(9)}
    first, step = after(an_operation(), seen("COMPLETED", **old), seen("COMPLETED", seconds=60, **old))
    assert first.operation.phase is Phase.SETTLING
    assert (step.operation.status, step.operation.phase) == (Status.COMPLETED, Phase.FINAL)
    assert kinds(first.events) == ["Moved", "Finished"]
    assert step.tally is None


def test_what_was_registered_in_time_and_never_seen_counts_when_it_expires():
    operation = an_operation(id=OPERATION_ID, registered_at=HINTED + days(1))
    step = observe(operation, missing(date=NOW), at(0.1), RULES)
    assert step.tally == Tally(outcome=Outcome.EXPIRED)


def test_a_wrong_clock_at_the_registration_does_not_uncount_a_young_operation():
    operation = an_operation(registered_at=NOW + days(30))
    _, step = after(operation, seen("COMPLETED", date=NOW), seen("COMPLETED", seconds=60, date=NOW), rules=AT_ONCE)
    assert step.tally is not None


@pytest.mark.parametrize(
    ("word", "age", "status"),
    [
        ("PAUSED", 6.9, Status.UNKNOWN),
        ("PAUSED", 7.1, Status.EXPIRED),
        ("PROCESSING", 7.9, Status.PROCESSING),
        ("PROCESSING", 8.1, Status.EXPIRED),
    ],
)
def test_what_never_ends_is_bounded_by_both_clocks(word: str, age: float, status: Status):
    seconds = days(age) / SECOND
    step = observe(a_running_operation(), seen(word, seconds=seconds, date=CREATED + days(age)), at(seconds), RULES)
    assert step.operation.status is status
    assert (step.tally is not None) is (status is Status.EXPIRED)


def test_what_is_only_ever_shown_stale_is_bounded_too():
    step = observe(
        a_running_operation(), seen("PROCESSING", updated_at=CREATED, date=CREATED + days(8.1)), at(0.1), RULES
    )
    assert step.operation.status is Status.EXPIRED
    assert kinds(step.events) == ["Odd", "Moved", "Finished"]


# ── settling ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_last_settling_read_makes_final_and_counts():
    first, last = after(
        a_settling_operation(),
        *(seen("COMPLETED", seconds=s, stats=None, updated_at=None) for s in (30, 120)),
    )
    assert (first.operation.phase, first.operation.settled, first.tally) == (Phase.SETTLING, 1, None)
    assert (last.operation.settled, last.operation.final_at) == (2, at(120.1).at)
    assert last.tally == Tally(outcome=Outcome.COMPLETED, stats=a_settling_operation().stats, duration_seconds=30.0)


def test_stats_that_move_after_the_end_are_corrected():
    operation = a_settling_operation()
    step = observe(operation, seen("COMPLETED", seconds=30, updated_at=None, stats=Stats(failed=2)), at(30), RULES)
    assert step.events == (Corrected(stats=step.operation.stats, before=operation.stats),)
    assert step.operation.stats == Stats(total=10, recipients=10, sent=9, failed=2, unaddressable=0)
    assert step.operation.ended_at == operation.ended_at


def test_counts_that_fall_after_the_end_are_corrected_and_odd():
    step = observe(a_settling_operation(), seen("COMPLETED", updated_at=None, stats=Stats(sent=8)), at(30), RULES)
    assert kinds(step.events) == ["Corrected", "Odd"]
    assert step.anomalies == ("stats_fell",)


def test_oddities_of_settling_reads_are_anomalies_too():
    read = seen("COMPLETED", updated_at=None, stats=None, odd=("stats_missing",))
    assert observe(a_settling_operation(), read, at(30), RULES).anomalies == ("stats_missing",)


def test_a_clock_that_was_set_back_by_hours_puts_off_no_settling():
    ahead = a_settling_operation(learned_at=at(3600).at)
    read, early = seen("COMPLETED", updated_at=None), seen("COMPLETED", seconds=3599, updated_at=None)
    assert observe(ahead, read, at(0.1), RULES).operation.settled == 1
    assert observe(ahead, early, at(3600), RULES).operation.settled == 0


def test_a_stale_settling_read_settles_nothing():
    operation = a_settling_operation()
    step = observe(operation, seen("COMPLETED", updated_at=CREATED, stats=Stats(sent=0)), at(30), RULES)
    assert (step.operation.stats, step.operation.settled) == (operation.stats, 0)
    assert step.operation.unsettled_since == at(30).at


def test_one_end_does_not_become_another():
    step = observe(a_settling_operation(), seen("CANCELED", updated_at=None), at(30), RULES)
    assert step.operation.status is Status.COMPLETED
    assert step.anomalies == ("terminal_changed",)


@pytest.mark.parametrize("word", ["PROCESSING", "SCHEDULED", "PAUSED"])
@pytest.mark.parametrize("updated_at", [None, NOW])
def test_an_end_that_upstream_takes_back_is_kept(word: str, updated_at: int | None):
    operation = a_settling_operation()
    step = observe(operation, seen(word, updated_at=updated_at), at(30), RULES)
    assert (step.operation.status, step.operation.stats) == (Status.COMPLETED, operation.stats)
    assert step.anomalies == ("terminal_regressed",)
    assert step.operation.unsettled_since == at(30).at


def test_a_running_answer_from_before_the_end_is_merely_stale():
    lagging = seen("PROCESSING", updated_at=CREATED)
    assert observe(a_settling_operation(), lagging, at(30), RULES).anomalies == ("stale_answer",)


@pytest.mark.parametrize("word", ["PROCESSING", "COMPLETED"])
@pytest.mark.parametrize("updated_at", [None, CREATED])
@pytest.mark.parametrize("operation", [a_running_operation(asked_tick=TICK), a_settling_operation(asked_tick=TICK)])
def test_answers_that_overtake_each_other_are_nothing_odd_but_an_end_always_counts(
    operation: Operation, word: str, updated_at: int | None
):
    overtaken = seen(word, seconds=-20, updated_at=updated_at, stats=Stats(sent=3))
    step = observe(operation, overtaken, at(0.1), RULES)
    if word == "COMPLETED" and operation.phase is Phase.FOLLOWED:
        assert step.operation.status is Status.COMPLETED
        assert step.anomalies == (() if updated_at is None else ("end_older",))
        return
    assert step.operation.stats == operation.stats
    assert (step.anomalies, [event for event in step.events if isinstance(event, Odd)]) == ((), [])


@pytest.mark.parametrize("operation", [an_operation(), a_running_operation()])
def test_a_record_without_a_status_is_not_of_an_unknown_one(operation: Operation):
    assert observe(operation, seen(None), at(0), RULES).anomalies == ()


def test_a_404_while_settling_counts_only_when_it_is_repeated_at_least_a_minute_later():
    first, soon, again = after(a_settling_operation(), missing(30), missing(60), missing(90))
    assert (first.operation.phase, soon.operation.phase) == (Phase.SETTLING, Phase.SETTLING)
    assert again.operation.final_at == at(90.1).at
    assert again.tally is not None
    assert first.events + soon.events + again.events == ()


def test_a_single_404_while_settling_does_not_make_final():
    first, read, later = after(
        a_settling_operation(),
        missing(30),
        seen("COMPLETED", seconds=60, stats=Stats(sent=100), updated_at=None),
        missing(100),
    )
    assert read.operation.stats.sent == 100
    assert [step.operation.phase for step in (first, read, later)] == [Phase.SETTLING] * 3


@pytest.mark.parametrize("failed", [refused, unanswered])
def test_settling_reads_that_fail_for_ten_minutes_make_final(failed: Callable[[float], Observation]):
    operation = observe(a_settling_operation(), failed(30), at(30), RULES).operation
    for seconds in (60, 300, 629):
        step = observe(operation, failed(seconds), at(seconds), RULES)
        assert (step.operation, step.tally) == (operation, None)
    step = observe(operation, failed(630), at(630), RULES)
    assert step.operation == operation.with_(final_at=at(630).at, unsettled_since=None)
    assert step.tally is not None


def test_a_settling_read_that_succeeds_restarts_the_ten_minutes():
    failed, read, again = after(
        a_settling_operation(), unanswered(30), seen("COMPLETED", seconds=500, updated_at=None), unanswered(700)
    )
    assert failed.operation.unsettled_since == at(30.1).at
    assert read.operation.unsettled_since is None
    assert again.operation.unsettled_since == at(700.1).at


def test_a_clock_that_was_set_back_does_not_prolong_settling_beyond_ten_minutes():
    operation = a_settling_operation(unsettled_since=NOW + days(1))
    step = observe(operation, unanswered(), at(0), RULES)
    assert step.operation.unsettled_since == NOW
    assert observe(step.operation, unanswered(600), at(600), RULES).operation.final_at == NOW + 10 * MINUTE


def test_stats_are_final_as_they_are_once_the_record_is_past_its_life():
    operation = a_settling_operation()
    shrunken = seen("COMPLETED", seconds=30, updated_at=None, stats=Stats(sent=0), date=CREATED + days(7.1))
    step = observe(operation, shrunken, at(30), RULES)
    assert step.operation.stats == operation.stats
    assert (step.operation.phase, step.events) == (Phase.FINAL, ())
    assert step.tally is not None
    assert step.tally.stats.sent == 9


def test_fewer_settling_reads_after_a_reload_end_the_settling_with_the_next():
    read = seen("COMPLETED", updated_at=None, stats=None)
    assert observe(a_settling_operation(settled=1), read, at(30), AT_ONCE).operation.phase is Phase.FINAL


# ── final, and whole lives ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "observation",
    [seen("PROCESSING"), seen("PAUSED"), seen("COMPLETED"), missing(), refused(), forbidden(), unanswered()],
    ids=[answer.name for answer in ObservationKind],
)
def test_what_is_final_stays(observation: Observation):
    operation = a_final_operation(asked_tick=0)
    assert observe(operation, observation, at(3600), RULES) == Step(operation=operation)


histories = st.lists(observations, max_size=15)


def lives(history: list[Observation], rules: LifecycleRules) -> tuple[list[Operation], list[Step]]:
    """The operation before, between and after, with the steps; a minute passes between two answers."""
    operations, steps = [an_operation()], []
    for number, observation in enumerate(history):
        steps.append(observe(operations[-1], observation, at(4000 + 60 * number), rules))
        operations.append(steps[-1].operation)
    return operations, steps


@unhurried
@given(histories)
def test_an_end_is_final(history: list[Observation]):
    operations, _ = lives(history, RULES)
    ended = [operation.status for operation in operations if operation.outcome is not None]
    assert len(set(ended)) <= 1
    first = next((index for index, operation in enumerate(operations) if operation.outcome is not None), None)
    assert first is None or len(ended) == len(operations) - first


@unhurried
@given(histories, st.sampled_from([RULES, AT_ONCE]))
def test_a_tally_comes_exactly_once_with_becoming_final(history: list[Observation], rules: LifecycleRules):
    operations, steps = lives(history, rules)
    became_final = [
        before.final_at is None and after.final_at is not None for before, after in itertools.pairwise(operations)
    ]
    # Nothing here was registered after the time of its record, so everything that is final counts.
    assert [step.tally is not None for step in steps] == became_final
    assert sum(became_final) == (operations[-1].phase is Phase.FINAL)


@unhurried
@given(histories)
def test_statuses_of_events_form_a_chain_and_the_end_is_published_once(history: list[Observation]):
    operations, steps = lives(history, RULES)
    events = [event for step in steps for event in step.events]
    moves = [event for event in events if isinstance(event, Moved)]
    chain = [None, *(move.to_status for move in moves)]
    assert [move.from_status for move in moves] == chain[:-1]
    assert (chain[-1] or Status.UNSEEN) is operations[-1].status
    assert kinds(events).count("Finished") == (operations[-1].outcome is not None)


@unhurried
@given(histories)
def test_failing_is_published_at_most_once_and_before_the_end(history: list[Observation]):
    _, steps = lives(history, RULES)
    published = kinds(event for step in steps for event in step.events)
    assert published.count("Failing") <= 1
    assert (
        "Failing" not in published
        or "Finished" not in published
        or published.index("Failing") < published.index("Finished")
    )


@unhurried
@given(histories)
def test_each_oddity_is_published_once_and_all_of_them_are_anomalies(history: list[Observation]):
    _, steps = lives(history, RULES)
    published = [event.kind for step in steps for event in step.events if isinstance(event, Odd)]
    assert len(published) == len(set(published))
    assert set(published) == {kind for step in steps for kind in step.anomalies}


@unhurried
@given(histories)
def test_stats_that_were_never_received_stay_absent(history: list[Observation]):
    operations, _ = lives(history, RULES)
    received = {
        name
        for observation in history
        if isinstance(observation, Seen) and observation.record.stats is not None
        for name in STAT_NAMES
        if getattr(observation.record.stats, name) is not None
    }
    assert {name for name in STAT_NAMES if getattr(operations[-1].stats, name) is not None} <= received


@unhurried
@given(histories)
def test_a_correction_repeats_the_stats_that_were_published_last(history: list[Observation]):
    _, steps = lives(history, RULES)
    last = None
    for event in (event for step in steps for event in step.events):
        if isinstance(event, Corrected):
            assert event.before == last
            assert event.stats != event.before
        if isinstance(event, Finished | Corrected):
            last = event.stats


@unhurried
@given(st.lists(harmless, max_size=15))
def test_no_operation_ends_unless_its_end_is_shown_or_it_is_very_old(history: list[Observation]):
    operations, _ = lives(history, RULES)
    young = all(observation.timing.upstream_now < CREATED + days(7) for observation in history)
    said = {observation.record.word for observation in history if isinstance(observation, Seen)}
    if young and not said & {"COMPLETED", "CANCELED"}:
        assert operations[-1].phase is Phase.FOLLOWED


every_stat = st.builds(Stats, **dict.fromkeys(STAT_NAMES, st.integers(0, 3)))
echoes = st.fixed_dictionaries(
    {},
    optional={
        "word": st.sampled_from(["COMPLETED", "PROCESSING", None]),
        "stats": st.just(Stats(total=1)) | every_stat | st.none(),
        "created_at": st.none(),
        "updated_at": st.integers(CREATED, CREATED + days(9)) | st.none(),
        "odd": st.just(("stats_garbled",)),
    },
)


@unhurried
@given(histories, echoes, timings())
def test_what_is_known_beforehand_of_a_repeated_row_is_what_the_table_says(
    history: list[Observation], changes: dict[str, object], timing: Timing
):
    operation = lives(history, RULES)[0][-1]
    known = {name: getattr(operation, name) for name in ("stats", "created_at", "updated_at")}
    echo = Seen(timing=timing, record=Record(id=operation.id, **{"word": operation.status.value} | known | changes))
    by_table = TABLE[operation.phase, kind_of(operation, echo)](operation, echo, clocks(echo, at(5000)), RULES)
    if repeats(operation, echo, clocks(echo, at(5000)), RULES):
        assert observe(operation, echo, at(5000), RULES) == replace(by_table, is_news=False)
        assert by_table.operation == operation.with_(asked_tick=timing.asked.tick)
    else:
        assert observe(operation, echo, at(5000), RULES) == by_table


RUNNING = a_running_operation(
    stats=Stats(**dict.fromkeys(STAT_NAMES, 0) | {"total": 3, "sent": 1, "failed": 1}), failing_published=True
)


@unhurried
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "failing_published": st.booleans(),
            "missing_since": st.just(NOW),
            "missed": st.just(1),
            "status": st.sampled_from([Status.UNSEEN, Status.SCHEDULED, Status.UNKNOWN]),
            "asked_tick": st.sampled_from([0, TICK, TICK + SECOND]),
            "updated_at": st.none(),
        },
    ),
    st.fixed_dictionaries({"stats": every_stat}, optional={"updated_at": st.integers(CREATED, CREATED + MINUTE)}),
    echoes,
    timings(),
)
def test_what_is_known_beforehand_of_a_row_with_progress_is_what_the_table_says(
    state: dict[str, Any], moved: dict[str, Any], changes: dict[str, Any], timing: Timing
):
    operation = RUNNING.with_(**state)
    known: dict[str, Any] = {"word": "PROCESSING", "created_at": operation.created_at, "updated_at": RUNNING.updated_at}
    row = Seen(timing=timing, record=Record(id=operation.id, **known | moved | changes))
    now = clocks(row, at(5000))
    if not repeats(operation, row, now, RULES):
        by_table = TABLE[operation.phase, kind_of(operation, row)](operation, row, now, RULES)
        assert observe(operation, row, at(5000), RULES) == by_table


@pytest.mark.parametrize(
    ("change", "is_short"),
    [
        ({"sent": 2}, True),
        ({"failed": 2}, True),
        ({"sent": 0}, False),
        ({"queued": None}, False),
    ],
    ids=["sent", "failed again", "fallen", "a stat is missing"],
)
def test_a_row_with_progress_takes_the_short_way_where_there_is_nothing_to_publish(
    change: dict[str, int | None], *, is_short: bool
):
    record = Record(
        id=RUNNING.id,
        word="PROCESSING",
        stats=replace(RUNNING.stats, **change),
        created_at=RUNNING.created_at,
        updated_at=RUNNING.updated_at,
    )
    row = Seen(timing=seen().timing, record=record)
    assert progresses(RUNNING, row, a_reading(at())) is is_short
    assert progresses(RUNNING.with_(failing_published=False), row, a_reading(at())) is False


def test_only_a_row_with_something_new_is_news():
    operation = observe(a_running_operation(), seen(), at(1), RULES).operation
    assert not observe(operation, seen(seconds=5), at(6), RULES).is_news
    assert observe(operation, seen(seconds=5, stats=Stats(total=10, sent=6)), at(6), RULES).is_news
    assert observe(operation, seen(seconds=-5), at(6), RULES).is_news
