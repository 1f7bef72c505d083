"""The event loop of all commands. Names are resolved in threads of its own; it has no default executor.

The standard loop resolves names in its default executor, and the process waits for these threads at its end. Here a
name server that does not answer delays only the requests that need it, and never the end of the process.
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
"""Host names that can be resolved at the same time. Requests for the same name share one lookup."""

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, with this loop."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main)


class Loop(asyncio.SelectorEventLoop):
    """The standard loop with threads of its own for name resolution, and without a default executor."""

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
        """As `socket.getaddrinfo`. Calls with the same arguments at the same time share one lookup."""
        key = (host, port, family, type, proto, flags)
        return await self._resolvers.share(key, partial(socket.getaddrinfo, *key))

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        """As `socket.getnameinfo`."""
        return await self._resolvers.run(partial(socket.getnameinfo, sockaddr, flags))

    def run_in_executor(self, executor: Executor | None, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Run work in the caller's executor. Raises RuntimeError without one: its threads would be shared by all."""
        if executor is None:
            _refuse(func)
        return super().run_in_executor(executor, func, *args)

    def close(self) -> None:
        """Close the loop without waiting for lookups that block."""
        self._resolvers.close()
        super().close()


def _refuse(func: object) -> NoReturn:
    message = f"no work runs in the default executor; give {func!r} threads of its own (watcher.threads)"
    raise RuntimeError(message)
