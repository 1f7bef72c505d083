"""The account's share of upstream: requests per second, requests at the same time, and holds.

Upstream's limits belong to the account and are shared with the programs that send. So what one answer shows holds for
all requests. Rate and concurrency grow slowly and halve on a 429 (additive increase, multiplicative decrease), at most
once per hold: an answer to a request from before the last cut shows nothing new about the limit. `Retry-After` is a
lower bound. Every attempt needs a permit, retries included. Over any time there are at most as many permits as the rate
allows, and two more: the first one, and one of slack.
All times are ticks in microseconds of a monotonic clock. `jitter` is an argument between 0 and 1.
"""

from __future__ import annotations

import enum
from typing import assert_never

import msgspec

from watcher.core.backoff import doubled
from watcher.core.model import MINUTE, SECOND, Micros, Value


class AttemptResult(enum.Enum):
    """What the result of one attempt says about the account."""

    GOOD = enum.auto()
    """Upstream answered with what was requested."""
    DOUBTFUL = enum.auto()
    """400, 403, 404 and others: about one operation, about the account, or not from upstream at all (`attribution`)."""
    THROTTLED = enum.auto()
    TROUBLED = enum.auto()
    """5xx, time-outs, cut or garbled answers."""
    UNAUTHORIZED = enum.auto()
    ABANDONED = enum.auto()
    """Cancelled by us before there was an answer."""


class Share(Value, frozen=True, kw_only=True):
    """The limits that the operator sets."""

    per_second: float = 5.0
    concurrency: int = 4


class Permit(msgspec.Struct, frozen=True):
    """An attempt that has begun."""

    began: Micros


GROWTH_PER_SECOND = 0.025
"""Requests per second gained each second. Less takes over three minutes from the floor to a share of 5; more leaves
less than 70 % of a fixed limit in use where limits are strict or `Retry-After` is some seconds (simulated in the
tests)."""

CONCURRENCY_EVERY: Micros = 10 * SECOND
"""Concurrency grows by 1 in this time without a 429. With twice the time, answers that take a second cost too much."""

FLOOR_PER_SECOND = 1.0
LATE_AT_MOST: Micros = SECOND // 20
"""A timer that fires at most this late costs no slot. Idle time and holds give no credit beyond it, as strict limits
refuse two requests at once."""

UNAUTHORIZED_PROBE: Micros = 30 * SECOND
TROUBLES_BEFORE_BACKOFF = 4
BACKOFF_AT_MOST: Micros = MINUTE
THROTTLE_AT_LEAST: Micros = SECOND
THROTTLE_AT_MOST: Micros = MINUTE
FOREVER: Micros = 1 << 62


