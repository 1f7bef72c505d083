"""Questions in upstream's words."""

from __future__ import annotations

import pytest

from tests.support.factories import NOW, a_record, a_timing
from watcher.core.model import HOUR, MINUTE, SECOND, Status
from watcher.core.observation import Page
from watcher.core.requests import Discover, Sweep, honours


def test_filters_are_the_same_on_every_page():
    sweep = Sweep(number=1, status=Status.PROCESSING, start=NOW, end=NOW + SECOND)
    next_page = Sweep(number=1, status=Status.PROCESSING, start=NOW, end=NOW + SECOND, token="next")
    assert next_page.query == {**sweep.query, "pageToken": "next"}
    assert sweep.query["status"] == "PROCESSING"
    assert sweep.query["pageSize"] == "1000"
    assert "status" not in Sweep(number=1, status=None, start=NOW, end=NOW).query


def test_discovery_reads_on_from_an_instant():
    first = Discover(status=None, start=NOW)
    assert "endDate" not in first.query
    next_page = Discover(status=Status.SCHEDULED, start=NOW, token="next")
    assert next_page.query == {**first.query, "status": "SCHEDULED", "pageToken": "next"}


def a_page(*rows: tuple[str, int]) -> Page:
    return Page(timing=a_timing(), records=tuple(a_record(word, created_at=at) for word, at in rows))


WINDOW = Sweep(number=1, status=Status.PROCESSING, start=NOW, end=NOW + MINUTE)


@pytest.mark.parametrize(
    ("requested", "rows", "is_honoured"),
    [
        (WINDOW, [], True),
        (WINDOW, [("PROCESSING", NOW), ("PROCESSING", NOW + MINUTE)], True),
        # A status changes while a list is read; one row alone proves nothing.
        (WINDOW, [("PROCESSING", NOW), ("COMPLETED", NOW)], True),
        (WINDOW, [("COMPLETED", NOW)], True),
        (WINDOW, [("PROCESSING", NOW), ("COMPLETED", NOW), ("SCHEDULED", NOW)], False),
        (WINDOW, [("PROCESSING", NOW - HOUR), ("PROCESSING", NOW)], True),
        (WINDOW, [("PROCESSING", NOW - HOUR), ("PROCESSING", NOW + HOUR), ("PROCESSING", NOW)], False),
        (Discover(status=None, start=NOW), [("COMPLETED", NOW), ("PROCESSING", NOW + HOUR)], True),
        (Discover(status=None, start=NOW), [("COMPLETED", NOW - HOUR), ("COMPLETED", NOW - HOUR)], False),
    ],
)
def test_most_rows_of_a_page_are_what_was_requested_or_its_filter_was_ignored(
    requested: Sweep | Discover, rows: list[tuple[str, int]], *, is_honoured: bool
):
    assert honours(requested, a_page(*rows)) is is_honoured
