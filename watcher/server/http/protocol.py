"""One connection: uvicorn's HTTP/1.1 with limits on time, and with knowledge of what the socket has taken.

* A request must be whole in a given time from its first byte (or the connection) on: against clients that trickle.
* What comes is read in small pieces, so that no connection holds up the others for longer than one of them takes.
* A client that does not take its answer is cut off.
* Where all connections are taken, the one that waits longest for its request makes room.
* What is no HTTP at all is answered in our own form.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import h11
import msgspec
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from watcher.server.http.limits import PIECE, Limits, evict_idle
from watcher.server.http.lingering import LingeringClose
from watcher.server.http.outer_middleware import HEADERS
from watcher.server.http.parser import Parser
from watcher.server.problems import PROBLEM_JSON

_CAN_ANSWER = frozenset({h11.IDLE, h11.SEND_RESPONSE})
_UNREAD = frozenset({h11.SEND_BODY, h11.ERROR})
_RAW_CHECK_SECONDS = 0.01


class ServerConfig(Config):
    """How uvicorn is to serve an application: only what we need of it, and none of its log."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        super().__init__(
            app,
            http=Protocol,
            ws="none",
            loop="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="critical",  # the watcher reports what matters; a line for each bad request would be noise
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=limits.connections,
            timeout_keep_alive=limits.keep_alive,
            timeout_graceful_shutdown=limits.grace,
            h11_max_incomplete_event_size=limits.head,
        )
        self.limits = limits


