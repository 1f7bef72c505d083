"""A thread that watches the event loop.

Where the loop is blocked for 10 s, its stack is printed on standard error; after 60 s the process ends with 70. With a
blocked loop, the daemon can neither poll nor report anything. A container that ends is started again, and then
publishes what was committed.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable

DUMP_AFTER_SECONDS = 10.0
END_AFTER_SECONDS = 60.0
CHECK_EVERY_SECONDS = 1.0
FROZEN = 70


class Watchdog:
    """Expects regular calls of `beat` from the event loop."""

    def __init__(
        self,
        end: Callable[[int], None] = os._exit,
        clock: Callable[[], float] = time.monotonic,
        dump: Callable[[], None] = lambda: faulthandler.dump_traceback(sys.stderr),
    ) -> None:
        self._end = end
        self._clock = clock
        self._dump = dump
        self._beat_at = clock()
        self._is_dumped = False
        self._stopping = threading.Event()
        self._is_wanted = False
        """Whether the thread is yet to be started: `start` was called, and it could not be started so far."""

    def start(self) -> None:
        """Start the watching thread, which ends after `stop`."""
        self._is_wanted = True
        self._start()

    def stop(self) -> None:
        """End the watching thread."""
        self._is_wanted = False
        self._stopping.set()

    def beat(self) -> None:
        """Note that the event loop turns."""
        self._beat_at = self._clock()
        self._is_dumped = False
        if self._is_wanted:
            self._start()

    def check(self) -> None:
        """Print the stacks once after 10 s without a beat; end the process after 60 s."""
        silent = self._clock() - self._beat_at
        if silent >= END_AFTER_SECONDS:
            self._end(FROZEN)
        elif silent >= DUMP_AFTER_SECONDS and not self._is_dumped:
            self._is_dumped = True
            # In a thread of its own: a blocked standard error must not keep the process from ending.
            dumping = threading.Thread(target=self._show, args=(silent,), name="watchdog's dump", daemon=True)
            with contextlib.suppress(RuntimeError):  # without a thread, the process must still end later
                dumping.start()
                dumping.join(CHECK_EVERY_SECONDS)

    def _start(self) -> None:
        with contextlib.suppress(RuntimeError):  # no thread can be started: the next beat tries again
            threading.Thread(target=self._run, name="watchdog", daemon=True).start()
            self._is_wanted = False

    def _show(self, silent: float) -> None:
        print(f"watcher: the event loop has been blocked for {silent:.0f} s", file=sys.stderr)  # noqa: T201
        self._dump()

    def _run(self) -> None:
        last = self._clock()
        while not self._stopping.wait(CHECK_EVERY_SECONDS):
            now = self._clock()
            if now - last > DUMP_AFTER_SECONDS:
                # This thread was not running either (a suspended machine, SIGSTOP), so the loop was not blocked.
                self._beat_at = now
            last = now
            self.check()
