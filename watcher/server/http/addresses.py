"""Addresses that stay bound while one listener replaces another.

A daemon that changes from standby to running must not refuse a connection in between. So each listener gets duplicates
of the same sockets, and connections wait in the kernel's queue meanwhile.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from starlette.types import ASGIApp

from watcher.config.tls import Tls
from watcher.server.http.limits import Limits
from watcher.server.http.listener import Listener
from watcher.server.http.sockets import let_go, listening


class Addresses:
    """The listening sockets of the process, by the address as configured."""

    def __init__(self) -> None:
        self._sockets: dict[tuple[str, str], list[socket.socket]] = {}

    def listener(
        self, listen: str, app: ASGIApp, *, setting: str, tls: Callable[[], Tls | None] = lambda: None
    ) -> Listener:
        """Return a listener at the address, which is bound now if it is not bound yet. Raises OperatorError."""
        # With port 0 each listener needs its own sockets, or web would answer requests for admin.
        key = (listen, setting if listen.endswith(":0") else "")
        if key not in self._sockets:
            self._sockets[key] = listening(listen, setting)
        return Listener(app, [sock.dup() for sock in self._sockets[key]], Limits(), owns_files=False, tls=tls)

    def keep(self, *listens: str) -> None:
        """Close all other addresses."""
        for key in [key for key in self._sockets if key[0] not in listens]:
            let_go(self._sockets.pop(key))

    def close(self) -> None:
        """Close every address."""
        self.keep()
