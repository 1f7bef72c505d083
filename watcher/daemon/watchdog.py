"""A thread that watches the event loop.

One that is blocked for long is shown on standard error, and in the end the process ends with 70. Frozen, the daemon
could neither follow nor say so; a container that ends is started again, and what was committed is told then.
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
    """Wants to hear `beat` from the event loop. `end` and `clock` can be handed in."""

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
        """Whether a thread should watch that could not be started yet."""

    def start(self) -> None:
        """Watch from a thread of its own until `stop`."""
        self._is_wanted = True
        self._start()

    def stop(self) -> None:
        """Watch no longer."""
        self._is_wanted = False
        self._stopping.set()

    def beat(self) -> None:
        """The event loop turns."""
        self._beat_at = self._clock()
        self._is_dumped = False
        if self._is_wanted:
            self._start()

    def check(self) -> None:
        """Dump once when the loop has been silent for 10 s, end the process after 60 s."""
        silent = self._clock() - self._beat_at
        if silent >= END_AFTER_SECONDS:
            self._end(FROZEN)
        elif silent >= DUMP_AFTER_SECONDS and not self._is_dumped:
            self._is_dumped = True
            # In a thread of its own: a standard error that nobody reads must not keep the process from ending.
            dumping = threading.Thread(target=self._show, args=(silent,), name="watchdog's dump", daemon=True)
            with contextlib.suppress(RuntimeError):  # no thread: the end must come all the same
                dumping.start()
                dumping.join(CHECK_EVERY_SECONDS)

    def _start(self) -> None:
        with contextlib.suppress(RuntimeError):  # no thread: the next beat tries again
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
                # The whole process stood still (a suspended machine, SIGSTOP): that is not the loop's fault.
                self._beat_at = now
            last = now
            self.check()
