"""Finding every operation of an account: what to read of its lists, and how far that has got.

The cursor is a creation instant by upstream's clock: everything created before it was read and committed. Each round
reads all that was created since a little before the cursor, ended or not, and moves the cursor only when every page of
it is committed; so what was created and ended while we were down is found on return. The very first round of an empty
store follows what has not ended, created within `since`; what had ended before is neither followed, told nor counted.

A round that fails begins again from its first page, later; what it had found is known by then and costs nothing.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from watcher.core.asks import Discover
from watcher.core.model import MINUTE, SECOND, Instant, Micros, Moment, Status, Value
from watcher.core.observation import Forbidden, Missing, Negative, Page, Record, Refused, Unanswered

OVERLAP: Micros = MINUTE
"""Lists are eventually consistent: what was created so long ago may still turn up in them."""

AGAIN_AT_MOST: Micros = MINUTE
"""A round that failed is tried again at the latest after so long."""

PAGES_AT_MOST = 10_000
_NOT_ENDED = (Status.PROCESSING, Status.SCHEDULED)


class Scope(Value, frozen=True, kw_only=True):
    """What of the settings decides: how often to read, and how far back on an empty store."""

    every: Micros
    since: Micros


class _Round(msgspec.Struct):
    """A reading under way: lists still to be begun, the page that was asked for, upstream's time at its beginning."""

    lists: list[Discover]
    began_at: Instant | None = None
    is_first: bool = False
    pages: int = 0
    tokens: set[str] = msgspec.field(default_factory=set)


class Discovery:
    """The rounds of one account. Pure: the present moment comes with every call."""

    def __init__(self, scope: Scope, cursor: Instant | None, now: Moment) -> None:
        self._scope = scope
        self._cursor = cursor
        self._due: Micros = now.tick
        self._round: _Round | None = None
        self._under_way = False
        self._failures = 0

    @property
    def is_first(self) -> bool:
        """Whether nothing was ever discovered here, so that what has ended is none of our business."""
        return self._cursor is None

    def wake_tick(self) -> Micros | None:
        """When the next page is to be asked for; None while one is under way."""
        return None if self._under_way else self._due

    def choose(self, now: Moment) -> Discover | None:
        """The next page, taken as asked; None when none is due."""
        if self._under_way or now.tick < self._due:
            return None
        if self._round is None:
            self._round = self._begin(now)
        self._under_way = True
        return self._round.lists[0]

    def wanted(self, page: Page) -> list[Record]:
        """The rows of a page that should be followed, unless they are known."""
        if not self.is_first:
            return list(page.records)
        return [record for record in page.records if record.word not in ("COMPLETED", "CANCELED")]

    def committed(self, ask: Discover, page: Page, now: Moment) -> Instant | None:
        """A page was read and what it brought is committed; the new cursor when the round is done."""
        round_ = self._round
        assert round_ is not None  # noqa: S101 -- pages come only of rounds
        self._under_way = False
        if round_.began_at is None:
            # Upstream looked after it was asked, so whatever was there by then was shown.
            round_.began_at = page.timing.upstream_now - (page.timing.answered.tick - page.timing.asked.tick) - SECOND
        round_.pages += 1
        token = page.next_token
        if token is not None and (token in round_.tokens or round_.pages > PAGES_AT_MOST):
            self._fail(now)
            return None
        if token is not None:
            round_.tokens.add(token)
            round_.lists[0] = msgspec.structs.replace(ask, token=token)
            return None
        del round_.lists[0]
        round_.tokens.clear()
        return None if round_.lists else self._complete(round_.began_at, now)

    def failed(self, answer: Negative | Unanswered, now: Moment) -> None:
        """A page could not be read."""
        self._under_way = False
        match answer:
            case Unanswered():
                # The same page again: what was read before it still holds.
                self._failures += 1
                self._due = now.tick + _growing(self._scope.every, self._failures)
            case Missing() | Refused() | Forbidden():
                self._fail(now)
            case _:
                assert_never(answer)

    def adopt(self, scope: Scope) -> None:
        """New settings; they hold from the next round on."""
        self._scope = scope

    def _begin(self, now: Moment) -> _Round:
        if self._cursor is None:
            start = now.at - self._scope.since
            return _Round(lists=[Discover(status=status, start=start) for status in _NOT_ENDED], is_first=True)
        return _Round(lists=[Discover(status=None, start=self._cursor - OVERLAP)])

    def _complete(self, began_at: Instant, now: Moment) -> Instant:
        round_ = self._round
        assert round_ is not None  # noqa: S101 -- it was just read
        # After the first round nothing older than it is read again: what had ended before it stays unknown.
        cursor = began_at + OVERLAP if round_.is_first else began_at
        self._cursor = max(cursor, self._cursor or 0)
        self._round = None
        self._failures = 0
        self._due = now.tick if round_.is_first else now.tick + self._scope.every
        return self._cursor

    def _fail(self, now: Moment) -> None:
        self._round = None
        self._failures += 1
        self._due = now.tick + _growing(self._scope.every, self._failures)


def _growing(first: Micros, times: int) -> Micros:
    return min(first << min(max(times - 1, 0), 20), max(AGAIN_AT_MOST, first))
