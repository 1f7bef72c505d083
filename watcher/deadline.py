"""A time limit for a whole blocking exchange: name resolution, connecting, and reading an answer that arrives slowly.

Sockets only have limits for each step, and name resolution has no limit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


def within(seconds: float, work: Callable[[], object]) -> object:
    """What the work returns or raises. Raises TimeoutError when it takes longer; the work itself is not stopped.

    Its thread is a daemon thread: the end of the process does not wait for it.
    """
    ended: list[tuple[object, BaseException | None]] = []

    def do() -> None:
        try:
            ended.append((work(), None))
        except BaseException as exc:  # noqa: BLE001 -- it belongs to the caller
            ended.append((None, exc))

    thread = threading.Thread(target=do, name="exchange", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no thread can be started: the work is still worth doing without a time limit
        return work()
    thread.join(seconds)
    if not ended:
        message = f"not over within {seconds:g} s"
        raise TimeoutError(message)
    result, failure = ended[0]
    if failure is not None:
        raise failure
    return result
