"""The requests that the planner can choose, and whether an answer is what was requested."""

from __future__ import annotations

from typing import TypeAlias

from watcher.core.model import MINUTE, Instant, Status, Value, rfc3339
from watcher.core.observation import Page

PAGE_SIZE = 1000
"""The most rows of a page (upstream's limit)."""


class Fetch(Value, frozen=True, kw_only=True):
    """One operation by its id."""

    operation_id: str


class Probe(Value, frozen=True):
    """A list of one row, to see whether upstream answers for the account at all."""


class Sweep(Value, frozen=True, kw_only=True):
    """One page of a list: the operations created between `start` and `end`, all of them or those of one status.

    `number` is the sweep that the page belongs to. `token` is None for its first page.
    """

    number: int
    status: Status | None
    start: Instant
    end: Instant
    token: str | None = None

    @property
    def query(self) -> dict[str, str]:
        """The query parameters. The filters are the same on every page."""
        query = {
            "pageSize": str(PAGE_SIZE),
            "startDate": str(rfc3339(self.start)),
            "endDate": str(rfc3339(self.end)),
        }
        if self.status is not None:
            query["status"] = self.status.value
        if self.token is not None:
            query["pageToken"] = self.token
        return query


class Discover(Value, frozen=True, kw_only=True):
    """One page of the operations created since `start`, tracked or not. `status` None: of every status.

    `end`: the latest creation, if there is a bound.
    """

    status: Status | None
    start: Instant
    end: Instant | None = None
    token: str | None = None

    @property
    def query(self) -> dict[str, str]:
        """The query parameters. The filters are the same on every page."""
        query = {"pageSize": str(PAGE_SIZE), "startDate": str(rfc3339(self.start))}
        if self.end is not None:
            query["endDate"] = str(rfc3339(self.end))
        if self.status is not None:
            query["status"] = self.status.value
        if self.token is not None:
            query["pageToken"] = self.token
        return query


def honours(request: Sweep | Discover, page: Page) -> bool:
    """Whether most rows of a page match the request. Otherwise its filter was ignored.

    Twilio ignores query parameters that it does not know, and answers with the whole account. Single rows may not
    match: their status changes while a list is read, and a list may show another creation time.
    """
    rows = len(page.records)
    created = [at for record in page.records if (at := record.created_at) is not None]
    start, end = request.start - MINUTE, None if request.end is None else request.end + MINUTE
    # Nearly always all rows are inside. `min` and `max` show that at a fraction of the cost of counting.
    is_inside = not created or (min(created) >= start and (end is None or max(created) <= end))
    outside = 0 if is_inside else sum(at < start or (end is not None and at > end) for at in created)
    others = 0
    if request.status is not None:
        others = rows - [record.word for record in page.records].count(request.status.value)
    # A single row that does not match proves nothing, also where it is the only one.
    return 2 * max(outside, others) <= rows or rows == 1


Request: TypeAlias = Fetch | Probe | Sweep | Discover
