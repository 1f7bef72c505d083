"""Immutable views of an account that its loop publishes for the listeners and the collector.

A listener reads one reference and nothing else. No code outside the loop touches the loop's working state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from watcher.core.labelling import Counters
from watcher.core.model import Instant, Micros, Moment, Operation, Value
from watcher.core.totals import Key


class NextPoll(Value, frozen=True, kw_only=True):
    """When an operation is polled next, how and why."""

    due_tick: Micros
    how: str
    why: str


class AccountSnapshot(Value, frozen=True, kw_only=True):
    """One account at one moment.

    `started_at`: when its loop began. `shown`: the operations with series of their own, in the order in which they
    came. `statuses`: the number of tracked operations that are not final, by status. `throttled`: how long upstream has
    held our requests in all. `lag`: how far the most overdue poll is past its promise. `skew`: upstream's clock less
    ours.
    """

    account: str
    taken: Moment
    started_at: Instant = 0
    is_loaded: bool = True
    shown: Sequence[Operation] = ()
    suppressed: int = 0
    statuses: Mapping[str, int] = {}
    counters: Counters = Counters()
    up: bool = False
    unauthorized: bool = False
    last_success_at: Instant = 0
    limit_per_second: float = 0.0
    throttled: Micros = 0
    freshness: Micros = 0
    lag: Micros = 0
    skew: Micros = 0
    discovered_at: Instant | None = None

    @property
    def totals(self) -> Mapping[Key, float]:
        """The counters that are shown."""
        return self.counters.totals
