"""Which operations have series of their own, and until when.

A finished operation leaves `hold` after the first completed scrape that carried its final stats, and at most
`hold_at_most` after those were learned. Above `max_operations` the most worth seeing stay: failing, then running, then
finished and clean. Once shown, an operation stays at least a minute, and only one with failures displaces it, so that a
dashboard does not flicker. Memory holds at most `max_operations` finished ones, also when nobody ever scrapes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

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
    census: Census, operations: Collection[Operation], now: Moment, max_operations: int
) -> tuple[Census, Sequence[Operation]]:
    """The next census and the operations it shows, in a stable order."""
    if len(operations) <= max_operations:
        chosen = list(operations)
    else:
        chosen = sorted(operations, key=lambda operation: _rank(census, operation, now))[:max_operations]
    chosen.sort(key=lambda operation: operation.id)
    since = census.shown_since
    return Census(shown_since={op.id: since.get(op.id, now.tick) for op in chosen}), tuple(chosen)


def surplus_finals(operations: Iterable[Operation], max_operations: int) -> Sequence[str]:
    """The ids of final operations beyond what memory holds, the least worth seeing first to go."""
    finals = [operation for operation in operations if operation.phase is Phase.FINAL]
    if len(finals) <= max_operations:
        return ()
    finals.sort(key=lambda operation: (operation.stats.has_failures, operation.scraped_at is None, operation.final_at))
    return [operation.id for operation in finals[: len(finals) - max_operations]]


def _rank(census: Census, operation: Operation, now: Moment) -> tuple[int, bool, Instant, str]:
    """Lower is worth more. Among equals whoever is shown stays, then the newest come first."""
    since = census.shown_since.get(operation.id)
    if operation.stats.has_failures:
        grade = 0
    elif since is not None and now.tick - since < SHOWN_AT_LEAST:
        grade = 1
    elif operation.phase is not Phase.FINAL:
        grade = 2
    else:
        grade = 3
    return grade, since is None, -operation.registered_at, operation.id