class Governor:
    """The limiter of an account, which learns from answers. Not for use from several threads."""

    def __init__(self, share: Share, tick: Micros) -> None:
        self._share = share
        self._per_second = share.per_second
        self._concurrency = float(share.concurrency)
        self._grown_until = tick
        self._next_slot = tick
        self._under_way = 0
        # A hold for each cause: that of credentials also ends with a good answer, the others only by time.
        self._held_until: dict[AttemptResult, Micros] = {}
        self._cut_at: Micros = -1
        self._throttles = 0
        self._troubles = 0
        self._throttled: Micros = 0
        self._refused_at: Micros = -1

    # ── views ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def under_way(self) -> int:
        """Attempts that have begun and not ended."""
        return self._under_way

    @property
    def throttled(self) -> Micros:
        """The total time for which upstream held the account by 429 and 503."""
        return self._throttled

    def per_second(self, tick: Micros) -> float:
        """The requests per second that are allowed now."""
        self._grow(tick)
        return self._per_second

    def concurrency(self, tick: Micros) -> int:
        """The requests at the same time that are allowed now: 1 while upstream fails or refuses the account."""
        self._grow(tick)
        if self._troubles >= TROUBLES_BEFORE_BACKOFF or AttemptResult.UNAUTHORIZED in self._held_until:
            return 1
        return int(self._concurrency)

    def held_until(self, tick: Micros) -> Micros:
        """The tick until which no attempt may begin. Without a hold, the present tick or an earlier one."""
        return max(self._held_until.values(), default=tick)

    def wait(self, tick: Micros) -> Micros:
        """The time until an attempt may begin: 0 for now, `FOREVER` while it depends on the end of another attempt."""
        if self._under_way >= self.concurrency(tick):
            return FOREVER
        return max(self.held_until(tick) - tick, self._next_slot - tick, 0)

    # ── attempts ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, tick: Micros) -> Permit:
        """Count an attempt that begins now. Only allowed when `wait` returns 0."""
        self._under_way += 1
        if AttemptResult.UNAUTHORIZED in self._held_until:
            # This attempt is the probe. The next one waits from its begin, also if this one never has a result.
            self._hold(AttemptResult.UNAUTHORIZED, tick + UNAUTHORIZED_PROBE)
        spacing = int(SECOND / self._per_second)
        # From the slot and not from now, or every late timer would lower the rate. `LATE_AT_MOST` bounds this: after an
        # idle hour, the slots that passed are not made up for by a burst.
        self._next_slot = max(self._next_slot, tick - min(LATE_AT_MOST, spacing)) + spacing
        return Permit(tick)

    def end(
        self, permit: Permit, result: AttemptResult, tick: Micros, *, retry_after: Micros | None, jitter: float
    ) -> None:
        """Learn from how an attempt ended."""
        self._grow(tick)
        self._under_way -= 1
        match result:
            case AttemptResult.GOOD:
                self._troubles = 0
                # A good answer to a request from before the 429, or before the refusal, does not show that it is over.
                if permit.began > self._cut_at:
                    self._throttles = 0
                if permit.began > self._refused_at:
                    self._held_until.pop(AttemptResult.UNAUTHORIZED, None)
            case AttemptResult.THROTTLED:
                self._cut(permit, tick)
                self._hold_throttled(tick, retry_after, jitter)
            case AttemptResult.TROUBLED:
                self._troubles += 1
                self._back_off(tick, retry_after, jitter)
            case AttemptResult.UNAUTHORIZED:
                self.refuse(tick)
            case AttemptResult.ABANDONED | AttemptResult.DOUBTFUL:
                pass
            case _:
                assert_never(result)

    def refuse(self, tick: Micros) -> None:
        """Hold the account except for slow probes, until a request from now on gets a good answer."""
        self._refused_at = tick
        self._hold(AttemptResult.UNAUTHORIZED, tick + UNAUTHORIZED_PROBE)

    @property
    def is_refused(self) -> bool:
        """Whether the account is held except for slow probes."""
        return AttemptResult.UNAUTHORIZED in self._held_until

    def forgive(self) -> None:
        """End the hold for refused credentials, because there are new ones."""
        self._held_until.pop(AttemptResult.UNAUTHORIZED, None)

    def adopt(self, share: Share, tick: Micros) -> None:
        """Use a new share from the operator. What was learned about upstream's limits is kept."""
        self._grow(tick)
        # A rate at the old share is not limited by upstream, so it rises with the share at once. A lower one was cut.
        was_full = self._per_second >= self._share.per_second
        self._per_second = share.per_second if was_full else min(self._per_second, share.per_second)
        was_full = self._concurrency >= self._share.concurrency
        self._concurrency = share.concurrency if was_full else min(self._concurrency, share.concurrency)
        self._share = share

    # ── inside ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _grow(self, tick: Micros) -> None:
        # No growth during a hold for a 429: it would undo a part of the cut before the next request.
        begin = max(self._grown_until, self._held_until.get(AttemptResult.THROTTLED, 0))
        if tick > begin:
            gained = (tick - begin) / SECOND * GROWTH_PER_SECOND
            self._per_second = min(self._share.per_second, self._per_second + gained)
            self._concurrency = min(self._share.concurrency, self._concurrency + (tick - begin) / CONCURRENCY_EVERY)
        self._grown_until = max(self._grown_until, tick)

    def _cut(self, permit: Permit, tick: Micros) -> None:
        # Requests under way at the last cut were sent at the rate before it, so their 429s must not cut it again.
        if permit.began <= self._cut_at:
            return
        self._cut_at = tick
        self._throttles += 1
        self._per_second = max(self._per_second / 2, min(FLOOR_PER_SECOND, self._share.per_second))
        self._concurrency = max(float(int(self._concurrency) // 2), 1.0)

    def _hold_throttled(self, tick: Micros, retry_after: Micros | None, jitter: float) -> None:
        wait = doubled(THROTTLE_AT_LEAST, self._throttles - 1, at_most=THROTTLE_AT_MOST)
        if retry_after is not None:
            wait = max(retry_after, THROTTLE_AT_LEAST)
        # Up to a tenth later: other clients that got the same wait would send at the same moment.
        until = tick + wait + int(wait * jitter / 10)
        # Only the time that this answer adds, so that overlapping holds are not counted twice.
        begun = max(self._held_until.get(AttemptResult.THROTTLED, tick), tick)
        self._throttled += max(until - begun, 0)
        self._hold(AttemptResult.THROTTLED, until)

    def _back_off(self, tick: Micros, retry_after: Micros | None, jitter: float) -> None:
        beyond = self._troubles - TROUBLES_BEFORE_BACKOFF
        wait = doubled(SECOND, beyond, at_most=BACKOFF_AT_MOST) if beyond >= 0 else 0
        wait = max(int(wait * (0.5 + jitter / 2)), retry_after or 0)
        if wait:
            self._hold(AttemptResult.TROUBLED, tick + wait)

    def _hold(self, result: AttemptResult, until: Micros) -> None:
        self._held_until[result] = max(self._held_until.get(result, 0), until)
