"""Which window of which list is the best question about an operation that is due.

A page of a list shows up to 1,000 operations for the price of one. Its worth is the sum of the looks that it spares: a
look at an operation that is due is worth a whole one, at one that was just seen nothing. The list of everything also
shows how operations ended; the list of one status is shorter, but whoever vanished from it must be looked at again.
Both are weighed against asking for the operation alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from watcher.core.densities import BUCKET, Densities
from watcher.core.departures import Departures, relative
from watcher.core.looks import Look
from watcher.core.model import SECOND, Instant, Micros, Moment, Status
from watcher.core.places import Places

PAD: Micros = 2 * SECOND
"""Bounds are padded: `createdAt` has whole seconds, and whether bounds are inclusive is not stated."""

WORTHWHILE = 1.5
"""A sweep must spare more than so many single looks, since it may show less than is hoped."""

RISK_OF_THE_UNSEEN = 0.3
"""How likely it is that the list of PROCESSING does not show an operation that was never seen."""


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A window of a list, what it is expected to cost and to spare, and whom it should show."""

    status: Status | None
    start: Instant
    end: Instant
    pages: int
    worth: float
    cost: float
    members: Sequence[Look]

    @property
    def yield_(self) -> float:
        """Single looks spared for each request."""
        return self.worth / self.cost


class _Step(msgspec.Struct, gc=False):
    """The next operation outwards that is worth something, and the rows to it."""

    look: Look
    place: Instant
    worth: float
    rows: float


class Weighing:
    """What windows would be worth at one moment."""

    def __init__(self, places: Places, densities: Densities, departures: Departures, now: Moment) -> None:
        self._places = places
        self._densities = densities
        self._departures = departures
        self._now = now

    def best(self, look: Look) -> Window | None:
        """The window that spares the most looks for a request; None where the operation is better asked for alone."""
        if look.alone or look.place is None:
            return None
        lists = (None,) if look.status is None else (None, look.status)
        windows = [self.window(look, look.place, status) for status in lists]
        best = max(windows, key=lambda window: window.yield_)
        return best if best.yield_ >= WORTHWHILE else None

    def window(self, anchor: Look, place: Instant, status: Status | None) -> Window:
        """The window around an operation, as far as its pages have room."""
        densities, places = self._densities, self._places
        page = densities.rows_a_page(status)
        # The pads are part of what is read, and rows are at least those that are ours.
        rows = densities.between(status, place - PAD, place + PAD)
        rows = max(rows, _shown_by(status, places.between(place - PAD, place + PAD)))
        pages = max(math.ceil(rows / page), 1)
        position = places.position(anchor, place)
        worth_of = self.worth if status is None else self._worth_in(status)
        room = pages * page
        older = self._outwards(range(position - 1, -1, -1), place, status, worth_of, room)
        newer = self._outwards(range(position + 1, len(places.looks)), place, status, worth_of, room)
        members, start, end, worth = [anchor], place, place, 1.0
        older_step, newer_step = next(older, None), next(newer, None)
        while (step := _worthier(older_step, newer_step)) is not None:
            fits = rows + step.rows <= room and len(members) < room
            if fits:
                rows += step.rows
                worth += step.worth
                members.append(step.look)
            if step is older_step:
                start = step.place if fits else start
                older_step = next(older, None) if fits else None
            else:
                end = step.place if fits else end
                newer_step = next(newer, None) if fits else None
        return Window(
            status=status,
            start=start - PAD,
            end=end + PAD,
            pages=pages,
            worth=worth,
            cost=pages + self._risk(members, status),
            members=members,
        )
