"""Who sends the next request: checks first, then polls and discovery by due time."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from watcher.core.model import Micros, Moment
from watcher.core.requests import Probe, Request
from watcher.core.turns import Turns

NOW = Moment(at=10, tick=10)


@dataclass(eq=False)
class Source:
    """A source whose requests are due at these ticks; each is sent when it is due."""

    ticks: list[Micros] = field(default_factory=list)
    sent: int = 0

    def wake_tick(self) -> Micros | None:
        return self.ticks[0] if self.ticks else None

    def choose(self, now: Moment) -> Request | None:
        if not self.ticks or self.ticks[0] > now.tick:
            return None
        self.ticks.pop(0)
        self.sent += 1
        return Probe()


@pytest.mark.parametrize(
    ("polls", "discovery", "sent"),
    [
        ([], [], (0, 0)),
        ([5], [], (1, 0)),
        ([], [5], (0, 1)),
        ([6], [5], (0, 1)),
        ([5], [6], (1, 0)),
        ([5], [5], (1, 0)),
        ([20], [5], (0, 1)),
        ([5], [20], (1, 0)),
        ([20], [20], (0, 0)),
    ],
)
def test_what_is_due_longer_is_requested(polls: list[Micros], discovery: list[Micros], sent: tuple[int, int]):
    one, two = Source(polls), Source(discovery)
    request = Turns([], [one, two]).choose(NOW)
    assert (request is not None) == any(sent)
    assert (one.sent, two.sent) == sent


def test_a_sweep_whose_pages_are_due_at_once_takes_turns_with_discovery():
    sweep, discovery = Source([0] * 6), Source([1, 2, 3])
    turns = Turns([], [sweep, discovery])
    shares = []
    for _ in range(6):
        turns.choose(NOW)
        shares.append((sweep.sent, discovery.sent))
    assert shares == [(1, 0), (1, 1), (2, 1), (2, 2), (3, 2), (3, 3)]


def test_discovery_that_is_not_due_does_not_cost_a_sweep_its_turn():
    sweep, discovery = Source([0, 0, 0]), Source([20])
    turns = Turns([], [sweep, discovery])
    assert [turns.choose(NOW) is not None for _ in range(4)] == [True, True, True, False]
    assert (sweep.sent, discovery.sent) == (3, 0)


def test_checks_come_before_everything_else():
    checks, polls = Source([9, 10]), Source([0, 0])
    turns = Turns([checks], [polls])
    turns.choose(NOW)
    turns.choose(NOW)
    assert (checks.sent, polls.sent) == (2, 0)


def test_the_next_wake_is_the_earliest_of_all():
    assert Turns([Source([7])], [Source([5]), Source()]).wake_tick() == 5
    assert Turns([Source()], [Source()]).wake_tick() is None
