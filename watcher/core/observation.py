"""The result of one request to upstream, as a value.

A failed request is an observation like any other, so that the same function plans back-off and ordinary polling.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TypeAlias

from watcher.core.channels import Stats
from watcher.core.model import Instant, Micros, Moment, Value


class FailureCause(enum.StrEnum):
    """Why a request has no usable answer."""

    THROTTLED = "throttled"
    UPSTREAM = "upstream"
    TIMEOUT = "timeout"
    CONNECT = "connect"
    GARBLED = "garbled"
    UNAUTHORIZED = "unauthorized"
    DOUBTFUL = "doubtful"
    OTHER = "other"


class Record(Value, frozen=True, kw_only=True):
    """One operation as upstream shows it. Every field may be missing, and `odd` names what could not be read."""

    id: str | None = None
    word: str | None = None
    stats: Stats | None = None
    created_at: Instant | None = None
    updated_at: Instant | None = None
    odd: tuple[str, ...] = ()


class Reply(Value, frozen=True, kw_only=True):
    """One complete HTTP response. Header names are lower case."""

    code: int
    headers: Mapping[str, str]
    body: bytes
    asked: Moment
    answered: Moment


class Timing(Value, frozen=True, kw_only=True):
    """When the request was made and answered by our clocks, and the time of upstream's clock (`Date`)."""

    asked: Moment
    answered: Moment
    date: Instant | None = None

    @property
    def upstream_now(self) -> Instant:
        """When the answer came by upstream's clock, or by ours if it has no `Date`."""
        return self.answered.at if self.date is None else self.date


class Seen(Value, frozen=True, kw_only=True):
    """Upstream showed the operation. `retry_after`: the shortest wait before the next poll that upstream allows."""

    timing: Timing
    record: Record
    retry_after: Micros | None = None


class Missing(Value, frozen=True, kw_only=True):
    """The operation is not shown (404), or the list does not exist (404, 405, 410).

    `is_upstreams`: the body is one of upstream's error bodies, so no proxy on the way has written it.
    """

    timing: Timing
    why: str = ""
    is_upstreams: bool = False


class Refused(Value, frozen=True, kw_only=True):
    """The request itself is refused (400). `is_upstreams` as for `Missing`."""

    timing: Timing
    why: str = ""
    is_upstreams: bool = False


class Forbidden(Value, frozen=True, kw_only=True):
    """The request is forbidden (403): the credentials are refused, or this one operation may not be read with them."""

    timing: Timing
    why: str = ""


class Unanswered(Value, frozen=True, kw_only=True):
    """No usable answer. It says nothing of the operation."""

    timing: Timing
    cause: FailureCause
    why: str = ""
    retry_after: Micros | None = None


Negative: TypeAlias = Missing | Refused | Forbidden
"""An answer that may be about the operation, about the account, or from another sender than upstream."""

Observation: TypeAlias = Seen | Negative | Unanswered


class Page(Value, frozen=True, kw_only=True):
    """One page of a list: the readable rows, the number of unreadable ones, and the token of the next page."""

    timing: Timing
    records: tuple[Record, ...] = ()
    garbled: int = 0
    next_token: str | None = None


ListAnswer: TypeAlias = Page | Negative | Unanswered
