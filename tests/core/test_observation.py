"""Observations are values, and know upstream's clock."""

from __future__ import annotations

from tests.support.factories import NOW, a_timing, seen
from watcher.core.model import SECOND
from watcher.core.observation import FailureCause, Page, Record
from watcher.core.wire import CODES


def test_upstreams_clock_is_what_it_said_and_ours_where_it_said_nothing():
    assert a_timing(date=NOW - 5 * SECOND).upstream_now == NOW - 5 * SECOND
    assert a_timing(1, latency=0.5).upstream_now == NOW + 3 * SECOND // 2


def test_equal_observations_are_equal():
    assert seen() == seen()
    assert seen() != seen("COMPLETED")


def test_nothing_is_assumed_of_a_record_or_a_page():
    assert Record() == Record(id=None, word=None, stats=None, created_at=None, updated_at=None, odd=())
    assert Page(timing=a_timing()) == Page(timing=a_timing(), records=(), garbled=0, next_token=None)


def test_causes_without_an_http_status_have_codes_of_their_own():
    own = {cause.value for cause in FailureCause} & set(CODES)
    assert own == {"timeout", "connect", "garbled", "other"}
