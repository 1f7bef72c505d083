"""The questions that the planner may choose to ask."""

from __future__ import annotations

from typing import TypeAlias

from watcher.core.model import Instant, Status, Value, rfc3339

PAGE_SIZE = 1000
"""Rows of a page at most (upstream's limit)."""


class Fetch(Value, frozen=True, kw_only=True):
    """Ask for one operation by its id."""

    operation_id: str


class Probe(Value, frozen=True):
    """Ask whether the account answers at all: a list of one."""


class Sweep(Value, frozen=True, kw_only=True):
    """Ask for one page of a list: what was created between `start` and `end`, all of it or what has one status.

    `number` says which sweep the page belongs to; `token` is None for its first page.
    """

    number: int
    status: Status | None
    start: Instant
    end: Instant
    token: str | None = None

    @property
    def query(self) -> dict[str, str]:
        """The query in upstream's words; the filters stay the same on every page."""
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
    """Ask for one page of what was created since `start`, whoever it belongs to; `status` None for all of it."""

    status: Status | None
    start: Instant
    token: str | None = None

    @property
    def query(self) -> dict[str, str]:
        """The query in upstream's words; the filters stay the same on every page."""
        query = {"pageSize": str(PAGE_SIZE), "startDate": str(rfc3339(self.start))}
        if self.status is not None:
            query["status"] = self.status.value
        if self.token is not None:
            query["pageToken"] = self.token
        return query


Ask: TypeAlias = Fetch | Probe | Sweep | Discover
