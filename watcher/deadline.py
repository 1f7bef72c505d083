"""A time limit for the whole of a blocking exchange: name resolution, connecting, and an answer that comes in drops.

Sockets only have limits for each step, and name resolution has none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


def within(seconds: float, work: Callable[[], object]) -> object:
    """What the work returns or raises. Raises TimeoutError when it takes longer; then it is left to itself.

    Its thread is a daemon: the end of the process does not wait for it.
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
    except RuntimeError:  # no more threads: without its limit is better than not at all
        return work()
    thread.join(seconds)
    if not ended:
        message = f"not over within {seconds:g} s"
        raise TimeoutError(message)
    result, failure = ended[0]
    if failure is not None:
        raise failure
    return result
