"""The rounds of discovery, without any upstream."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from watcher.core.clocks import ClockReading
from watcher.core.discovery import (
    OVERLAP,
    PAD,
    SOON,
    WIDE,
    WIDE_EVERY,
    Discovery,
    DiscoveryProgress,
    Scope,
)
from watcher.core.model import DAY, HOUR, MINUTE, SECOND, Instant, Micros, Moment, Status
from watcher.core.observation import FailureCause, Forbidden, Missing, Page, Record, Refused, Timing, Unanswered
from watcher.core.readings import EMPTY_PAGES_AT_MOST, PAGES_AT_MOST
from watcher.core.requests import Discover
from watcher.simulator.ids import make_id

START = Moment(1_790_000_000 * SECOND, 1_000 * SECOND)
SCOPE = Scope(every=5 * SECOND, since=24 * HOUR)
KNOWN = DiscoveryProgress(cursor=START.at, began_at=START.at - DAY)


def timing(at: Moment) -> Timing:
    return Timing(asked=at, answered=at)


def page(at: Moment, *records: Record, token: str | None = None) -> Page:
    return Page(timing=timing(at), records=records, next_token=token)


def row(created_at: Instant | None, word: str = "PROCESSING", *, id: str = "x", updated_at: Instant | None = None):  # noqa: A002 -- it is a row's id
    return Record(id=id, word=word, created_at=created_at, updated_at=updated_at)


def agreed(at: Moment) -> ClockReading:
    return ClockReading(machine_at=at.at, upstream_at=at.at, is_steady=True)


def dateless(at: Moment) -> ClockReading:
    return ClockReading(machine_at=at.at)


def read(
    discovery: Discovery, at: Moment, *records: Record, token: str | None = None, clocks: ClockReading | None = None
) -> DiscoveryProgress | None:
    """The progress after one page was requested, read and committed."""
    clocks = agreed(at) if clocks is None else clocks
    request = discovery.choose(at, clocks)
    assert request is not None
    return discovery.committed(request, page(at, *records, token=token), at, clocks)


def next_request(discovery: Discovery, at: Moment) -> Discover:
    request = discovery.choose(at, agreed(at))
    assert request is not None
    return request


def rounds(discovery: Discovery, start: Moment, until: Micros, *records: Record) -> Iterator[tuple[Micros, Discover]]:
    """Every request of a time, with when it was sent; each is answered with these rows."""
    after = 0
    while after < until:
        at = start.later(after)
        request = discovery.choose(at, agreed(at))
        if request is None:
            wake = discovery.wake_tick()
            assert wake is not None
            after = wake - start.tick
            continue
        yield after, request
        discovery.committed(request, page(at, *records), at, agreed(at))


def test_the_first_round_reads_what_is_scheduled_before_what_is_processed():
    discovery = Discovery(SCOPE, DiscoveryProgress(), START)
    first = next_request(discovery, START)
    assert first == Discover(status=Status.SCHEDULED, start=START.at - 24 * HOUR)
    assert discovery.choose(START, agreed(START)) is None
    assert discovery.committed(first, page(START), START, agreed(START)) is None
    second = next_request(discovery, START)
    assert second.status is Status.PROCESSING
    progress = discovery.committed(second, page(START), START, agreed(START))
    assert progress == DiscoveryProgress(cursor=START.at - SECOND, began_at=START.at)
    assert next_request(discovery, START) == Discover(status=None, start=START.at - SECOND - OVERLAP)


def test_each_list_of_the_first_round_is_read_completely_before_the_next():
    discovery = Discovery(SCOPE, DiscoveryProgress(), START)
    read(discovery, START, token="a")
    next_page = next_request(discovery, START)
    assert (next_page.status, next_page.token) == (Status.SCHEDULED, "a")


@pytest.mark.parametrize("progress", [DiscoveryProgress(), KNOWN], ids=["empty", "known"])
def test_what_has_not_ended_is_read_again_after_90_seconds_and_after_15_minutes(progress: DiscoveryProgress):
    discovery = Discovery(SCOPE, progress, START)
    pairs = [after for after, request in rounds(discovery, START, 30 * MINUTE) if request.status is Status.PROCESSING]
    first = [0] if progress.cursor is None else []
    assert [after // MINUTE for after in pairs[len(first) :]] == [1, 15]
    assert pairs[len(first)] - 90 * SECOND <= 10 * SECOND
    assert pairs[-1] - 15 * MINUTE <= 10 * SECOND


def test_later_rounds_begin_90_seconds_before_the_cursor_and_come_as_often_as_next_request():
    discovery = Discovery(SCOPE, KNOWN, START)
    assert read(discovery, START) == DiscoveryProgress(cursor=START.at, began_at=KNOWN.began_at)
    assert discovery.wake_tick() == START.tick + 5 * SECOND
    assert discovery.choose(START.later(4 * SECOND), agreed(START)) is None
    later = START.later(5 * SECOND)
    assert next_request(discovery, later) == Discover(status=None, start=START.at - OVERLAP)
    assert discovery.wake_tick() is None


def test_a_start_reads_as_far_back_as_a_wide_round():
    assert next_request(Discovery(SCOPE, KNOWN, START), START) == Discover(status=None, start=START.at - WIDE)


def test_every_three_minutes_a_round_reaches_15_minutes_back():
    discovery = Discovery(SCOPE, KNOWN, START)
    wide = [
        (after, request)
        for after, request in rounds(discovery, START, 20 * MINUTE)
        if request.end is not None and not request.status
    ]
    assert len(wide) == 6
    for after, request in wide:
        assert after % WIDE_EVERY < 10 * SECOND
        assert abs(request.start - (START.at + after - WIDE)) < 10 * SECOND
        assert request.end is not None
        assert request.end >= START.at + after - OVERLAP - 10 * SECOND


def test_the_cursor_moves_only_after_the_last_page_and_never_back():
    ahead = DiscoveryProgress(cursor=START.at + 20 * SECOND)
    discovery = Discovery(SCOPE, ahead, START)
    assert read(discovery, START, token="a") is None
    assert next_request(discovery, START).token == "a"
    following = Discover(status=None, start=ahead.cursor or 0, token="a")
    assert discovery.committed(following, page(START), START, agreed(START)) == ahead


def test_a_token_that_comes_again_ends_the_round_without_moving_the_cursor():
    discovery = Discovery(SCOPE, KNOWN, START)
    assert read(discovery, START, token="a") is None
    assert read(discovery, START, token="a") is None
    assert discovery.choose(START, agreed(START)) is None
    assert next_request(discovery, START.later(5 * SECOND)).token is None


def test_a_list_without_end_is_given_up():
    discovery = Discovery(SCOPE, KNOWN, START)
    for number in range(PAGES_AT_MOST + 1):
        read(discovery, START, row(START.at), token=str(number))
    assert discovery.choose(START, agreed(START)) is None


def test_pages_that_stay_empty_are_given_up_soon():
    discovery = Discovery(SCOPE, KNOWN, START)
    for number in range(EMPTY_PAGES_AT_MOST + 1):
        read(discovery, START, token=str(number))
    assert discovery.choose(START, agreed(START)) is None


def test_a_page_without_an_answer_is_requested_again_and_a_refused_page_restarts_the_round():
    discovery = Discovery(SCOPE, KNOWN, START)
    read(discovery, START, token="a")
    request = next_request(discovery, START)
    discovery.failed(Unanswered(timing=timing(START), cause=FailureCause.TIMEOUT), START)
    assert discovery.choose(START, agreed(START)) is None
    later = START.later(5 * SECOND)
    assert next_request(discovery, later) == request
    discovery.failed(Refused(timing=timing(later)), later)
    much_later = later.later(60 * SECOND)
    assert next_request(discovery, much_later).token is None
    for answer in (Missing(timing=timing(much_later)), Forbidden(timing=timing(much_later))):
        discovery.failed(answer, much_later)
        assert discovery.choose(much_later, agreed(much_later)) is None
        much_later = much_later.later(60 * SECOND)
        next_request(discovery, much_later)


@pytest.mark.parametrize(
    "answer",
    [Unanswered(timing=timing(START), cause=FailureCause.TIMEOUT), Refused(timing=timing(START))],
    ids=["unanswered", "refused"],
)
def test_a_wide_round_that_fails_does_not_hold_up_the_next_round(answer: Unanswered | Refused):
    discovery, after = Discovery(SCOPE, KNOWN, START), 0
    for reached, request in rounds(discovery, START, 10 * MINUTE):
        after = reached
        if request.end is not None:
            break
    at = START.later(after)
    discovery.failed(answer, at)
    assert discovery.choose(at, agreed(at)) is None
    assert next_request(discovery, at.later(5 * SECOND)).end is None


def test_lists_that_are_to_be_read_again_after_a_start_are_tried_until_they_are_read():
    discovery, refused, read_again = Discovery(SCOPE, KNOWN, START), 0, 0
    at = START
    while at.tick < START.tick + 5 * MINUTE:
        request = discovery.choose(at, agreed(at))
        if request is None:
            at = at.later(SECOND)
        elif request.status is not None and not refused:
            refused += 1
            discovery.failed(Refused(timing=timing(at)), at)
        else:
            read_again += request.status is not None
            discovery.committed(request, page(at), at, agreed(at))
    assert (refused, read_again) == (1, 2)


def test_wide_rounds_that_fail_for_ever_leave_discovery_behind_though_its_rounds_go_on():
    discovery, at, behind = Discovery(SCOPE, KNOWN, START), START, []
    while at.tick < START.tick + 30 * MINUTE:
        request = discovery.choose(at, agreed(at))
        if request is None:
            at = at.later(SECOND)
        elif request.end is not None or request.status is not None:
            discovery.failed(Refused(timing=timing(at)), at)
        elif discovery.committed(request, page(at), at, agreed(at)) is not None:
            behind.append(discovery.is_behind(at))
    assert len(behind) > 300
    assert behind[0] is False
    assert behind[-1] is True
    assert 0.4 < sum(behind) / len(behind) < 0.6


def test_new_settings_hold_from_the_next_round_on():
    discovery = Discovery(SCOPE, KNOWN, START)
    discovery.adopt(Scope(every=60 * SECOND, since=HOUR))
    read(discovery, START)
    assert discovery.wake_tick() == START.tick + 60 * SECOND


# ── clocks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_first_round_that_a_wrong_clock_began_too_late_begins_again_at_the_best_known_time():
    machine = Moment(START.at + 3 * HOUR, START.tick)
    discovery = Discovery(Scope(every=5 * SECOND, since=HOUR), DiscoveryProgress(), machine)
    request = discovery.choose(machine, dateless(machine))
    assert request == Discover(status=Status.SCHEDULED, start=START.at + 2 * HOUR)
    clocks = ClockReading(machine_at=machine.at, upstream_at=START.at)
    assert discovery.committed(request, page(machine), machine, clocks) is None
    assert discovery.choose(machine, clocks) == Discover(status=Status.SCHEDULED, start=START.at - HOUR)


def test_without_a_date_the_first_round_reaches_a_day_further():
    discovery = Discovery(SCOPE, DiscoveryProgress(), START)
    read(discovery, START, clocks=dateless(START))
    request = discovery.choose(START, dateless(START))
    assert request == Discover(status=Status.SCHEDULED, start=START.at - 2 * DAY)


def test_without_clocks_that_agree_the_cursor_moves_to_the_newest_creation_that_two_readings_bear_out():
    discovery = Discovery(SCOPE, DiscoveryProgress(cursor=START.at - DAY), START)
    seconds_ago = [row(START.at - ago * SECOND) for ago in (1, 2, 50, 100)]
    rows = *seconds_ago, row(None), row(START.at + DAY)
    assert read(discovery, START, *rows, clocks=dateless(START)) == DiscoveryProgress(cursor=START.at - DAY)
    later = START.later(5 * SECOND)
    assert read(discovery, later, *rows, clocks=dateless(later)) == DiscoveryProgress(cursor=START.at - 50 * SECOND)


@pytest.mark.parametrize("upstream", [None, HOUR], ids=["no date", "date ahead"])
def test_rows_of_one_reading_that_are_wrong_alike_do_not_move_the_cursor(upstream: Micros | None):
    # Counter-example to the rule that three rows of one reading bear each other out: one machine may write them all.
    discovery = Discovery(SCOPE, DiscoveryProgress(cursor=START.at - MINUTE), START)
    ahead = 0 if upstream is not None else HOUR
    for after in range(0, 60 * SECOND, 5 * SECOND):
        at = START.later(after)
        upstream_at = None if upstream is None else at.at + upstream
        clocks = ClockReading(machine_at=at.at + ahead, upstream_at=upstream_at, is_steady=upstream is not None)
        wrong = [row(at.at + 30 * MINUTE, id=f"id{number}") for number in range(4)]
        progress = read(discovery, at, *wrong, clocks=clocks)
        assert progress is not None
        assert progress.cursor == START.at - MINUTE


def test_a_creation_counts_where_the_id_says_the_same():
    discovery = Discovery(SCOPE, DiscoveryProgress(cursor=START.at - DAY), START)
    created_at = START.at - 7 * SECOND
    progress = read(discovery, START, row(created_at, id=make_id(created_at, random.Random(1))), clocks=dateless(START))
    assert progress == DiscoveryProgress(cursor=created_at)


def test_a_steady_date_that_is_ahead_of_all_that_is_created_moves_the_cursor_no_further_than_that():
    # Counter-example to the rule that a steady upstream clock moves the cursor alone: a gateway may write `Date`.
    discovery = Discovery(SCOPE, DiscoveryProgress(cursor=START.at - HOUR), START)
    clocks = ClockReading(machine_at=START.at, upstream_at=START.at + 3 * HOUR, is_steady=True)
    rows = [row(START.at - ago * SECOND) for ago in (1, 2, 3)]
    assert read(discovery, START, *rows, clocks=clocks) == DiscoveryProgress(cursor=START.at - HOUR)
    later = START.later(5 * SECOND)
    assert read(discovery, later, *rows, clocks=clocks) == DiscoveryProgress(cursor=START.at - 3 * SECOND)


def test_creations_ahead_of_a_steady_date_move_the_cursor_no_further_than_that():
    discovery = Discovery(SCOPE, DiscoveryProgress(cursor=START.at - DAY), START)
    clocks = ClockReading(machine_at=START.at, upstream_at=START.at - 3 * HOUR, is_steady=True)
    rows = [row(START.at - ago * SECOND) for ago in (1, 2, 3)]
    read(discovery, START, *rows, clocks=clocks)
    later = START.later(5 * SECOND)
    progress = read(discovery, later, *rows, clocks=clocks)
    assert progress == DiscoveryProgress(cursor=START.at - 3 * HOUR - SECOND)


def test_a_cursor_ahead_of_the_time_is_not_believed():
    discovery = Discovery(SCOPE, DiscoveryProgress(cursor=START.at + DAY, began_at=START.at - HOUR), START)
    assert read(discovery, START) is None
    assert next_request(discovery, START) == Discover(status=None, start=START.at - 24 * HOUR - WIDE)


def test_discovery_began_with_its_very_first_answer_also_where_the_first_round_begins_again():
    discovery = Discovery(SCOPE, DiscoveryProgress(), START)
    read(discovery, START, token="a")
    next_request(discovery, START)
    discovery.failed(Refused(timing=timing(START)), START)
    later = START.later(MINUTE)
    read(discovery, later)
    progress = read(discovery, later)
    assert progress is not None
    assert progress.began_at == START.at


def test_clocks_that_agree_within_some_minutes_correct_when_discovery_began():
    discovery = Discovery(SCOPE, DiscoveryProgress(), START)

    def began_at(after: Micros, upstream_at: Instant) -> Instant | None:
        at = START.later(after)
        clocks = ClockReading(machine_at=at.at, upstream_at=upstream_at, is_steady=True)
        progress = None
        while (request := discovery.choose(at, clocks)) is not None:
            progress = discovery.committed(request, page(at), at, clocks) or progress
        assert progress is not None
        return progress.began_at

    assert began_at(0, START.at - DAY) == START.at - DAY
    assert began_at(MINUTE, START.at + MINUTE - 3 * SECOND) == START.at - 3 * SECOND
    assert began_at(2 * MINUTE, START.at + 2 * MINUTE) == START.at - 3 * SECOND
    assert began_at(HOUR, START.at + HOUR - 20 * SECOND) == START.at - 3 * SECOND


@pytest.mark.parametrize("upstream", [None, -3 * HOUR], ids=["no date", "machine ahead"])
def test_while_clocks_disagree_the_start_of_discovery_is_derived_from_creations_on_the_lists(upstream: Micros | None):
    discovery, at, later = Discovery(SCOPE, DiscoveryProgress(), START), START, START.later(4 * SECOND)
    clocks = ClockReading(machine_at=later.at, upstream_at=None if upstream is None else later.at + upstream)
    true_at = at.at - 3 * HOUR
    old = [row(true_at - hours * HOUR, "COMPLETED", updated_at=true_at - hours * HOUR) for hours in range(1, 20)]
    request = discovery.choose(at, clocks)
    while request is not None and request.status is not None:  # the first round, begun again where it began too late
        assert discovery.committed(request, page(at), at, clocks) is None
        request = discovery.choose(at, clocks)
    rows = [*old, *(row(true_at - seconds * SECOND) for seconds in (1, 2, 3))]
    assert request is not None
    assert discovery.committed(request, page(later, *rows), later, clocks) is None
    request = discovery.choose(later, clocks)
    assert request is not None
    assert [record.word for record in discovery.sort(page(later, *rows)).wanted] == ["PROCESSING"] * 3
    progress = discovery.committed(request, page(later, *rows), later, clocks)
    assert progress is not None
    assert progress.cursor == true_at - 3 * SECOND
    # By the earlier clock, or by the newest creation that is borne out, less the time until the first of two readings.
    assert progress.began_at == (true_at if upstream is not None else true_at - 7 * SECOND)
    chosen = discovery.sort(page(later, *old, row(true_at, "COMPLETED", updated_at=true_at + SECOND)))
    assert list(chosen.ended_before) == old
    assert len(chosen.wanted) == 1


def catching_up(discovery: Discovery, start: Moment, until: Micros) -> list[tuple[Moment, Discover]]:
    """The requests that reach back hours beside the rounds, where no answer has rows."""
    return [
        (start.later(after), request)
        for after, request in rounds(discovery, start, until)
        if request.end is not None and request.start < START.at - HOUR
    ]


@pytest.mark.parametrize(("took", "readings"), [(SOON, 0), (SOON + SECOND, 1)], ids=["quick", "long"])
def test_what_ended_during_a_long_first_round_is_read_once_more(took: Micros, readings: int):
    # Counter-example to the rule that the overlap shows it: it may have been created hours before.
    discovery = Discovery(SCOPE, DiscoveryProgress(), START)
    read(discovery, START)
    next_request(discovery, START)
    discovery.failed(Unanswered(timing=timing(START), cause=FailureCause.TIMEOUT), START)
    later = START.later(took)
    read(discovery, later)
    assert len(catching_up(discovery, later, 10 * MINUTE)) == readings


def test_of_rows_read_again_only_those_that_ended_after_the_first_answer_are_tracked():
    discovery = Discovery(SCOPE, DiscoveryProgress(cursor=START.at + MINUTE, began_at=START.at), START.later(MINUTE))
    for _, request in rounds(discovery, START.later(MINUTE), 30 * SECOND):
        if request.end is not None:
            break
    before = row(START.at - 2 * HOUR, "COMPLETED", id="before", updated_at=START.at - SECOND)
    unsaid = row(START.at - 2 * HOUR, "COMPLETED", id="unsaid")
    during = row(START.at - 2 * HOUR, "COMPLETED", id="during", updated_at=START.at + 5 * SECOND)
    chosen = discovery.sort(page(START.later(MINUTE), before, unsaid, during))
    assert list(chosen.wanted) == [during]
    assert list(chosen.ended_before) == []


def test_a_process_that_begins_long_after_discovery_reads_no_hours_again():
    late = DiscoveryProgress(cursor=START.at, began_at=START.at - HOUR)
    assert catching_up(Discovery(SCOPE, late, START), START, 10 * MINUTE) == []
    soon = DiscoveryProgress(cursor=START.at, began_at=START.at - MINUTE)
    assert len(catching_up(Discovery(SCOPE, soon, START), START, 10 * MINUTE)) == 1


def test_hours_that_could_not_be_read_once_more_are_tried_again():
    soon = DiscoveryProgress(cursor=START.at, began_at=START.at - MINUTE)
    discovery, at, tried = Discovery(SCOPE, soon, START), START, 0
    while tried < 2:
        request = discovery.choose(at, agreed(at))
        if request is None:
            at = at.later(SECOND)
        elif request.end is not None and request.start < START.at - HOUR:
            tried += 1
            discovery.failed(Refused(timing=timing(at)), at)
        else:
            discovery.committed(request, page(at), at, agreed(at))
    assert at.tick - START.tick < MINUTE


# ── what had ended before ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_first_round_wants_what_has_not_ended():
    records = [Record(id=word, word=word) for word in ("PROCESSING", "COMPLETED", "CANCELED", "SCHEDULED")]
    chosen = Discovery(SCOPE, DiscoveryProgress(), START).sort(page(START, *records))
    assert [record.word for record in chosen.wanted] == ["PROCESSING", "SCHEDULED"]
    assert list(chosen.ended_before) == []


@pytest.mark.parametrize(
    ("created", "updated", "id_created", "is_before"),
    [
        (-60, -30, None, True),
        (-60, None, None, True),
        (None, None, None, True),
        (-60, 30, None, False),
        (10, 30, None, False),
        (10, None, None, False),
        (10, -30, None, False),
        (-60, -30, 10, False),
    ],
)
def test_an_operation_that_ended_before_the_first_answer_is_ignored_where_all_its_times_say_so(
    created: int | None, updated: int | None, id_created: int | None, *, is_before: bool
):
    def at(seconds: int | None) -> Instant | None:
        return None if seconds is None else START.at + seconds * SECOND

    identity = "x" if id_created is None else make_id(START.at + id_created * SECOND, random.Random(1))
    record = Record(id=identity, word="COMPLETED", created_at=at(created), updated_at=at(updated))
    chosen = Discovery(SCOPE, DiscoveryProgress(cursor=START.at, began_at=START.at), START).sort(page(START, record))
    assert (list(chosen.ended_before) == [record]) is is_before
    assert (list(chosen.wanted) == [record]) is not is_before


def test_a_store_that_does_not_know_when_it_began_takes_everything_that_ended():
    record = row(START.at - HOUR, "COMPLETED", updated_at=START.at - HOUR)
    assert list(Discovery(SCOPE, DiscoveryProgress(cursor=START.at), START).sort(page(START, record)).wanted) == [
        record
    ]


# ── bursts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_burst_is_not_read_again_in_every_round_but_a_page_at_a_time():
    discovery = Discovery(SCOPE, KNOWN, START)
    burst = tuple(row(START.at - (number % 60) * SECOND) for number in range(1000))
    for number in range(20):
        read(discovery, START, *burst, token=str(number))
    read(discovery, START)
    questions: dict[Micros, list[Discover]] = {}
    after = 0
    while after < MINUTE:
        at = START.later(after)
        request = discovery.choose(at, agreed(at))
        if request is None:
            after = (discovery.wake_tick() or 0) - START.tick
            continue
        questions.setdefault(after, []).append(request)
        again = request.end is not None
        token = str(len(questions) % 20) if again else None
        discovery.committed(request, page(at, *(burst if again else ()), token=token), at, agreed(at))
    assert max(map(len, questions.values())) <= 2
    cheap = [
        request
        for requests in questions.values()
        for request in requests
        if request.end is None and request.start > START.at - PAD - SECOND
    ]
    assert cheap


def test_the_query_is_in_upstreams_words():
    request = Discover(status=Status.PROCESSING, start=START.at, end=START.at + SECOND, token="t")
    assert request.query == {
        "pageSize": "1000",
        "startDate": "2026-09-21T14:13:20.000Z",
        "endDate": "2026-09-21T14:13:21.000Z",
        "status": "PROCESSING",
        "pageToken": "t",
    }
    assert Discover(status=None, start=START.at).query.keys() == {"pageSize", "startDate"}
