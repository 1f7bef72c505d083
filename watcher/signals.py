"""SIGTERM, SIGINT and SIGHUP, handled from the first instruction to the last.

For the process with the id 1, as in most containers, the kernel ignores signals without a handler. Any other process
without a handler is ended by SIGHUP. So handlers are installed before anything else is imported, and stay to the end:

    before the daemon runs    SIGTERM and SIGINT end the process with 0, as nothing has begun; SIGHUP is ignored, as the
                              configuration is read later anyway
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
    """Install the first handlers, according to the command in the arguments."""
    if arguments and arguments[0] in _SERVICES:
        for number in STOPPING:
            signal.signal(number, _end_before_the_start)
        signal.signal(signal.SIGHUP, _ignore)
    elif os.getpid() == _INIT:
        # A command that runs once and ends needs the default action, which the kernel does not apply to process 1.
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _end_now)


@contextlib.contextmanager
def handled(*, on_stop: Callable[[], bool], on_reload: Callable[[], None] | None = None) -> Iterator[None]:
    """Call these in the main thread, between two instructions. `on_stop` returns whether it began to stop.

    Where it returns False, a stop is in progress already, and the process ends at once.
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
            # None stands for an earlier handler that was not installed from Python; it cannot be restored.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def end_now(number: int) -> None:
    """End the process by this signal. Process 1, which no signal ends, exits with the code that a shell would show."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    os._exit(_SIGNALED + number)


def _end_before_the_start(_: int, __: FrameType | None) -> None:
    # Not by an exception: raised in the middle of an import, it could be caught and lost.
    os._exit(0)


def _end_now(number: int, _: FrameType | None) -> None:
    end_now(number)


def _ignore(_: int, __: FrameType | None) -> None:
    """The configuration is read later than now."""
