"""The connections of one account; places in the pool that httpcore loses are recovered.

httpcore never frees the place of a connection that failed in an unusual way: a tunnel whose TLS failed, or a request
that was cancelled in the turn of the event loop after its connection was made. The pool has one place for each permit,
so each lost place would lower the account's concurrency until a restart, and the last one would end its requests.

The rule here does not depend on how a place is lost: **a request with a permit always finds a free place.** When it has
to wait for one, a place is lost, and the pool is replaced by a new one. Requests in progress on the old pool end there,
and the old pool is closed after the last of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Self, TypeAlias

import httpx

_Trace: TypeAlias = Callable[[str, Mapping[str, Any]], Coroutine[Any, Any, None]]

PLACE_WITHIN_SECONDS = 1.0
"""How long a request waits for a place. The place of a request that has ended is free a few turns of the loop later."""

_STAGES: Mapping[str, str] = {
    "connect_tcp": "while connecting",
    "start_tls": "in the TLS handshake",
    "send_request_headers": "while sending the request",
    "send_request_body": "while sending the request",
    "receive_response_headers": "while waiting for the answer",
    "receive_response_body": "while reading the answer",
}


class RequestProgress:
    """How far a request has come; kept in its extension `progress`."""

    def __init__(self) -> None:
        self.is_followed = False
        self.event = ""
        self.is_reused = False
        """Whether its connection was used by an earlier request."""

    @property
    def has_place(self) -> bool:
        """Whether a connection was assigned: the first event of a request follows at once."""
        return bool(self.event)

    @property
    def stage(self) -> str:
        """The last step that began, as the end of a sentence; empty where the request's progress is not recorded."""
        if not self.is_followed:
            return ""
        name = self.event.rpartition(".")[0].rpartition(".")[2]
        return _STAGES.get(name, "while waiting for a connection")


class Connections(httpx.AsyncBaseTransport):
    """A transport over a pool. `build` makes the pool, now and each time a place was lost."""

    def __init__(self, build: Callable[[], httpx.AsyncBaseTransport]) -> None:
        self._build = build
        self._pool = _Pool(build())
        self._has_lost = False
        self._closing: set[asyncio.Task[None]] = set()
        self.rebuilt = 0
        """The number of times that the pool was replaced."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request. Where it found no place, it is sent again over a new pool."""
        if self._has_lost:
            self._replace(self._pool)
        pool = self._pool
        try:
            return await self._send(pool, request)
        except httpx.PoolTimeout:
            self._replace(pool)
            return await self._send(self._pool, request)

    async def aclose(self) -> None:
        """Close what is open."""
        await asyncio.gather(self._pool.transport.aclose(), *self._closing)

    async def _send(self, pool: _Pool, request: httpx.Request) -> httpx.Response:
        progress = _follow(request)
        pool.busy += 1
        try:
            response = await pool.transport.handle_async_request(request)
        except BaseException as exc:
            # Also when the caller gave up before `PLACE_WITHIN_SECONDS`. The next request replaces the pool, as there
            # may never be one.
            if not progress.has_place and pool is self._pool and not isinstance(exc, httpx.PoolTimeout):
                self._has_lost = True
            self._leave(pool)
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 -- an asynchronous transport gives one
        response.stream = _Counted(response.stream, lambda: self._leave(pool))
        return response

    def _replace(self, pool: _Pool) -> None:
        if pool is not self._pool:
            return  # another request has replaced it already
        self._pool = _Pool(self._build())
        self._has_lost = False
        self.rebuilt += 1
        self._close_if_over(pool)

    def _leave(self, pool: _Pool) -> None:
        pool.busy -= 1
        self._close_if_over(pool)

    def _close_if_over(self, pool: _Pool) -> None:
        if pool is self._pool or pool.busy:
            return
        # In a task: no request waits for it, and the cancellation of a request cannot interrupt it.
        closing = asyncio.get_running_loop().create_task(pool.transport.aclose(), name="close lost connections")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


class _Pool:
    """A pool and the number of its requests in progress."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self.transport = transport
        self.busy = 0


class _Counted(httpx.AsyncByteStream):
    """A body that counts its request as in progress until the body is closed."""

    def __init__(self, stream: httpx.AsyncByteStream, over: Callable[[], None]) -> None:
        self._stream = stream
        self._over = over
        self._is_closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.__aiter__()

    async def aclose(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        try:
            await self._stream.aclose()
        finally:
            self._over()


async def _untraced(_name: str, _info: Mapping[str, Any]) -> None:
    """The trace function for requests that have none of their own."""


def _follow(request: httpx.Request) -> RequestProgress:
    """Record how far the request comes, and limit its wait for a place to `PLACE_WITHIN_SECONDS`."""
    progress = request.extensions.get("progress")
    if not isinstance(progress, RequestProgress):
        progress = RequestProgress()
    progress.is_followed, progress.event = True, ""
    shown: _Trace = request.extensions.get("trace", _untraced)

    def trace(name: str, info: Mapping[str, Any]) -> Coroutine[Any, Any, None]:
        if not progress.event:
            progress.is_reused = not name.startswith("connection.connect")
        progress.event = name
        return shown(name, info)

    timeouts = {**request.extensions.get("timeout", {}), "pool": PLACE_WITHIN_SECONDS}
    request.extensions = {**request.extensions, "trace": trace, "timeout": timeouts, "progress": progress}
    return progress
