"""How an account is doing, told on the edges only: one event when a trouble begins, one when it is over.

    throttled      from the first 429 or 503 to a good answer after 30 s without one; the account counts as up
    unreachable    from the ninth failed attempt in a row; down until a good answer
    unauthorized   from a 401 or 403 that re-read credentials did not mend; down until a good answer to what was asked
    since

A single 429, 5xx or 404 does not make an account down.
"""

from __future__ import annotations

import enum
from typing import TypeAlias, assert_never

import msgspec

from watcher.core.governor import Verdict
from watcher.core.model import SECOND, Instant, Micros, Moment, Value

FAILURES_BEFORE_UNREACHABLE = 9
"""Three calls of three attempts each."""

CALM_AFTER_THROTTLE: Micros = 30 * SECOND


class Trouble(enum.StrEnum):
    """What can be wrong with an account; the values are the last words of the events."""

    THROTTLED = "throttled"
    UNREACHABLE = "unreachable"
    UNAUTHORIZED = "unauthorized"


class Began(Value, frozen=True, kw_only=True):
    """A trouble began; told as `account.throttled`, `account.unreachable` or `account.unauthorized`."""

    trouble: Trouble
    why: str


class Recovered(Value, frozen=True, kw_only=True):
    """A trouble is over; told as `account.recovered`."""

    trouble: Trouble
    lasted: Micros


AccountEvent: TypeAlias = Began | Recovered


class Condition(Value, frozen=True, kw_only=True):
    """`since` has the troubles that last, with the tick at which each began. `up` needs a first good answer."""

    since: tuple[tuple[Trouble, Micros], ...] = ()
    failures: int = 0
    throttled_tick: Micros = 0
    last_success_at: Instant | None = None

    @property
    def troubles(self) -> frozenset[Trouble]:
        """The troubles that last."""
        return frozenset(trouble for trouble, _ in self.since)

    def for_another_loop(self) -> Condition:
        """What a loop that takes over has to know: which troubles it must tell the end of."""
        return Condition(since=self.since, throttled_tick=self.throttled_tick)

    @property
    def is_up(self) -> bool:
        """Whether upstream answered us and has not stopped."""
        return self.last_success_at is not None and not self.troubles & {Trouble.UNREACHABLE, Trouble.UNAUTHORIZED}

    @property
    def is_unauthorized(self) -> bool:
        """Whether our credentials are refused."""
        return Trouble.UNAUTHORIZED in self.troubles


def note(
    condition: Condition, verdict: Verdict, now: Moment, why: str = "", *, asked: Micros | None = None
) -> tuple[Condition, tuple[AccountEvent, ...]]:
    """The condition after one attempt ended with `verdict`, and what to tell of it; `asked` is when it began."""
    match verdict:
        case Verdict.GOOD:
            return _after_success(condition, now, now.tick if asked is None else asked)
        case Verdict.THROTTLED:
            return _begun(msgspec.structs.replace(condition, throttled_tick=now.tick), Trouble.THROTTLED, now, why)
        case Verdict.TROUBLED:
            failing = msgspec.structs.replace(condition, failures=condition.failures + 1)
            if failing.failures < FAILURES_BEFORE_UNREACHABLE:
                return failing, ()
            return _begun(failing, Trouble.UNREACHABLE, now, why)
        case Verdict.UNAUTHORIZED:
            return _begun(condition, Trouble.UNAUTHORIZED, now, why)
        case Verdict.ABANDONED:
            return condition, ()
        case _:
            assert_never(verdict)


def _begun(condition: Condition, trouble: Trouble, now: Moment, why: str) -> tuple[Condition, tuple[AccountEvent, ...]]:
    if trouble in condition.troubles:
        return condition, ()
    since = (*condition.since, (trouble, now.tick))
    return msgspec.structs.replace(condition, since=since), (Began(trouble=trouble, why=why),)


def _after_success(condition: Condition, now: Moment, asked: Micros) -> tuple[Condition, tuple[AccountEvent, ...]]:
    lasts = {
        Trouble.THROTTLED: now.tick - condition.throttled_tick < CALM_AFTER_THROTTLE,
        # What was asked before the refusal may be answered after it, and says nothing of the credentials now.
        Trouble.UNAUTHORIZED: any(asked < tick for trouble, tick in condition.since if trouble is Trouble.UNAUTHORIZED),
    }
    lasting = tuple((trouble, tick) for trouble, tick in condition.since if lasts.get(trouble))
    over = tuple(
        Recovered(trouble=trouble, lasted=now.tick - tick)
        for trouble, tick in condition.since
        if not lasts.get(trouble)
    )
    return msgspec.structs.replace(condition, since=lasting, failures=0, last_success_at=now.at), over
