"""Which window of which list is the best question about an operation that is due.

A page of a list shows up to 1,000 operations for the price of one. Its worth is the sum of what it spares: a look at an operation that is due is worth a whole look,
at one that was just seen nothing. The list of everything also shows how operations ended; the list of one status is shorter, but whoever
vanished from it must be looked at again. Both are weighed against asking for the operation alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from watcher.core.densities import Densities
from watcher.core.model import SECOND, Instant, Micros, Status

ROWS_A_PAGE = 850
"""Rows planned for a page: some room for what was created meanwhile."""

PAGES_AT_MOST = 20
PAD: Micros = 2 * SECOND
"""Bounds are padded: `createdAt` has whole seconds, and whether bounds are inclusive is not stated."""

WORTHWHILE = 2.5
"""A sweep must spare more than so many single looks, since it may show less than is hoped."""


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """An operation beside the one that is due: where it lies, and what a look at it is worth in each list.

    `risk` is how likely it is that it has left the list of its status by now.
    """

    id: str
    place: Instant
    status: Status | None
    worth: float
    risk: float


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A window of a list, what it is expected to cost and to spare, and whom it should show."""

    status: Status | None
    start: Instant
    end: Instant
    rows: float
    pages: int
    worth: float
    cost: float
    members: Sequence[str]

    @property
    def yield_(self) -> float:
        """Single looks spared for each request."""
        return self.worth / self.cost


Look = Callable[[int], Candidate | None]


def grow(position: int, count: int, look: Look, status: Status | None, densities: Densities) -> Window:
    """The window around the operation at `position` of `count` in order of creation, as far as its pages have room.

    `look` gives the candidate at a position, None for one that should not be counted on (asked about already).
    """
    anchor = look(position)
    assert anchor is not None  # noqa: S101 -- whoever is due is nobody's member
    members = [anchor]
    start = end = anchor.place
    # The pads are part of what is read. Rows are at least those that are ours.
    rows = densities.between(status, start - PAD, end + PAD)
    ours = 1
    room = max(math.ceil(rows / ROWS_A_PAGE), 1) * ROWS_A_PAGE
    low, high = position - 1, position + 1
    left, right = _step(look, low), _step(look, high, count)
    while left is not None or right is not None:
        # Whoever is worth more is taken first; the newer one where both are alike.
        takes_left = right is None or (left is not None and left.worth > right.worth)
        taken = left if takes_left else right
        assert taken is not None  # noqa: S101 -- one of both is there
        gap = (taken.place, start) if takes_left else (end, taken.place)
        more = densities.between(status, *gap)
        if max(rows + more, ours + 1) > room:
            if takes_left:
                left = None
            else:
                right = None
            continue
        rows += more
        ours += _is_shown(taken, status)
        members.append(taken)
        if takes_left:
            start = taken.place
            low -= 1
            left = _step(look, low)
        else:
            end = taken.place
            high += 1
            right = _step(look, high, count)
    return _window(status, (start, end), max(rows, ours), members)


def _window(
    status: Status | None, bounds: tuple[Instant, Instant], rows: float, members: Sequence[Candidate]
) -> Window:
    pages = math.ceil(rows / ROWS_A_PAGE)
    shown = [member for member in members if _is_shown(member, status)]
    # Who vanished from the list of a status costs a look more; the list of everything shows everybody.
    risk = 0.0 if status is None else sum(member.risk for member in shown)
    return Window(
        status=status,
        start=bounds[0] - PAD,
        end=bounds[1] + PAD,
        rows=rows,
        pages=pages,
        worth=sum(member.worth for member in shown),
        cost=pages + risk,
        members=[member.id for member in shown],
    )


def _is_shown(candidate: Candidate, status: Status | None) -> bool:
    return status is None or candidate.status is status


def _step(look: Look, position: int, count: int | None = None) -> Candidate | None:
    if position < 0 or (count is not None and position >= count):
        return None
    return look(position)
