"""What was learned but is not yet written, and its way into the store.

State and events are written in one transaction; the newest state of an operation waits here, with all its events in
order, until it is. While the store is unusable everything stays, and is tried again; above `MANY` waiting operations
the loop stops asking for more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

import msgspec

from watcher.core.errors import StoreUnusable
from watcher.core.model import Instant, Operation, OperationEvent, Tally
from watcher.store import Change, Store
from watcher.watch.counters import CounterSync

BATCH = 500
"""Changes of one transaction."""

MANY = 20_000


class _Waiting(msgspec.Struct):
    operation: Operation
    events: list[tuple[Instant, OperationEvent]]
    tally: Tally | None = None


class Ledger:
    """The account's writes.

    `observer` is called when writing begins to fail (the error) and when it works again (None). `counters` show what
    was counted.
    """

    def __init__(
        self,
        account: str,
        store: Store,
        observer: Callable[[StoreUnusable | None], None],
        counters: CounterSync,
    ) -> None:
        self._account = account
        self._store = store
        self._observer = observer
        self.counters = counters
        self._waiting: dict[str, _Waiting] = {}
        self._stats_only: dict[str, Operation] = {}
        # Of the last commit that failed: where a disk fails at the wrong moment, it may have taken effect all the same.
        self._doubtful: set[str] = set()

    def __len__(self) -> int:
        """How many operations wait to be written with something that must not be lost."""
        return len(self._waiting)

    def has(self, operation_id: str) -> bool:
        """Whether something of the operation is not yet written."""
        return operation_id in self._waiting or operation_id in self._stats_only

    @property
    def is_full(self) -> bool:
        """Whether so much waits that no more should be learned."""
        return len(self._waiting) >= MANY

    def enter(
        self,
        operation: Operation,
        events: Sequence[OperationEvent],
        occurred_at: Instant,
        tally: Tally | None = None,
    ) -> None:
        """What must be written soon."""
        self._stats_only.pop(operation.id, None)
        waiting = self._waiting.get(operation.id)
        if waiting is None or _is_of_another_life(waiting.operation, operation):
            waiting = self._waiting[operation.id] = _Waiting(operation, [])
        waiting.operation = operation
        waiting.events += [(occurred_at, event) for event in events]
        waiting.tally = tally or waiting.tally

    def enter_stats(self, operation: Operation) -> None:
        """Stats that moved without anything else: written with whatever is, and when `flush` asks for them."""
        waiting = self._waiting.get(operation.id)
        if waiting is None or _is_of_another_life(waiting.operation, operation):
            self._waiting.pop(operation.id, None)
            self._stats_only[operation.id] = operation
        else:
            waiting.operation = operation

    def drop(self, operation_id: str) -> None:
        """The operation is followed no longer; the store would drop the change anyway."""
        self._waiting.pop(operation_id, None)
        self._stats_only.pop(operation_id, None)
        self._doubtful.discard(operation_id)

    async def flush(self, *, with_stats: bool = False) -> bool:
        """Write everything that waits; whether it is written. Never raises for a store in trouble."""
        stats_due = deque(self._stats_only) if with_stats else deque[str]()
        while batch := self._next_batch(stats_due):
            try:
                await self._drop_what_is_stored(batch)
                committed = await self._store.commit(self._account, [_change(waiting) for waiting in batch.values()])
            except StoreUnusable as exc:
                self._doubtful |= batch.keys()
                self._put_back(batch)
                self.counters.invalidate()  # it may have taken effect
                self._observer(exc)
                return False
            except BaseException:
                self._put_back(batch)
                raise
            self._doubtful -= batch.keys()
            self.counters.committed(committed)
            self._observer(None)
        return True

    async def _drop_what_is_stored(self, batch: dict[str, _Waiting]) -> None:
        """Take out the events that a commit stored although it failed; they would be published twice, under two ids.

        A count needs none of this: the store counts an operation only in the change that makes it final.
        """
        for operation_id in self._doubtful & batch.keys():
            waiting = batch[operation_id]
            history = await self._store.history(self._account, operation_id)
            stored = [(event.occurred_at, event.event) for event in history]
            waiting.events = waiting.events[_overlap(stored, waiting.events) :]

    def _next_batch(self, stats_due: deque[str]) -> dict[str, _Waiting]:
        """The next changes to write; mere stats come last."""
        batch = {operation_id: self._waiting[operation_id] for operation_id in islice(self._waiting, BATCH)}
        for operation_id in batch:
            del self._waiting[operation_id]
        while stats_due and len(batch) < BATCH:
            operation_id = stats_due.popleft()
            operation = self._stats_only.pop(operation_id, None)
            if operation is not None:
                batch[operation_id] = _Waiting(operation, [])
        return batch

    def _put_back(self, batch: dict[str, _Waiting]) -> None:
        """Before what came in meanwhile, which knows the newer state."""
        for operation_id, earlier in tuple(batch.items()):
            later = self._waiting.get(operation_id)
            newest = later.operation if later is not None else self._stats_only.get(operation_id)
            if newest is not None and _is_of_another_life(earlier.operation, newest):
                del batch[operation_id]
            elif later is not None:
                earlier.operation = later.operation
                earlier.events += later.events
                earlier.tally = later.tally or earlier.tally
            elif (newer := self._stats_only.pop(operation_id, None)) is not None:
                earlier.operation = newer
        self._waiting = batch | self._waiting | {key: batch[key] for key in batch if key in self._waiting}


def _overlap(stored: Sequence[object], waiting: Sequence[object]) -> int:
    """How many of what waits, from its beginning, are the last that are stored."""
    longest = min(len(stored), len(waiting))
    return next((count for count in range(longest, 0, -1) if stored[-count:] == waiting[:count]), 0)


def _is_of_another_life(earlier: Operation, later: Operation) -> bool:
    """Whether the id was untracked and registered anew in between.

    What waits of the earlier life is dropped, as the store would: its events and its count are not the later one's.
    """
    return earlier.registered_at != later.registered_at


def _change(waiting: _Waiting) -> Change:
    return Change(operation=waiting.operation, events=tuple(waiting.events), tally=waiting.tally)
