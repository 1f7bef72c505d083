"""The counters of finished operations as text.

Two hundred combinations of counter labels have 7,000 lines, and few of them change between two scrapes. The lines of a
combination are kept until its numbers change, and joined family by family. `finished` is the reference: the text here
is byte for byte what prometheus-client writes for the same families. This runs in a thread beside the event loop, in
short steps with pauses between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import msgspec
from prometheus_client import Metric

from watcher.core.snapshot import AccountSnapshot
from watcher.metrics.finished import Counted, counted_in, families_of
from watcher.metrics.text import Pace, escaped, sample_value

_Lines: TypeAlias = tuple[bytes, ...]

STEP = 10
"""Combinations that are written between two checks of the clock."""


# Compared by `counted`, so kept lines are reused only for the same numbers and the same `created` time. There are no
# holes as in `text`: few of these numbers change between two scrapes.
class _WrittenCounters(msgspec.Struct, frozen=True, gc=False):
    counted: Counted
    lines: _Lines


class CounterText:
    """The text of the families of finished operations, with these counter labels and in one of the two formats.

    Scrapes may overlap: each reads what was kept when it began, and what it wrote is kept as a whole.
    """

    def __init__(self, names: Sequence[str], *, created: bool) -> None:
        self.names = tuple(names)
        self.created = created
        self._kept: dict[tuple[str, ...], _WrittenCounters] = {}

    def __len__(self) -> int:
        """The number of combinations whose lines are kept."""
        return len(self._kept)

    def pieces(self, snapshots: Sequence[AccountSnapshot], heads: Sequence[bytes], pace: Pace) -> Iterator[bytes]:
        """Every family after its head, in pieces. `heads` has one head per family, in the order of the reference."""
        before = self._kept
        kept: dict[tuple[str, ...], _WrittenCounters] = {}
        for number, counted in enumerate(counted_in(snapshots, self.names, created=self.created), 1):
            written = before.get(counted.labels)
            if written is None or written.counted != counted:
                written = _WrittenCounters(counted, self._lines(counted))
            # `labels` begin with the account, so equal combinations of two accounts have a text each.
            kept[counted.labels] = written
            if number % STEP == 0:
                pace.step()
        # One assignment of a new dict: a scrape in another thread sees the old or the new lines, never a mix.
        # Combinations that are gone are not in the new dict, so their lines are freed.
        self._kept = kept
        for number, head in enumerate(heads):
            yield head
            yield b"".join([written.lines[number] for written in kept.values()])
            pace.step()

    def _lines(self, counted: Counted) -> _Lines:
        """The lines of one combination: one text for each family."""
        # Position n is the family with head n: `families_of` gives every family, also without samples, in one order.
        return tuple(map(_text, families_of([counted], self.names)))


def _text(family: Metric) -> bytes:
    return "".join(
        f"{sample.name}{{{_labels(sample.labels)}}} {sample_value(sample.value)}\n" for sample in family.samples
    ).encode()


# Sorted, as prometheus-client does: otherwise a series would have its labels in another order than in the reference.
def _labels(labels: dict[str, str]) -> str:
    return ",".join([f'{name}="{escaped(labels[name])}"' for name in sorted(labels)])
