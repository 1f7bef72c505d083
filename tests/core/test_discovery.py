"""The rounds of discovery, without any upstream."""

from __future__ import annotations

from watcher.core.asks import Discover
from watcher.core.discovery import OVERLAP, PAGES_AT_MOST, Discovery, Scope
from watcher.core.model import HOUR, SECOND, Instant, Moment, Status
from watcher.core.observation import Missing, Page, Record, Refused, Timing, Trouble, Unanswered

START = Moment(1_790_000_000 * SECOND, 1_000 * SECOND)
SCOPE = Scope(every=5 * SECOND, since=24 * HOUR)


def timing(at: Moment) -> Timing:
    return Timing(asked=at, answered=at)


def page(at: Moment, *records: Record, token: str | None = None) -> Page:
    return Page(timing=timing(at), records=records, next_token=token)


def read(discovery: Discovery, at: Moment, *, token: str | None = None) -> Instant | None:
    """One page asked for, read and committed; the new cursor."""
    ask = discovery.choose(at)
    assert ask is not None
    return discovery.committed(ask, page(at, token=token), at)


def test_the_first_round_reads_what_has_not_ended_and_only_then_begins_to_move():
    discovery = Discovery(SCOPE, None, START)
    first = discovery.choose(START)
    assert first == Discover(status=Status.PROCESSING, start=START.at - 24 * HOUR)
    assert discovery.choose(START) is None
    assert discovery.committed(first, page(START), START) is None
    second = discovery.choose(START)
    assert second is not None
    assert second.status is Status.SCHEDULED
    cursor = discovery.committed(second, page(START), START)
    assert cursor == START.at - SECOND + OVERLAP
    following = discovery.choose(START)
    assert following == Discover(status=None, start=START.at - SECOND)


def test_what_had_ended_is_wanted_only_after_the_first_round():
    records = [Record(id=word, word=word) for word in ("PROCESSING", "COMPLETED", "CANCELED", "SCHEDULED")]
    found = page(START, *records)
    assert [record.word for record in Discovery(SCOPE, None, START).wanted(found)] == ["PROCESSING", "SCHEDULED"]
    assert Discovery(SCOPE, START.at, START).wanted(found) == records


def test_later_rounds_begin_a_little_before_the_cursor_and_come_as_often_as_asked():
    discovery = Discovery(SCOPE, START.at, START)
    later = START.later(60 * SECOND)
    assert read(discovery, later) == later.at - SECOND
    assert discovery.wake_tick() == later.tick + 5 * SECOND
    assert discovery.choose(later.later(4 * SECOND)) is None
    again = discovery.choose(later.later(5 * SECOND))
    assert again == Discover(status=None, start=later.at - SECOND - OVERLAP)
    assert discovery.wake_tick() is None


def test_the_cursor_moves_only_after_the_last_page_and_never_back():
    discovery = Discovery(SCOPE, START.at + HOUR, START)
    assert read(discovery, START, token="a") is None
    following = discovery.choose(START)
    assert following is not None
    assert following.token == "a"
    assert discovery.committed(following, page(START), START) == START.at + HOUR


def test_a_token_that_comes_again_ends_the_round_without_moving_the_cursor():
    discovery = Discovery(SCOPE, START.at, START)
    assert read(discovery, START, token="a") is None
    assert read(discovery, START, token="a") is None
    assert discovery.choose(START) is None
    begun_again = discovery.choose(START.later(5 * SECOND))
    assert begun_again is not None
    assert begun_again.token is None


def test_an_endless_list_ends_the_round():
    discovery = Discovery(SCOPE, START.at, START)
    for number in range(PAGES_AT_MOST + 1):
        read(discovery, START, token=str(number))
    assert discovery.choose(START) is None


def test_a_page_without_an_answer_is_asked_for_again_and_a_refused_one_begins_the_round_anew():
    discovery = Discovery(SCOPE, START.at, START)
    read(discovery, START, token="a")
    asked = discovery.choose(START)
    discovery.failed(Unanswered(timing=timing(START), trouble=Trouble.TIMEOUT), START)
    assert discovery.choose(START) is None
    later = START.later(5 * SECOND)
    assert discovery.choose(later) == asked
    discovery.failed(Refused(timing=timing(later)), later)
    much_later = later.later(60 * SECOND)
    anew = discovery.choose(much_later)
    assert anew is not None
    assert anew.token is None
    discovery.failed(Missing(timing=timing(much_later)), much_later)
    assert discovery.choose(much_later) is None


def test_new_settings_hold_from_the_next_round_on():
    discovery = Discovery(SCOPE, START.at, START)
    discovery.adopt(Scope(every=60 * SECOND, since=HOUR))
    read(discovery, START)
    assert discovery.wake_tick() == START.tick + 60 * SECOND


def test_the_query_is_in_upstreams_words():
    ask = Discover(status=Status.PROCESSING, start=START.at, token="t")
    assert ask.query == {
        "pageSize": "1000",
        "startDate": "2026-09-21T14:13:20.000Z",
        "status": "PROCESSING",
        "pageToken": "t",
    }
    assert Discover(status=None, start=START.at).query.keys() == {"pageSize", "startDate"}
