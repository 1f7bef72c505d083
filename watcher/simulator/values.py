"""Values of the scenario file that are written as text: durations (`30s`) and ranges (`5s..2m`, `1..10000`)."""

import math
import random
import re
from collections.abc import Callable
from typing import Any

_UNITS = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_DURATION = re.compile(r"(-?\d+(?:\.\d+)?)(us|ms|s|m|h|d)")


class Duration(int):
    """Microseconds, written `500ms`, `30s`, `15m`, `24h` or `7d`; negative for the past."""

    __slots__ = ()

    @classmethod
    def parse(cls, written: object) -> "Duration":
        """Return the duration of such a text, or of a plain 0. Raises ValueError."""
        if written == 0 and not isinstance(written, bool):
            return cls(0)
        found = _DURATION.fullmatch(written) if isinstance(written, str) else None
        if found is None:
            raise ValueError(f"expected a duration such as 500ms, 30s or 2m, got {written!r}")
        return cls(round(float(found[1]) * _UNITS[found[2]]))


class _Range(tuple[int, int]):
    """A range with both ends included."""

    __slots__ = ()

    @property
    def least(self) -> int:
        """The lower end."""
        return self[0]

    @property
    def most(self) -> int:
        """The upper end."""
        return self[1]

    @property
    def mean(self) -> float:
        """The mean of log-uniform draws."""
        if self.least == self.most:
            return float(self.least)
        return (self.most - self.least) / math.log((self.most + 1) / (self.least + 1)) - 1

    def draw(self, rng: random.Random) -> int:
        """Return a log-uniform random value: powers of ten are equally likely (of value + 1, as 0 has no logarithm)."""
        if self.least == self.most:
            return self.least
        drawn = math.exp(rng.uniform(math.log(self.least + 1), math.log(self.most + 1))) - 1
        return min(self.most, max(self.least, round(drawn)))

    def draw_evenly(self, rng: random.Random) -> int:
        """Return a uniform random value."""
        return round(rng.uniform(self.least, self.most))


class Durations(_Range):
    """A range of durations, `5s..2m`, or a single one, `30s`."""

    __slots__ = ()

    @classmethod
    def parse(cls, written: object) -> "Durations":
        """Return the range of such a text. Raises ValueError."""
        ends = written.split("..") if isinstance(written, str) else [written]
        return cls(_ordered([Duration.parse(end) for end in ends], written))


class Counts(_Range):
    """A range of counts, `1..10000`, or a single one, `100`."""

    __slots__ = ()

    @classmethod
    def parse(cls, written: object) -> "Counts":
        """Return the range of such a text or of a whole number. Raises ValueError."""
        if isinstance(written, bool) or not re.fullmatch(r"\d+(\.\.\d+)?", str(written)):
            raise ValueError(f"expected a count such as 100 or 1..10000, got {written!r}")
        return cls(_ordered([int(end) for end in str(written).split("..")], written))


def decode(kind: type, written: Any) -> Any:
    """Decode a type of this module for msgspec."""
    return _PARSERS[kind](written)


_PARSERS: dict[type, Callable[[object], object]] = {
    Duration: Duration.parse,
    Durations: Durations.parse,
    Counts: Counts.parse,
}


def _ordered(ends: list[int], written: object) -> tuple[int, int]:
    match ends:
        case [same]:
            found = (same, same)
        case [least, most] if least <= most:
            found = (least, most)
        case _:
            raise ValueError(f"expected one value or least..most, got {written!r}")
    if found[0] < 0:
        raise ValueError(f"expected no negative value, got {written!r}")
    return found
