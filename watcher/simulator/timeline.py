"""Lives in order of creation, in buckets of one minute; lists are read from it.

The cost of adding, removing and seeking hardly depends on the number of lives.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

from watcher.simulator.life import Life
from watcher.simulator.timestamps import SECOND

# The creation time, and the id to order lives of the same time.
Place = tuple[int, str]
Entry = tuple[int, str, Life]

_BUCKET = 60 * SECOND
# Sorts after every id.
LAST_ID = "\U0010ffff"


class Timeline:
    """A sorted set of lives."""

    def __init__(self) -> None:
        self._buckets: dict[int, list[Entry]] = {}
        self._numbers: list[int] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, life: Life) -> None:
        """Add a life that is not in the timeline."""
        number = life.created_at // _BUCKET
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = []
            insort(self._numbers, number)
        insort(bucket, (life.created_at, life.id, life))
        self._size += 1

    def remove(self, life: Life) -> None:
        """Remove a life that is in the timeline."""
        number = life.created_at // _BUCKET
        bucket = self._buckets[number]
        del bucket[bisect_left(bucket, (life.created_at, life.id), key=_place)]
        self._size -= 1
        if not bucket:
            del self._buckets[number]
            del self._numbers[bisect_left(self._numbers, number)]

    def oldest(self) -> Life | None:
        """Return the life that was created first, or None."""
        return self._buckets[self._numbers[0]][0][2] if self._numbers else None

    def between(self, after: Place, before: Place, *, newest_first: bool) -> Iterator[Life]:
        """Yield the lives strictly between the two places."""
        first = bisect_left(self._numbers, after[0] // _BUCKET)
        last = bisect_right(self._numbers, before[0] // _BUCKET)
        numbers = self._numbers[first:last]
        for number in reversed(numbers) if newest_first else numbers:
            bucket = self._buckets[number]
            low = bisect_right(bucket, after, key=_place)
            high = bisect_left(bucket, before, key=_place)
            part = bucket[low:high]
            for entry in reversed(part) if newest_first else part:
                yield entry[2]


def _place(entry: Entry) -> Place:
    return entry[:2]
