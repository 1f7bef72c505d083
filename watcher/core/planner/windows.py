"""Chooses the cheapest list window for an operation that is due, or none if a GET by id is cheaper.

A list page polls up to 1,000 operations with one request. The worth of a window is the number of requests that it
saves:

* Polling early saves a fraction of the next poll: 0 right after the last one, 1 when it is due.
* An operation that is polled by id costs one request. One that is on the list of its status, beside many others, costs
  only its part of a page; that part is its price.
* The list of one status is short, but an operation that has left it must be polled again to learn how it ended. The
  unfiltered list is longer and shows ends too. It is read where it saves enough of both kinds of requests.

A window has two sides. It begins with the operation that is due (the anchor) and grows to both sides over the other
polls, in order of creation, until the expected rows fill its pages:

    created    ──────────────────────────────────────────────────────────────────────▶
    polls            o     o  o       o     A    o   o        o       o     o
                     └──── older side ────┘ │ └───── newer side ─────┘
    rows             accumulate outwards  ◀─┴─▶  accumulate outwards
    window         [start                                             end]

Rows of foreign operations lie between them, so sides are measured in expected rows (`row_density`), not in polls. Of
all pairs of a left and a right reach that fit into the pages together, the pair with the most worth wins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from watcher.core.model import SECOND, Instant, Micros, Moment, Status
from watcher.core.planner.creation_index import CreationIndex
from watcher.core.planner.exit_rates import ExitRates, class_of
from watcher.core.planner.polls import Poll
from watcher.core.planner.row_density import BUCKET, RowDensity

PAD: Micros = 2 * SECOND
"""Bounds are padded: `createdAt` has whole seconds, and whether bounds are inclusive is not stated."""

WORTHWHILE = 1.5
"""Requests that a sweep must save for each of its own: it may show fewer operations than expected."""

RISK_OF_THE_UNSEEN = 0.3
"""How likely it is that the list of PROCESSING does not show an operation that was never seen."""

PRICED_EVERY = 8
"""The price of a poll is re-estimated on every eighth request for that age. The estimate needs a second window, which
costs time and is not needed where the unfiltered list is read."""

_PRICE_LEARNING = 0.3


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A window of a list, what it saves, and the polls of the operations that it should show.

    `worth` is in polls for the list of one status, in requests for the unfiltered list.
    """

    status: Status | None
    start: Instant
    end: Instant
    pages: int
    worth: float
    members: Sequence[Poll]


class _Side(msgspec.Struct, gc=False):
    """The polls on one side of the anchor, outwards. Rows and worth are sums from the anchor up to each poll.

    `edge` and `edge_rows` belong to the first poll that does not fit.
    """

    polls: list[Poll]
    rows: list[float]
    worth: list[float]
    edge: Instant | None
    edge_rows: float

    def bound(self, reach: int, anchor: Instant, spare: float) -> Instant:
        """Where a window with the nearest `reach` polls ends: in the gap after them, as far as rows are to spare."""
        # The gap is read too. Its rows are only a guess, which may be far too high. If no window ever read gaps, the
        # guess would never be corrected, and windows would stay too small.
        at = (self.polls[reach - 1].place or anchor) if reach else anchor
        beyond = self.polls[reach].place if reach < len(self.polls) else self.edge
        if beyond is None:
            return at
        gap_rows = (self.rows[reach] if reach < len(self.rows) else self.edge_rows) - self.rows_of(reach)
        return at + round((beyond - at) * min(spare / max(gap_rows, 1.0), 1.0))

    def rows_of(self, reach: int) -> float:
        """Expected rows from the anchor to the last of the nearest `reach` polls."""
        return self.rows[reach - 1] if reach else 0.0

    def worth_of(self, reach: int) -> float:
        """What the nearest `reach` polls are worth together."""
        return self.worth[reach - 1] if reach else 0.0


class _Prices:
    """The price of a poll on the list of its status, in requests, for each doubling of the age."""

    def __init__(self) -> None:
        self._prices: dict[int, float] = {}
        self._questions: dict[int, int] = {}

    def of(self, age: Micros) -> float:
        return self._prices.get(class_of(age), 1.0)

    def is_old(self, age: Micros) -> bool:
        """Whether this request should estimate the price again."""
        at = class_of(age)
        asked = self._questions.get(at, 0)
        self._questions[at] = asked + 1
        return asked % PRICED_EVERY == 0

    def learn(self, age: Micros, price: float) -> None:
        at = class_of(age)
        before = self._prices.get(at, price)
        self._prices[at] = before + (price - before) * _PRICE_LEARNING


