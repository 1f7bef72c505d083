"""The data of the page, numbered by change, so that a client that polls every second gets little more than the changes.

Each listener has one view. It keeps the operations that it showed last, each with the number of its last change, and
the operations that have gone. A bookmark is the view's name and the number of the last change. A bookmark of another
view (the daemon was restarted), or one older than the remembered changes, is answered with all data.
"""

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from watcher.core.channels import BAR, FAILURES, Stats
from watcher.core.model import MINUTE, SECOND, Micros, Moment, Operation, Outcome, Phase
from watcher.core.snapshot import AccountSnapshot

MAX_ROWS = 1000
"""Most rows of the page: more than a person reads, and few enough for a browser."""

REST: Micros = SECOND // 4
"""How long the data are reused for all clients. If they took long to build, they are reused for `_COST` times that
time, at most for `_MOST_REST`. So clients of the page never cost more than a small share of the event loop.
"""
_COST = 20
_MOST_REST: Micros = MINUTE // 6

_SUMMED = ("total", *BAR)
_BAD_ENDS = frozenset({Outcome.EXPIRED, Outcome.NOT_FOUND, Outcome.REJECTED})

Key: TypeAlias = tuple[str, str]
"""Account and id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What to show: all operations if `is_whole`, else those that changed, and that have gone, since the bookmark.

    `stats` are the sums over all shown operations, `more` is the number of operations that are not shown.
    """

    snapshots: Sequence[AccountSnapshot]
    operations: Sequence[Operation]
    gone: Sequence[Key]
    stats: Stats
    more: int
    bookmark: str
    is_whole: bool


class DeltaView:
    """Remembers the rows that it showed. `snapshots` returns the present snapshots, `now` the time."""

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
        """Return the changes since the bookmark; all rows without one. Other labels change every row."""
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
    """Return the sort key: failures first, then running, then ended operations; the newest first."""
    return rank(operation), -operation.registered_at, operation.account, operation.id


def rank(operation: Operation) -> int:
    """Return 0 if anything failed, 1 if recipients were unaddressable, 2 if running, 3 if completed or canceled."""
    if operation.outcome in _BAD_ENDS:
        return 0
    failures = [name for name in FAILURES if getattr(operation.stats, name)]
    if failures:
        return 0 if any(name in BAR for name in failures) else 1
    return 2 if operation.phase is Phase.FOLLOWED else 3


def _most_worth_seeing(snapshots: Sequence[AccountSnapshot]) -> Sequence[Operation]:
    operations = [operation for snapshot in snapshots for operation in snapshot.shown]
    return operations if len(operations) <= MAX_ROWS else heapq.nsmallest(MAX_ROWS, operations, key=worth)


def _reads(operation: Operation) -> tuple[Any, ...]:
    """Return all that the page shows of an operation; a poll without news changes none of it."""
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
