"""The operations that an account's loop holds in memory, with the counts that every scrape needs kept up to date."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from watcher.core.census import Retention, is_retired, surplus_finals
from watcher.core.model import Instant, Operation, Status


class OperationTable:
    """Operations by id, in the order in which they were added. A newer state replaces the older one."""

    def __init__(self) -> None:
        self._by_id: dict[str, Operation] = {}
        self._finals: set[str] = set()
        self._unfinished: dict[Status, int] = dict.fromkeys(Status, 0)

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, operation_id: object) -> bool:
        return operation_id in self._by_id

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._by_id.values())

    def get(self, operation_id: str) -> Operation | None:
        """The operation, if it is held."""
        return self._by_id.get(operation_id)

    def put(self, operation: Operation) -> None:
        """Add the operation, or replace its state."""
        before = self._by_id.get(operation.id)
        self._by_id[operation.id] = operation
        if before is not None:
            if before.status is operation.status and (before.final_at is None) is (operation.final_at is None):
                return
            self._uncount(before)
        if operation.final_at is None:
            self._unfinished[operation.status] += 1
        else:
            self._finals.add(operation.id)

    def drop(self, operation_id: str) -> None:
        """Remove the operation, if it is held."""
        before = self._by_id.pop(operation_id, None)
        if before is not None:
            self._uncount(before)

    @property
    def finals(self) -> Sequence[Operation]:
        """The operations whose stats are final."""
        return [self._by_id[operation_id] for operation_id in self._finals]

    @property
    def final_count(self) -> int:
        """The number of final operations."""
        return len(self._finals)

    @property
    def unfinished(self) -> int:
        """The number of operations that are not final."""
        return len(self._by_id) - len(self._finals)

    @property
    def statuses(self) -> Mapping[str, int]:
        """The number of operations that are not final by status, with 0 for a status without any."""
        return {str(status): count for status, count in self._unfinished.items()}

    def candidates(self, now: Instant, retention: Retention) -> Sequence[Operation]:
        """All operations that could have series: every one whose series are not retired."""
        retired = {operation.id for operation in self.finals if is_retired(operation, now, retention)}
        if not retired:
            return list(self._by_id.values())
        return [operation for operation in self._by_id.values() if operation.id not in retired]

    def leaving(self, now: Instant, retention: Retention) -> set[str]:
        """The ids of final operations that are not shown any more, or that exceed the number held in memory."""
        finals = self.finals
        leaving = {operation.id for operation in finals if is_retired(operation, now, retention)}
        if len(finals) > retention.max_operations:
            leaving.update(surplus_finals(finals, retention.max_operations))
        return leaving

    def _uncount(self, operation: Operation) -> None:
        if operation.final_at is None:
            self._unfinished[operation.status] -= 1
        else:
            self._finals.discard(operation.id)
