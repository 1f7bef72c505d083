"""The parser of one connection: h11, with a bound on what a request's body may cost before anybody has asked for it.

h11 takes some 20 µs for every chunk, however small, and it parses what strangers send before they are asked who they
are. So a body in crumbs, or one without end, is no request to us. What was wrong is remembered for the answer.
"""

from __future__ import annotations

from typing import TypeAlias

import h11

from watcher.server.http.outer_middleware import TOO_LARGE
from watcher.server.problems import problem

FREE_CHUNKS = 64
LEAST_BYTES = 32
"""Chunks of a body that may be as small as they like, and the bytes that all further ones must have on average."""

MOST_BYTES = 8 * 1024 * 1024
"""Of a body, for every route: twice what any route takes, so that a client that goes on sending can read the 413."""

INVALID = problem(400, "invalid http request received")

_Event: TypeAlias = h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]


class Parser(h11.Connection):
    """The server's side of a connection. A body beyond the bounds raises `h11.RemoteProtocolError`."""

    def __init__(self, most_head: int) -> None:
        super().__init__(h11.SERVER, most_head)
        self._chunks = 0
        self._bytes = 0
        self.refused = INVALID
        """What is answered where something was wrong."""

    @property
    def has_begun(self) -> bool:
        """Whether something of a next request has come already."""
        return bool(self.trailing_data[0])

    def next_event(self) -> _Event:
        """See `h11.Connection`."""
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as exc:
            if exc.error_status_hint == TOO_LARGE.status:
                self.refused = TOO_LARGE
            raise
        if isinstance(event, h11.Request):
            self._chunks = self._bytes = 0
        elif isinstance(event, h11.Data):
            self._chunks += event.chunk_end
            self._bytes += len(event.data)
            if self._chunks > FREE_CHUNKS + self._bytes // LEAST_BYTES:
                self._refuse("the body comes in too many small chunks")
            if self._bytes > MOST_BYTES:
                self._refuse("the body is too large")
        return event

    def _refuse(self, why: str) -> None:
        self.refused = problem(400, why)
        raise h11.RemoteProtocolError(why)
