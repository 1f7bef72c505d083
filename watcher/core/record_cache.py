"""Rows of lists that were parsed before: most of them come again, byte for byte, every few seconds."""

from __future__ import annotations

from collections.abc import Callable

from watcher.core.observation import Record

AT_MOST = 1 << 14
"""Rows of a generation. Two generations are kept, which is enough for ten thousand operations."""

ROW_AT_MOST = 1024
"""The longest row kept, in bytes: twice the usual size, so that upstream does not decide how much memory is used."""


class RecordCache:
    """Keeps the records that `read` made of rows. Rows that do not come again are dropped after two generations."""

    def __init__(self, read: Callable[[bytes], Record | None], at_most: int = AT_MOST) -> None:
        self._read = read
        self._at_most = at_most
        self._newer: dict[bytes, Record] = {}
        self._older: dict[bytes, Record] = {}

    def __len__(self) -> int:
        """The number of rows kept."""
        return len(self._newer) + len(self._older)

    def record(self, row: bytes) -> Record | None:
        """The record in a row, or None if the row cannot be read."""
        # Whole rows are compared, not hashes of them: a record must never be taken for another one.
        record = self._newer.get(row)
        if record is None:
            record = self._older.pop(row, None) or self._read(row)
            if record is None or len(row) > ROW_AT_MOST:
                return record
            # No row is marked when it is used: rows in use move to the newer generation, and the older is dropped
            # whole.
            if len(self._newer) >= self._at_most:
                self._newer, self._older = {}, self._newer
            self._newer[row] = record
        return record
