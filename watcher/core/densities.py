"""How many rows a list has for what was created when: learned from every page, foreign rows included.

Counts stand per list and creation bucket. What was created then does not change any more, only how much of it still runs; so a count is good until the next
page tells better. Where nothing was learned, nothing is expected: the first page corrects that.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Sequence

from watcher.core.model import RECORD_LIFE, SECOND, Instant, Micros, Status

BUCKET: Micros = 16 * SECOND
_GUESSED_AT_MOST = 8 * 24 * 225
"""Buckets, so eight days: nothing older is shown."""


class _Counts:
    """Rows by bucket, with the known buckets in order."""

    def __init__(self) -> None:
        self.rows: dict[int, float] = {}
        self.known: list[int] = []

    def put(self, bucket: int, rows: float) -> None:
        if bucket not in self.rows:
            insort(self.known, bucket)
        self.rows[bucket] = rows

    def forget_before(self, bucket: int) -> None:
        gone = bisect_left(self.known, bucket)
        for old in self.known[:gone]:
            del self.rows[old]
        del self.known[:gone]


class Densities:
    """Expected rows of the lists of one account; `None` is the list of everything."""

    def __init__(self) -> None:
        self._lists: dict[Status | None, _Counts] = {
            None: _Counts(),
            Status.PROCESSING: _Counts(),
            Status.SCHEDULED: _Counts(),
        }

    def between(self, status: Status | None, start: Instant, end: Instant) -> float:
        """Rows expected for what was created from `start` to `end`."""
        counts = self._lists[status]
        first, last = start // BUCKET, end // BUCKET
        if first == last:
            return counts.rows.get(first, 0.0) * (end - start) / BUCKET
        rows = counts.rows.get(first, 0.0) * ((first + 1) * BUCKET - start) / BUCKET
        rows += counts.rows.get(last, 0.0) * (end - last * BUCKET) / BUCKET
        if last - first > 1:
            inner = counts.known[bisect_left(counts.known, first + 1) : bisect_left(counts.known, last)]
            rows += sum(counts.rows[bucket] for bucket in inner)
        return rows

    def learn_whole(self, status: Status | None, start: Instant, end: Instant, created: Sequence[Instant]) -> None:
        """A list was read to its end between these bounds: its counts are true, and so is emptiness."""
        counts = self._lists[status]
        found = Counter(instant // BUCKET for instant in created)
        first, last = start // BUCKET, end // BUCKET
        known = counts.known[bisect_left(counts.known, first) : bisect_left(counts.known, last + 1)]
        for bucket in {*known, *found}:
            share = (min(end, (bucket + 1) * BUCKET) - max(start, bucket * BUCKET)) / BUCKET
            before = counts.rows.get(bucket)
            # What lies outside of the bounds is as it was, or alike where nothing is known.
            counts.put(bucket, found[bucket] / share if before is None else found[bucket] + before * (1 - share))

    def learn_some(self, status: Status | None, start: Instant, end: Instant, created: Sequence[Instant]) -> None:
        """A list was read in part: there are at least so many rows, and elsewhere between the bounds as many as where they were."""
        counts = self._lists[status]
        if not created:
            return
        found = Counter(instant // BUCKET for instant in created)
        low, high = min(found), max(found)
        usual = len(created) / (high - low + 1)
        for bucket in range(max(start // BUCKET, high - _GUESSED_AT_MOST), end // BUCKET + 1):
            rows = found[bucket] if low < bucket < high else max(found[bucket], usual)
            counts.put(bucket, max(counts.rows.get(bucket, 0.0), rows))

    def forget_before(self, now: Instant) -> None:
        """Drop what upstream shows no longer."""
        for counts in self._lists.values():
            counts.forget_before((now - RECORD_LIFE) // BUCKET)
