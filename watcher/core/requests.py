"""The requests that the planner can choose: each says where it goes, and how its answer is read.

A new kind of request is a value here. The client sends every kind in the same way; the account's loop says what becomes
of its answer.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import ClassVar, TypeAlias
from urllib.parse import quote

from watcher.core import wire
from watcher.core.model import MINUTE, Instant, Status, Value, rfc3339
from watcher.core.observation import ListAnswer, Observation, Page, Reply
from watcher.core.record_cache import RecordCache

PAGE_SIZE = 1000
"""The most rows of a page (upstream's limit)."""

Answer: TypeAlias = Observation | Page


class Endpoint(enum.StrEnum):
    """The value of the label `endpoint`."""

    FETCH = "fetch"
    LIST = "list"


class Fetch(Value, frozen=True, kw_only=True):
    """One operation by its id."""

    operation_id: str

    endpoint: ClassVar[Endpoint] = Endpoint.FETCH

    @property
    def path(self) -> str:
        """What follows the path of the channel's operations."""
        return f"/{quote(self.operation_id, safe='')}"

    @property
    def query(self) -> Mapping[str, str]:
        """No query parameters."""
        return {}

    def read(self, reply: Reply, _: RecordCache) -> Observation:
        """The answer as an observation of the operation."""
        return wire.read_fetch(reply, self.operation_id)


class _ListRequest(Value, frozen=True, kw_only=True):
    """One page of a list, as every request of a list reads it."""

    endpoint: ClassVar[Endpoint] = Endpoint.LIST
    path: ClassVar[str] = ""

    def read(self, reply: Reply, records: RecordCache) -> ListAnswer:
        """The answer as a page, or why there is none."""
        return wire.read_page(reply, records)


class Probe(_ListRequest, frozen=True):
    """A list of one row, to see whether upstream answers for the account at all."""

    @property
    def query(self) -> Mapping[str, str]:
        """A page of one row."""
        return {"pageSize": "1"}


class Sweep(_ListRequest, frozen=True, kw_only=True):
    """One page of a list: the operations created between `start` and `end`, all of them or those of one status.

    `number` is the sweep that the page belongs to. `token` is None for its first page.
    """

    number: int
    status: Status | None
    start: Instant
    end: Instant
    token: str | None = None

    @property
    def query(self) -> Mapping[str, str]:
        """The query parameters. The filters are the same on every page."""
        return _filters(self.start, self.end, self.status, self.token)


class Discover(_ListRequest, frozen=True, kw_only=True):
    """One page of the operations created since `start`, tracked or not. `status` None: of every status.

    `end`: the latest creation, if there is a bound.
    """

    status: Status | None
    start: Instant
    end: Instant | None = None
    token: str | None = None

    @property
    def query(self) -> Mapping[str, str]:
        """The query parameters. The filters are the same on every page."""
        return _filters(self.start, self.end, self.status, self.token)


def _filters(start: Instant, end: Instant | None, status: Status | None, token: str | None) -> Mapping[str, str]:
    query = {"pageSize": str(PAGE_SIZE), "startDate": str(rfc3339(start))}
    if end is not None:
        query["endDate"] = str(rfc3339(end))
    if status is not None:
        query["status"] = status.value
    if token is not None:
        query["pageToken"] = token
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
