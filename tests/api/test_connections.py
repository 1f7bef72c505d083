"""Connections that fail in unusual ways: no place in the pool stays lost."""

from __future__ import annotations

import asyncio
from functools import partial

import httpx
import pytest

from tests.api.hammering import STUCK_SECONDS, connections, get, listening, longest_without_an_answer
from watcher.api.connections import Connections, RequestProgress


@pytest.mark.parametrize("permits", [1, 4])
async def test_requests_that_are_cancelled_at_any_moment_never_block_those_after_them(permits: int):
    async with Connections(partial(connections, permits)) as over:
        assert await longest_without_an_answer(over, permits=permits, requests=300) < STUCK_SECONDS


def over_proxy(places: int, port: int) -> Connections:
    return Connections(partial(connections, places, f"http://127.0.0.1:{port}"))


async def test_a_connection_whose_tunnel_was_dropped_is_free_again():
    dropped = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal dropped
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await writer.drain()
        dropped += 1

    async with listening(answer) as port, over_proxy(2, port) as over:
        for _ in range(8):
            with pytest.raises(httpx.ConnectError):
                await get(over, "https://upstream.invalid/", within=STUCK_SECONDS)
    assert dropped == 8
    assert over.rebuilt > 0


async def test_the_stage_of_a_request_is_known_when_it_fails():
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await writer.drain()

    progress = RequestProgress()
    assert progress.stage == ""
    async with listening(answer) as port, over_proxy(1, port) as over:
        request = httpx.Request("GET", "https://upstream.invalid/", extensions={"progress": progress})
        with pytest.raises(httpx.ConnectError):
            await over.handle_async_request(request)
    assert progress.stage == "in the TLS handshake"


async def test_requests_under_way_on_a_pool_that_is_replaced_end_there():
    closed: list[int] = []
    held = asyncio.Event()

    class Pool(httpx.AsyncBaseTransport):
        def __init__(self, number: int) -> None:
            self.number = number

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.path == "/held":
                await request.extensions["trace"]("http11.send_request_headers.started", {})
                await held.wait()
            elif self.number == 0:
                raise httpx.PoolTimeout("no place")
            return httpx.Response(200, stream=httpx.ByteStream(b"{}"))

        async def aclose(self) -> None:
            closed.append(self.number)

    numbers = iter(range(10))
    over = Connections(lambda: Pool(next(numbers)))
    first = asyncio.create_task(get(over, "http://upstream.invalid/held", within=STUCK_SECONDS))
    await asyncio.sleep(0)
    assert await get(over, "http://upstream.invalid/", within=STUCK_SECONDS) == 200
    await asyncio.sleep(0)
    assert (over.rebuilt, closed) == (1, [])
    held.set()
    assert await first == 200
    await asyncio.sleep(0)
    assert closed == [0]
    await over.aclose()
    assert closed == [0, 1]
