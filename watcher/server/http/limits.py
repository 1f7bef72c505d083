"""What a connection may take, and which connection is closed where there are too many."""

from __future__ import annotations

from collections.abc import MutableSet
from dataclasses import dataclass
from typing import Any

from watcher.server.http.outer_middleware import MOST_HEAD

PIECE = 4 * 1024
"""Bytes that are read of a connection before the others have their turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a connection may take, in seconds, numbers and bytes.

    `keep_alive` is longer than the usual scrape interval, so that Prometheus keeps its connection. `grace` is what
    answers under way have to end at a stop; `head` is for the request line and the headers. A connection beyond
    `connections` takes the place of one that waits for its request.
    """

    handshake: float = 10.0
    request: float = 20.0
    send: float = 60.0
    keep_alive: int = 75
    grace: int = 1
    connections: int = 512
    head: int = MOST_HEAD


def evict_idle(connections: MutableSet[Any], most: int) -> None:
    """At the limit, drop the connection that waits longest for its request; first those that were refused or had none.

    Answers under way are never cut, so where all are busy nothing goes, and the newcomer is answered 503.
    """
    # uvicorn answers 503 from `most` connections on, so the newcomer has to be below that.
    if len(connections) < most - 1:
        return
    waiting = [one for one in connections if one.waiting_since is not None]
    if waiting:
        first = min(waiting, key=lambda one: (not one.is_leaving, one.has_served, one.waiting_since))
        connections.discard(first)
        first.cut()
