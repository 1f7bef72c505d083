"""The present by two clocks that may both be wrong: the machine's, and upstream's `Date`.

Several machines answer for upstream, so a single `Date` is a reading of one of them and proves nothing. Three readings
over a minute that keep the same distance to our monotonic clock make a steady clock. A frozen or cached `Date` falls
back against the monotonic clock and never becomes steady. A steady clock stays believed although single answers
contradict it, until three answers in a row do.
"""

from __future__ import annotations

import msgspec

from watcher.core.model import MINUTE, SECOND, Instant, Micros, Moment, Value
from watcher.core.observation import Timing

AGREE_WITHIN: Micros = 30 * SECOND
"""Two clocks, or two readings of the same clock, that differ by no more than this count as the same time."""

STEADY_FOR: Micros = MINUTE
STEADY_READINGS = 3
"""This number of readings over `STEADY_FOR` makes a clock steady. As many contradictions in a row end that."""


class ClockReading(Value, frozen=True, kw_only=True):
    """The present by both clocks. `upstream_at` is None until an answer has carried a `Date`.

    `latest_at` is the present by the clock that is ahead: an instant after it is in the future by both clocks.
    """

    machine_at: Instant
    upstream_at: Instant | None = None
    is_steady: bool = False
    latest_at: Instant = 0

    def __post_init__(self) -> None:
        # A field and not a property, because every row of a page is compared with it.
        latest_at = self.machine_at if self.upstream_at is None else max(self.machine_at, self.upstream_at)
        msgspec.structs.force_setattr(self, "latest_at", latest_at)

    @property
    def at(self) -> Instant:
        """The present by the machine's clock, by which our own waits are measured."""
        return self.machine_at

    @property
    def agrees(self) -> bool:
        """Whether both clocks are known and show the same time within 30 s."""
        return self.upstream_at is not None and abs(self.upstream_at - self.machine_at) <= AGREE_WITHIN

    @property
    def trusted_at(self) -> Instant | None:
        """The present for conclusions: the earlier of two clocks that agree, otherwise upstream's if it is steady.

        None if there is only one clock, or if the two disagree and upstream's is not steady.
        """
        if self.upstream_at is None:
            # The machine's clock alone proves nothing: if it were ahead, operations would expire that still run.
            return None
        if self.agrees:
            # The earlier one, because an age that is concluded too early cannot be taken back.
            return min(self.machine_at, self.upstream_at)
        return self.upstream_at if self.is_steady else None

    @property
    def earliest_at(self) -> Instant:
        """The present by the clock that is behind: for reading back too far rather than not far enough."""
        return self.machine_at if self.upstream_at is None else min(self.machine_at, self.upstream_at)


# `offset` is upstream's `Date` less our tick. It stays the same while upstream's clock runs as fast as ours:
#
#   offset
#     │                 ×              ×           single answers that differ: ignored until the third in a row
#     │   ●     ●     ●    ●     ●  ●     ●        within 30 s of the first: steady after 3 readings over a minute
#     │   ○
#     │         ○                                  a frozen or cached `Date`: the offset falls as time passes,
#     │               ○                            so after 30 s it does not fit any more, and a new run begins
#     └──────────────────────────────────── tick
class _Run(msgspec.Struct):
    """Consecutive readings at the same distance to the monotonic clock. The first reading is the measure."""

    offset: Micros
    first_tick: Micros
    last_tick: Micros
    readings: int = 1

    def fits(self, offset: Micros) -> bool:
        return abs(offset - self.offset) <= AGREE_WITHIN

    @property
    def is_steady(self) -> bool:
        return self.readings >= STEADY_READINGS and self.last_tick - self.first_tick >= STEADY_FOR


class UpstreamClock:
    """Upstream's clock as the answers of one account show it. Pure: the present moment comes with every call."""

    def __init__(self) -> None:
        self._steady: _Run | None = None
        self._latest: _Run | None = None
        self._contradictions = 0

    def note(self, timing: Timing) -> None:
        """Take the reading of one answer. An answer without a `Date` changes nothing."""
        if timing.date is None:
            return
        tick = timing.answered.tick
        # `Date` is cut off to whole seconds. Without the half second the clock would run late.
        offset = timing.date + SECOND // 2 - tick
        if self._steady is not None and self._steady.fits(offset):
            # Contradictions count only in a row: one of several machines with a wrong clock must not end the trust.
            self._contradictions = 0
            self._latest = None
            return
        self._contradictions += 1
        self._latest = _extended(self._latest, offset, tick)
        if self._latest.is_steady:
            self._steady, self._latest, self._contradictions = self._latest, None, 0

    def read(self, now: Moment) -> ClockReading:
        """The present by both clocks."""
        # While no run is steady, the latest one is used and marked as not steady, so that `agrees` can still compare it
        # with the machine's clock.
        run = self._steady if self._is_steady or self._latest is None else self._latest
        return ClockReading(
            machine_at=now.at,
            upstream_at=None if run is None else now.tick + run.offset,
            is_steady=self._is_steady,
        )

    @property
    def _is_steady(self) -> bool:
        return self._steady is not None and self._contradictions < STEADY_READINGS


def _extended(run: _Run | None, offset: Micros, tick: Micros) -> _Run:
    """The run with one more reading, or a new one where the reading does not fit."""
    if run is None or not run.fits(offset):
        return _Run(offset, tick, tick)
    # Answers arrive in any order. A late one must not shorten the run.
    run.last_tick = max(run.last_tick, tick)
    run.first_tick = min(run.first_tick, tick)
    run.readings += 1
    return run
