"""Which window of which list is the best question about an operation that is due.

A page of a list shows up to 1,000 operations for the price of one. A look grows in worth from nothing, just after the
last one, to a whole one when it is due. What a look costs otherwise is its price: a request for who must be asked about
by id, and next to nothing for who is on a list of one status beside many others. That list is short, but whoever
vanished from it must be looked at again; the list of everything is longer and also shows how operations ended. So it is
read where it saves enough of both: the looks, and the second looks at those that left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from watcher.core.creation_index import CreationIndex
from watcher.core.exit_rates import ExitRates, class_of
from watcher.core.model import SECOND, Instant, Micros, Moment, Status
from watcher.core.polls import Poll
from watcher.core.row_density import BUCKET, RowDensity

PAD: Micros = 2 * SECOND
"""Bounds are padded: `createdAt` has whole seconds, and whether bounds are inclusive is not stated."""

WORTHWHILE = 1.5
"""A sweep must spare so many requests for each of its own, since it may show less than is hoped."""

RISK_OF_THE_UNSEEN = 0.3
"""How likely it is that the list of PROCESSING does not show an operation that was never seen."""

PRICED_EVERY = 8
"""The price of a look is learned anew with every so manieth question."""

_PRICE_LEARNING = 0.3


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A window of a list, what it spares, and whom it should show.

    `worth` is in looks for the list of one status, in requests for the list of everything.
    """

    status: Status | None
    start: Instant
    end: Instant
    pages: int
    worth: float
    members: Sequence[Poll]


class _Side(msgspec.Struct, gc=False):
    """Who lies on one side of an anchor, outwards; rows and worth add up from the anchor on.

    `edge` and `edge_rows` are of the first who has no room.
    """

    polls: list[Poll]
    rows: list[float]
    worth: list[float]
    edge: Instant | None
    edge_rows: float

    def bound(self, reach: int, anchor: Instant, spare: float) -> Instant:
        """Where a window that shows so many ends: in the gap to the next, as far as there is room to spare.

        Gaps are read along, since what is guessed of them may be far too much, and would never be known better.
        """
        at = (self.polls[reach - 1].place or anchor) if reach else anchor
        beyond = self.polls[reach].place if reach < len(self.polls) else self.edge
        if beyond is None:
            return at
        gap_rows = (self.rows[reach] if reach < len(self.rows) else self.edge_rows) - self.rows_of(reach)
        return at + round((beyond - at) * min(spare / max(gap_rows, 1.0), 1.0))

    def rows_of(self, reach: int) -> float:
        """Rows up to so many."""
        return self.rows[reach - 1] if reach else 0.0

    def worth_of(self, reach: int) -> float:
        """What looks at so many are worth."""
        return self.worth[reach - 1] if reach else 0.0


class _Prices:
    """What a look at who is on a list of one status costs there, in requests, by doublings of the age."""

    def __init__(self) -> None:
        self._prices: dict[int, float] = {}
        self._questions: dict[int, int] = {}

    def of(self, age: Micros) -> float:
        return self._prices.get(class_of(age), 1.0)

    def is_old(self, age: Micros) -> bool:
        """Whether it should be learned with this question."""
        at = class_of(age)
        asked = self._questions.get(at, 0)
        self._questions[at] = asked + 1
        return asked % PRICED_EVERY == 0

    def learn(self, age: Micros, price: float) -> None:
        at = class_of(age)
        before = self._prices.get(at, price)
        self._prices[at] = before + (price - before) * _PRICE_LEARNING


