"""The clock of the process moves steadily, whatever the wall clock does."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.clock import JUMP, Clock
from watcher.core.model import SECOND, Moment


@dataclass
class Times:
    """Both sources of a clock, in seconds, to be set by hand."""

    wall: float = 1_790_000_000.0
    steady: float = 50.0

    def clock(self) -> Clock:
        return Clock(wall=lambda: self.wall, steady=lambda: self.steady)


def test_the_clock_begins_with_the_wall_and_moves_with_the_steady_one():
    times = Times()
    clock = times.clock()
    assert clock.now() == Moment(1_790_000_000 * SECOND, 50 * SECOND)
    times.steady += 1.5
    assert clock.now() == Moment(1_790_000_001_500_000, 51_500_000)


@pytest.mark.parametrize("drift", [0, 30, -30])
def test_a_small_difference_is_left_alone(drift: float):
    times = Times()
    clock = times.clock()
    times.wall += drift
    assert clock.reanchor() == 0
    assert clock.now().at == 1_790_000_000 * SECOND


@pytest.mark.parametrize("jump", [31, -31, 86_400])
def test_a_jump_is_adopted_once_and_moves_no_tick(jump: float):
    times = Times()
    clock = times.clock()
    times.wall += jump
    assert clock.reanchor() == jump * SECOND
    assert clock.reanchor() == 0
    assert clock.now() == Moment((1_790_000_000 + int(jump)) * SECOND, 50 * SECOND)


def test_the_usual_sources_are_the_systems():
    clock = Clock()
    before = clock.now()
    assert clock.reanchor() == 0
    assert clock.now().tick >= before.tick


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(-1e6, 1e6))))
def test_after_reanchoring_the_clock_is_never_far_from_the_wall(changes: list[tuple[float, float]]):
    times = Times()
    clock = times.clock()
    for passed, jump in changes:
        tick = clock.now().tick
        times.steady += passed
        times.wall += passed + jump
        clock.reanchor()
        assert clock.now().tick >= tick
        assert abs(clock.now().at - round(times.wall * SECOND)) <= JUMP + 1
