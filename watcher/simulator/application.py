"""The API as an ASGI application. Broken answers break the connection: it is closed in the middle, or reset."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, assert_never

from uvicorn.protocols.http.h11_impl import H11Protocol

from watcher.simulator.control import CONTROL_PATH, control
from watcher.simulator.messages import Cut, Endless, Reply, Request, Reset, Silent, Trickle, Whole
from watcher.simulator.timestamps import SECOND
from watcher.simulator.upstream import Upstream

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_PIECE = 65_536
_STEPS = 20
# An endless body grows by 13 MB/s, so that other tasks can run.
_ENDLESS_STEP = 0.005


class Protocol(H11Protocol):
    """Gives the application access to the connection, since ASGI has no message to break it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Store the connection in the state of every request that comes over it."""
        # asyncio does this by itself only for sockets that were opened with the protocol's number. Without it, an
        # answer of two writes waits 40 ms for an acknowledgement.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.app_state = {**self.app_state, "connection": transport}
        super().connection_made(transport)


class Application:
    """Answers at the times that `clock` returns, in microseconds."""

    def __init__(self, upstream: Upstream, clock: Callable[[], int]) -> None:
        self._upstream = upstream
        self._clock = clock
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def close(self) -> None:
        """Break off answers that are still being sent."""
        if not self._closed.done():
            self._closed.set_result(None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request to the API or the control endpoints."""
        ask = await _read(scope, receive)
        if ask.path.startswith(CONTROL_PATH):
            reply = control(self._upstream, ask, self._clock())
            await _start(send, reply)
            await _body(send, reply.body, more=False)
            return
        visit = self._upstream.began(ask, self._clock())
        line = _Line(scope, receive, send, self._closed)
        try:
            await line.deliver(self._upstream.answer(ask, self._clock()))
        finally:
            self._upstream.ended(visit)
            await line.forget()


class _Line:
    """The connection of one request; the client may close it during a wait."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        closed: "asyncio.Future[None]",
    ) -> None:
        self._connection: asyncio.Transport = scope["state"]["connection"]
        self._send = send
        self._closed = closed
        self._hung_up = asyncio.ensure_future(receive())

    async def deliver(self, reply: Reply) -> None:
        if reply.delay and not await self._pause(reply.delay / SECOND):
            return await self._break()
        match reply.delivery:
            case Whole():
                await self._answer(reply)
            case Trickle(lasts):
                await self._trickle(reply, lasts / SECOND / _STEPS)
            case Cut(after_bytes):
                await _start(self._send, reply)
                await _body(self._send, reply.body[:after_bytes], more=True)
                await self._break()
            case Reset():
                await self._reset()
            case Silent():
                await self._pause(None)
                await self._break()
            case Endless():
                await self._endless(reply)
            case never:
                assert_never(never)
        return None

    async def forget(self) -> None:
        self._hung_up.cancel()
        await asyncio.wait({self._hung_up})

    async def _answer(self, reply: Reply) -> None:
        await _start(self._send, reply)
        if len(reply.body) <= _PIECE:
            return await _body(self._send, reply.body, more=False)
        for start in range(0, len(reply.body), _PIECE):
            await _body(self._send, reply.body[start : start + _PIECE], more=True)
        return await _body(self._send, b"", more=False)

    async def _trickle(self, reply: Reply, pause: float) -> None:
        await _start(self._send, reply)
        size = max(1, -(-len(reply.body) // _STEPS))
        for start in range(0, len(reply.body), size):
            if not await self._pause(pause):
                return await self._break()
            await _body(self._send, reply.body[start : start + size], more=True)
        return await _body(self._send, b"", more=False)

    async def _endless(self, reply: Reply) -> None:
        await _start(self._send, reply, length_is_known=False)
        await _body(self._send, reply.body, more=True)
        while await self._pause(_ENDLESS_STEP):
            await _body(self._send, b" " * _PIECE, more=True)
        await self._break()

    async def _pause(self, seconds: float | None) -> bool:
        """Wait, without limit for None. Return whether the client is still connected afterwards."""
        watched: set[asyncio.Future[Any]] = {self._hung_up, self._closed}
        await asyncio.wait(watched, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return not (self._hung_up.done() or self._closed.done())

    async def _reset(self) -> None:
        sock: socket.socket = self._connection.get_extra_info("socket")
        # With a linger time of 0 a socket sends RST instead of FIN.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self._break()

    async def _break(self) -> None:
        self._connection.close()
        # uvicorn logs an unfinished answer as an error, unless it has seen that the client is gone.
        await self._hung_up


async def _read(scope: Scope, receive: Receive) -> Request:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return Request(
        method=scope["method"],
        path=scope["raw_path"].decode("ascii", "replace"),
        query=scope["query_string"].decode("ascii", "replace"),
        headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]},
        body=bytes(body),
    )


async def _start(send: Send, reply: Reply, *, length_is_known: bool = True) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers]
    if length_is_known:
        headers.append((b"Content-Length", str(len(reply.body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers, "trailers": False})


async def _body(send: Send, body: bytes, *, more: bool) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