class SendMonitor:
    """Whether the socket has taken what was written.

    The write buffer's high-water mark is 0, so asyncio pauses writing whenever a byte is left over, and resumes when
    none is. TLS hands on what it has made without saying whether the socket took it: there the `raw` transport below
    is asked.
    """

    def __init__(self, transport: asyncio.Transport, raw: asyncio.Transport | None = None) -> None:
        self._transport = transport
        self._raw = raw
        self._is_broken = False
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    @property
    def is_open(self) -> bool:
        """Whether something written now would be sent."""
        return not self._transport.is_closing()

    async def flushed(self) -> bool:
        """Wait until the socket has taken everything; False when the connection broke with bytes left over."""
        await self._is_empty.wait()
        # A write that failed at once is reported in the next turn of the loop.
        await asyncio.sleep(0)
        was_waiting = self.is_waiting
        while self.is_waiting and not self._is_broken:  # noqa: ASYNC110 -- no event is set
            await asyncio.sleep(_RAW_CHECK_SECONDS)
        if was_waiting:
            # A broken connection has lost the remaining bytes before its end is reported.
            await asyncio.sleep(_RAW_CHECK_SECONDS)
        return not self._is_broken

    @property
    def is_waiting(self) -> bool:
        """Whether bytes are left over below TLS."""
        return self._raw is not None and self._raw.get_write_buffer_size() > 0

    def fill(self) -> None:
        """Bytes are left over."""
        self._is_empty.clear()

    def drain(self) -> None:
        """None are left over any more."""
        self._is_empty.set()

    def break_off(self) -> None:
        """What is left over is given up."""
        self._is_broken = self._is_broken or self.is_waiting

    def refuse(self) -> None:
        """What is written from now on goes nowhere."""
        self._is_broken = True

    def lose(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._is_broken = self._is_broken or exc is not None or not self._is_empty.is_set()
        self._is_empty.set()


class Protocol(H11Protocol, asyncio.BufferedProtocol):
    """uvicorn's protocol with our limits; handlers find its `SendMonitor` in the scope's state."""

    conn: Parser

    raw: asyncio.Transport | None = None
    """The transport below TLS."""
    has_served = False
    waiting_since: float | None = None
    """Since when, by the loop's clock, it has waited for a request; None while it answers."""
    _line: SendMonitor
    _request_timer: "_Timer"
    _send_timer: "_Timer"
    _raw_timer: "_Timer"
    _lingering: LingeringClose

    def __init__(
        self,
        config: ServerConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = config.limits
        self.conn = Parser(config.limits.head)
        # A slice of a memoryview is a part of it; TLS reads records into slices of what it is given.
        self._piece = memoryview(bytearray(PIECE))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        evict_idle(self.connections, self._limits.connections)
        self._lingering = LingeringClose(transport, lambda: self.conn.their_state in _UNREAD)
        super().connection_made(cast("asyncio.Transport", self._lingering))
        # TLS pauses at its mark, not above it.
        transport.set_write_buffer_limits(high=0 if self.raw is None else 1, low=0)
        self.waiting_since = self.loop.time()
        self._line = SendMonitor(self.transport, self.raw)
        self.app_state = {"line": self._line}
        self._request_timer = _Timer(self.loop, self._limits.request, self.cut)
        self._send_timer = _Timer(self.loop, self._limits.send, self.cut)
        self._raw_timer = _Timer(self.loop, self._limits.send, self._cut_if_untaken)
        self._request_timer.start()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 -- whatever is there, a piece at a time
        """Where the next piece is to be put."""
        return self._piece

    def buffer_updated(self, nbytes: int) -> None:
        """The next piece has come."""
        if self.transport.is_closing():  # TLS goes on reading while it closes, too
            self._lingering.drop(nbytes)
            return
        self.data_received(bytes(self._piece[:nbytes]))
        if self.raw is not None and nbytes == PIECE:
            # TLS has unpacked more: it goes on in a later turn, however often new bytes are reported until then.
            self.transport.pause_reading()
            self.loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if not self.flow.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Give the request its time, from its first byte on."""
        super().data_received(data)
        self._keep_time()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request, and for the client to take this answer."""
        self.has_served = True
        self.waiting_since = self.loop.time()
        if self._line.is_waiting:
            self._raw_timer.start()
        super().on_response_complete()
        self._keep_time()  # the next request may have come already, as a whole or in part

    def _keep_time(self) -> None:
        """Let the time of the request run while it is not whole; while it is answered, no time is measured."""
        state = self.conn.their_state
        if self.transport.is_closing():
            self._request_timer.stop()
            return
        if state is h11.SEND_BODY or (state is h11.IDLE and self.conn.has_begun):
            self._request_timer.start()
        else:
            self._request_timer.stop()
        if self.cycle is not None and not self.cycle.response_complete:  # type: ignore[redundant-expr]  # None at first
            self.waiting_since = None

    def pause_writing(self) -> None:
        """The socket takes no more at the moment."""
        super().pause_writing()
        self._line.fill()
        self._send_timer.start()

    def resume_writing(self) -> None:
        """The socket has taken everything."""
        super().resume_writing()
        self._line.drain()
        self._send_timer.stop()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._line.lose(exc)
        self._request_timer.stop()
        self._send_timer.stop()
        self._raw_timer.stop()
        self._lingering.end()
        # uvicorn leaves the timer of a connection that was reset, and with it all that TLS has in its buffers.
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def _cut_if_untaken(self) -> None:
        self._raw_timer.stop()
        if self._line.is_waiting:
            self.cut()

    def cut(self) -> None:
        """End the connection at once."""
        self._line.break_off()
        (self.raw or self.transport).abort()

    def shutdown(self) -> None:
        """End in order: an answer under way may end, who has had the last one is not waited for."""
        if self._lingering.is_leaving:
            self._lingering.end()
        else:
            super().shutdown()

    @property
    def is_leaving(self) -> bool:
        """Whether the last word has been said."""
        return self.transport.is_closing()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 -- the parser knows more
        """Answer what is no request, unless an answer is under way already, and take leave."""
        is_head = False
        if self.cycle is not None and not self.cycle.response_complete:  # type: ignore[redundant-expr]  # None at first
            is_head = self.cycle.scope["method"] == "HEAD"
            # A handler that reads the body is informed; what it writes goes nowhere.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._line.refuse()
        if self.conn.our_state in _CAN_ANSWER:
            refused = self.conn.refused
            body = msgspec.json.encode(refused)
            headers = {"Content-Type": PROBLEM_JSON, "Content-Length": str(len(body)), "Connection": "close", **HEADERS}
            reason = refused.title.encode()
            response = h11.Response(status_code=refused.status, reason=reason, headers=[*headers.items()])
            for event in (response, *([] if is_head else [h11.Data(data=body)]), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.waiting_since = self.loop.time()
        self.transport.close()


class _Timer:
    """Does something unless it is stopped in time; starting it again changes nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, action: Callable[[], None]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._action = action
        self._handle: asyncio.TimerHandle | None = None

    @property
    def is_running(self) -> bool:
        """Whether the time runs."""
        return self._handle is not None

    def start(self) -> None:
        """Let the time run, if it does not already."""
        if not self.is_running:
            self._handle = self._loop.call_later(self._seconds, self._action)

    def stop(self) -> None:
        """Do nothing."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
