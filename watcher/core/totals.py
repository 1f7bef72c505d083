"""What a finished operation adds to the counters.

Counters are a flat map from a key (the series, then its label values) to a number, so that the store can add them
without knowing what they mean. Every series without user labels exists at 0 from the start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from watcher.core.channels import PUSH, StatField, StatKind
from watcher.core.model import SECOND, Outcome, Tally

Key: TypeAlias = tuple[str, ...]

OPERATIONS = "operations"
MESSAGES = "notifications"
"""The series of messages by state. Stores hold it under this name."""
DURATION_BUCKET = "duration_bucket"
DURATION_MICROS = "duration_micros"
"""The sum of durations. Whole microseconds add up exactly in any order. A sum that is lower by a rounding error after a
restart would look like a counter reset."""

OWN_LABELS: Mapping[str, int] = {OPERATIONS: 1, MESSAGES: 1, DURATION_BUCKET: 1}
"""The number of labels of its own that a series has in the key, 0 for the others. The counter labels follow."""

DURATION_BUCKETS: tuple[float, ...] = (5, 30, 60, 300, 900, 3600, 14400, 86400, 259200, 604800, float("inf"))
"""Upper bounds in seconds. Each bucket counts the durations between the bound before it and its own."""


def key_of(field: StatField) -> Key:
    """The series to which finished operations add the count."""
    return (MESSAGES, field.name) if field.kind is StatKind.STATE else (field.name,)


COUNTED: Mapping[str, Key] = {field.name: key_of(field) for field in PUSH.fields if field.is_counted}
"""The counts that finished operations add to counters, each with its series."""


def duration_bucket(seconds: float) -> str:
    """The name of the bucket that a duration belongs to."""
    return next(str(bound) for bound in DURATION_BUCKETS if seconds <= bound)


def starting_totals(combination: Key = ()) -> dict[Key, float]:
    """All series of a combination of counter labels at 0. Without one: those of an account without counter labels."""
    series: list[Key] = [(OPERATIONS, outcome.value) for outcome in Outcome]
    series += COUNTED.values()
    return {(*key, *combination): 0 for key in series}


def keys_of(combination: Key) -> list[Key]:
    """Every key that `increments` may contain for the combination."""
    buckets = [(DURATION_BUCKET, str(bound), *combination) for bound in DURATION_BUCKETS]
    return [*starting_totals(combination), *buckets, (DURATION_MICROS, *combination)]


def increments(tally: Tally, combination: Key = ()) -> dict[Key, float]:
    """What the tally adds under the combination of counter labels, given as `name=value` in order of the names."""
    added: dict[Key, float] = {(OPERATIONS, tally.outcome.value, *combination): 1}
    for name, key in COUNTED.items():
        added[(*key, *combination)] = getattr(tally.stats, name) or 0
    if tally.duration_seconds is not None:
        added[DURATION_BUCKET, duration_bucket(tally.duration_seconds), *combination] = 1
        added[DURATION_MICROS, *combination] = round(tally.duration_seconds * SECOND)
    return {key: value for key, value in added.items() if value}


def added_up(totals: Mapping[Key, float], more: Mapping[Key, float]) -> dict[Key, float]:
    """The totals with `more` added."""
    result = dict(totals)
    for key, value in more.items():
        result[key] = result.get(key, 0) + value
    return result
