"""Which operations have series of their own, and until when.

A finished operation leaves `hold` after the first completed scrape that carried its final stats, and at most
`hold_at_most` after those were learned. Above `max_operations` the most worth seeing stay: failing, then running, then
finished and clean. Once shown, an operation stays at least a minute, and only one with failures displaces it, so that a
dashboard does not flicker. Memory holds at most `max_operations` finished ones, also when nobody ever scrapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter

from watcher.core.model import DAY, MINUTE, Instant, Micros, Moment, Operation, Phase, Value

SHOWN_AT_LEAST: Micros = MINUTE


class Retention(Value, frozen=True, kw_only=True):
    """What of the settings decides how long and how many operations are shown."""

    hold: Micros = 10 * MINUTE
    hold_at_most: Micros = DAY
    max_operations: int = 1000


class Census(Value, frozen=True, kw_only=True):
    """Who is shown, and since which tick each has been."""

    shown_since: Mapping[str, Micros] = {}


def is_retired(operation: Operation, now: Instant, retention: Retention) -> bool:
    """Whether a final operation's series have done their duty."""
    if operation.final_at is None:
        return False
    if operation.scraped_at is not None and now >= operation.scraped_at + retention.hold:
        return True
    return now >= operation.final_at + retention.hold_at_most


def choose_shown(
    census: Census, operations: Sequence[Operation], now: Moment, max_operations: int
) -> tuple[Census, Sequence[Operation]]:
    """The next census and the operations it shows, in the order in which they were given."""
    if len(operations) > max_operations:
        chosen = {operation.id for operation in _worthiest(census, operations, now, max_operations)}
        operations = [operation for operation in operations if operation.id in chosen]
    return _carried_on(census, operations, now), operations


def surplus_finals(operations: Iterable[Operation], max_operations: int) -> Sequence[str]:
    """The ids of final operations beyond what memory holds, the least worth seeing first to go."""
    finals = [operation for operation in operations if operation.phase is Phase.FINAL]
    if len(finals) <= max_operations:
        return ()
    finals.sort(key=lambda operation: (operation.stats.has_failures, operation.scraped_at is None, operation.final_at))
    return [operation.id for operation in finals[: len(finals) - max_operations]]


def _worthiest(
    census: Census, operations: Iterable[Operation], now: Moment, max_operations: int
) -> Iterator[Operation]:
    """Grade by grade; within one, whoever is shown stays, then the newest come first."""
    since = census.shown_since
    long_ago = now.tick - SHOWN_AT_LEAST
    failing, lately, running, finished = grades = (_Grade(), _Grade(), _Grade(), _Grade())
    for operation in operations:
        stats, shown_at = operation.stats, since.get(operation.id)
        if stats.failed or stats.unaddressable:
            grade = failing
        elif shown_at is not None and shown_at > long_ago:
            grade = lately
        else:
            grade = running if operation.final_at is None else finished
        (grade.coming if shown_at is None else grade.shown).append(operation)
    room = max_operations
    for grade in grades:
        for equals in (grade.shown, grade.coming):
            # A whole group is not sorted: with room for all, or for none, order does not matter.
            if len(equals) > room > 0:
                equals.sort(key=_REGISTERED_AT, reverse=True)
            yield from equals[:room]
            room = max(room - len(equals), 0)


class _Grade:
    """Operations of equal worth: those that are shown already, and others."""

    __slots__ = ("coming", "shown")

    def __init__(self) -> None:
        self.shown: list[Operation] = []
        self.coming: list[Operation] = []


_REGISTERED_AT = attrgetter("registered_at")


def _carried_on(census: Census, shown: Sequence[Operation], now: Moment) -> Census:
    """The census with who came and without who left; the same where that is nobody."""
    since = census.shown_since
    coming = [operation.id for operation in shown if operation.id not in since]
    if len(since) + len(coming) == len(shown):  # nobody left
        return Census(shown_since={**since, **dict.fromkeys(coming, now.tick)}) if coming else census
    return Census(shown_since={operation.id: since.get(operation.id, now.tick) for operation in shown})
