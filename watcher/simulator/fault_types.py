"""The faults that a scenario can have: when a fault applies, to which requests, and with which details."""

from typing import Annotated, Literal, get_args

import msgspec

from watcher.simulator.values import Duration

Endpoint = Literal["fetch", "list", "send"]
# Shapes of upstream: the documented one, several errors in one body, that of the gateway (also without `more_info` and
# with the HTTP status as the code), and RFC 9457 without and with a list of errors.
UpstreamShape = Literal["errors", "several", "classic", "bare", "problem", "problem_errors"]
Shape = Literal[UpstreamShape, "html", "empty"]
RetryAfterForm = Literal["none", "seconds", "date", "garbage"]
Field = Literal["id", "status", "stats", "createdAt", "updatedAt"]

# Something else instead of the answer.
Replacing = Literal["status", "redirect", "reset", "silent", "endless", "garbage", "empty"]
# A true answer, delivered badly.
Delivering = Literal["slow", "trickle", "cut", "huge", "hint", "skewed_date", "no_date"]
# The true answer to a slightly different request.
Looking = Literal[
    "forbidden",
    "unfiltered",
    "invisible",
    "stale",
    "short_page",
    "empty_page",
    "repeated_token",
    "stale_token",
    "repeated_rows",
    "missed_rows",
]
# Rows that do not show the true state.
Corruption = Literal[
    "unknown_status",
    "unknown_fields",
    "missing",
    "nulls",
    "odd_stats",
    "regressed",
    "premature",
    "skewed_time",
    "fine_times",
    "wrong_id",
    "garbage_rows",
]
Kind = Literal[Replacing, Delivering, Looking, Corruption]

REPLACING: frozenset[str] = frozenset(get_args(Replacing))
CORRUPTION: frozenset[str] = frozenset(get_args(Corruption))

# The details that each kind accepts. Others are refused, so that no detail is ignored silently.
_DETAILS: dict[str, frozenset[str]] = {
    "status": frozenset({"status", "shape", "retry_after", "wait"}),
    "redirect": frozenset({"to"}),
    "slow": frozenset({"wait"}),
    "trickle": frozenset({"wait"}),
    "cut": frozenset({"share"}),
    "huge": frozenset({"mebibytes"}),
    "hint": frozenset({"retry_after", "wait"}),
    "skewed_date": frozenset({"wait"}),
    "invisible": frozenset({"wait"}),
    "stale": frozenset({"wait"}),
    "short_page": frozenset({"share"}),
    "repeated_rows": frozenset({"rows"}),
    "missed_rows": frozenset({"rows"}),
    "unknown_status": frozenset({"word", "share"}),
    "unknown_fields": frozenset({"share"}),
    "missing": frozenset({"field", "share"}),
    "nulls": frozenset({"field", "share"}),
    "odd_stats": frozenset({"share"}),
    "regressed": frozenset({"share"}),
    "premature": frozenset({"word", "share"}),
    "skewed_time": frozenset({"field", "wait", "share"}),
    "fine_times": frozenset({"share"}),
    "wrong_id": frozenset({"share"}),
    "garbage_rows": frozenset({"share"}),
}
_ALL_DETAILS: frozenset[str] = frozenset().union(*_DETAILS.values())

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"since": "from"}):
    """One fault. Without `probability` and `every`, it applies to every request that it matches."""

    kind: Kind
    # When: with a probability, each n-th time, at most `times` times, from and until (virtual time since the start).
    probability: Share | None = None
    every: Annotated[int, msgspec.Meta(ge=1)] | None = None
    times: Annotated[int, msgspec.Meta(ge=1)] | None = None
    since: Duration | None = None
    until: Duration | None = None
    # Which requests: all, or only those to one endpoint, of one account, for one operation.
    endpoint: Endpoint | None = None
    account: str | None = None
    operation: str | None = None
    # Details.
    status: Annotated[int, msgspec.Meta(ge=300, le=599)] | None = None
    shape: Shape | None = None
    retry_after: RetryAfterForm | None = None
    wait: Duration | None = None
    # The share of the rows of a page that are changed (default 0.2), or of bytes or rows that are delivered (0.5).
    share: Share | None = None
    rows: Annotated[int, msgspec.Meta(ge=1)] | None = None
    word: str | None = None
    field: Field | None = None
    mebibytes: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None
    to: str | None = None

    def __post_init__(self) -> None:
        given = {name for name in _ALL_DETAILS if getattr(self, name) is not None}
        strange = sorted(given - _DETAILS.get(self.kind, frozenset()))
        if strange:
            raise ValueError(f"a fault of kind {self.kind} has no {', '.join(strange)}")
        if self.kind == "status" and self.status is None:
            raise ValueError("a fault of kind status needs a status, such as 503")
        if self.probability is not None and self.every is not None:
            raise ValueError("a fault has either probability or every, not both")

    def waits(self, default: int) -> int:
        """Return its duration in microseconds, or the default."""
        return default if self.wait is None else self.wait

    def shares(self, default: float) -> float:
        """Return its share, or the default."""
        return default if self.share is None else self.share
