"""SIGTERM, SIGINT and SIGHUP from the first instruction to the last.

The kernel ignores a signal without a handler where the process has the id 1, as in most containers, and SIGHUP without
one ends a process anywhere else. So there is a handler before anything else is imported, and one until the end:

    before the daemon runs    SIGTERM and SIGINT end the process with 0, as nothing has begun; SIGHUP is ignored, as the
                              configuration is read after it
    while it runs             `on_stop` and `on_reload` are called
    the second stop           the process ends at once, also with the id 1 and while the event loop is blocked
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGINT)
HANDLED = (*STOPPING, signal.SIGHUP)
_SERVICES = frozenset({"run", "demo", "simulate"})
_SIGNALED = 128
_INIT = 1


def handle_from_now_on(arguments: Sequence[str]) -> None:
    """Install the first handlers, those that suit the command of the arguments."""
    if arguments and arguments[0] in _SERVICES:
        for number in STOPPING:
            signal.signal(number, _end_before_the_start)
        signal.signal(signal.SIGHUP, _ignore)
    elif os.getpid() == _INIT:
        # For a command that runs once the default is right, which the kernel does not apply here.
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _end_now)


@contextlib.contextmanager
def handled(*, on_stop: Callable[[], bool], on_reload: Callable[[], None] | None = None) -> Iterator[None]:
    """Call these in the main thread, between two instructions. `on_stop` says whether it began to stop.

    Where it did not, a stop was under way already, and the process ends at once.
    """

    def stop(number: int, _: FrameType | None) -> None:
        if not on_stop():
            end_now(number)

    def reload(_: int, __: FrameType | None) -> None:
        if on_reload is not None:
            on_reload()

    before = {number: signal.getsignal(number) for number in HANDLED}
    for number in STOPPING:
        signal.signal(number, stop)
    signal.signal(signal.SIGHUP, reload)
    try:
        yield
    finally:
        for number, handler in before.items():
            # What came before may be a handler that was not installed from Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def end_now(number: int) -> None:
    """End the process by this signal; with the id 1, which no signal ends, with the code that a shell shows for it."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    os._exit(_SIGNALED + number)


def _end_before_the_start(_: int, __: FrameType | None) -> None:
    # Not by an exception: it could be raised, and lost, anywhere in an import.
    os._exit(0)


def _end_now(number: int, _: FrameType | None) -> None:
    end_now(number)


def _ignore(_: int, __: FrameType | None) -> None:
    """The configuration is read later than now."""
