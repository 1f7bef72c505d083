"""A pipe to write lines into, which a test reads when it likes."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator


class Pipe:
    """A pipe of one page: `writing` is the end for the writer."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, 4096)

    def read(self, size: int) -> bytes:
        """Wait for exactly `size` bytes."""
        found = b""
        while len(found) < size:
            piece = os.read(self.reading, size - len(found))
            assert piece, "the writing end is closed"
            found += piece
        return found

    def close_reading(self) -> None:
        """Close the reading end."""
        if self.reading >= 0:
            os.close(self.reading)
            self.reading = -1

    def close(self) -> None:
        self.close_reading()
        os.close(self.writing)


@contextlib.contextmanager
def piped() -> Iterator[Pipe]:
    pipe = Pipe()
    try:
        yield pipe
    finally:
        pipe.close()
