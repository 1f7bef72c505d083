"""The beginning of a connection: at the limit the longest-idle one is closed for it, and TLS has a time limit.

A connection counts from its first moment on, so that half-open ones are bounded too. After the handshake it goes to the
HTTP protocol. Which certificate is shown, and whether any, is decided for each connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import MutableSet
from typing import Any, Protocol, cast

from watcher.config.tls import Tls
from watcher.server.http.limits import PIECE, Limits, evict_idle

_CLOSE_SECONDS = 2.0


class Successor(Protocol):
    """The HTTP protocol, which takes the connection over after the handshake."""

    raw: asyncio.Transport | None

    @property
    def connections(self) -> MutableSet[Any]:
        """The open connections of the listener."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin with the secured transport."""

    def data_received(self, data: bytes) -> None:
        """Take what came with the last bytes of the handshake."""


class TlsHandshake(asyncio.BufferedProtocol):
    """Does the handshake, then gives the connection to the HTTP protocol."""

    has_served = False
    is_leaving = False

    def __init__(self, successor: Successor, tls: Tls, limits: Limits) -> None:
        self._successor = successor
        self._tls = tls
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._piece = memoryview(bytearray(PIECE))
        self._early: list[bytes] = []
        self._is_lost = False
        self._handshake: asyncio.Task[None] | None = None
        self.transport: asyncio.Transport
        self.waiting_since: float | None = self._loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self.transport = cast("asyncio.Transport", transport)
        # What comes now is for TLS, which is not there yet.
        self.transport.pause_reading()
        self.transport.set_write_buffer_limits(high=0)
        evict_idle(self._successor.connections, self._limits.connections)
        self._successor.connections.add(self)  # it can do what uvicorn does with connections
        self._handshake = self._loop.create_task(self._do_handshake(), name="handshake")

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 -- whatever is there, a piece at a time
        """Where the next piece is to be put."""
        return self._piece

    def buffer_updated(self, nbytes: int) -> None:
        """Keep what comes with the last bytes of the handshake."""
        self._early.append(bytes(self._piece[:nbytes]))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- however it ended
        """It is gone."""
        self._is_lost = True
        self._successor.connections.discard(self)

    def cut(self) -> None:
        """End the connection at once."""
        self.transport.abort()

    shutdown = cut  # nothing is under way that could be ended in order

    async def _do_handshake(self) -> None:
        try:
            secured = await self._loop.start_tls(
                self.transport,
                self,
                self._tls.context,
                server_side=True,
                ssl_handshake_timeout=self._limits.handshake,
                ssl_shutdown_timeout=_CLOSE_SECONDS,
            )
        except OSError:  # no TLS, no common version, no good certificate, too slow, gone: there is no peer to answer
            self.transport.abort()
            return
        finally:
            self._successor.connections.discard(self)
        if secured is None or self._is_lost:
            return
        if not self._tls.admits(secured.get_extra_info("peercert")):
            secured.abort()
            return
        secured.set_protocol(cast("asyncio.BaseProtocol", self._successor))
        self._successor.raw = self.transport
        self._successor.connection_made(secured)
        for data in self._early:
            self._successor.data_received(data)
