from datetime import UTC, datetime, timedelta

import pytest

from watcher.cli.formatting import Operation, ago_words, entry_words, sent_words, stats_words, status_words, wait_words
from watcher.core.channels import Stats

NOW = datetime(2027, 1, 15, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (119.4, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172_800, "2 d")],
)
def test_a_wait_is_shown_in_one_unit(seconds: float, words: str):
    assert wait_words(seconds) == words


def test_a_clock_that_is_behind_makes_nothing_negative():
    assert ago_words(NOW + timedelta(seconds=5), NOW) == "0 s ago"
    assert ago_words(None, NOW) == ""


def test_a_stat_that_was_never_received_is_not_shown():
    assert stats_words(Stats()) == "no stats yet"
    assert sent_words(Stats(total=5)) == ""
    assert stats_words(Stats(sent=0, failed=0, unaddressable=2, canceled=1)) == "0 sent, 1 canceled, 2 unaddressable"


def test_a_newer_daemon_is_understood():
    operation = Operation(account="main", id="x", status="PAUSED", status_word="\x1b[31m")
    assert status_words(operation) == "PAUSED (\\x1b[31m)"
    entry = {"event": "operation.renamed", "seq": 3, "name": "new", "updated_at": "2027-01-15T08:00:00Z"}
    assert entry_words(entry) == ("", "operation.renamed", "name new")
