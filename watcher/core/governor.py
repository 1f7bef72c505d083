"""The account's share of upstream: how many requests a second, how many at once, and when none at all.

Limits are of the account and shared with the programs that send, so whatever one answer teaches holds for all requests.
Rate and concurrency grow slowly and halve on a 429 (additive increase, multiplicative decrease), at most once a hold:
an answer whose request began before the last cut tells nothing new of the limit. `Retry-After` is a floor. Every
attempt asks for a permit, retries included, and over any time there are at most as many as the rate allows, and two:
one to begin with and one of slack.
All times are ticks in microseconds of a clock that only moves forward; chance is an argument between 0 and 1.
"""

from __future__ import annotations

import enum
from typing import assert_never

import msgspec

from watcher.core.backoff import doubled
from watcher.core.model import MINUTE, SECOND, Micros, Value


class AttemptResult(enum.Enum):
    """What one attempt says of the account."""

    GOOD = enum.auto()
    """Upstream answered with what was requested."""
    DOUBTFUL = enum.auto()
    """400, 403, 404 and the like: about one operation, about the account, or not upstream's at all (`attribution`)."""
    THROTTLED = enum.auto()
    TROUBLED = enum.auto()
    """5xx, time-outs, cut or garbled answers."""
    UNAUTHORIZED = enum.auto()
    ABANDONED = enum.auto()
    """We let go before there was an answer."""


class Share(Value, frozen=True, kw_only=True):
    """What the operator lets us use at most."""

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
"""One more request at once after so long without a 429; at twice that, answers that take a second cost too much."""

FLOOR_PER_SECOND = 1.0
LATE_AT_MOST: Micros = SECOND // 20
"""A timer that fires so late costs no slot. Idleness and holds earn nothing: strict limits refuse two at once."""

UNAUTHORIZED_PROBE: Micros = 30 * SECOND
TROUBLES_BEFORE_BACKOFF = 4
BACKOFF_AT_MOST: Micros = MINUTE
THROTTLE_AT_LEAST: Micros = SECOND
THROTTLE_AT_MOST: Micros = MINUTE
FOREVER: Micros = 1 << 62


class Governor:
    """The account's limiter; fed by answers. Not for use from several threads."""

    def __init__(self, share: Share, tick: Micros) -> None:
        self._share = share
        self._per_second = share.per_second
        self._concurrency = float(share.concurrency)
        self._grown_until = tick
        self._next_slot = tick
        self._under_way = 0
        self._held_until: dict[AttemptResult, Micros] = {}
        self._cut_at: Micros = -1
        self._throttles = 0
        self._troubles = 0
        self._throttled: Micros = 0
        self._refused_at: Micros = -1

    # ── what others may know ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def under_way(self) -> int:
        """Attempts that have begun and not ended."""
        return self._under_way

    @property
    def throttled(self) -> Micros:
        """How long, in all, the account was held because upstream said so."""
        return self._throttled

    def per_second(self, tick: Micros) -> float:
        """Requests a second allowed now."""
        self._grow(tick)
        return self._per_second

    def concurrency(self, tick: Micros) -> int:
        """Requests allowed at once now: one alone while upstream is in trouble or refuses us."""
        self._grow(tick)
        if self._troubles >= TROUBLES_BEFORE_BACKOFF or AttemptResult.UNAUTHORIZED in self._held_until:
            return 1
        return int(self._concurrency)

    def held_until(self, tick: Micros) -> Micros:
        """Until when nothing may begin; the present tick or earlier when nothing is held."""
        return max(self._held_until.values(), default=tick)

    def wait(self, tick: Micros) -> Micros:
        """How long until an attempt may begin: 0 for now, `FOREVER` until one under way has ended."""
        if self._under_way >= self.concurrency(tick):
            return FOREVER
        return max(self.held_until(tick) - tick, self._next_slot - tick, 0)

    # ── what happens ──────────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, tick: Micros) -> Permit:
        """Count an attempt that begins now; only after `wait` said 0."""
        self._under_way += 1
        if AttemptResult.UNAUTHORIZED in self._held_until:
            # This is the probe; whatever becomes of it, the next one is not sooner.
            self._hold(AttemptResult.UNAUTHORIZED, tick + UNAUTHORIZED_PROBE)
        spacing = int(SECOND / self._per_second)
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
        """Hold the account but for slow probes, until what is requested from now on is answered well."""
        self._refused_at = tick
        self._hold(AttemptResult.UNAUTHORIZED, tick + UNAUTHORIZED_PROBE)

    @property
    def is_refused(self) -> bool:
        """Whether the account is held but for slow probes."""
        return AttemptResult.UNAUTHORIZED in self._held_until

    def forgive(self) -> None:
        """New credentials are at hand: the hold for the old ones is over."""
        self._held_until.pop(AttemptResult.UNAUTHORIZED, None)

    def adopt(self, share: Share, tick: Micros) -> None:
        """A new share from the operator; what was learned of upstream's limits stays."""
        self._grow(tick)
        was_full = self._per_second >= self._share.per_second
        self._per_second = share.per_second if was_full else min(self._per_second, share.per_second)
        was_full = self._concurrency >= self._share.concurrency
        self._concurrency = share.concurrency if was_full else min(self._concurrency, share.concurrency)
        self._share = share

    # ── inside ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _grow(self, tick: Micros) -> None:
        begin = max(self._grown_until, self._held_until.get(AttemptResult.THROTTLED, 0))
        if tick > begin:
            gained = (tick - begin) / SECOND * GROWTH_PER_SECOND
            self._per_second = min(self._share.per_second, self._per_second + gained)
            self._concurrency = min(self._share.concurrency, self._concurrency + (tick - begin) / CONCURRENCY_EVERY)
        self._grown_until = max(self._grown_until, tick)

    def _cut(self, permit: Permit, tick: Micros) -> None:
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
        # A little late rather than all at once with everybody else who was told the same.
        until = tick + wait + int(wait * jitter / 10)
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
