"""The rate at which operations leave the list of their status, estimated from polls.

The probability that an operation leaves within a short time is rate × time / age. That form fits lifetimes that spread
over orders of magnitude: an operation that is an hour old is as likely to end within six minutes as one of ten
minutes within one minute. The rate then changes slowly with the age, so one for each doubling of the age is enough.
"""

from __future__ import annotations

from watcher.core.model import SECOND, Micros

_FADING = 0.98
"""Older observations lose 2 % of their weight with every further sweep of that age."""

_CLASSES = 32
# The rate of a class at first, with the weight of one operation observed for as long as it is old. Without it the
# quotient would be 0 / 0. It fades like observations do, so a wrong assumption does not last.
_ASSUMED_LEFT, _ASSUMED_EXPOSURE = 0.3, 1.0


class ExitRates:
    """The estimated rates, one for each doubling of the age in seconds."""

    def __init__(self) -> None:
        self._left = [_ASSUMED_LEFT] * _CLASSES
        self._exposed = [_ASSUMED_EXPOSURE] * _CLASSES

    def rate(self, age: Micros) -> float:
        """Expected exits per unit of time / age."""
        at = class_of(age)
        return self._left[at] / self._exposed[at]

    def expect(self, passed: Micros, age: Micros, count: int) -> None:
        """`count` operations of about this age are about to be polled, each `passed` after its last poll."""
        at = class_of(age)
        # Both sums fade alike, so their quotient stays the rate of the recent past, with the assumed rate at first.
        self._left[at] *= _FADING
        self._exposed[at] = self._exposed[at] * _FADING + passed / max(age, SECOND) * count

    def left(self, age: Micros) -> None:
        """An operation of this age had left its list."""
        # Its exposure was added by `expect` before the request.
        self._left[class_of(age)] += 1


def class_of(age: Micros) -> int:
    """The number of the age's doubling: 0 below a second, then 1 up to 2 s, 2 up to 4 s and so on."""
    return min(max(age // SECOND, 0).bit_length(), _CLASSES - 1)


def ages_of(at: int) -> tuple[Micros, Micros]:
    """The ages of that doubling: from, and up to but without."""
    return (SECOND << at - 1 if at else 0), SECOND << at
