"""The event loop of all commands. Names are resolved in threads of its own; it has no default executor.

The standard loop resolves names in its default executor, whose threads the end of the process waits for. Here a name
server that does not answer delays only the requests that need it, and nothing at the end.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from functools import partial
from typing import Any, NoReturn, TypeVar

from watcher.threads import Threads

RESOLVERS = 4
"""Names that can be looked up at the same time. Requests for the same name share one lookup."""

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, with this loop."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main)


class Loop(asyncio.SelectorEventLoop):
    """The standard loop, but for where blocking work is done."""

    def __init__(self) -> None:
        super().__init__()
        self._resolvers = Threads("name resolution", RESOLVERS)

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 -- asyncio's name
        proto: int = 0,
        flags: int = 0,
    ) -> list[tuple[Any, ...]]:
        """As `socket.getaddrinfo`, shared by all that ask for the same."""
        key = (host, port, family, type, proto, flags)
        return await self._resolvers.share(key, partial(socket.getaddrinfo, *key))

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        """As `socket.getnameinfo`."""
        return await self._resolvers.run(partial(socket.getnameinfo, sockaddr, flags))

    def run_in_executor(self, executor: Executor | None, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """For an executor of the caller's own. Work without one would share threads with everything."""
        if executor is None:
            _refuse(func)
        return super().run_in_executor(executor, func, *args)

    def close(self) -> None:
        """End; a lookup that blocks is not waited for."""
        self._resolvers.close()
        super().close()


def _refuse(func: object) -> NoReturn:
    message = f"no work runs in the default executor; give {func!r} threads of its own (watcher.threads)"
    raise RuntimeError(message)
