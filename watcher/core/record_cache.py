"""Rows of lists as they were read before: most of them come again, byte for byte, every few seconds."""

from __future__ import annotations

from collections.abc import Callable

from watcher.core.observation import Record

AT_MOST = 1 << 14
"""Rows of a generation. Two are remembered: enough for ten thousand operations."""

ROW_AT_MOST = 1024
"""Bytes of a row that is remembered: twice as many as one has, so that no upstream decides what memory is taken."""


class RecordCache:
    """Remembers what `read` made of rows. What comes again stays; what does not is gone after two generations."""

    def __init__(self, read: Callable[[bytes], Record | None], at_most: int = AT_MOST) -> None:
        self._read = read
        self._at_most = at_most
        self._newer: dict[bytes, Record] = {}
        self._older: dict[bytes, Record] = {}

    def __len__(self) -> int:
        """How many rows are remembered."""
        return len(self._newer) + len(self._older)

    def record(self, row: bytes) -> Record | None:
        """The record in a row, or None where there is none in it."""
        record = self._newer.get(row)
        if record is None:
            record = self._older.pop(row, None) or self._read(row)
            if record is None or len(row) > ROW_AT_MOST:
                return record
            if len(self._newer) >= self._at_most:
                self._newer, self._older = {}, self._newer
            self._newer[row] = record
        return record
