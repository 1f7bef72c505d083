"""A TCP proxy that meddles: one port per fault, between the daemon and the simulated API.

While its fault is in force a port does to each connection what the fault says; otherwise it passes bytes on. It runs on
an event loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeAlias

Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter
Act: TypeAlias = Callable[["Port", Reader, Writer], Awaitable[None]]
MOST = 1 << 20


class Port:
    """One port of the proxy and the fault that it is there for."""

    def __init__(self, act: Act | None, upstream: int) -> None:
        self.act = act
        self.upstream = upstream
        self.number = 0
        self.in_force = False
        self.met = 0
        """How many requests, or connections where no request is read, the fault met."""
        self.heads: list[bytes] = []
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen, on the port of before if there was one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.number, limit=MOST, backlog=512)
        self.number = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Listen no longer, and end what is under way."""
        if self._server is not None:
            self._server.close()
        await self.drop()

    async def drop(self) -> None:
        """End all connections."""
        for task in list(self._connections):
            task.cancel()
        if self._connections:
            await asyncio.wait(list(self._connections))

    async def head(self, reader: Reader) -> bytes:
        """The next request, which has no body."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.met += 1
        self.heads.append(head)
        return head

    async def true_answer(self, head: bytes) -> tuple[bytes, bytes]:
        """What upstream answers: head and body."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream, limit=MOST)
        try:
            writer.write(head[:-2] + b"Connection: close\r\n\r\n")
            whole = await reader.read(-1)
        finally:
            writer.close()
        first, _, body = whole.partition(b"\r\n\r\n")
        return first, body

    async def _serve(self, reader: Reader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if self.in_force and self.act is not None:
                await self.act(self, reader, writer)
            else:
                await self._pass_on(reader, writer)
        except (OSError, EOFError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            with contextlib.suppress(OSError):
                writer.close()

    async def _pass_on(self, reader: Reader, writer: Writer) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.upstream)
        try:
            ways = [asyncio.ensure_future(_pour(reader, back)), asyncio.ensure_future(_pour(there, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
        finally:
            back.close()


async def _pour(reader: Reader, writer: Writer) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


class Meddler:
    """All ports, on one loop in a thread."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="meddler", daemon=True)
        self._thread.start()
        self.ports: list[Port] = []

    def port(self, act: Act | None) -> Port:
        """A port whose fault is not yet in force."""
        port = Port(act, self._upstream)
        self.ports.append(port)
        self.do(port.open())
        return port

    def strike(self, port: Port) -> None:
        """The fault is in force from now on; without an act the port is closed."""
        port.in_force = True
        self.do(port.close() if port.act is None else port.drop())

    def lift(self, port: Port) -> None:
        """All is as it should be again."""
        port.in_force = False
        self.do(port.drop())
        if port.act is None:
            self.do(port.open())

    def close(self) -> None:
        """End everything."""
        for port in self.ports:
            self.do(port.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def do(self, what: Coroutine[Any, Any, None]) -> None:
        """Done on the proxy's loop, and waited for."""
        done: Future[None] = asyncio.run_coroutine_threadsafe(what, self._loop)
        done.result(20)


# ── what a fault may do ───────────────────────────────────────────────────────────────────────────────────────────────


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A whole answer that keeps its connection."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def says(raw: bytes, *, then: str = "keep") -> Act:
    """Answers every request with these bytes; `then`: keep, close, reset or hang."""

    async def act(port: Port, reader: Reader, writer: Writer) -> None:
        while True:
            await port.head(reader)
            writer.write(raw)
            await writer.drain()
            if then != "keep":
                break
        if then == "hang":
            await asyncio.sleep(3600)
        if then == "reset":
            reset(writer)

    return act


def changes(change: Callable[[Any], Any]) -> Act:
    """Passes true answers on, their JSON changed; a change to bytes is sent as it is."""

    async def act(port: Port, reader: Reader, writer: Writer) -> None:
        while True:
            _, body = await port.true_answer(await port.head(reader))
            changed = change(json.loads(body))
            writer.write(answer(changed if isinstance(changed, bytes) else json.dumps(changed).encode()))
            await writer.drain()

    return act


def delivers(deliver: Callable[[bytes, Writer], Awaitable[None]]) -> Act:
    """Passes each true answer on in a way of its own, then closes."""

    async def act(port: Port, reader: Reader, writer: Writer) -> None:
        _, body = await port.true_answer(await port.head(reader))
        await deliver(answer(body), writer)

    return act


async def close_at_once(port: Port, reader: Reader, writer: Writer) -> None:
    """Accepts and hangs up."""
    port.met += 1


async def reset_at_once(port: Port, reader: Reader, writer: Writer) -> None:
    """Accepts and resets."""
    port.met += 1
    reset(writer)


async def swallow(port: Port, reader: Reader, writer: Writer) -> None:
    """Takes everything and never answers."""
    port.met += 1
    await asyncio.sleep(3600)


def reset(writer: Writer) -> None:
    """RST instead of FIN."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


def pours(head: bytes, piece: bytes, *, pieces: int, pause: float = 0.0) -> Act:
    """A head, then a number of pieces."""

    async def act(port: Port, reader: Reader, writer: Writer) -> None:
        await port.head(reader)
        writer.write(head)
        for _ in range(pieces):
            writer.write(piece)
            await writer.drain()
            if pause:
                await asyncio.sleep(pause)

    return act


def rows(change: Callable[[dict[str, Any]], Any]) -> Callable[[Any], Any]:
    """A change to every row of a list, or to the one operation of a fetch."""

    def whole(value: Any) -> Any:
        if isinstance(value, dict) and "operations" in value:
            return value | {"operations": [change(row) for row in value["operations"]]}
        return change(value) if isinstance(value, dict) and "id" in value else value

    return whole
