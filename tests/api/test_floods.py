"""The client on connections whose other side sends more than was requested, in pieces as small as it likes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.api.client_rig import ONE, SECRET, SHOWN, USER
from tests.support.certificates import Authority
from tests.support.rereading import at_once
from watcher.api import BasicCredentials, Client, Gate, body, head
from watcher.clock import Clock
from watcher.core.attempt import Attempt
from watcher.core.governor import Governor, Share
from watcher.core.model import SECOND
from watcher.core.observation import Seen
from watcher.core.requests import Fetch

INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
TOO_MUCH = 40 * 1024
"""Bytes: more than a head may have, and fewer than the parser would take."""

TOO_LONG = "more than 32768 bytes came before the answer"
TOO_MANY = "the body comes in more than 4000 pieces"


def field_of(size: int) -> bytes:
    return b"X-Filler: " + b"x" * size + b"\r\n"


def whole(*fields: bytes, content: bytes = SHOWN) -> bytes:
    return OK + b"".join(fields) + b"Content-Length: %d\r\n\r\n" % len(content) + content


def chunked(size: int, content: bytes) -> bytes:
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    return CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@dataclass
class Flooded:
    client: Client
    attempts: list[Attempt]
    connections: list[asyncio.Task[None]]

    def codes(self) -> list[str]:
        return [attempt.code for attempt in self.attempts]


@pytest.fixture(params=["http", "https"])
def authority(request: pytest.FixtureRequest) -> Authority | None:
    return Authority() if request.param == "https" else None


@contextlib.asynccontextmanager
async def answering(answers: Sequence[bytes], authority: Authority | None, folder: Path) -> AsyncIterator[Flooded]:
    """A client of a server that gives these answers in order, the last one for good."""
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.append(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(left.pop(0) if len(left) > 1 else left[0])
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    def certified(authority: Authority) -> ssl.SSLContext:
        authority.server(folder)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(folder / "server.crt", folder / "server.key")
        return context

    connections: list[asyncio.Task[None]] = []
    tls = certified(authority) if authority else None
    trusted = authority.trusting() if authority else False
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server, httpx.AsyncClient(timeout=None, trust_env=False, verify=trusted) as http:  # noqa: S113
        clock = Clock()
        attempts: list[Attempt] = []
        client = Client(
            http=http,
            base_url=f"{'https' if tls else 'http'}://localhost:{server.sockets[0].getsockname()[1]}/v1",
            credentials=(credentials := BasicCredentials(USER, lambda: SECRET)),
            reread=at_once(credentials),
            gate=Gate(Governor(Share(per_second=1000), clock.now().tick), clock.now),
            request_timeout=60 * SECOND,
            now=clock.now,
            on_attempt=attempts.append,
        )
        yield Flooded(client, attempts, connections)
    await asyncio.gather(*connections)


@pytest.mark.parametrize(
    ("flood", "why"),
    [
        (INTERIM * (TOO_MUCH // len(INTERIM)) + whole(), TOO_LONG),
        (whole(*[field_of(1000)] * (TOO_MUCH // 1000)), TOO_LONG),
        (whole(field_of(TOO_MUCH)), TOO_LONG),
        (chunked(1, SHOWN + b" " * body.PIECES_AT_MOST), TOO_MANY),
    ],
    ids=["interim answers", "headers", "one header", "chunks of a byte"],
)
async def test_a_flood_is_abandoned_and_the_next_answer_is_read(
    flood: bytes, why: str, authority: Authority | None, tmp_path: Path
):
    async with answering([flood, whole()], authority, tmp_path) as one:
        assert isinstance(await one.client.ask(Fetch(operation_id=ONE)), Seen)
        assert one.codes() == ["garbled", "200"]
        assert one.attempts[0].why == why
        assert len(one.connections) == 2


@pytest.mark.parametrize(
    "answer",
    [
        INTERIM * 1000 + whole(),
        whole(*[field_of(1000)] * 30),
        whole(content=SHOWN + b" " * 4 * head.AT_MOST),
        chunked(100, SHOWN + b" " * 90 * body.PIECES_AT_MOST),
    ],
    ids=["interim answers", "headers", "a long body", "small chunks"],
)
async def test_many_answers_within_bounds_are_read_on_one_connection(
    answer: bytes, authority: Authority | None, tmp_path: Path
):
    async with answering([answer], authority, tmp_path) as one:
        assert [type(await one.client.ask(Fetch(operation_id=ONE))) for _ in range(3)] == [Seen] * 3
        assert one.codes() == ["200"] * 3
        assert len(one.connections) == 1


async def test_the_loop_goes_on_while_pieces_are_read_that_have_all_come():
    class Crumbs(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for _ in range(body.PIECES_AT_MOST):
                yield b" "

    reading = asyncio.create_task(body.read_body(httpx.Response(200, stream=Crumbs())))
    turns = 0
    while not reading.done():
        turns += 1
        await asyncio.sleep(0)
    assert len(await reading) == body.PIECES_AT_MOST
    assert turns >= body.PIECES_AT_MOST // 100


class AllThere:
    """A connection whose bytes have all come and are unpacked: reading never waits."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 -- httpcore's
        return b"x" * max_bytes


async def test_the_loop_goes_on_while_a_head_is_read_that_has_all_come():
    stream = AllThere()
    await head.trace("connection.start_tls.complete", {"return_value": stream})

    async def read() -> int:
        taken = 0
        with head.bounded_head(), contextlib.suppress(body.Unreadable):
            while True:
                taken += len(await stream.read(65_536))
        return taken

    reading = asyncio.create_task(read())
    turns = 0
    while not reading.done():
        turns += 1
        await asyncio.sleep(0)
    assert await reading == head.AT_MOST
    assert turns >= head.AT_MOST // head.AT_ONCE
    assert len(await stream.read(65_536)) == 65_536