class WindowChooser:
    """What windows are worth; keeps the price of a look at who is on a list of one status."""

    def __init__(self, index: CreationIndex, densities: RowDensity, exit_rates: ExitRates) -> None:
        self._index = index
        self._densities = densities
        self._exit_rates = exit_rates
        self._prices = _Prices()

    def best(self, poll: Poll, now: Moment) -> Window | None:
        """The window that spares the most requests; None where the operation is better asked for alone."""
        place = poll.place
        if poll.alone or place is None:
            return None
        age = now.at - place
        listed = self._listed(poll, place, now) if self._prices.is_old(age) else None
        everything = self._window(poll, place, None, now)
        own = 1.0 if poll.status is None else self._prices.of(age)
        if everything.worth - own >= everything.pages:
            return everything
        if poll.status is None:
            return None
        listed = self._listed(poll, place, now) if listed is None else listed
        # Who vanished from it must be looked at again.
        cost = listed.pages + self._risk(listed.members, now)
        return listed if listed.worth >= WORTHWHILE * cost else None

    def _listed(self, poll: Poll, place: Instant, now: Moment) -> Window:
        """A window of the list of one status; it teaches the price of a look."""
        status = Status.PROCESSING if poll.status is None else poll.status
        window = self._window(poll, place, status, now)
        shown = self._index.between(window.start, window.end)
        self._prices.learn(now.at - place, window.pages / max(_on(status, shown), 1))
        return window

    def _window(self, anchor: Poll, place: Instant, status: Status | None, now: Moment) -> Window:
        """The window around an operation that is worth most, as far as its pages have room."""
        page = self._densities.rows_a_page(status)
        rows = self._rows_around(place, status)
        pages = max(math.ceil(rows / page), 1)
        most = pages * page
        room = most - rows
        position = self._index.position(anchor, place)
        older = self._side(range(position, -1, -1), place, status=status, room=(room, most), now=now)
        ahead = range(position + 1, len(self._index.polls))
        newer = self._side(ahead, place, status=status, room=(room, most), now=now)
        left, right = _best_reach(older, newer, room, most)
        spare = min(room - older.rows_of(left) - newer.rows_of(right), most - left - right) / 4
        return Window(
            status=status,
            start=min(older.bound(left, place, spare), place) - PAD,
            end=max(newer.bound(right, place, spare), place) + PAD,
            pages=pages,
            worth=older.worth_of(left) + newer.worth_of(right),
            members=older.polls[:left] + newer.polls[:right],
        )

    def _rows_around(self, place: Instant, status: Status | None) -> float:
        """Rows within the pads, which are part of what is read; at least those that are ours."""
        near = self._index.between(place - PAD, place + PAD)
        ours = len(near) if status is None else _on(status, near)
        return max(self._densities.between(status, place - PAD, place + PAD), ours)

    # The innermost loop: a call for each of a thousand operations would be most of its time.
    def _side(
        self, positions: range, anchor: Instant, *, status: Status | None, room: tuple[float, float], now: Moment
    ) -> _Side:
        """Whoever the list should show and that is worth something, one after the other.

        `room`: for so many rows beyond those around the anchor, and in all.
        """
        instants, polls, tick, at = self._index.instants, self._index.polls, now.tick, now.at
        densities, exit_rates = self._densities, self._exit_rates
        side = _Side([], [], [], None, 0.0)
        shown, its_rows, its_worth = side.polls, side.rows, side.worth
        free, most = room
        edge = anchor
        price = 0.0 if status is not None else self._prices.of(at - anchor)
        bucket_start, bucket_end = 0, 0
        rate, departing, rows, worth = 0.0, 0.0, 0.0, 0.0
        for position in positions:
            place = instants[position]
            if bucket_start <= place < bucket_end:
                rows += rate * abs(place - edge)
            else:
                rows += densities.between(status, min(place, edge), max(place, edge))
                bucket = place // BUCKET
                bucket_start, bucket_end = bucket * BUCKET, (bucket + 1) * BUCKET
                rate = densities.rate(status, bucket)
                departing = exit_rates.rate(at - place) / max(at - place, SECOND)
            edge = place
            if rows > free or len(shown) > most:
                side.edge, side.edge_rows = place, rows
                break
            poll = polls[position]
            # Who is asked about already is shown by somebody else; who is alone, by nobody.
            if poll.asked or poll.alone or (status is not None and poll.status is not status):
                continue
            due = poll.due
            if poll.settles:
                if due > tick:
                    continue
                worth += 1.0
            else:
                since = poll.since
                spared = 1.0 if due <= tick else (tick - since) / (due - since)
                if price and poll.status is not None:
                    cost = price + (departing * (tick - since) if poll.was_seen else RISK_OF_THE_UNSEEN)
                    if cost < 1:
                        spared *= cost
                worth += spared
            shown.append(poll)
            its_rows.append(rows)
            its_worth.append(worth)
        return side

    def _risk(self, members: Sequence[Poll], now: Moment) -> float:
        """How many of them have left their list since they were last looked at."""
        tick, at, exit_rates = now.tick, now.at, self._exit_rates
        risk = 0.0
        bucket, departing = -1, 0.0
        for poll in members:
            place = poll.place or 0
            if place // BUCKET != bucket:
                bucket = place // BUCKET
                departing = exit_rates.rate(at - place) / max(at - place, SECOND)
            risk += min(departing * (tick - poll.since), 1.0) if poll.was_seen else RISK_OF_THE_UNSEEN
        return risk


def _on(status: Status, polls: Sequence[Poll]) -> int:
    return sum(poll.status is status for poll in polls)


def _best_reach(older: _Side, newer: _Side, room: float, most: float) -> tuple[int, int]:
    """How many of each side have room together and are worth most."""
    best, reach = -1.0, (0, 0)
    right = len(newer.polls)
    # None, one, two … of them: lists, for a call for each of a thousand would be most of the time.
    right_rows, right_worth = [0.0, *newer.rows], [0.0, *newer.worth]
    for left, (rows, worth) in enumerate(zip([0.0, *older.rows], [0.0, *older.worth], strict=True)):
        while right and (rows + right_rows[right] > room or left + right > most):
            right -= 1
        if worth + right_worth[right] > best:
            best, reach = worth + right_worth[right], (left, right)
    return reach
