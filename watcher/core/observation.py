"""What one question to upstream brought back, as a value.

A failed request is an observation like any other, so that backing off and ordinary polling are planned by the same
function.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TypeAlias

from watcher.core.model import Instant, Micros, Moment, Stats, Value


class FailureCause(enum.StrEnum):
    """Why a question stayed without a usable answer."""

    THROTTLED = "throttled"
    UPSTREAM = "upstream"
    TIMEOUT = "timeout"
    CONNECT = "connect"
    GARBLED = "garbled"
    UNAUTHORIZED = "unauthorized"
    DOUBTFUL = "doubtful"
    OTHER = "other"


class Record(Value, frozen=True, kw_only=True):
    """One operation as upstream shows it; every field may be missing, and `odd` names what could not be read."""

    id: str | None = None
    word: str | None = None
    stats: Stats | None = None
    created_at: Instant | None = None
    updated_at: Instant | None = None
    odd: tuple[str, ...] = ()


class Reply(Value, frozen=True, kw_only=True):
    """One HTTP answer, read whole. Header names are lower case."""

    code: int
    headers: Mapping[str, str]
    body: bytes
    asked: Moment
    answered: Moment


class Timing(Value, frozen=True, kw_only=True):
    """When it was asked and answered by our clocks, and what upstream's clock said (`Date`)."""

    asked: Moment
    answered: Moment
    date: Instant | None = None

    @property
    def upstream_now(self) -> Instant:
        """The answer's instant by upstream's clock; ours where it did not say."""
        return self.answered.at if self.date is None else self.date


class Seen(Value, frozen=True, kw_only=True):
    """Upstream showed the operation. `retry_after`: its hint when to look again, a floor."""

    timing: Timing
    record: Record
    retry_after: Micros | None = None


class Missing(Value, frozen=True, kw_only=True):
    """The operation is not shown (404), or the list does not exist (404, 405, 410).

    `is_upstreams`: the body is one of upstream's error bodies, so that no proxy on the way can have written it.
    """

    timing: Timing
    why: str = ""
    is_upstreams: bool = False


class Refused(Value, frozen=True, kw_only=True):
    """The request itself is refused (400); `is_upstreams` as for `Missing`."""

    timing: Timing
    why: str = ""
    is_upstreams: bool = False


class Forbidden(Value, frozen=True, kw_only=True):
    """The request is forbidden (403): the credentials are refused, or this one operation may not be read with them."""

    timing: Timing
    why: str = ""


class Unanswered(Value, frozen=True, kw_only=True):
    """No usable answer; says nothing of the operation."""

    timing: Timing
    cause: FailureCause
    why: str = ""
    retry_after: Micros | None = None


Negative: TypeAlias = Missing | Refused | Forbidden
"""An answer that may be about the operation, about the account, or not upstream's at all."""

Observation: TypeAlias = Seen | Negative | Unanswered


class Page(Value, frozen=True, kw_only=True):
    """One page of the list: the rows that could be read, how many could not, and the token of the next page."""

    timing: Timing
    records: tuple[Record, ...] = ()
    garbled: int = 0
    next_token: str | None = None


ListAnswer: TypeAlias = Page | Negative | Unanswered
