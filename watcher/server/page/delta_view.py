"""What the page shows, numbered by change, so that who asks every second is answered with little more than news.

One board for each listener. It keeps the operations it showed last, each with the number of the change that made it
look so, and which have gone; a bookmark is the board's name and the number of the last change. A bookmark of another
board (the daemon was restarted), or one older than what is remembered, is answered with everything.
"""

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from watcher.core.model import MINUTE, SECOND, Micros, Moment, Operation, Outcome, Phase, Stats
from watcher.core.snapshot import AccountSnapshot

MAX_ROWS = 1000
"""A person reads no more, and a browser shows them in a moment."""

REST: Micros = SECOND // 4
"""How long a look is good for, however many ask. One that took long is good for `_COST` times that, at most for
`_MOST_REST`, so that onlookers never cost more than a small share of the event loop.
"""
_COST = 20
_MOST_REST: Micros = MINUTE // 6

_SUMMED = ("total", "sent", "failed", "canceled", "queued", "scheduled")
_BAD_ENDS = frozenset({Outcome.EXPIRED, Outcome.NOT_FOUND, Outcome.REJECTED})

Key: TypeAlias = tuple[str, str]
"""Account and id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What to show: all of it where `is_whole`, else what changed and what has gone since the bookmark that was given.

    `stats` are the sums over all operations on the board, `more` is how many are followed that are not on it.
    """

    snapshots: Sequence[AccountSnapshot]
    operations: Sequence[Operation]
    gone: Sequence[Key]
    stats: Stats
    more: int
    bookmark: str
    is_whole: bool


class DeltaView:
    """Remembers what it showed. `snapshots` gives the accounts as they are, `now` the time."""

    def __init__(self, snapshots: Callable[[], Sequence[AccountSnapshot]], now: Callable[[], Moment]) -> None:
        self._snapshots = snapshots
        self._now = now
        self._name = f"{now().at:x}"
        self._number = 0
        self._good_until: Micros = 0
        self._shown: Sequence[AccountSnapshot] = ()
        self._rows: dict[Key, tuple[int, Operation]] = {}
        self._gone: deque[tuple[int, Key]] = deque()
        self._forgotten = 0
        self._labels: Sequence[str] | None = None

    def read(self, labels: Sequence[str] | None, bookmark: str | None = None) -> Delta:
        """What changed since the bookmark; everything without one. A change of the labels on view changes every row."""
        labels = None if labels is None else tuple(labels)
        if labels != self._labels:
            self._labels = labels
            self._rows = {key: (0, operation) for key, (_, operation) in self._rows.items()}
            self._forgotten = self._number = self._number + 1
        now = self._now().tick
        if now >= self._good_until:
            self._take_in(self._snapshots())
            cost = self._now().tick - now
            self._good_until = now + cost + min(max(REST, _COST * cost), _MOST_REST)
        since = self._read(bookmark)
        rows = self._rows.values()
        return Delta(
            snapshots=self._shown,
            operations=[operation for number, operation in rows if since is None or number > since],
            gone=[] if since is None else [key for number, key in self._gone if number > since],
            stats=_sums([operation for _, operation in rows]),
            more=sum(len(one.shown) + one.suppressed for one in self._shown) - len(rows),
            bookmark=f"{self._name}-{self._number}",
            is_whole=since is None,
        )

    def _take_in(self, snapshots: Sequence[AccountSnapshot]) -> None:
        number = self._number + 1
        before, rows = self._rows, {}
        for operation in _most_worth_seeing(snapshots):
            key = operation.account, operation.id
            known = before.get(key)
            is_same = known is not None and (known[1] is operation or _reads(known[1]) == _reads(operation))
            rows[key] = (known[0], operation) if known is not None and is_same else (number, operation)
        gone = before.keys() - rows.keys()
        if gone or any(changed == number for changed, _ in rows.values()):
            self._number = number
        self._gone.extend((number, key) for key in gone)
        while len(self._gone) > MAX_ROWS:
            self._forgotten = self._gone.popleft()[0]
        self._rows, self._shown = rows, snapshots

    def _read(self, bookmark: str | None) -> int | None:
        name, _, number = (bookmark or "").partition("-")
        if name != self._name or not self._forgotten <= int(number) <= self._number:
            return None
        return int(number)


def worth(operation: Operation) -> tuple[int, int, str, str]:
    """Failures first, then what is running, then what has ended; the newest first."""
    return rank(operation), -operation.registered_at, operation.account, operation.id


def rank(operation: Operation) -> int:
    """0 failed, in part or whole; 1 recipients that could not be addressed; 2 running; 3 ended well, or called off."""
    if operation.stats.failed or operation.outcome in _BAD_ENDS:
        return 0
    if operation.stats.unaddressable:
        return 1
    return 2 if operation.phase is Phase.FOLLOWED else 3


def _most_worth_seeing(snapshots: Sequence[AccountSnapshot]) -> Sequence[Operation]:
    operations = [operation for snapshot in snapshots for operation in snapshot.shown]
    return operations if len(operations) <= MAX_ROWS else heapq.nsmallest(MAX_ROWS, operations, key=worth)


def _reads(operation: Operation) -> tuple[Any, ...]:
    """All that can be seen of an operation: being asked about changes nothing of it."""
    return (
        operation.status,
        operation.word,
        operation.stats,
        operation.labels,
        operation.created_at,
        operation.updated_at,
        operation.progressed_at,
        operation.ended_at,
        operation.final_at,
        operation.registered_at,
        operation.source,
    )


def _sums(operations: Sequence[Operation]) -> Stats:
    return Stats(**{name: sum(getattr(one.stats, name) or 0 for one in operations) for name in _SUMMED})
