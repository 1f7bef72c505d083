"""The head of an answer, read within bounds.

Before its answer upstream may send as many interim ones (1xx) as it likes (RFC 9110, section 15.2). The parser under
httpx bounds the size of one head, not their number, and reads each of them in Python: a flood of them would cost a
core. So what is read before the answer's own head has come is counted, and read in small pieces, between which the
event loop goes on.

httpx has no setting for that. What it does offer is the `trace` extension of a request, which is shown every
connection that is made (docs/decisions/0008-bounded-heads.md).
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
"""Bytes given to the parser in one step: some 160 of the shortest heads, a few milliseconds."""


@dataclass
class _Room:
    left: int = AT_MOST


_ROOM: ContextVar[_Room | None] = ContextVar("room for a head", default=None)


@contextmanager
def bounded_head() -> Iterator[None]:
    """For as long as an answer's head is waited for: reading more than `AT_MOST` bytes raises Unreadable.

    It holds for connections that `trace` was shown, in the task that reads.
    """
    token = _ROOM.set(_Room())
    try:
        yield
    finally:
        _ROOM.reset(token)


async def trace(name: str, info: Mapping[str, Any]) -> None:
    """The `trace` extension of a request: every connection that is made reads within bounds from then on."""
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
            await asyncio.sleep(0)  # TLS gives what it has unpacked already without a pause
        data = await read_on(min(max_bytes, AT_ONCE, room.left), timeout)
        room.left -= len(data)
        return data

    stream.read = read  # type: ignore[method-assign]
