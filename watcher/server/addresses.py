"""Addresses that stay bound while who answers there changes.

A daemon that stands by and then starts must not refuse a connection in between: each listener gets a second handle of
the same sockets, and connections wait in the queue meanwhile.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from starlette.types import ASGIApp

from watcher.config.tls import Tls
from watcher.server.listener import Listener
from watcher.server.protocol import Limits
from watcher.server.sockets import let_go, listening


class Addresses:
    """The sockets of the process, by the address as it was configured."""

    def __init__(self) -> None:
        self._sockets: dict[tuple[str, str], list[socket.socket]] = {}

    def listener(
        self, listen: str, app: ASGIApp, *, setting: str, tls: Callable[[], Tls | None] = lambda: None
    ) -> Listener:
        """A listener at the address, which is bound now if it was not before. Raises OperatorError."""
        # A port that the system chooses is another one for each listener, or web would answer for admin.
        key = (listen, setting if listen.endswith(":0") else "")
        if key not in self._sockets:
            self._sockets[key] = listening(listen, setting)
        return Listener(app, [sock.dup() for sock in self._sockets[key]], Limits(), owns_files=False, tls=tls)

    def keep(self, *listens: str) -> None:
        """Let all other addresses go."""
        for key in [key for key in self._sockets if key[0] not in listens]:
            let_go(self._sockets.pop(key))

    def close(self) -> None:
        """Let every address go."""
        self.keep()
