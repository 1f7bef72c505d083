"""Nothing final rests on one answer: what wrong, late and repeated timestamps must not do to an operation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.support.factories import (
    CREATED,
    HINTED,
    NOW,
    OPERATION_ID,
    TICK,
    a_reading,
    a_running_operation,
    a_settling_operation,
    an_operation,
    at,
    days,
    missing,
    refused,
    seen,
    unanswered,
)
from watcher.core.channels import Stats
from watcher.core.clocks import ClockReading, UpstreamClock
from watcher.core.lifecycle import LifecycleRules, observe
from watcher.core.lifecycle.steps import Step
from watcher.core.model import (
    HOUR,
    MINUTE,
    SECOND,
    Corrected,
    Evidence,
    Instant,
    Micros,
    Moved,
    Operation,
    Outcome,
    Phase,
    Status,
)
from watcher.core.observation import Observation, Seen
from watcher.core.planner.polls import Promise, settling_plan

RULES = LifecycleRules()
MILLIS = 1000


def after(operation: Operation, *observations: Observation, rules: LifecycleRules = RULES) -> list[Step]:
    """The steps; both clocks agree on the moment at which each answer came."""
    steps = []
    for observation in observations:
        steps.append(observe(operation, observation, a_reading(observation.timing.answered), rules))
        operation = steps[-1].operation
    return steps


def sent(count: int, of: int = 300) -> Stats:
    return Stats(total=of, recipients=of, sent=count, failed=0)


def anomalies(steps: Iterable[Step]) -> list[str]:
    return [kind for step in steps for kind in step.anomalies]


def tallied(steps: Iterable[Step]) -> list[int]:
    """What was sent by the operations that were counted."""
    return [step.tally.stats.sent or 0 for step in steps if step.tally is not None]


# ── order: an end is absorbing ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "running_at",
    [CREATED + 20 * SECOND + 345 * MILLIS, CREATED + 20 * SECOND + 40 * MILLIS, CREATED + 30 * MINUTE],
    ids=["the end is stamped in whole seconds", "the end is 40 ms older", "a running answer was 30 minutes ahead"],
)
def test_an_end_ends_at_once_whatever_its_updated_at(running_at: Instant):
    operation = a_running_operation(updated_at=running_at)
    steps = after(
        operation,
        seen("COMPLETED", updated_at=CREATED + 20 * SECOND, stats=sent(300)),
        seen("COMPLETED", seconds=31, updated_at=CREATED + 20 * SECOND, stats=sent(299)),
        seen("COMPLETED", seconds=121, updated_at=CREATED + 20 * SECOND, stats=sent(299)),
    )
    assert steps[0].operation.status is Status.COMPLETED
    assert [step.operation.phase for step in steps] == [Phase.SETTLING, Phase.SETTLING, Phase.FINAL]
    assert tallied(steps) == [299]
    assert anomalies(steps).count("end_older") == 1
    assert "stale_answer" not in anomalies(steps)


def test_an_end_that_was_requested_before_a_running_answer_ends_at_once():
    operation = a_running_operation(asked_tick=TICK)
    (step,) = after(operation, seen("COMPLETED", seconds=-5, updated_at=CREATED))
    assert step.operation.status is Status.COMPLETED


def test_an_older_running_answer_is_set_aside_once_and_the_next_one_requested_later_is_taken():
    ahead = a_running_operation(updated_at=CREATED + 30 * MINUTE)
    first, second, third = after(
        ahead,
        seen(seconds=5, updated_at=CREATED + 25 * SECOND, stats=sent(10)),
        seen(seconds=10, updated_at=CREATED + 30 * SECOND, stats=sent(20)),
        seen(seconds=15, updated_at=CREATED + 35 * SECOND, stats=sent(30)),
    )
    assert (first.operation.stats, first.anomalies) == (ahead.stats, ("stale_answer",))
    assert (second.operation.stats, second.anomalies) == (sent(20), ("updated_fell",))
    assert second.operation.updated_at == CREATED + 30 * SECOND
    assert (third.operation.stats, third.anomalies) == (sent(30), ())


def test_two_older_rows_of_one_page_are_one_answer():
    ahead = a_running_operation(updated_at=CREATED + 30 * MINUTE)
    _, second = after(ahead, *(seen(seconds=5, updated_at=CREATED + 25 * SECOND, stats=sent(10)) for _ in range(2)))
    assert second.operation.stats == ahead.stats


def test_a_replica_that_lags_now_and_then_never_takes_the_stats_back():
    fresh: dict[str, Any] = {"updated_at": CREATED + 40 * SECOND, "stats": sent(40)}
    lagging: dict[str, Any] = {"updated_at": CREATED + 25 * SECOND, "stats": sent(25)}
    steps = after(
        a_running_operation(updated_at=CREATED + 40 * SECOND, stats=sent(40)),
        *(seen(seconds=5 * number, **(lagging if number % 2 else fresh)) for number in range(1, 20)),
    )
    assert {step.operation.stats for step in steps} == {sent(40)}


@pytest.mark.parametrize(
    ("known", "given"),
    [
        (CREATED + 345 * MILLIS, CREATED),
        (CREATED, CREATED + 345 * MILLIS),
        (CREATED + 345 * MILLIS + 7, CREATED + 345 * MILLIS),
        (CREATED + 345 * MILLIS, CREATED + 345 * MILLIS + 7),
    ],
)
def test_instants_of_two_resolutions_are_compared_at_the_coarser_one(known: Instant, given: Instant):
    operation = a_running_operation(updated_at=known, asked_tick=TICK)
    later, earlier = (seen(seconds=seconds, updated_at=given, stats=sent(7)) for seconds in (5, -5))
    assert after(operation, later)[0].operation.stats == sent(7)
    assert after(operation, later)[0].operation.updated_at == max(known, given)
    assert after(operation, earlier)[0].operation.stats == operation.stats


def test_instants_of_one_resolution_are_compared_as_they_are():
    operation = a_running_operation(updated_at=CREATED + 2)
    assert after(operation, seen(updated_at=CREATED + 1, stats=sent(7)))[0].anomalies == ("stale_answer",)


# ── settling: stats are final only when the end is confirmed ──────────────────────────────────────────────────────────


def settling_reads(
    operation: Operation, rules: LifecycleRules = RULES, *, sent_after: Callable[[float], int], at_most: int = 20
) -> list[tuple[float, Step]]:
    """The settling reads at their planned seconds, until the stats are final."""
    promise = Promise(settle_after=rules.settle_after)
    reads: list[tuple[float, Step]] = []
    now = at()
    while operation.phase is not Phase.FINAL and len(reads) < at_most:
        due = settling_plan(operation, now, promise).due
        seconds = (due - TICK) / SECOND
        now = at(seconds)
        shown = seen("COMPLETED", seconds=seconds, updated_at=NOW, stats=sent(sent_after(seconds)))
        step = observe(operation, shown, a_reading(now), rules)
        reads.append((seconds, step))
        operation = step.operation
    return reads


def test_a_wrong_completed_row_is_not_counted_and_the_true_end_is():
    wrong = seen("COMPLETED", updated_at=NOW, stats=sent(10))
    running = [
        seen(seconds=30 + 60 * number, updated_at=NOW + number * SECOND, stats=sent(10 + number))
        for number in range(1, 31)
    ]
    ended = [
        seen("COMPLETED", seconds=seconds, updated_at=NOW + 1900 * SECOND, stats=sent(300))
        for seconds in (1900, 1931, 2021)
    ]
    steps = after(a_running_operation(stats=sent(5)), wrong, *running, *ended)
    assert {step.operation.status for step in steps} == {Status.COMPLETED}
    assert [step.operation.phase for step in steps] == [Phase.SETTLING] * 33 + [Phase.FINAL]
    assert steps[30].operation.stats == sent(40)
    assert tallied(steps) == [300]
    assert steps[-1].operation.ended_at == NOW + 1900 * SECOND


def test_a_wrong_end_with_a_later_time_than_the_next_answers_is_not_counted_either():
    wrong = seen("COMPLETED", updated_at=NOW + 30 * MINUTE, stats=sent(10))
    running = [
        seen(seconds=30 + 60 * number, updated_at=NOW + number * SECOND, stats=sent(10 + number))
        for number in range(1, 31)
    ]
    ended = [
        seen("COMPLETED", seconds=seconds, updated_at=NOW + 1750 * SECOND, stats=sent(300))
        for seconds in (1900, 1931, 2021)
    ]
    steps = after(a_running_operation(stats=sent(5)), wrong, *running, *ended)
    assert tallied(steps) == [300]
    assert steps[-1].operation.final_at == at(2021.1).at


def test_failing_reads_do_not_count_an_end_that_a_running_answer_contradicts():
    steps = after(
        a_settling_operation(), seen(seconds=30, updated_at=NOW), *(unanswered(60 * number) for number in range(1, 60))
    )
    assert tallied(steps) == []


def test_an_end_that_was_taken_back_is_final_when_its_record_is_past():
    running = (seen(seconds=seconds, updated_at=NOW + seconds * SECOND) for seconds in (30, 90))
    operation = after(a_settling_operation(), *running)[-1].operation
    late = at(days(7.1) / SECOND)
    step = observe(operation, seen(seconds=late.tick / SECOND, updated_at=NOW), a_reading(late), RULES)
    assert step.tally is not None


def test_an_end_that_was_taken_back_and_is_gone_is_final_only_when_it_is_old():
    running = (seen(seconds=seconds, updated_at=NOW + seconds * SECOND) for seconds in (30, 90))
    operation = after(a_settling_operation(), *running)[-1].operation
    gone = after(operation, *(missing(100 + 60 * number) for number in range(30)))
    assert tallied(gone) == []
    late = at(days(7.1) / SECOND)
    only_ours = ClockReading(machine_at=late.at)
    assert observe(gone[-1].operation, missing(days(7.1) / SECOND), only_ours, RULES).tally is not None


@pytest.mark.parametrize("again", [seen("COMPLETED", seconds=5), seen("COMPLETED", seconds=-20, updated_at=NOW)])
def test_an_end_that_was_taken_back_is_not_restored_by_an_answer_requested_before(again: Seen):
    running = (seen(seconds=seconds, updated_at=CREATED + seconds * SECOND) for seconds in (40, 100))
    taken_back = after(a_settling_operation(), *running)[-1].operation
    (step,) = after(taken_back, again)
    assert step.operation == taken_back


def test_running_rows_of_a_list_that_lags_do_not_put_off_an_end_that_was_confirmed():
    lagging = [seen(seconds=35 + 5 * number, updated_at=CREATED, stats=sent(1)) for number in range(17)]
    same = a_settling_operation()
    read: dict[str, Any] = {"stats": same.stats, "updated_at": same.updated_at}
    steps = after(same, seen("COMPLETED", seconds=30, **read), *lagging, seen("COMPLETED", seconds=121, **read))
    assert {step.operation.stats for step in steps} == {same.stats}
    assert steps[-1].tally is not None


def test_running_answers_within_a_minute_are_one():
    steps = after(a_settling_operation(), *(seen(seconds=s, updated_at=NOW, stats=sent(1)) for s in (5, 20, 64)))
    assert {step.operation.stats for step in steps} == {a_settling_operation().stats}


def test_a_running_answer_without_stats_changes_no_stats():
    steps = after(a_settling_operation(), *(seen(seconds=s, updated_at=NOW, stats=None) for s in (5, 70)))
    assert steps[-1].operation.stats == a_settling_operation().stats
    assert steps[-1].operation.evidence == Evidence(running_asked_at=at(70).at, running_answers=1)


def test_a_running_answer_requested_before_the_end_says_nothing():
    (step,) = after(a_settling_operation(asked_tick=TICK), seen(seconds=-1, updated_at=NOW))
    assert step == Step(operation=a_settling_operation(asked_tick=TICK))


def test_the_other_end_takes_the_place_of_the_first_when_a_minute_later_it_is_shown_again():
    wrong = a_settling_operation(stats=sent(10))
    canceled = Stats(total=300, recipients=300, sent=100, failed=0, canceled=200)
    times = (30, 60, 90, 121, 211)
    steps = after(wrong, *(seen("CANCELED", seconds=s, updated_at=NOW, stats=canceled) for s in times))
    assert [step.operation.status for step in steps] == [Status.COMPLETED] * 2 + [Status.CANCELED] * 3
    assert [type(event) for event in steps[2].events] == [Moved, Corrected]
    (tally,) = (step.tally for step in steps if step.tally is not None)
    assert (tally.outcome, tally.stats.canceled) == (Outcome.CANCELED, 200)
    assert anomalies(steps) == ["terminal_changed"] * 3


def test_one_answer_with_the_other_end_changes_nothing():
    operation = a_settling_operation()
    same: dict[str, Any] = {"stats": operation.stats, "updated_at": operation.updated_at}
    steps = after(
        operation,
        seen("CANCELED", seconds=30, updated_at=NOW),
        seen("COMPLETED", seconds=60, **same),
        seen("COMPLETED", seconds=150, **same),
    )
    assert steps[-1].tally is not None
    assert steps[-1].tally.outcome is Outcome.COMPLETED


def test_a_correction_that_is_older_than_the_end_is_set_aside_once_and_then_taken():
    older: dict[str, Any] = {"updated_at": CREATED + 25 * SECOND, "stats": sent(250)}
    first, second = after(a_settling_operation(), *(seen("COMPLETED", seconds=s, **older) for s in (30, 60)))
    assert first.operation.stats == a_settling_operation().stats
    assert second.operation.stats.sent == 250
    assert second.operation.ended_at == CREATED + 25 * SECOND


def test_stats_that_still_rise_for_five_minutes_after_the_end_are_counted_whole():
    operation = a_settling_operation(updated_at=NOW, stats=sent(0))
    reads = settling_reads(operation, sent_after=lambda seconds: min(int(seconds), 300))
    # As configured; at 4 and 8 minutes because it still rose; and one that showed the same again.
    assert [seconds for seconds, _ in reads] == [30, 120, 240, 480, 960]
    assert tallied(step for _, step in reads) == [300]


@pytest.mark.parametrize("learned_after", [0, days(3)])
def test_stats_that_never_stop_changing_are_final_an_hour_after_the_end_was_detected(learned_after: Micros):
    operation = a_settling_operation(ended_at=NOW - learned_after, created_at=NOW - learned_after, stats=sent(0))
    reads = settling_reads(operation, sent_after=lambda seconds: int(seconds / 20))
    assert [seconds for seconds, _ in reads] == [30, 120, 240, 480, 960, 1920, 3600]
    assert tallied(step for _, step in reads) == [180]


def test_with_the_default_settings_stats_that_rest_cost_no_more_reads_than_are_configured():
    operation = a_settling_operation(updated_at=NOW, stats=sent(300))
    assert [seconds for seconds, _ in settling_reads(operation, sent_after=lambda _: 300)] == [30, 120]


def test_a_correction_that_a_sweep_brought_before_the_last_read_prolongs_settling_too():
    operation = a_settling_operation(settled=1)
    moved: dict[str, Any] = {"updated_at": NOW, "stats": sent(200)}
    between, last, next_read = after(operation, *(seen("COMPLETED", seconds=s, **moved) for s in (100, 120, 240)))
    assert between.operation.evidence == Evidence(is_moving=True)
    assert (last.operation.phase, last.operation.prolonged) == (Phase.SETTLING, 1)
    assert next_read.tally is not None


@pytest.mark.parametrize(
    ("settle_after", "due"),
    [((), [5, 60, 120, 240]), ((10 * SECOND,), [10, 60, 120, 240]), ((2 * HOUR,), [7200])],
)
def test_doubling_begins_with_half_a_minute_and_a_longer_setting_is_kept(
    settle_after: tuple[Micros, ...], due: list[int]
):
    reads = settling_reads(a_settling_operation(), LifecycleRules(settle_after=settle_after), sent_after=int, at_most=4)
    assert [seconds for seconds, _ in reads] == due


@pytest.mark.parametrize(
    ("evidence", "wait"),
    [
        (None, 30),
        (Evidence(absent_asked_at=NOW), 60),
        (Evidence(running_asked_at=NOW), 30),
        (Evidence(running_asked_at=NOW, running_answers=2), 120),
        (Evidence(running_asked_at=NOW, running_answers=99), 300),
    ],
)
def test_reads_that_settle_nothing_come_again_at_growing_intervals(evidence: Evidence | None, wait: int):
    operation = a_settling_operation(unsettled_since=NOW, evidence=evidence)
    assert settling_plan(operation, at(), Promise()).due == at(wait).tick


def test_an_end_is_not_dated_in_the_future():
    (step,) = after(a_running_operation(), seen("COMPLETED", updated_at=NOW + HOUR - SECOND))
    assert step.operation.ended_at == at(0.1).at
    only_ours = ClockReading(machine_at=NOW + SECOND)
    step = observe(a_running_operation(), seen("COMPLETED", updated_at=None), only_ours, RULES)
    assert step.operation.ended_at == NOW + SECOND


# ── age ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def one_date_ahead(ahead: Micros) -> UpstreamClock:
    clock = UpstreamClock()
    clock.note(seen(date=NOW + ahead).timing)
    return clock


@pytest.mark.parametrize("observation", [seen(), seen("PAUSED"), missing(), seen("COMPLETED")])
@pytest.mark.parametrize("had_true_dates", [True, False])
def test_one_page_with_a_date_nine_days_ahead_changes_nothing(observation: Observation, *, had_true_dates: bool):
    clock = UpstreamClock()
    if had_true_dates:
        for seconds in (-100, -60, -30):
            clock.note(seen(seconds=seconds, date=NOW + seconds * SECOND).timing)
    clock.note(seen(date=NOW + days(9)).timing)
    step = observe(a_running_operation(), observation, clock.read(at(0.1)), RULES)
    assert step.operation.phase in (Phase.FOLLOWED, Phase.SETTLING)
    assert step.operation.status is not Status.EXPIRED
    assert step.tally is None


@pytest.mark.parametrize(
    ("upstream", "machine", "is_steady", "has_expired"),
    [
        (days(7.1), days(7.1), False, True),
        (days(7.1), days(0), True, False),
        (days(8.1), days(0), True, True),
        (days(9), days(0), False, False),
        (days(0), days(9), True, False),
        (None, days(9), False, False),
    ],
    ids=["both", "steady, 7 days", "steady, 8 days", "not steady", "only the machine", "no date at all"],
)
def test_a_404_expires_by_both_clocks_or_by_a_steady_one_beyond_eight_days(
    upstream: Micros | None, machine: Micros, *, is_steady: bool, has_expired: bool
):
    reading = ClockReading(
        machine_at=CREATED + machine,
        upstream_at=None if upstream is None else CREATED + upstream,
        is_steady=is_steady,
    )
    step = observe(a_running_operation(), missing(), reading, RULES)
    assert (step.operation.status is Status.EXPIRED) is has_expired


def test_without_any_date_repeated_404s_expire_what_is_old_by_our_clock():
    operation, steps = a_running_operation(), []
    for seconds in (days(9) / SECOND + 60 * number for number in range(6)):
        steps.append(observe(operation, missing(seconds), ClockReading(machine_at=at(seconds).at), RULES))
        operation = steps[-1].operation
    assert operation.status is Status.EXPIRED
    assert [step.tally is not None for step in steps] == [False] * 5 + [True]


def test_a_machine_a_day_ahead_or_behind_expires_nothing():
    for off in (-days(9), days(9)):
        operation = a_running_operation()
        reading = ClockReading(machine_at=NOW + off, upstream_at=NOW, is_steady=True)
        assert observe(operation, seen(), reading, RULES).operation.status is Status.PROCESSING
        assert observe(operation, seen("COMPLETED"), reading, RULES).operation.phase is Phase.SETTLING


def test_an_id_that_was_old_by_both_clocks_when_it_was_registered_expires_uncounted_and_by_one_clock_counts():
    operation = an_operation(id=OPERATION_ID)
    both = observe(operation, missing(), a_reading(at()), RULES)
    assert (both.operation.status, both.tally) == (Status.EXPIRED, None)
    ours_only = ClockReading(machine_at=NOW, upstream_at=HINTED + MINUTE, is_steady=True)
    assert observe(operation, missing(), ours_only, RULES).operation.phase is Phase.FOLLOWED
    ended = after(operation, seen("COMPLETED", id=OPERATION_ID, created_at=None))[0].operation
    assert ended.phase is Phase.FINAL


# ── createdAt ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def creations(first: Operation, *given: tuple[float, Instant | None]) -> list[Step]:
    """The steps of running answers at those seconds, with those creations."""
    return after(first, *(seen(seconds=s, created_at=created_at, updated_at=NOW) for s, created_at in given))


@pytest.mark.parametrize("wrong", [0, CREATED - days(30), CREATED - HOUR, CREATED + 30 * SECOND])
@pytest.mark.parametrize("word", ["PROCESSING", "COMPLETED", "PAUSED"])
def test_one_answer_with_another_created_at_ends_and_changes_nothing(wrong: Instant, word: str):
    operation = a_running_operation()
    (step,) = after(operation, seen(word, created_at=wrong, updated_at=NOW))
    assert step.operation.created_at == CREATED
    assert step.operation.phase is (Phase.SETTLING if word == "COMPLETED" else Phase.FOLLOWED)
    assert step.anomalies[-1] == "created_changed"
    steps = creations(operation, (0, wrong), (5, CREATED), (70, wrong), (75, CREATED))
    assert {step.operation.created_at for step in steps} == {CREATED}


def test_two_answers_a_minute_apart_that_agree_replace_a_created_at():
    true = CREATED - 10 * SECOND
    steps = creations(a_running_operation(), (0, true), (30, true), (60, true), (65, true))
    assert [step.operation.created_at for step in steps] == [CREATED, CREATED, true, true]
    assert anomalies(steps) == ["created_changed"] * 3
    assert steps[2].operation.evidence is None


def test_two_answers_that_do_not_agree_replace_no_created_at():
    steps = creations(a_running_operation(), (0, 1 * SECOND), (70, 2 * SECOND), (140, 3 * SECOND))
    assert {step.operation.created_at for step in steps} == {CREATED}


def test_the_first_created_at_is_provisional_until_it_is_repeated():
    wrong, true, again, other = creations(an_operation(), (0, 0), (5, CREATED), (10, CREATED), (15, 0))
    assert wrong.operation.created_at == 0
    assert true.operation.created_at == CREATED
    assert true.operation.evidence == Evidence(created_is_new=True, other_created_asked_at=at(5).at)
    assert again.operation.evidence is None
    assert other.operation.created_at == CREATED


@pytest.mark.parametrize("operation", [an_operation(), an_operation(id=OPERATION_ID, registered_at=HINTED)])
def test_a_first_created_at_of_1970_expires_and_uncounts_nothing(operation: Operation):
    now = operation.registered_at
    reading = ClockReading(machine_at=now + MINUTE, upstream_at=now + MINUTE, is_steady=True)
    first = observe(operation, seen(id=operation.id, created_at=0, updated_at=now), reading, RULES)
    assert first.operation.phase is Phase.FOLLOWED
    gone = observe(first.operation, missing(5), reading, RULES)
    assert gone.operation.phase is Phase.FOLLOWED
    step = observe(first.operation, seen("COMPLETED", id=operation.id, seconds=10, created_at=None), reading, RULES)
    assert step.operation.phase is Phase.SETTLING


def test_a_created_at_in_whole_seconds_repeats_one_in_milliseconds():
    exact = CREATED + 345 * MILLIS
    steps = creations(an_operation(), (0, exact), (5, CREATED), (10, exact))
    assert [step.operation.created_at for step in steps] == [exact] * 3
    assert steps[-1].operation.evidence is None
    assert anomalies(steps) == []


def test_two_rows_of_one_page_do_not_repeat_a_created_at():
    steps = creations(an_operation(), (0, 0), (0, 0))
    assert steps[-1].operation.evidence == Evidence(created_is_new=True, other_created_asked_at=NOW)


def test_a_created_at_that_is_too_old_to_count_is_confirmed_only_a_minute_later():
    steps = creations(an_operation(), (0, 0), (30, 0), (59, 0), (60, 0))
    assert [step.operation.evidence is None for step in steps] == [False, False, False, True]


def test_an_end_of_what_may_be_too_old_to_count_is_final_only_when_that_is_certain():
    old: dict[str, Any] = {"created_at": 0, "updated_at": NOW - days(8)}
    steps = after(
        an_operation(),
        *(seen("COMPLETED", seconds=s, **old) for s in (0, 5, 65)),
        rules=LifecycleRules(settle_after=()),
    )
    assert [step.operation.phase for step in steps] == [Phase.SETTLING, Phase.SETTLING, Phase.FINAL]
    assert [step.tally for step in steps] == [None] * 3


def test_a_404_is_forgotten_when_any_answer_shows_the_operation():
    operation = a_settling_operation()
    for shown in (seen(seconds=60), seen("CANCELED", seconds=60), seen("COMPLETED", seconds=60, updated_at=CREATED)):
        steps = after(operation, missing(30), shown, missing(95))
        assert steps[-1].operation.phase is Phase.SETTLING


def test_a_created_at_far_from_the_time_in_the_id_is_odd():
    operation = an_operation(id=OPERATION_ID)
    assert after(operation, seen(id=OPERATION_ID, created_at=HINTED + MINUTE))[0].anomalies == ()
    assert after(operation, seen(id=OPERATION_ID, created_at=HINTED + days(1)))[0].anomalies == ("created_implausible",)


def test_what_was_never_dated_never_expires_for_our_clock_may_have_been_wrong_at_its_registration():
    late = at(days(30) / SECOND)
    step = observe(an_operation(), seen("PROCESSING", created_at=None), a_reading(late), RULES)
    assert step.operation.status is Status.PROCESSING
    behind = ClockReading(machine_at=NOW, upstream_at=NOW + days(9), is_steady=True)
    first = observe(an_operation(), seen("COMPLETED", created_at=0), behind, RULES)
    assert observe(first.operation, missing(30), behind, RULES).operation.phase is Phase.SETTLING


@pytest.mark.parametrize("failing", [refused, unanswered])
def test_settling_reads_that_fail_are_bounded_by_the_life_of_the_record(failing: Callable[[float], Observation]):
    late = days(7.1) / SECOND
    step = observe(a_settling_operation(), failing(late), a_reading(at(late)), RULES)
    assert step.tally is not None
