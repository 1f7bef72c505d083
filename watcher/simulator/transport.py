"""The API behind httpx without a socket, for tests with a virtual clock: waits use asyncio.sleep."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import assert_never

import httpx

from watcher.simulator.messages import Cut, Endless, Reply, Request, Reset, Silent, Trickle, Whole
from watcher.simulator.timestamps import SECOND
from watcher.simulator.upstream import Upstream

_PIECE = 65_536
# Endless and slow bodies are sent in steps with sleeps, since a virtual clock advances only while all tasks wait.
_STEPS = 20
_STEP = 0.01


class SimulatedTransport(httpx.AsyncBaseTransport):
    """Passes requests to `upstream`, at the times that `clock` returns, in microseconds."""

    def __init__(self, upstream: Upstream, clock: Callable[[], int]) -> None:
        self.upstream = upstream
        self._clock = clock

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the answer, or raise the error of httpx for a broken one."""
        body = await request.aread()
        ask = _ask(request, body)
        visit = self.upstream.began(ask, self._clock())
        try:
            reply = self.upstream.answer(ask, self._clock())
            read_timeout = request.extensions.get("timeout", {}).get("read")
            await self._wait_for_first_byte(reply, read_timeout, request)
        except BaseException:
            self.upstream.ended(visit)
            raise
        stream = _Stream(reply, request, ended=lambda: self.upstream.ended(visit), read_timeout=read_timeout)
        return httpx.Response(reply.status, headers=_headers(reply), stream=stream, request=request)

    async def _wait_for_first_byte(self, reply: Reply, read_timeout: float | None, request: httpx.Request) -> None:
        delay = reply.delay / SECOND
        silent = isinstance(reply.delivery, Silent)
        # httpx leaves the read timeout to the transport.
        if read_timeout is not None and (silent or delay > read_timeout):
            await asyncio.sleep(read_timeout)
            raise httpx.ReadTimeout("nothing came in time", request=request)
        if silent:
            await asyncio.Event().wait()
        await asyncio.sleep(delay)
        if isinstance(reply.delivery, Reset):
            raise httpx.ReadError("connection reset by peer", request=request)


class _Stream(httpx.AsyncByteStream):
    def __init__(
        self, reply: Reply, request: httpx.Request, *, ended: Callable[[], None], read_timeout: float | None
    ) -> None:
        self._reply = reply
        self._request = request
        self._ended: Callable[[], None] | None = ended
        self._read_timeout = read_timeout

    async def __aiter__(self) -> AsyncIterator[bytes]:
        body = self._reply.body
        match self._reply.delivery:
            case Whole() | Reset() | Silent():
                for start in range(0, len(body), _PIECE):
                    yield body[start : start + _PIECE]
            case Trickle(lasts):
                async for piece in self._trickle(body, lasts / SECOND / _STEPS):
                    yield piece
            case Cut(after_bytes):
                yield body[:after_bytes]
                raise httpx.RemoteProtocolError(
                    "peer closed connection without sending complete message body", request=self._request
                )
            case Endless():
                yield body
                while True:
                    await asyncio.sleep(_STEP)
                    yield b" " * _PIECE
            case never:
                assert_never(never)

    async def _trickle(self, body: bytes, pause: float) -> AsyncIterator[bytes]:
        size = max(1, -(-len(body) // _STEPS))
        for start in range(0, len(body), size):
            if self._read_timeout is not None and pause > self._read_timeout:
                await asyncio.sleep(self._read_timeout)
                raise httpx.ReadTimeout("nothing came in time", request=self._request)
            await asyncio.sleep(pause)
            yield body[start : start + size]

    async def aclose(self) -> None:
        if self._ended is not None:
            self._ended()
            self._ended = None


def _ask(request: httpx.Request, body: bytes) -> Request:
    path, _, query = request.url.raw_path.decode("ascii").partition("?")
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Request(method=request.method, path=path, query=query, headers=headers, body=body)


def _headers(reply: Reply) -> list[tuple[str, str]]:
    if isinstance(reply.delivery, Endless):
        return [*reply.headers, ("Transfer-Encoding", "chunked")]
    return [*reply.headers, ("Content-Length", str(len(reply.body)))]
