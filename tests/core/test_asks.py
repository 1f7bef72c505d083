"""Questions in upstream's words."""

from __future__ import annotations

from tests.support.factories import NOW
from watcher.core.asks import Discover, Sweep
from watcher.core.model import SECOND, Status


def test_filters_are_the_same_on_every_page():
    sweep = Sweep(number=1, status=Status.PROCESSING, start=NOW, end=NOW + SECOND)
    following = Sweep(number=1, status=Status.PROCESSING, start=NOW, end=NOW + SECOND, token="next")
    assert following.query == {**sweep.query, "pageToken": "next"}
    assert sweep.query["status"] == "PROCESSING"
    assert sweep.query["pageSize"] == "1000"
    assert "status" not in Sweep(number=1, status=None, start=NOW, end=NOW).query


def test_discovery_reads_on_from_an_instant():
    first = Discover(status=None, start=NOW)
    assert "endDate" not in first.query
    following = Discover(status=Status.SCHEDULED, start=NOW, token="next")
    assert following.query == {**first.query, "status": "SCHEDULED", "pageToken": "next"}
