"""Reads the body of an answer, within bounds.

An endless body, or one that decompresses to gigabytes, is never held beyond `AT_MOST` bytes. A body that arrives byte
by byte is given up after `PIECES_AT_MOST` pieces.
"""

from __future__ import annotations

import asyncio
import zlib

import httpx

AT_MOST = 8 * 1024 * 1024
"""Bytes of a decompressed body; a full page of 1,000 operations has about 0.4 MiB."""

PIECES_AT_MOST = 4000
"""Chunks or segments of a body, each of which costs tens of microseconds; a full page may come 100 bytes at a time."""

_PIECES_AT_ONCE = 100
_GZIP = 16 + zlib.MAX_WBITS


class Unreadable(Exception):  # noqa: N818 -- caught within this package, never raised to callers
    """The answer is too large, comes in too many pieces, or is compressed in a way that was not requested."""


async def read_body(response: httpx.Response) -> bytes:
    """The decompressed body. Raises Unreadable, and what httpx raises for a connection that breaks."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        unpack = None
    elif encoding in ("gzip", "x-gzip"):
        unpack = zlib.decompressobj(_GZIP)
    else:
        message = f"the body is compressed as {encoding[:20]!r}, which was not requested"
        raise Unreadable(message)
    body = bytearray()
    pieces = 0
    async for chunk in response.aiter_raw():
        pieces += 1
        if pieces > PIECES_AT_MOST:
            message = f"the body comes in more than {PIECES_AT_MOST} pieces"
            raise Unreadable(message)
        if pieces % _PIECES_AT_ONCE == 0:
            await asyncio.sleep(0)  # pieces that have arrived already are otherwise read without the loop turning
        if unpack is not None and unpack.eof and chunk:
            # zlib would keep everything that follows the end in memory.
            message = "the compressed body continues after its end"
            raise Unreadable(message)
        body += chunk if unpack is None else _unpacked(unpack, chunk, AT_MOST + 1 - len(body))
        if len(body) > AT_MOST:
            message = f"the body is larger than {AT_MOST} bytes"
            raise Unreadable(message)
    if unpack is not None and body and not unpack.eof:
        message = "the compressed body ends too early"
        raise Unreadable(message)
    return bytes(body)


def _unpacked(unpack: zlib._Decompress, chunk: bytes, at_most: int) -> bytes:
    try:
        return unpack.decompress(chunk, at_most)
    except zlib.error as exc:
        message = "the body cannot be decompressed as its encoding says"
        raise Unreadable(message) from exc
