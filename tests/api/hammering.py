"""Requests over real connections that are cancelled at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx

from watcher.api.connections import RequestProgress

Answerer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
STUCK_SECONDS = 5.0


@contextlib.asynccontextmanager
async def listening(answerer: Answerer) -> AsyncIterator[int]:
    """A server on loopback; its port."""
    under_way: set[asyncio.Task[object]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        under_way.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await answerer(reader, writer)
        finally:
            writer.close()
            under_way.discard(task)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in under_way:
            task.cancel()
        await asyncio.sleep(0.05)


def connections(places: int, proxy: str | None = None) -> httpx.AsyncHTTPTransport:
    """A pool of httpx with at most `places` connections."""
    limits = httpx.Limits(max_connections=places, max_keepalive_connections=places)
    return httpx.AsyncHTTPTransport(trust_env=False, limits=limits, proxy=proxy)


async def get(over: httpx.AsyncBaseTransport, url: str, *, within: float) -> int:
    """The status of one request, its body read and closed as the client does."""
    async with asyncio.timeout(within):
        request = httpx.Request("GET", url, extensions={"progress": RequestProgress()})
        response = await over.handle_async_request(request)
        try:
            async for _ in response.stream:  # type: ignore[union-attr]
                pass
        finally:
            await response.aclose()
        return response.status_code


async def longest_without_an_answer(over: httpx.AsyncBaseTransport, *, permits: int, requests: int) -> float:
    """Seconds; time-outs of 4 to 30 ms against answers of 0 to 30 ms, and one in ten with all the time it needs."""
    rng = random.Random(permits)
    numbers = iter(range(requests))
    longest = 0.0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(rng.uniform(0, 0.03))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    async def use_one_permit(url: str) -> None:
        nonlocal longest
        last = time.monotonic()
        for _ in numbers:
            within = STUCK_SECONDS if rng.random() < 0.1 else rng.uniform(0.004, 0.03)
            with contextlib.suppress(TimeoutError, httpx.TransportError):
                await get(over, url, within=within)
                longest = max(longest, time.monotonic() - last)
                last = time.monotonic()
        longest = max(longest, time.monotonic() - last)

    async with listening(answer) as port, asyncio.TaskGroup() as tasks:
        for _ in range(permits):
            tasks.create_task(use_one_permit(f"http://127.0.0.1:{port}/"))
    return longest
