"""Reading a secret again where that blocks nothing: in tests it is at hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from watcher.api import BasicCredentials


def at_once(credentials: BasicCredentials) -> Callable[[], Awaitable[None]]:
    """What a client does when it was refused."""

    async def reread() -> None:
        credentials.refresh()

    return reread
