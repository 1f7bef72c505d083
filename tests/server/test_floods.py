"""Expensive requests, and requests behind one another: what unknown clients can cost the daemon."""

import asyncio
import contextlib
import gc
import json
import socket
import struct
import weakref
from typing import Any

import h11
import pytest
from uvicorn.server import ServerState

from tests.server.serving import AppParts, an_id, listening, until
from tests.server.test_listener import answer_to, open_raw
from watcher.server.http.limits import PIECE, Limits
from watcher.server.http.parser import FREE_CHUNKS, LEAST_BYTES, MOST_BYTES, Parser
from watcher.server.http.protocol import Protocol, ServerConfig

CHUNKED = (
    b"POST /api/v1/operations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
READY = b"GET /-/ready HTTP/1.1\r\nHost: x\r\n\r\n"


def chunks(size: int, content: bytes) -> bytes:
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


@pytest.mark.parametrize("place", ["web", "admin"])
async def test_a_body_in_one_byte_chunks_is_answered_and_the_connection_closed(parts: AppParts, place: str):
    async with listening(getattr(parts, place)()) as listener:
        reader, writer = await open_raw(listener.addresses[0])
        writer.write(CHUNKED + chunks(1, b" " * 50_000))
        async with asyncio.timeout(5):
            assert (await reader.read()).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        writer.close()
        await until(lambda: not listener.connections)
    assert parts.failures == []


async def test_a_body_in_one_byte_chunks_is_refused_with_the_reason(parts: AppParts):
    async with listening(parts.admin()) as listener:
        answer = await answer_to(listener.addresses[0], CHUNKED + chunks(1, b" " * 2 * FREE_CHUNKS))
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b'"the body comes in too many small chunks"' in answer


async def test_a_refused_client_that_keeps_sending_is_disconnected(parts: AppParts):
    async with listening(parts.admin()) as listener:
        _, writer = await open_raw(listener.addresses[0])
        writer.write(b"no HTTP at all\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"x" * 65_536)
                await writer.drain()
        await until(lambda: not listener.connections)
        writer.close()


@pytest.mark.parametrize("size", [30_000, 100_000, 1_000_000])
async def test_a_client_reads_what_is_wrong_with_a_head_of_any_size(parts: AppParts, size: int):
    large = b"GET /-/ready HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"y" * size + b"\r\n\r\n"
    async with listening(parts.web()) as listener:
        answer = await answer_to(listener.addresses[0], large)
    assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert b"request line and headers may have at most 16384 bytes together" in answer


@pytest.mark.unmeasured
@pytest.mark.parametrize("size", [LEAST_BYTES, 52, 1000, 100_000])
async def test_a_chunked_body_is_accepted(parts: AppParts, size: int):
    body = json.dumps([{"id": an_id(number)} for number in range(10_000)]).encode() + b" " * 3_000_000
    async with listening(parts.admin()) as listener:
        request = CHUNKED.replace(b"Host", b"Connection: close\r\nHost") + chunks(size, body) + b"0\r\n\r\n"
        assert (await answer_to(listener.addresses[0], request)).startswith(b"HTTP/1.1 201 ")


async def test_a_client_that_keeps_sending_after_the_answer_is_disconnected(parts: AppParts):
    async with listening(parts.web()) as listener:
        reader, writer = await open_raw(listener.addresses[0])
        writer.write(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 405 ")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 10 * MOST_BYTES:
                writer.write(b"x" * 65_536)
                await writer.drain()
                sent += 65_536
        # The sockets between us hold some more.
        assert MOST_BYTES <= sent < 5 * MOST_BYTES
        writer.close()


def test_a_connection_is_read_in_small_pieces(parts: AppParts):
    async def main() -> int:
        protocol = Protocol(ServerConfig(parts.web(), Limits()), ServerState(), {})
        return len(protocol.get_buffer(1_000_000))

    assert asyncio.run(main()) == PIECE <= 4096


def test_each_request_of_a_connection_has_its_own_pieces():
    parser = Parser(1000)
    for _ in range(3):
        parser.receive_data(CHUNKED + chunks(1, b" " * FREE_CHUNKS) + b"0\r\n\r\n")
        while not isinstance(parser.next_event(), h11.EndOfMessage):
            pass
        parser.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
        parser.send(h11.EndOfMessage())
        parser.start_next_cycle()


@pytest.mark.parametrize(
    "begun",
    [b"GET /-/re", b"POST /api/v1/operations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\n\r\n[[["],
    ids=["a head", "a body"],
)
async def test_a_request_behind_another_has_its_time_too(parts: AppParts, begun: bytes):
    async with listening(parts.admin(), request=0.05) as listener:
        reader, writer = await open_raw(listener.addresses[0])
        writer.write(READY + begun)
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                await reader.read()
        writer.close()
        await until(lambda: not listener.connections)
    assert parts.failures == []


async def test_between_two_requests_no_time_of_a_request_runs(parts: AppParts):
    async with listening(parts.web()) as listener:
        reader, writer = await open_raw(listener.addresses[0])
        writer.write(READY)
        await reader.readuntil(b"ready\n")
        (protocol,) = listener._server.server_state.connections
        assert isinstance(protocol, Protocol)
        assert not protocol._request_timer.is_running
        writer.write(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        await reader.readuntil(b"}")
        assert protocol._request_timer.is_running
        writer.write(b"123456789")
        await until(lambda: not protocol._request_timer.is_running)
        writer.close()


async def test_an_answer_to_a_request_behind_another_is_never_cut(parts: AppParts):
    answer, requested = asyncio.Event(), asyncio.Event()

    async def slow(*_: Any) -> Any:
        requested.set()
        await answer.wait()
        return b"whole\n", {}, None

    parts.metrics = slow
    async with listening(parts.web(), connections=4) as listener:
        reader, writer = await open_raw(listener.addresses[0])
        writer.write(READY + b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await requested.wait()
        others = [await open_raw(listener.addresses[0]) for _ in range(4)]
        await until(lambda: listener.connections == 3)
        answer.set()
        async with asyncio.timeout(5):
            assert (await reader.readuntil(b"whole\n")).count(b"HTTP/1.1 200") == 2
        for _, other in [*others, (reader, writer)]:
            other.transport.abort()


# ── taking leave ──────────────────────────────────────────────────────────────────────────────────────────────────────

BAD_CHUNK = b"Transfer-Encoding: chunked\r\n\r\nno chunk\r\n"


async def test_a_refused_connection_that_stays_open_is_closed_to_admit_others(parts: AppParts):
    async with listening(parts.web(), connections=6) as listener:
        staying = [await open_raw(listener.addresses[0]) for _ in range(8)]
        for _, writer in staying:
            writer.write(b"GET /-/ready HTTP/1.1\r\nHost: x\r\n" + BAD_CHUNK)
        honest = READY.replace(b"Host", b"Connection: close\r\nHost")
        assert (await answer_to(listener.addresses[0], honest)).startswith(b"HTTP/1.1 200 ")
        for _, writer in staying:
            writer.transport.abort()


async def test_a_connection_that_was_reset_is_freed(parts: AppParts):
    async with listening(parts.web()) as listener:
        reader, writer = await open_raw(listener.addresses[0])
        writer.write(READY)
        await reader.readuntil(b"ready\n")
        (made,) = map(weakref.ref, listener._server.server_state.connections)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        await until(lambda: not listener.connections)
        await asyncio.sleep(0)
        gc.collect()
        assert made() is None


@pytest.mark.parametrize("size", [150_000, 5_000_000])
async def test_a_client_that_wants_to_close_receives_the_answer_to_a_body_that_was_not_read(parts: AppParts, size: int):
    head = (
        b"POST /api/v1/operations HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size
    )
    async with listening(parts.web()) as web, listening(parts.admin()) as admin:
        refused = await answer_to(web.addresses[0], head + b"x" * size)
        not_json = await answer_to(admin.addresses[0], head + b"x" * size)
    assert refused.startswith(b"HTTP/1.1 405 ")
    assert not_json.startswith(b"HTTP/1.1 415 ")


async def test_a_scrape_that_was_refused_has_not_arrived(parts: AppParts):
    answer = asyncio.Event()

    async def slow(*_: Any) -> Any:
        await answer.wait()
        return b"up 1\n", {}, None

    for metrics in (parts.metrics, slow):
        parts.metrics = metrics
        answer.clear()
        async with listening(parts.web()) as listener:
            scrape = b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 5\r\n"
            reader, writer = await open_raw(listener.addresses[0])
            writer.write(scrape + BAD_CHUNK)
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
            answer.set()
            writer.close()
            await until(lambda: not listener.connections)
    assert (parts.scraped, parts.failures) == ([], [])


@pytest.mark.parametrize(
    "request_",
    [
        CHUNKED.partition(b"Transfer-Encoding")[0] + b"Expect: 100-continue\r\n",
        b"HEAD /-/ready HTTP/1.1\r\nHost: localhost\r\n",
    ],
    ids=["Expect", "HEAD"],
)
async def test_a_refusal_is_no_failure_of_the_daemon(parts: AppParts, request_: bytes):
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with listening(parts.admin()) as listener:
        answer = await answer_to(listener.addresses[0], request_ + BAD_CHUNK)
        await until(lambda: not listener.connections)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert (reported, parts.failures) == ([], [])
