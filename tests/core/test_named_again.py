"""An id that is registered long after its end, when nothing remembers it any more: it ends and is not counted again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.factories import (
    HINTED,
    NOW,
    OPERATION_ID,
    PLAIN_ID,
    a_reading,
    an_operation,
    at,
    days,
    missing,
    seen,
)
from watcher.core.lifecycle import LifecycleRules, observe
from watcher.core.model import Operation, Outcome, Tally
from watcher.core.observation import Observation

LONG_AGO = NOW - days(9)
MINUTES = 24 * 60


def lived(operation: Operation, answer: Callable[[float], Observation]) -> tuple[Operation, list[Tally]]:
    """The operation after the same answer each minute until it is final, and what it was counted as."""
    tallies: list[Tally] = []
    for minute in range(MINUTES):
        seconds = minute * 60.0
        step = observe(operation, answer(seconds), a_reading(at(seconds)), LifecycleRules())
        operation = step.operation
        tallies += [] if step.tally is None else [step.tally]
        if operation.final_at is not None:
            break
    return operation, tallies


def test_an_id_whose_own_time_is_past_its_record_expires_and_is_not_counted():
    assert HINTED < LONG_AGO
    ended, tallies = lived(an_operation(id=OPERATION_ID), lambda seconds: missing(seconds, date=at(seconds).at))
    assert (ended.outcome, tallies) == (Outcome.EXPIRED, [])


@pytest.mark.parametrize("operation_id", [OPERATION_ID, PLAIN_ID], ids=["with a time", "without one"])
def test_an_id_that_upstream_still_shows_after_its_record_is_not_counted(operation_id: str):
    ended, tallies = lived(
        an_operation(id=operation_id),
        lambda seconds: seen(
            "COMPLETED",
            seconds=seconds,
            date=at(seconds).at,
            id=operation_id,
            created_at=LONG_AGO,
            updated_at=LONG_AGO + days(1),
        ),
    )
    assert (ended.outcome, tallies) == (Outcome.COMPLETED, [])
