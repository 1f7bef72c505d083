"""One reading of a list for discovery, page by page: its progress, and the times that its rows confirm."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import msgspec

from watcher.core.clocks import ClockReading
from watcher.core.model import SECOND, Instant, Micros, created_hint
from watcher.core.observation import Page, Record
from watcher.core.requests import Discover

PAGES_AT_MOST = 10_000
EMPTY_PAGES_AT_MOST = 200
"""A list may have empty pages, but not without end."""


class Purpose(enum.Enum):
    """What a list is read for: see `watcher.core.discovery`."""

    FIRST = enum.auto()
    PAIR = enum.auto()
    NEW = enum.auto()
    RECENT = enum.auto()
    WIDE = enum.auto()
    MEANWHILE = enum.auto()


class Reading(msgspec.Struct):
    """A reading under way. `lists` has the lists that are still to be read, the first with the token of its next page.

    While the clocks disagree, `times` has the creation and update times that this reading showed, by id, and
    `known_times` those of the reading before it. `created`: rows by second of creation. `hinted`: the newest creation
    that the time in an id confirms. `unhinted` and `updated`: times that two readings in a row showed.
    """

    purpose: Purpose
    lists: list[Discover]
    known_times: AbstractSet[tuple[str, Instant]] = frozenset()
    times: set[tuple[str, Instant]] = msgspec.field(default_factory=set)
    asked_tick: Micros | None = None
    pages: int = 0
    empty_pages: int = 0
    tokens: set[str] = msgspec.field(default_factory=set)
    created: Counter[int] = msgspec.field(default_factory=Counter)
    hinted: Instant = 0
    unhinted: list[Instant] = msgspec.field(default_factory=list)
    updated: list[Instant] = msgspec.field(default_factory=list)

    def take(self, page: Page, now: ClockReading) -> None:
        """Note the rows of a page by second of creation, and the times that are confirmed."""
        self.pages += 1
        self.empty_pages = 0 if page.records else self.empty_pages + 1
        for record in page.records:
            created_at = record.created_at
            if created_at is None:
                continue
            self.created[created_at // SECOND] += 1
            # Needed only while the clocks disagree: else the times of all rows would be kept for nothing. A time after
            # both clocks is wrong in any case.
            if self.purpose is Purpose.NEW and not now.agrees and created_at <= now.latest_at:
                self._bear_out(record, created_at, now)

    def _bear_out(self, record: Record, created_at: Instant, now: ClockReading) -> None:
        operation_id = record.id or ""
        updated_at = record.updated_at
        if updated_at is not None and updated_at <= now.latest_at and self._is_repeated(operation_id, updated_at):
            self.updated.append(updated_at)
        hint = created_hint(operation_id, now.latest_at)
        if hint is not None:
            self.hinted = max(self.hinted, min(created_at, hint))
        elif self._is_repeated(operation_id, created_at):
            self.unhinted.append(created_at)

    def _is_repeated(self, operation_id: str, instant: Instant) -> bool:
        """Whether the reading before showed the same time for the id."""
        # Several rows of one reading may be wrong in the same way, if one machine of upstream wrote them.
        shown = operation_id, instant
        self.times.add(shown)
        return shown in self.known_times

    @property
    def newest(self) -> Instant:
        """The newest confirmed creation, 0 if there is none.

        Of a row whose id carries a time, the earlier of that and `createdAt` counts at once. Another creation counts
        once two readings in a row showed it, and only if further ones are at least as new: two, and a tenth of all.
        """
        return max(self.hinted, _borne_out(self.unhinted))

    @property
    def latest(self) -> Instant:
        """The newest confirmed time of a creation or an update, 0 if there is none."""
        return max(self.newest, _borne_out(self.updated))

    def goes_on(self, request: Discover, token: str) -> bool:
        """Make the page of the token the next one. False if the list seems to have no end."""
        # A token that comes again would make the reading go in circles.
        if token in self.tokens or self.pages > PAGES_AT_MOST or self.empty_pages > EMPTY_PAGES_AT_MOST:
            return False
        self.tokens.add(token)
        self.lists[0] = msgspec.structs.replace(request, token=token)
        return True

    def ends_list(self) -> bool:
        """Go on with the next list; True if this was the last."""
        del self.lists[0]
        self.tokens.clear()
        return not self.lists


def _borne_out(instants: Sequence[Instant]) -> Instant:
    """The newest instant with others that are at least as new: two, and a tenth of all. 0 if there is none."""
    return next(iter(sorted(instants, reverse=True)[max(len(instants) // 10, 2) :]), 0)
