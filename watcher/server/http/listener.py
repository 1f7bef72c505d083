"""A listener: sockets that are bound at once, and uvicorn on them without its signal handlers and its log."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Self, cast

from starlette.types import ASGIApp
from uvicorn.server import Server

from watcher.config.tls import Tls
from watcher.server.http.limits import Limits
from watcher.server.http.protocol import Protocol, ServerConfig
from watcher.server.http.sockets import BACKLOG, let_go, listening, remove_files, url_of
from watcher.server.http.tls_handshake import TlsHandshake


def _no_tls() -> Tls | None:
    return None


_TICK = 1.0  # seconds; uvicorn renews the Date header so often


class Listener:
    """Serves one application at one configured address.

    `bind` first, so that a bad address is known before anything else starts; connections wait until `serve` runs.
    `tls` is asked at each connection, so that a new certificate is shown at once.
    """

    def __init__(
        self,
        app: ASGIApp,
        sockets: Sequence[socket.socket],
        limits: Limits,
        *,
        owns_files: bool = True,
        tls: Callable[[], Tls | None] = _no_tls,
    ) -> None:
        self._sockets = list(sockets)
        self._owns_files = owns_files
        self._tls = tls
        self._server = _Server(ServerConfig(app, limits), tls)
        self._server.owns_files = owns_files
        self._plain = tuple(url_of(sock) for sock in sockets)

    @classmethod
    def bind(
        cls,
        listen: str,
        app: ASGIApp,
        *,
        setting: str,
        limits: Limits = Limits(),  # noqa: B008 -- frozen
        tls: Callable[[], Tls | None] = _no_tls,
    ) -> Self:
        """A listener at `host:port`, `:port` (all addresses of both families), `[v6]:port` or `unix:/path`.

        Port 0 lets the system choose. Raises OperatorError, in the name of the setting, where that cannot be.
        """
        return cls(app, listening(listen, setting), limits, tls=tls)

    @property
    def addresses(self) -> Sequence[str]:
        """Where it listens, as URLs with the real port; `unix:/path` for a Unix socket."""
        return self._plain if self._tls() is None else tuple(url.replace("http:", "https:", 1) for url in self._plain)

    @property
    def url(self) -> str:
        """One address to open on this machine."""
        return self.addresses[0].replace("//0.0.0.0:", "//localhost:").replace("//127.0.0.1:", "//localhost:")

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._server.server_state.connections)

    async def serve(self) -> None:
        """Answer requests until `stop`; returns at most 2 s after it."""
        try:
            await self._server.serve(self._sockets)
        finally:
            self._server.cut_off()
            self.close()

    def stop(self) -> None:
        """Accept nothing more; what is being answered has a second to end."""
        self._server.stop()

    def close(self) -> None:
        """Let the address go; needed only where `serve` was never called."""
        if self._owns_files:
            let_go(self._sockets)
        for sock in self._sockets:
            sock.close()


class _Server(Server):
    """uvicorn's server with our TLS handshakes and no signals. It wakes once a second instead of ten times."""

    _stopping: asyncio.Event | None = None
    owns_files = True

    def __init__(self, config: ServerConfig, tls: Callable[[], Tls | None]) -> None:
        super().__init__(config)
        self._own_config = config
        self._tls = tls

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections."""
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(self._connection, sock=sock, backlog=BACKLOG) for sock in sockets or ()
        ]
        self.started = True

    def _connection(self) -> asyncio.BaseProtocol:
        protocol = Protocol(self._own_config, self.server_state, {})
        tls = self._tls()
        return protocol if tls is None else TlsHandshake(protocol, tls, self._own_config.limits)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the daemon's."""
        yield

    async def main_loop(self) -> None:
        """Until it is stopped."""
        self._stopping = asyncio.Event()
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK):
                    await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, then wait for the answers under way."""
        if self.owns_files:
            remove_files(sockets or ())
        await super().shutdown(sockets)

    def stop(self) -> None:
        """End the loop at its next turn."""
        self.should_exit = True
        if self._stopping is not None:
            self._stopping.set()

    def cut_off(self) -> None:
        """Drop the connections that did not end by themselves."""
        for connection in list(self.server_state.connections):
            cast("Protocol | TlsHandshake", connection).cut()
