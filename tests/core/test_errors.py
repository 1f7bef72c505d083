"""Errors are classified by who must act."""

from __future__ import annotations

import pytest

from watcher.core.errors import OperatorError, StoreRefused, StoreUnusable, WatcherError


@pytest.mark.parametrize(
    ("error", "is_operators"),
    [(OperatorError, True), (StoreRefused, True), (StoreUnusable, False), (WatcherError, False)],
)
def test_each_error_says_who_must_act(error: type[WatcherError], is_operators):
    assert issubclass(error, WatcherError)
    assert issubclass(error, OperatorError) is is_operators


def test_a_message_is_all_there_is_to_an_error():
    assert str(StoreUnusable("database is locked")) == "database is locked"