class WindowChooser:
    """Compares windows; keeps the price of a poll on the list of its status."""

    def __init__(self, index: CreationIndex, densities: RowDensity, exit_rates: ExitRates) -> None:
        self._index = index
        self._densities = densities
        self._exit_rates = exit_rates
        self._prices = _Prices()

    def best(self, poll: Poll, now: Moment) -> Window | None:
        """The window that saves the most requests; None if a GET by id is cheaper."""
        place = poll.place
        if poll.alone or place is None:
            return None
        age = now.at - place
        # Estimated first, because the worth of the unfiltered window depends on the price.
        listed = self._listed(poll, place, now) if self._prices.is_old(age) else None
        everything = self._window(poll, place, None, now)
        # The unfiltered list must be worth its pages without the anchor, whose poll costs only this much elsewhere.
        own = 1.0 if poll.status is None else self._prices.of(age)
        if everything.worth - own >= everything.pages:
            return everything
        # It is on no list of one status, for example because it settles or has just left its list. So a fetch is left.
        if poll.status is None:
            return None
        listed = self._listed(poll, place, now) if listed is None else listed
        # Operations that have left this list need a second request each.
        cost = listed.pages + self._risk(listed.members, now)
        return listed if listed.worth >= WORTHWHILE * cost else None

    def _listed(self, poll: Poll, place: Instant, now: Moment) -> Window:
        """A window of the list of one status; the price of a poll is estimated from it."""
        status = Status.PROCESSING if poll.status is None else poll.status
        window = self._window(poll, place, status, now)
        # All tracked operations that the window shows share its pages, also those that are not due and so no members.
        shown = self._index.between(window.start, window.end)
        self._prices.learn(now.at - place, window.pages / max(_on(status, shown), 1))
        return window

    def _window(self, anchor: Poll, place: Instant, status: Status | None, now: Moment) -> Window:
        """The window around the anchor with the most worth that fits into its pages."""
        page = self._densities.rows_a_page(status)
        rows = self._rows_around(place, status)
        # Usually one page. A burst can put more rows than that within the pads of the anchor alone. With fewer pages
        # the sweep would end before it reaches the anchor.
        pages = max(math.ceil(rows / page), 1)
        most = pages * page
        room = most - rows
        position = self._index.position(anchor, place)
        # The anchor belongs to the older side, at its position. Its worth is thus part of the sums, once.
        older = self._side(range(position, -1, -1), place, status=status, room=(room, most), now=now)
        ahead = range(position + 1, len(self._index.polls))
        newer = self._side(ahead, place, status=status, room=(room, most), now=now)
        left, right = _best_reach(older, newer, room, most)
        # Half of the room that is left over stays free, for unexpected rows. The rest is shared by both sides.
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
        """Expected rows within the pads around the anchor, which are always read: at least the tracked ones."""
        near = self._index.between(place - PAD, place + PAD)
        ours = len(near) if status is None else _on(status, near)
        return max(self._densities.between(status, place - PAD, place + PAD), ours)

    # The innermost loop: a call for each of a thousand operations would be most of its time.
    def _side(
        self, positions: range, anchor: Instant, *, status: Status | None, room: tuple[float, float], now: Moment
    ) -> _Side:
        """The polls of one side that the list should show and that are worth something, from the anchor outwards.

        `room`: rows that fit beyond those around the anchor, and the rows of the whole window.
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
            # Rows between this poll and the last one. Most neighbours share a bucket, where a product is enough.
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
            # A poll that is under way is shown by another request, and one that must be alone by no list. On the list
            # of one status there are only operations of that status.
            if poll.asked or poll.alone or (status is not None and poll.status is not status):
                continue
            due = poll.due
            if poll.settles:
                # A settling read must not come early: the stats would be confirmed by an answer that is too young.
                if due > tick:
                    continue
                worth += 1.0
            else:
                since = poll.since
                spared = 1.0 if due <= tick else (tick - since) / (due - since)
                # On the unfiltered list a poll is worth what it would cost elsewhere: its price on the list of its
                # status, and a second request if it has left that list by now.
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
        """The expected number of these that have left their list since their last poll."""
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
    """The number of polls on each side that fit together and are worth most.

    Both sums only grow outwards. So while the left side grows, the right side can only shrink, and one pass over both
    is enough.
    """
    best, reach = -1.0, (0, 0)
    right = len(newer.polls)
    # Lists that begin with the reach 0. A method call for each of a thousand polls would take most of the time.
    right_rows, right_worth = [0.0, *newer.rows], [0.0, *newer.worth]
    for left, (rows, worth) in enumerate(zip([0.0, *older.rows], [0.0, *older.worth], strict=True)):
        while right and (rows + right_rows[right] > room or left + right > most):
            right -= 1
        if worth + right_worth[right] > best:
            best, reach = worth + right_worth[right], (left, right)
    return reach
