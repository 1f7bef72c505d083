"""Decides when `wait` gives up on an API that does not answer. Pure: it is updated after every attempt.

Before the first usable answer `wait` gives up after 10 s of failures. Later it waits a minute, since an API that has
answered is likely to come back. Credentials that were never accepted are wrong at the first refusal. Once they were
accepted, a single refusal may be upstream's fault. The same times hold while the account as a whole fails, as behind a
proxy that does not know the API, unless a request succeeds.
"""

from __future__ import annotations

from typing import assert_never

from msgspec.structs import replace

from watcher.cli.verdict import Stop
from watcher.core.account_health import AccountEvent, HealthIssue, Recovered
from watcher.core.attempt import Attempt
from watcher.core.governor import AttemptResult
from watcher.core.model import MINUTE, SECOND, Micros, Value

PATIENCE_AT_FIRST: Micros = 10 * SECOND
PATIENCE_LATER: Micros = MINUTE
FAILURES_AT_LEAST = 2


class Reachability(Value, frozen=True, kw_only=True):
    """What is known from the attempts so far. `failing_since`: the tick at which the first failed request was sent."""

    has_answered: bool = False
    failures: int = 0
    refusals: int = 0
    failing_since: Micros | None = None
    is_refused: bool = False
    why: str = ""

    def after(self, attempt: Attempt) -> Reachability:
        """Return the state after one more attempt."""
        match attempt.result:
            case AttemptResult.GOOD | AttemptResult.THROTTLED:
                return Reachability(has_answered=True)
            case AttemptResult.UNAUTHORIZED:
                return replace(self, refusals=self.refusals + 1, why=attempt.why)
            case AttemptResult.TROUBLED:
                since = attempt.timing.asked.tick if self.failing_since is None else self.failing_since
                return replace(self, failures=self.failures + 1, failing_since=since, why=attempt.why)
            case AttemptResult.ABANDONED | AttemptResult.DOUBTFUL:
                return self
            case _:
                assert_never(attempt.result)

    def after_event(self, event: AccountEvent, tick: Micros) -> Reachability:
        """Return the state after a health issue of the whole account began or ended."""
        if isinstance(event, Recovered) or event.issue is HealthIssue.THROTTLED or self.failing_since is not None:
            return self
        return replace(
            self,
            failures=FAILURES_AT_LEAST,
            failing_since=tick,
            is_refused=event.issue is HealthIssue.UNAUTHORIZED,
            why=event.why,
        )

    def lost(self, tick: Micros) -> Stop | None:
        """Return the reason to give up now, or None."""
        if self.refusals > (1 if self.has_answered else 0):
            return Stop.UNAUTHORIZED
        patience = PATIENCE_LATER if self.has_answered else PATIENCE_AT_FIRST
        if self.failing_since is None or self.failures < FAILURES_AT_LEAST:
            return None
        if tick - self.failing_since < patience:
            return None
        return Stop.UNAUTHORIZED if self.is_refused else Stop.UNREACHABLE

    def at_timeout(self) -> Stop:
        """Return what a timeout means: the API was never reached, or the time was too short."""
        return Stop.TIMED_OUT if self.has_answered else Stop.UNREACHABLE
