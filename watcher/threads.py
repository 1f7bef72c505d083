"""Threads for work that may block: bounded, named, started at start-up, and not waited for at the end of the process.

asyncio's default executor is one pool for everything. A name server that does not answer fills it, and then scrapes and
the end of the process wait for name resolution. Here each kind of work has threads of its own, so that it can block
only itself. docs/decisions/0009-threads.md lists all of them.

Where a thread cannot be started (limit of processes or memory), the work that needs it fails with an OSError that says
so. The next work tries to start it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import queue
import threading
import weakref
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
_Job: TypeAlias = tuple["Future[Any]", Callable[[], Any]]

MOST_WAITING = 1000
"""Work that may wait for the threads of one pool. Where more waits, they are blocked, and it would only use memory."""


class NoThreadError(OSError):
    """No thread can be started, or too much work waits for one."""

    def __init__(self, pool: str, reason: str) -> None:
        super().__init__(errno.EAGAIN, f"{reason} for {pool}")


class Threads:
    """A pool of `size` threads called `name`. They end when the pool is closed, or when no reference to it is left."""

    def __init__(self, name: str, size: int = 1, *, most_waiting: int = MOST_WAITING) -> None:
        self.name = name
        self.size = size
        self._most_waiting = most_waiting
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._started: list[threading.Thread] = []
        self._by_key: dict[Hashable, Future[Any]] = {}
        self._finish = weakref.finalize(self, _end, self._jobs, size)
        self._finish.atexit = False
        with contextlib.suppress(NoThreadError):  # tried again by the first work
            self._start()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Queue work; it begins in the order of the calls. Raises NoThreadError."""
        self._start()
        if self._jobs.qsize() >= self._most_waiting:
            raise NoThreadError(self.name, f"more than {self._most_waiting} tasks wait")
        future: Future[T] = Future()
        self._jobs.put((future, work))
        return future

    async def run(self, work: Callable[[], T]) -> T:
        """The result of the work. Cancelling the caller cancels work that has not begun. Raises NoThreadError."""
        return await asyncio.wrap_future(self.submit(work))

    async def share(self, key: Hashable, work: Callable[[], T]) -> T:
        """The result of the work, or of earlier work under the same key that has not ended.

        So work that blocks occupies a single thread, however many callers request it. Raises NoThreadError.
        """
        future = self._by_key.get(key)
        if future is None:
            future = self._by_key[key] = self.submit(work)
            future.add_done_callback(lambda _: self._by_key.pop(key, None))
        return await _result(future)

    def is_busy(self, key: Hashable) -> bool:
        """Whether work under the key has not ended."""
        return key in self._by_key

    def close(self) -> None:
        """End the threads after the work that is queued already. Returns at once."""
        self._finish()

    def _start(self) -> None:
        """Start the missing threads. Raises NoThreadError where not even one is running."""
        while len(self._started) < self.size:
            number = len(self._started) + 1
            name = self.name if self.size == 1 else f"{self.name} {number}"
            # A daemon thread: the end of the process does not wait for work that blocks.
            thread = threading.Thread(target=_work, args=(self._jobs,), name=name, daemon=True)
            try:
                thread.start()
            except (RuntimeError, MemoryError) as exc:
                if self._started:
                    return
                raise NoThreadError(self.name, "no thread can be started (limit of processes or memory)") from exc
            self._started.append(thread)


async def _result(future: Future[T]) -> T:
    """The future's result. Cancelling the caller does not cancel the future, which other callers may wait for."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def wake(_: Future[T]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the caller with it
            loop.call_soon_threadsafe(done.set)

    future.add_done_callback(wake)
    await done.wait()
    return future.result()


def _work(jobs: queue.SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        _do(*job)
        del job  # otherwise its result would stay in memory until the next job


def _do(future: Future[Any], work: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as exc:  # noqa: BLE001 -- it belongs to the caller
        future.set_exception(exc)
    else:
        future.set_result(result)


def _end(jobs: queue.SimpleQueue[_Job | None], size: int) -> None:
    for _ in range(size):
        jobs.put(None)
