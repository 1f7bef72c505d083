"""The thread that writes lines to a file descriptor.

A blocked or broken standard output must never block polling or scraping, and an event counts as published only when its
whole line was written. The thread is a daemon thread: a process that ends does not wait for a reader that has stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import queue
import select
import threading
from collections.abc import Callable, Sequence

QUEUED_AT_MOST = 1000
"""Lines that may wait for standard output. With more, further lines of the watcher about itself are dropped."""


_Done = Callable[[OSError | None], None]


class LineWriter:
    """Writes whole lines in order: by `write`, which reports the result, or by `drop_in`, which may drop them."""

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self._queue: queue.Queue[tuple[bytes, _Done]] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._is_torn = False
        self.dropped = 0

    async def write(self, lines: Sequence[bytes]) -> None:
        """Returns when all lines are written to standard output. Raises OSError when it is closed or broken."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def settle(error: OSError | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        def done(error: OSError | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and the caller with it
                loop.call_soon_threadsafe(settle, error)

        self._put(b"".join(lines), done)
        await future

    def drop_in(self, line: bytes) -> None:
        """Write the line later, or drop it where `QUEUED_AT_MOST` lines wait. Never waits."""
        if self._queue.qsize() >= QUEUED_AT_MOST:
            self.dropped += 1
            return
        try:
            self._put(line, _forget)
        except OSError:
            self.dropped += 1

    def drain(self, seconds: float) -> bool:
        """Wait at most `seconds` for all earlier lines. Returns whether they are written. Blocks: only for the end."""
        if self._thread is None:
            return True
        done = threading.Event()
        self._put(b"", lambda _: done.set())
        return done.wait(seconds)

    def _put(self, data: bytes, done: _Done) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="standard output", daemon=True)
            try:
                thread.start()
            except RuntimeError as exc:
                raise OSError(errno.EAGAIN, "no thread can be started (limit of processes or memory)") from exc
            self._thread = thread
        self._queue.put((data, done))

    def _run(self) -> None:
        while True:
            data, done = self._queue.get()
            try:
                self._write_whole(data)
            except OSError as exc:
                done(exc)
            else:
                done(None)

    def _write_whole(self, data: bytes) -> None:
        # After half a line, the next one must begin on a new line, or neither could be parsed.
        view = memoryview(b"\n" + data if self._is_torn and data else data)
        while view:
            try:
                taken = os.write(self._descriptor, view)
            except BlockingIOError:  # another process that shares the pipe may have made it non-blocking
                select.select((), (self._descriptor,), ())
                continue
            self._is_torn = bytes(view[taken - 1 : taken]) != b"\n"
            view = view[taken:]


def _forget(_: OSError | None) -> None:
    """The result of a line that may be dropped is not needed."""
