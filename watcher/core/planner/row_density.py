"""The expected number of list rows per creation time, estimated from every page, foreign rows included.

There is a count for each list and each creation bucket of 16 s. The set of operations created in a bucket does not
change any more, only the part that still runs. So a count stays good until the next page corrects it. For buckets
without a count no rows are expected; the first page corrects that. The number of rows on a full page is estimated too,
because upstream may send short pages.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Sequence

from watcher.core.model import RECORD_LIFE, SECOND, Instant, Micros, Status

BUCKET: Micros = 16 * SECOND
_GUESSED_AT_MOST = 8 * 24 * 225
"""In buckets, which is eight days: upstream shows nothing older."""

ROWS_A_PAGE = 930.0
"""Rows planned for a full page of 1,000: the rest is for operations created after the estimate."""

_FEWEST_ROWS = 5.0
_LEARNING, _FORGETTING = 0.25, 0.05

FADE_EVERY: Micros = 10 * SECOND

SWEPT_STATUSES = (Status.PROCESSING, Status.SCHEDULED)


def bucket_of(instant: Instant) -> int:
    """The creation bucket that an instant is in."""
    return instant // BUCKET


class _Counts:
    """Rows by bucket, the buckets in order, which of them are guesses, and the rows that fit on a page."""

    def __init__(self) -> None:
        self.rows: dict[int, float] = {}
        self.known: list[int] = []
        self.guessed: set[int] = set()
        self.page = ROWS_A_PAGE

    def put(self, bucket: int, rows: float) -> None:
        if bucket not in self.rows:
            insort(self.known, bucket)
        self.rows[bucket] = rows
        self.guessed.discard(bucket)

    def guess(self, bucket: int, rows: float) -> None:
        # A count that was read stays: a guess must not replace it.
        if bucket not in self.rows or bucket in self.guessed:
            self.put(bucket, rows)
            self.guessed.add(bucket)

    def fade(self) -> None:
        # A guess that is too high keeps windows away from its bucket, so no page would ever correct it. Halved often
        # enough, it becomes so small that the bucket is read.
        for bucket in self.guessed:
            self.rows[bucket] /= 2
        # The same with the page size: after some short pages, windows stay small, and no full page would be seen again.
        self.page += (ROWS_A_PAGE - self.page) * _FORGETTING

    def forget_before(self, bucket: int) -> None:
        gone = bisect_left(self.known, bucket)
        for old in self.known[:gone]:
            del self.rows[old]
            self.guessed.discard(old)
        del self.known[:gone]


class RowDensity:
    """Expected rows of the lists of one account; the status `None` is the unfiltered list."""

    def __init__(self) -> None:
        self._lists: dict[Status | None, _Counts] = {status: _Counts() for status in (None, *SWEPT_STATUSES)}
        self._fade_due: Micros = 0

    def between(self, status: Status | None, start: Instant, end: Instant) -> float:
        """Rows expected for operations created from `start` to `end`. Within a bucket they are taken as even."""
        counts = self._lists[status]
        first, last = bucket_of(start), bucket_of(end)
        if first == last:
            return counts.rows.get(first, 0.0) * (end - start) / BUCKET
        rows = counts.rows.get(first, 0.0) * ((first + 1) * BUCKET - start) / BUCKET
        rows += counts.rows.get(last, 0.0) * (end - last * BUCKET) / BUCKET
        if last - first > 1:
            inner = counts.known[bisect_left(counts.known, first + 1) : bisect_left(counts.known, last)]
            rows += sum(counts.rows[bucket] for bucket in inner)
        return rows

    def rate(self, status: Status | None, bucket: int) -> float:
        """Rows per microsecond of a bucket."""
        return self._lists[status].rows.get(bucket, 0.0) / BUCKET

    def rows_a_page(self, status: Status | None) -> float:
        """Rows that a page of the list is planned to show."""
        return self._lists[status].page

    def learn_page(self, status: Status | None, rows: int) -> None:
        """A page had this number of rows, and was not the last one."""
        counts = self._lists[status]
        # Not below a few rows: from empty pages that are not the last, windows would become endlessly small.
        short = max(min(rows, ROWS_A_PAGE), _FEWEST_ROWS)
        counts.page += (short - counts.page) * _LEARNING

    def fade(self, tick: Micros) -> None:
        """Every 10 s, move guesses towards 0 and the page size towards full: both may be wrong in a way that lasts."""
        if tick >= self._fade_due:
            self._fade_due = tick + FADE_EVERY
            for counts in self._lists.values():
                counts.fade()

    def learn_whole(self, status: Status | None, start: Instant, end: Instant, created: Sequence[Instant]) -> None:
        """A list was read to its end between these bounds, so its counts are exact, also where it showed nothing."""
        counts = self._lists[status]
        found = Counter([instant // BUCKET for instant in created])
        first, last = bucket_of(start), bucket_of(end)
        known = counts.known[bisect_left(counts.known, first) : bisect_left(counts.known, last + 1)]
        for bucket in {*known, *found}:
            share = (min(end, (bucket + 1) * BUCKET) - max(start, bucket * BUCKET)) / BUCKET
            before = counts.rows.get(bucket)
            if before is not None:
                # The part of the bucket outside the bounds was not read and keeps its share.
                counts.put(bucket, found[bucket] + before * max(1 - share, 0.0))
            # A bucket that was never counted: the part that was read stands for the whole of it.
            elif share > 0:
                counts.put(bucket, found[bucket] / share)

    def learn_some(self, status: Status | None, start: Instant, end: Instant, created: Sequence[Instant]) -> None:
        """A list was read in part: these rows at least exist. Buckets that were not reached are guessed to be alike."""
        counts = self._lists[status]
        if not created:
            return
        found = Counter([instant // BUCKET for instant in created])
        low, high = min(found), max(found)
        # The rows cover only the part of the window that was read. The rest is guessed from their number per bucket.
        usual = len(created) / (high - low + 1)
        # A wrong creation must not make this a loop over years.
        lowest, highest = max(bucket_of(start), high - _GUESSED_AT_MOST), min(bucket_of(end), high + _GUESSED_AT_MOST)
        for bucket in range(lowest, highest + 1):
            # The first and the last bucket may have been read in part only, so their counts are lower bounds.
            if low < bucket < high or found[bucket] > usual:
                counts.put(bucket, max(counts.rows.get(bucket, 0.0), found[bucket]))
            else:
                counts.guess(bucket, usual)

    def forget_before(self, now: Instant) -> None:
        """Drop buckets of operations that upstream does not show any more."""
        for counts in self._lists.values():
            counts.forget_before(bucket_of(now - RECORD_LIFE))
