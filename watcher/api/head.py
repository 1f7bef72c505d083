"""Reads the head of an answer within bounds.

Before the answer, upstream may send any number of interim answers (1xx; RFC 9110, section 15.2). The parser under httpx
bounds the size of a head, but not the number of heads, and parses each of them in Python: a flood of them would keep a
CPU core busy. So the bytes that come before the end of the answer's own head are counted, and read in small pieces,
between which the event loop turns.

httpx has no setting for that. But the `trace` extension of a request is called for every new connection
(docs/decisions/0008-bounded-heads.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from watcher.api.body import Unreadable

if TYPE_CHECKING:
    import httpcore

AT_MOST = 32 * 1024
"""Bytes of heads before an answer's body; common servers send less than 2 KiB, and proxies refuse above 8 to 64."""

AT_ONCE = 4 * 1024
"""Bytes that the parser gets in one step: about 160 of the shortest heads, a few milliseconds."""


@dataclass
class _Room:
    left: int = AT_MOST


_ROOM: ContextVar[_Room | None] = ContextVar("room for a head", default=None)


@contextmanager
def bounded_head() -> Iterator[None]:
    """While the context lasts, reading more than `AT_MOST` bytes raises Unreadable.

    It applies to connections for which `trace` was called, in the task that reads.
    """
    token = _ROOM.set(_Room())
    try:
        yield
    finally:
        _ROOM.reset(token)


async def trace(name: str, info: Mapping[str, Any]) -> None:
    """The `trace` extension of a request: makes every new connection read within bounds."""
    if name.endswith((".connect_tcp.complete", ".start_tls.complete")):
        _bound(info["return_value"])


def _bound(stream: httpcore.AsyncNetworkStream) -> None:
    read_on = stream.read

    async def read(max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 -- httpcore's signature
        room = _ROOM.get()
        if room is None:
            return await read_on(max_bytes, timeout)
        if room.left <= 0:
            message = f"more than {AT_MOST} bytes came before the answer"
            raise Unreadable(message)
        if room.left < AT_MOST:
            await asyncio.sleep(0)  # bytes that TLS has decrypted already are read without the loop turning
        data = await read_on(min(max_bytes, AT_ONCE, room.left), timeout)
        room.left -= len(data)
        return data

    stream.read = read  # type: ignore[method-assign]
