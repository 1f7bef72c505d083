"""Which operations have series of their own, and until when.

A finished operation leaves `hold` after the first completed scrape that carried its final stats, and at most
`hold_at_most` after those were learned. Above `max_operations`, operations with failures stay first, then running ones,
then finished ones without failures. Once shown, an operation stays for at least a minute, and only one with failures
displaces it, so that a dashboard does not flicker. Memory holds at most `max_operations` finished operations, also
without any scrape.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter

from watcher.core.model import DAY, MINUTE, Instant, Micros, Moment, Operation, Phase, Value

SHOWN_AT_LEAST: Micros = MINUTE


class Retention(Value, frozen=True, kw_only=True):
    """The settings that decide how long and how many operations are shown."""

    hold: Micros = 10 * MINUTE
    hold_at_most: Micros = DAY
    max_operations: int = 1000


class Census(Value, frozen=True, kw_only=True):
    """The operations that are shown, and since which tick each has been shown."""

    shown_since: Mapping[str, Micros] = {}


def is_retired(operation: Operation, now: Instant, retention: Retention) -> bool:
    """Whether the series of a final operation are not needed any more."""
    if operation.final_at is None:
        return False
    # Counted from the scrape, so that a Prometheus that was down for an hour still gets the final stats.
    if operation.scraped_at is not None and now >= operation.scraped_at + retention.hold:
        return True
    return now >= operation.final_at + retention.hold_at_most


def choose_shown(
    census: Census, operations: Sequence[Operation], now: Moment, max_operations: int
) -> tuple[Census, Sequence[Operation]]:
    """The next census and the operations that it shows, in the order in which they were given."""
    if len(operations) > max_operations:
        chosen = {operation.id for operation in _worthiest(census, operations, now, max_operations)}
        operations = [operation for operation in operations if operation.id in chosen]
    return _carried_on(census, operations, now), operations


def surplus_finals(operations: Iterable[Operation], max_operations: int) -> Sequence[str]:
    """The ids of the final operations to drop because memory holds too many."""
    finals = [operation for operation in operations if operation.phase is Phase.FINAL]
    if len(finals) <= max_operations:
        return ()
    # First to go: without failures, then scraped, then the oldest. Of one that was not scraped yet, Prometheus does not
    # have the final stats.
    finals.sort(key=lambda operation: (operation.stats.has_failures, operation.scraped_at is None, operation.final_at))
    return [operation.id for operation in finals[: len(finals) - max_operations]]


def _worthiest(
    census: Census, operations: Iterable[Operation], now: Moment, max_operations: int
) -> Iterator[Operation]:
    """Grade by grade. Within a grade, operations that are shown already come first, then the newest."""
    since = census.shown_since
    long_ago = now.tick - SHOWN_AT_LEAST
    # `lately` is before `running`: shown for less than a minute, so that only `failing` ones can displace them.
    failing, lately, running, finished = grades = (_Grade(), _Grade(), _Grade(), _Grade())
    for operation in operations:
        shown_at = since.get(operation.id)
        if operation.stats.has_failures:
            grade = failing
        elif shown_at is not None and shown_at > long_ago:
            grade = lately
        else:
            grade = running if operation.final_at is None else finished
        (grade.coming if shown_at is None else grade.shown).append(operation)
    room = max_operations
    for grade in grades:
        for equals in (grade.shown, grade.coming):
            # Sorted only if a part of the group has room: with room for all or for none, the order does not matter.
            if len(equals) > room > 0:
                equals.sort(key=_REGISTERED_AT, reverse=True)
            yield from equals[:room]
            room = max(room - len(equals), 0)


class _Grade:
    """Operations of equal priority: those that are shown already, and others."""

    __slots__ = ("coming", "shown")

    def __init__(self) -> None:
        self.shown: list[Operation] = []
        self.coming: list[Operation] = []


_REGISTERED_AT = attrgetter("registered_at")


def _carried_on(census: Census, shown: Sequence[Operation], now: Moment) -> Census:
    """The census with new operations and without those that left. The same object if nothing changed."""
    since = census.shown_since
    coming = [operation.id for operation in shown if operation.id not in since]
    if len(since) + len(coming) == len(shown):  # no operation left
        return Census(shown_since={**since, **dict.fromkeys(coming, now.tick)}) if coming else census
    return Census(shown_since={operation.id: since.get(operation.id, now.tick) for operation in shown})
