"""What a finished operation adds to the counters.

Counters are kept as a flat map from a key – the series, then its label values – to a number, so that the store can add
without understanding them. Every series that needs no user label is there at 0 from the start.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

from watcher.core.model import Outcome, Tally

Key: TypeAlias = tuple[str, ...]

OPERATIONS = "operations"
NOTIFICATIONS = "notifications"
RECIPIENTS = "recipients"
UNADDRESSABLE = "unaddressable"
DURATION_BUCKET = "duration_bucket"
DURATION_SUM = "duration_sum"

DURATION_BUCKETS: tuple[float, ...] = (5, 30, 60, 300, 900, 3600, 14400, 86400, 259200, 604800, float("inf"))
"""Upper bounds in seconds; each bucket counts what lies between the bound before and its own."""

NOTIFICATION_STATES: tuple[str, ...] = ("sent", "failed", "canceled")


def duration_bucket(seconds: float) -> str:
    """The name of the bucket that a duration falls into."""
    return next(str(bound) for bound in DURATION_BUCKETS if seconds <= bound)


def starting_totals() -> dict[Key, float]:
    """All series without user labels at 0."""
    return (
        {(OPERATIONS, outcome.value): 0 for outcome in Outcome}
        | {(NOTIFICATIONS, state): 0 for state in NOTIFICATION_STATES}
        | {(RECIPIENTS,): 0, (UNADDRESSABLE,): 0}
    )


def increments(tally: Tally, counter_labels: Mapping[str, str] = MappingProxyType({})) -> dict[Key, float]:
    """What the tally adds.

    `counter_labels` stand in the key by name, so that a later change of the setting loses nothing.
    """
    user = tuple(f"{name}={value}" for name, value in sorted(counter_labels.items()))
    added: dict[Key, float] = {(OPERATIONS, tally.outcome.value, *user): 1}
    for state in NOTIFICATION_STATES:
        added[NOTIFICATIONS, state, *user] = getattr(tally, state)
    added[RECIPIENTS, *user] = tally.recipients
    added[UNADDRESSABLE, *user] = tally.unaddressable
    if tally.duration_seconds is not None:
        added[DURATION_BUCKET, duration_bucket(tally.duration_seconds), *user] = 1
        added[DURATION_SUM, *user] = tally.duration_seconds
    return {key: value for key, value in added.items() if value}


def added_up(totals: Mapping[Key, float], more: Mapping[Key, float]) -> dict[Key, float]:
    """The totals with `more` added."""
    result = dict(totals)
    for key, value in more.items():
        result[key] = result.get(key, 0) + value
    return result
