"""Snapshots are immutable, and begin with nothing."""

from __future__ import annotations

import pytest

from tests.support.factories import a_running_operation, at
from watcher.core.snapshot import AccountSnapshot


def test_an_account_of_which_nothing_is_known_is_down_and_shows_nothing():
    snapshot = AccountSnapshot(account="main", taken=at())
    assert (snapshot.up, snapshot.unauthorized, snapshot.shown, snapshot.suppressed) == (False, False, (), 0)
    assert (snapshot.lag, snapshot.throttled, snapshot.discovered_at) == (0, 0, None)


def test_a_snapshot_cannot_be_changed():
    snapshot = AccountSnapshot(account="main", taken=at(), shown=(a_running_operation(),))
    with pytest.raises(AttributeError):
        snapshot.up = True  # type: ignore[misc]
