"""Which values of user labels the counters carry: at most a hundred of each.

A label must never become a flood of series.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from watcher.core.totals import Key

VALUES_AT_MOST = 100
OTHER = "other"


class CounterLabels:
    """The values in use; those that were counted before are known from the totals."""

    def __init__(self, names: Sequence[str], totals: Iterable[Key] = ()) -> None:
        self._values: dict[str, set[str]] = {name: set() for name in names}
        for key in totals:
            for part in key[1:]:
                name, separator, value = part.partition("=")
                if separator and name in self._values:
                    self._values[name].add(value)

    def of(self, labels: Mapping[str, str]) -> dict[str, str]:
        """The values to count under: the operation's own, `other` where there are too many already."""
        return {name: self._admitted(known, labels.get(name, "")) for name, known in self._values.items()}

    def _admitted(self, known: set[str], value: str) -> str:
        if value in known or len(known - {OTHER}) < VALUES_AT_MOST:
            known.add(value)
            return value
        return OTHER
