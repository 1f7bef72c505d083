"""The health of an account, with one event when an issue begins and one when it is over, and none in between.

    throttled      from the first 429 or 503 to a good answer after 30 s without one; the account counts as up
    unreachable    from the ninth failed attempt in a row to a good answer; while there are no lists where they are
                   requested (400, 404, 405, 410); while operations that were seen before are not shown any more
    unauthorized   from a 401 that re-read credentials did not resolve to a good answer to a later request; while
                   lists are forbidden (403); while a new API key has not shown that it belongs to this account

A single 429 or 5xx, or a 400, 403 or 404 of one operation, does not make an account down. What several answers together
show about the account comes from `attribution`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TypeAlias, assert_never

import msgspec

from watcher.core.governor import AttemptResult
from watcher.core.model import SECOND, Instant, Micros, Moment, Value

FAILURES_BEFORE_UNREACHABLE = 9
"""Three calls of three attempts each."""

CALM_AFTER_THROTTLE: Micros = 30 * SECOND


class HealthIssue(enum.StrEnum):
    """What can be wrong with an account. The values are the last words of the event names."""

    THROTTLED = "throttled"
    UNREACHABLE = "unreachable"
    UNAUTHORIZED = "unauthorized"


class Cause(enum.Enum):
    """Why there is an issue. The first three come from single attempts, the others from `attribution`."""

    THROTTLING = enum.auto()
    FAILURES = enum.auto()
    CREDENTIALS = enum.auto()
    LISTS_ABSENT = enum.auto()
    LISTS_FORBIDDEN = enum.auto()
    OPERATIONS_GONE = enum.auto()
    KEY_UNPROVEN = enum.auto()


ISSUE_OF: Mapping[Cause, HealthIssue] = {
    Cause.THROTTLING: HealthIssue.THROTTLED,
    Cause.FAILURES: HealthIssue.UNREACHABLE,
    Cause.CREDENTIALS: HealthIssue.UNAUTHORIZED,
    Cause.LISTS_ABSENT: HealthIssue.UNREACHABLE,
    Cause.LISTS_FORBIDDEN: HealthIssue.UNAUTHORIZED,
    Cause.OPERATIONS_GONE: HealthIssue.UNREACHABLE,
    Cause.KEY_UNPROVEN: HealthIssue.UNAUTHORIZED,
}
_OF_ATTEMPTS = frozenset({Cause.THROTTLING, Cause.FAILURES, Cause.CREDENTIALS})


class Began(Value, frozen=True, kw_only=True):
    """An issue began: the event `account.throttled`, `account.unreachable` or `account.unauthorized`."""

    issue: HealthIssue
    why: str


class Recovered(Value, frozen=True, kw_only=True):
    """An issue is over: the event `account.recovered`."""

    issue: HealthIssue
    lasted: Micros


AccountEvent: TypeAlias = Began | Recovered


class AccountHealth(Value, frozen=True, kw_only=True):
    """`since` has the present causes, with the tick at which each began. `is_up` needs a first good answer."""

    since: tuple[tuple[Cause, Micros], ...] = ()
    failures: int = 0
    throttled_tick: Micros = 0
    last_success_at: Instant | None = None

    @property
    def issues(self) -> frozenset[HealthIssue]:
        """The present issues."""
        return frozenset(ISSUE_OF[cause] for cause, _ in self.since)

    def for_another_loop(self) -> AccountHealth:
        """What a loop that takes over after a reload needs: the issues whose end it has to report."""
        # Not the last success: with its new settings the account has to show again that it is up.
        return AccountHealth(since=self.since, throttled_tick=self.throttled_tick)

    @property
    def is_up(self) -> bool:
        """Whether upstream has given a good answer, and the account is neither unreachable nor unauthorized."""
        return self.last_success_at is not None and not self.issues & {
            HealthIssue.UNREACHABLE,
            HealthIssue.UNAUTHORIZED,
        }

    @property
    def is_unauthorized(self) -> bool:
        """Whether the account has the issue `unauthorized`."""
        return HealthIssue.UNAUTHORIZED in self.issues


def note(
    health: AccountHealth, result: AttemptResult, now: Moment, why: str = "", *, asked: Micros | None = None
) -> tuple[AccountHealth, tuple[AccountEvent, ...]]:
    """The health after one attempt ended with `result`, and the events of the change. `asked`: when it began."""
    match result:
        case AttemptResult.GOOD:
            return _after_success(health, now, now.tick if asked is None else asked)
        case AttemptResult.THROTTLED:
            return _begun(msgspec.structs.replace(health, throttled_tick=now.tick), Cause.THROTTLING, now, why)
        case AttemptResult.TROUBLED:
            failing = msgspec.structs.replace(health, failures=health.failures + 1)
            if failing.failures < FAILURES_BEFORE_UNREACHABLE:
                return failing, ()
            return _begun(failing, Cause.FAILURES, now, why)
        case AttemptResult.UNAUTHORIZED:
            return _begun(health, Cause.CREDENTIALS, now, why)
        case AttemptResult.ABANDONED | AttemptResult.DOUBTFUL:
            return health, ()
        case _:
            assert_never(result)


def with_causes(
    health: AccountHealth, causes: Mapping[Cause, str], now: Moment
) -> tuple[AccountHealth, tuple[AccountEvent, ...]]:
    """The health with these causes from `attribution`, each with its reason, in place of its earlier ones."""
    over = {cause for cause, _ in health.since if cause not in _OF_ATTEMPTS and cause not in causes}
    events: tuple[AccountEvent, ...] = ()
    for cause, why in causes.items():
        health, began = _begun(health, cause, now, why)
        events += began
    health, ended = _ended(health, over, now)
    return health, (*events, *ended)


def _begun(
    health: AccountHealth, cause: Cause, now: Moment, why: str
) -> tuple[AccountHealth, tuple[AccountEvent, ...]]:
    if any(cause is known for known, _ in health.since):
        return health, ()
    after = msgspec.structs.replace(health, since=(*health.since, (cause, now.tick)))
    issue = ISSUE_OF[cause]
    # One event when an issue begins, however many causes it has later.
    return after, () if issue in health.issues else (Began(issue=issue, why=why),)


def _ended(health: AccountHealth, over: set[Cause], now: Moment) -> tuple[AccountHealth, tuple[AccountEvent, ...]]:
    if not over:
        return health, ()
    after = msgspec.structs.replace(
        health, since=tuple((cause, tick) for cause, tick in health.since if cause not in over)
    )
    # An issue lasts from its first cause to the end of its last one. `since` is in the order in which causes began.
    began: dict[HealthIssue, Micros] = {}
    for cause, tick in health.since:
        began.setdefault(ISSUE_OF[cause], tick)
    return after, tuple(
        Recovered(issue=issue, lasted=now.tick - tick) for issue, tick in began.items() if issue not in after.issues
    )


def _after_success(health: AccountHealth, now: Moment, asked: Micros) -> tuple[AccountHealth, tuple[AccountEvent, ...]]:
    lasts = {
        Cause.THROTTLING: now.tick - health.throttled_tick < CALM_AFTER_THROTTLE,
        # A request from before the refusal may be answered after it. That says nothing about the credentials now.
        Cause.CREDENTIALS: any(asked < tick for cause, tick in health.since if cause is Cause.CREDENTIALS),
    }
    over = {cause for cause, _ in health.since if cause in _OF_ATTEMPTS and not lasts.get(cause)}
    after = msgspec.structs.replace(health, failures=0, last_success_at=now.at)
    return _ended(after, over, now)
