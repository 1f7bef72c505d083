"""A scrape counts only when it arrived: a 200 to Prometheus that was handed whole to the socket."""

import asyncio
import math
from collections.abc import Callable, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from watcher.server.protocol import Line

TIMEOUT_HEADER = b"x-prometheus-scrape-timeout-seconds"
"""Prometheus says with it how long it waits; nobody else sends it."""

PIECE = 256 * 1024
"""Bytes that are handed to the socket in one go: what it does not take at once is copied, and the loop waits for that.
"""

_LONGEST_WAIT = 60.0  # seconds


class Scrape(Response):
    """The answer to a scrape; `arrived` is called once the socket has taken its last byte while Prometheus still waits.

    The protocol lets the transport buffer nothing unnoticed, so "taken" means: written to the kernel's buffer of an
    open connection, with TLS too. That the other side has read it cannot be known.
    """

    def __init__(self, body: bytes, headers: Mapping[str, str], *, arrived: Callable[[], None]) -> None:
        super().__init__(body, 200, headers)
        self._arrived = arrived

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        """Send it, and say when it arrived."""
        line: Line | None = scope.get("state", {}).get("line")
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
            await asyncio.sleep(0)  # a socket that takes everything at once would never let others run
        rest = max(len(body) - 1, 0) // PIECE * PIECE
        await send({"type": "http.response.body", "body": body[rest:]})


def scrape_timeout(scope: Scope) -> float | None:
    """How many seconds Prometheus waits for this answer; None when it is not Prometheus that asks."""
    text = next((value for name, value in scope["headers"] if name == TIMEOUT_HEADER), None)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        return _LONGEST_WAIT
    return min(seconds, _LONGEST_WAIT) if math.isfinite(seconds) and seconds > 0 else _LONGEST_WAIT


async def _taken(line: Line, wait: float) -> bool:
    try:
        async with asyncio.timeout(wait):
            return await line.took_all()
    except TimeoutError:
        return False
