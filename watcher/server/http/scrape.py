"""A scrape counts as completed only if Prometheus got a 200 whose whole body was written to the socket."""

import asyncio
import math
from collections.abc import Callable, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from watcher.server.http.protocol import SendMonitor

TIMEOUT_HEADER = b"x-prometheus-scrape-timeout-seconds"
"""Only Prometheus sends this header; its value is the time that Prometheus waits, in seconds."""

PIECE = 256 * 1024
"""Bytes written to the socket at a time. What the socket does not accept is copied, which blocks the event loop.
"""

_LONGEST_WAIT = 60.0  # seconds


class Scrape(Response):
    """The answer to a scrape. `arrived` is called if the socket accepts the last byte while Prometheus still waits.

    The protocol sees everything that the transport buffers. So "accepted" means: written to the kernel's buffer of an
    open connection, with TLS too. Whether Prometheus has read it cannot be known.
    """

    def __init__(self, body: bytes, headers: Mapping[str, str], *, arrived: Callable[[], None]) -> None:
        super().__init__(body, 200, headers)
        self._arrived = arrived

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        """Send the answer, and call `arrived` once it is written completely."""
        line: SendMonitor | None = scope.get("state", {}).get("line")
        wait = scrape_timeout(scope)
        counts = scope["method"] == "GET" and wait is not None and line is not None and line.is_open
        await self._send(send)
        if counts and line is not None and await _taken(line, wait or 0.0):
            self._arrived()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = memoryview(self.body)
        for begin in range(0, len(body) - PIECE, PIECE):
            await send({"type": "http.response.body", "body": body[begin : begin + PIECE], "more_body": True})
            await asyncio.sleep(0)  # a fast socket accepts everything at once; other tasks must run in between
        rest = max(len(body) - 1, 0) // PIECE * PIECE
        await send({"type": "http.response.body", "body": body[rest:]})


def scrape_timeout(scope: Scope) -> float | None:
    """Return the seconds that Prometheus waits for this answer; None if the request is not from Prometheus."""
    text = next((value for name, value in scope["headers"] if name == TIMEOUT_HEADER), None)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        return _LONGEST_WAIT
    return min(seconds, _LONGEST_WAIT) if math.isfinite(seconds) and seconds > 0 else _LONGEST_WAIT


async def _taken(line: SendMonitor, wait: float) -> bool:
    try:
        async with asyncio.timeout(wait):
            return await line.flushed()
    except TimeoutError:
        return False
