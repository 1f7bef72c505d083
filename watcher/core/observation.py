"""What one question to upstream brought back, as a value.

A failed request is an observation like any other, so that backing off and ordinary polling are planned by the same
function.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TypeAlias

from watcher.core.model import Instant, Micros, Moment, Stats, Value


class Trouble(enum.StrEnum):
    """Why a question stayed without a usable answer."""

    THROTTLED = "throttled"
    UPSTREAM = "upstream"
    TIMEOUT = "timeout"
    CONNECT = "connect"
    GARBLED = "garbled"
    UNAUTHORIZED = "unauthorized"
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
    """Upstream does not show the operation (404)."""

    timing: Timing


class Refused(Value, frozen=True, kw_only=True):
    """Upstream refuses the question itself (400)."""

    timing: Timing
    why: str = ""


class Unanswered(Value, frozen=True, kw_only=True):
    """No usable answer; says nothing of the operation."""

    timing: Timing
    trouble: Trouble
    why: str = ""
    retry_after: Micros | None = None


Observation: TypeAlias = Seen | Missing | Refused | Unanswered


class Page(Value, frozen=True, kw_only=True):
    """One page of the list: the rows that could be read, how many could not, and the token of the next page."""

    timing: Timing
    records: tuple[Record, ...] = ()
    garbled: int = 0
    next_token: str | None = None
