"""What time it is, from two clocks that may both be wrong."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from watcher.core.clocks import AGREE_WITHIN, ClockReading, UpstreamClock
from watcher.core.model import DAY, HOUR, MINUTE, SECOND, Instant, Micros, Moment
from watcher.core.observation import Timing

START = Moment(1_790_000_000 * SECOND, 1000 * SECOND)


def answer(after: Micros, *, ahead: Micros = 0, date: Instant | None = None, has_date: bool = True) -> Timing:
    """An answer that came `after` the start, with a `Date` in whole seconds."""
    answered = START.later(after)
    at = (answered.at + ahead) // SECOND * SECOND if date is None else date
    return Timing(asked=answered, answered=answered, date=at if has_date else None)


def clock_after(*answers: Timing) -> UpstreamClock:
    clock = UpstreamClock()
    for one_answer in answers:
        clock.note(one_answer)
    return clock


def steady(ahead: Micros = 0) -> UpstreamClock:
    return clock_after(*(answer(after * SECOND, ahead=ahead) for after in (0, 30, 60)))


def read(clock: UpstreamClock, after: Micros, machine_ahead: Micros = 0) -> ClockReading:
    now = START.later(after)
    return clock.read(Moment(now.at + machine_ahead, now.tick))


def test_without_a_date_only_the_machine_is_known_and_nothing_is_trusted():
    reading = read(clock_after(answer(0, has_date=False)), MINUTE)
    assert reading == ClockReading(machine_at=START.at + MINUTE)
    assert not reading.agrees
    assert reading.trusted_at is None
    assert reading.earliest_at == START.at + MINUTE


def test_of_two_clocks_that_agree_the_earlier_counts():
    behind = read(clock_after(answer(0, ahead=-10 * SECOND)), MINUTE)
    assert behind.trusted_at == behind.upstream_at
    ahead = read(clock_after(answer(0, ahead=10 * SECOND)), MINUTE)
    assert ahead.trusted_at == ahead.machine_at == ahead.earliest_at


def test_one_date_that_disagrees_is_not_trusted_and_neither_is_the_machine():
    reading = read(clock_after(answer(0, ahead=9 * DAY)), SECOND)
    assert reading.trusted_at is None
    assert reading.earliest_at == reading.machine_at


def test_three_answers_over_a_minute_make_a_steady_clock_that_counts_alone():
    reading = read(steady(ahead=-3 * HOUR), 2 * MINUTE)
    assert reading.is_steady
    assert reading.trusted_at == reading.upstream_at
    assert abs((reading.upstream_at or 0) - (START.at + 2 * MINUTE - 3 * HOUR)) <= SECOND


def test_three_answers_within_less_than_a_minute_are_not_steady():
    clock = clock_after(*(answer(after * SECOND, ahead=DAY) for after in (0, 20, 59)))
    assert read(clock, 59 * SECOND).trusted_at is None


def test_two_answers_over_a_minute_are_not_steady():
    clock = clock_after(*(answer(after * MINUTE, ahead=DAY) for after in (0, 2)))
    assert read(clock, 2 * MINUTE).trusted_at is None


def test_a_frozen_date_never_becomes_steady():
    clock = UpstreamClock()
    for after in range(0, 3600, 5):
        clock.note(answer(after * SECOND, date=START.at - DAY))
        assert not read(clock, after * SECOND).is_steady


def test_one_contradiction_does_not_shake_a_steady_clock():
    clock = steady()
    clock.note(answer(65 * SECOND, ahead=9 * DAY))
    reading = read(clock, 66 * SECOND)
    assert reading.is_steady
    assert reading.agrees


def test_three_contradictions_in_a_row_end_the_trust_until_they_are_steady_themselves():
    clock = steady()
    for after in (65, 70):
        clock.note(answer(after * SECOND, ahead=9 * DAY))
    assert read(clock, 71 * SECOND).is_steady
    clock.note(answer(75 * SECOND, ahead=9 * DAY))
    doubtful = read(clock, 76 * SECOND)
    assert not doubtful.is_steady
    assert doubtful.trusted_at is None
    clock.note(answer(125 * SECOND, ahead=9 * DAY))
    assert read(clock, 126 * SECOND).trusted_at == read(clock, 126 * SECOND).upstream_at


def test_two_upstream_machines_that_disagree_leave_the_steady_one_in_charge():
    clock = steady()
    for after in range(65, 665, 10):
        clock.note(answer(after * SECOND, ahead=9 * DAY))
        clock.note(answer((after + 5) * SECOND))
    assert read(clock, 665 * SECOND).agrees


def test_a_machine_whose_clock_jumps_is_overruled_by_a_steady_upstream_clock():
    clock = steady()
    reading = read(clock, 2 * MINUTE, machine_ahead=9 * DAY)
    assert not reading.agrees
    assert reading.trusted_at == reading.upstream_at


def test_answers_that_arrive_out_of_order_make_a_steady_clock_too():
    clock = clock_after(*(answer(after * SECOND) for after in (60, 0, 30)))
    assert read(clock, MINUTE).is_steady


@given(
    st.lists(
        st.tuples(st.integers(0, 90), st.one_of(st.none(), st.integers(-10, 10).map(lambda days: days * DAY))),
        max_size=60,
    )
)
def test_what_is_trusted_was_never_shown_by_one_answer_alone(answers: list[tuple[int, Micros | None]]):
    clock = UpstreamClock()
    after, shown = 0, [0]
    for pause, ahead in answers:
        after += pause * SECOND
        clock.note(answer(after, ahead=ahead or 0, has_date=ahead is not None))
        shown += [] if ahead is None else [ahead]
        reading = read(clock, after)
        if reading.trusted_at is None:
            continue
        wrong_by = reading.trusted_at - (START.at + after)
        # The machine is right here: it and one answer agree, or three answers do.
        witnesses = sum(abs(one_shown - wrong_by) <= AGREE_WITHIN for one_shown in shown)
        assert witnesses >= (2 if abs(wrong_by) <= AGREE_WITHIN else 3)
