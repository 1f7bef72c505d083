"""What was learned and is not written yet. Pure: no store and no waiting; `store_sync` writes it.

State and events are written in one transaction. So the newest state of an operation waits here together with all its
events in order. What could not be written comes back, before what was learned meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from itertools import islice

import msgspec

from watcher.core.model import Instant, Operation, OperationEvent, Tally
from watcher.store import Change, StoredEvent

BATCH = 500
"""Changes of one transaction."""

FULL = 20_000
"""Operations with pending events: from here on the loop requests nothing more."""


class Pending(msgspec.Struct):
    """The newest state of an operation, and the events and the count that belong to it."""

    operation: Operation
    events: list[tuple[Instant, OperationEvent]]
    tally: Tally | None = None

    def as_change(self) -> Change:
        """What the store commits."""
        return Change(operation=self.operation, events=tuple(self.events), tally=self.tally)

    def remove_stored(self, history: Iterable[StoredEvent]) -> None:
        """Remove events that a commit stored although it failed: they would be published twice, under two ids.

        A count needs none of this: the store counts an operation only in the change that makes it final.
        """
        stored = [(event.occurred_at, event.event) for event in history]
        self.events = self.events[_overlap(stored, self.events) :]


class WriteBuffer:
    """The pending changes of one account, by operation."""

    def __init__(self) -> None:
        self._pending: dict[str, Pending] = {}
        self._stats_only: dict[str, Operation] = {}
        self._stats_due: deque[str] = deque()
        # Of the last commit that failed: where a disk fails at the wrong moment, it may have taken effect all the same.
        self._doubtful: set[str] = set()

    def __len__(self) -> int:
        """How many operations have something pending that must not be lost."""
        return len(self._pending)

    def has(self, operation_id: str) -> bool:
        """Whether something of the operation is not written yet."""
        return operation_id in self._pending or operation_id in self._stats_only

    @property
    def is_full(self) -> bool:
        """Whether so much is pending that nothing more should be requested."""
        return len(self._pending) >= FULL

    # ── what the loop learns ──────────────────────────────────────────────────────────────────────────────────────────

    def enter(
        self, operation: Operation, events: Sequence[OperationEvent], occurred_at: Instant, tally: Tally | None = None
    ) -> None:
        """Add a state with its events, to be written soon."""
        self._stats_only.pop(operation.id, None)
        pending = self._pending.get(operation.id)
        if pending is None or _is_of_another_life(pending.operation, operation):
            pending = self._pending[operation.id] = Pending(operation, [])
        pending.operation = operation
        pending.events += [(occurred_at, event) for event in events]
        pending.tally = tally or pending.tally

    def enter_stats(self, operation: Operation) -> None:
        """Add stats that changed without an event: written with the operation's next event, or once they are due."""
        pending = self._pending.get(operation.id)
        if pending is None or _is_of_another_life(pending.operation, operation):
            self._pending.pop(operation.id, None)
            self._stats_only[operation.id] = operation
        else:
            pending.operation = operation

    def drop(self, operation_id: str) -> None:
        """Forget an operation that is not tracked any more. The store would drop its change anyway."""
        self._pending.pop(operation_id, None)
        self._stats_only.pop(operation_id, None)
        self._doubtful.discard(operation_id)

    # ── what is written ───────────────────────────────────────────────────────────────────────────────────────────────

    def mark_stats_due(self) -> None:
        """Write also the stats that are pending now. Those that come later wait for their own turn."""
        self._stats_due = deque(self._stats_only)

    def take(self) -> dict[str, Pending]:
        """The changes of the next transaction, at most `BATCH`, removed from the buffer. Stats alone come last."""
        batch = {operation_id: self._pending[operation_id] for operation_id in islice(self._pending, BATCH)}
        for operation_id in batch:
            del self._pending[operation_id]
        while self._stats_due and len(batch) < BATCH:
            operation_id = self._stats_due.popleft()
            operation = self._stats_only.pop(operation_id, None)
            if operation is not None:
                batch[operation_id] = Pending(operation, [])
        return batch

    def doubtful(self, batch: Collection[str]) -> Collection[str]:
        """The operations of the batch whose events may be stored already, by a commit that failed."""
        return self._doubtful.intersection(batch)

    def written(self, batch: Collection[str]) -> None:
        """Note that the batch was committed."""
        self._doubtful.difference_update(batch)

    def failed(self, batch: dict[str, Pending]) -> None:
        """Put the batch back after a commit that failed, and that may have taken effect all the same."""
        self._doubtful |= batch.keys()
        self.put_back(batch)

    def put_back(self, batch: dict[str, Pending]) -> None:
        """Put the batch back before what came in meanwhile, which has the newer state."""
        for operation_id, earlier in tuple(batch.items()):
            later = self._pending.get(operation_id)
            newest = later.operation if later is not None else self._stats_only.get(operation_id)
            if newest is not None and _is_of_another_life(earlier.operation, newest):
                del batch[operation_id]
            elif later is not None:
                earlier.operation = later.operation
                earlier.events += later.events
                earlier.tally = later.tally or earlier.tally
            elif (newer := self._stats_only.pop(operation_id, None)) is not None:
                earlier.operation = newer
        self._pending = batch | self._pending | {key: batch[key] for key in batch if key in self._pending}


def _overlap(stored: Sequence[object], pending: Sequence[object]) -> int:
    """How many of the pending events, from the first on, are the last stored ones."""
    longest = min(len(stored), len(pending))
    return next((count for count in range(longest, 0, -1) if stored[-count:] == pending[:count]), 0)


def _is_of_another_life(earlier: Operation, later: Operation) -> bool:
    """Whether the id was untracked and registered again in between.

    What is pending of the earlier life is dropped, as the store would: its events and its count are not those of the
    later one.
    """
    return earlier.registered_at != later.registered_at
