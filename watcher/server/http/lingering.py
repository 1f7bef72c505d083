"""How a connection ends: when the client has said all, so that it can read the last answer.

To close with unread bytes resets a connection, and takes the answer away from under the client's eyes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

LINGER_SECONDS = 1.0
MOST_UNREAD = 8 * 1024 * 1024
"""How long, and for how many bytes, a client is waited for that goes on."""


class LingeringClose:
    """A transport that takes its leave: `close` says no more, drops what still comes, and then closes.

    `is_unread` says whether something is still to come. TLS cannot be closed on one side only: there it closes at
    once, and who goes on sending may lose the answer.
    """

    def __init__(self, transport: asyncio.Transport, is_unread: Callable[[], bool]) -> None:
        self._transport = transport
        self._is_unread = is_unread
        self._loop = asyncio.get_running_loop()
        self._unread = 0
        self._timer: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        """Everything else is the transport's."""
        return getattr(self._transport, name)

    @property
    def is_leaving(self) -> bool:
        """Whether the connection has ended: what still arrives is not read."""
        return self._timer is not None

    def is_closing(self) -> bool:
        """Whether nothing is to be written any more."""
        return self.is_leaving or self._transport.is_closing()

    def close(self) -> None:
        """Take leave."""
        if self.is_closing():
            return
        if self._is_unread() and self._says_no_more():
            self._timer = self._loop.call_later(LINGER_SECONDS, self.end)
            self._transport.resume_reading()
        else:
            self._transport.close()

    def _says_no_more(self) -> bool:
        """End our side of the connection, whether or not the client still reads."""
        if not self._transport.can_write_eof():
            return False
        try:
            self._transport.write_eof()
        except OSError:  # it has gone, and the event loop does not know yet
            return False
        return True

    def drop(self, count: int) -> None:
        """So many bytes came after the last word."""
        self._unread += count
        if self._unread > MOST_UNREAD:
            self.end()

    def end(self) -> None:
        """Wait no longer."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._transport.is_closing():  # TLS cannot be aborted any more when it was closed twice
            self._transport.close()
