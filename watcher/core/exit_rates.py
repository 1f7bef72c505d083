"""How fast operations leave a list of one status, learned from looks.

The chance to leave within some time is a rate × that time / age: so it is where lifetimes spread over orders of
magnitude, with a rate that changes slowly with age. It is learned for each doubling of the age.
"""

from __future__ import annotations

from watcher.core.model import SECOND, Micros

_FADING = 0.98
"""What was learned counts so much less with every further sweep of that age."""

_CLASSES = 32
_ASSUMED_LEFT, _ASSUMED_EXPOSURE = 0.3, 1.0


class ExitRates:
    """The learned rates, by doublings of the age in seconds."""

    def __init__(self) -> None:
        self._left = [_ASSUMED_LEFT] * _CLASSES
        self._exposed = [_ASSUMED_EXPOSURE] * _CLASSES

    def rate(self, age: Micros) -> float:
        """ExitRates for each unit of time passed / age."""
        at = class_of(age)
        return self._left[at] / self._exposed[at]

    def expect(self, passed: Micros, age: Micros, count: int) -> None:
        """So many of that age are looked at, each some time after its last look."""
        at = class_of(age)
        self._left[at] *= _FADING
        self._exposed[at] = self._exposed[at] * _FADING + passed / max(age, SECOND) * count

    def left(self, age: Micros) -> None:
        """One of that age had left its list."""
        self._left[class_of(age)] += 1


def class_of(age: Micros) -> int:
    """Which doubling of a second an age is in."""
    return min(max(age // SECOND, 0).bit_length(), _CLASSES - 1)


def ages_of(at: int) -> tuple[Micros, Micros]:
    """From which age on and up to which one is in that doubling; what lies outside of all is in none."""
    return (SECOND << at - 1 if at else 0), SECOND << at
