"""Scrapes, and which of them count as completed."""

import asyncio
import socket
from typing import Any

import httpx
import pytest

from tests.server.serving import AppParts, listening, until
from watcher.server.http.protocol import SendMonitor
from watcher.server.http.scrape import PIECE, Scrape, scrape_timeout

PROMETHEUS = {"X-Prometheus-Scrape-Timeout-Seconds": "10"}
MORE_THAN_BUFFERS_HOLD = 64 * 1024 * 1024


async def test_a_scrape_gets_what_the_daemon_renders(parts: AppParts, web: httpx.AsyncClient):
    parts.exposition = b"# EOF\n"
    parts.exposition_headers = {"Content-Type": "application/openmetrics-text; version=1.0.0", "Vary": "Accept"}
    headers = [("Accept", "text/plain"), ("Accept", "*/*"), ("Accept-Encoding", "gzip")]
    answer = await web.get("/metrics", headers=headers)
    assert (answer.content, answer.headers["content-type"]) == (
        b"# EOF\n",
        "application/openmetrics-text; version=1.0.0",
    )
    assert answer.headers["vary"] == "Accept"
    ((accept, accept_encoding),) = parts.requested_formats
    assert accept.endswith("text/plain, */*")
    assert accept_encoding.endswith("gzip")


async def test_only_a_get_by_prometheus_counts(parts: AppParts, web: httpx.AsyncClient):
    await web.get("/metrics")
    await web.head("/metrics", headers=PROMETHEUS)
    await web.post("/metrics", headers=PROMETHEUS)
    await web.get("/", headers=PROMETHEUS)
    assert parts.scraped == []
    await web.get("/metrics", headers=PROMETHEUS)
    assert parts.scraped == [3]


async def test_a_scrape_over_a_connection_that_is_then_closed_counts(parts: AppParts, web: httpx.AsyncClient):
    await web.get("/metrics", headers=PROMETHEUS | {"Connection": "close"})
    await until(lambda: bool(parts.scraped))


async def test_a_scrape_larger_than_all_buffers_counts_once_it_was_read(parts: AppParts, web: httpx.AsyncClient):
    parts.exposition = b"x" * MORE_THAN_BUFFERS_HOLD
    async with web.stream("GET", "/metrics", headers=PROMETHEUS) as answer:
        assert parts.scraped == []
        size = sum([len(chunk) async for chunk in answer.aiter_raw()])
    assert size == MORE_THAN_BUFFERS_HOLD
    await until(lambda: bool(parts.scraped))


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 1])
async def test_an_answer_goes_out_whole_in_pieces(parts: AppParts, web: httpx.AsyncClient, size: int):
    parts.exposition = bytes(number % 251 for number in range(size))
    answer = await web.get("/metrics", headers=PROMETHEUS)
    assert answer.content == parts.exposition
    assert answer.headers["content-length"] == str(size)
    assert (await web.head("/metrics")).headers["content-length"] == str(size)
    assert parts.scraped == [1]


async def test_a_scraper_that_goes_away_in_the_middle_does_not_count(parts: AppParts):
    parts.exposition = b"x" * MORE_THAN_BUFFERS_HOLD
    async with listening(parts.web()) as listener:
        await half_read(listener.addresses[0])
    assert parts.scraped == []
    assert parts.failures == []


async def test_a_scraper_that_went_away_before_the_answer_does_not_count(parts: AppParts):
    requested, answer = asyncio.Event(), asyncio.Event()
    metrics = parts.metrics

    async def slow_metrics(*args: Any) -> Any:
        requested.set()
        await answer.wait()
        return await metrics(*args)

    parts.metrics = slow_metrics
    async with listening(parts.web()) as listener:
        host, port = listener.addresses[0].removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n")
        await requested.wait()
        writer.close()
        await writer.wait_closed()
        await until(lambda: not listener.connections)
        answer.set()
    assert parts.requested_formats
    assert parts.scraped == []
    assert parts.failures == []


async def half_read(url: str) -> None:
    """Ask like Prometheus, read some of the answer, and reset the connection."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n")
    assert await reader.readexactly(1000)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


class Stuck:
    """A transport whose socket accepts no bytes."""

    def is_closing(self) -> bool:
        return False


def a_scope(*headers: tuple[bytes, bytes], **state: Any) -> Any:
    return {"type": "http", "method": "GET", "path": "/metrics", "headers": list(headers), "state": state}


async def ignore(_: Any) -> None:
    """Discard what is sent."""


async def test_an_answer_that_prometheus_no_longer_waits_for_does_not_count():
    arrived: list[str] = []
    line = SendMonitor(Stuck())  # type: ignore[arg-type]
    line.fill()
    scrape = Scrape(b"", {}, arrived=lambda: arrived.append("late"))
    await scrape(a_scope((b"x-prometheus-scrape-timeout-seconds", b"0.001"), line=line), None, ignore)  # type: ignore[arg-type]
    assert arrived == []


async def test_without_its_connection_a_scrape_is_not_known_to_have_arrived_and_does_not_count():
    arrived: list[str] = []
    scrape = Scrape(b"", {}, arrived=lambda: arrived.append("unseen"))
    await scrape(a_scope((b"x-prometheus-scrape-timeout-seconds", b"1")), None, ignore)  # type: ignore[arg-type]
    assert arrived == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(b"10", 10.0), (b"0.5", 0.5), (b"1e9", 60.0), (b"0", 60.0), (b"-1", 60.0), (b"nan", 60.0), (b"soon", 60.0)],
)
def test_an_invalid_timeout_counts_as_the_longest(text: bytes, seconds: float):
    assert scrape_timeout(a_scope((b"x-prometheus-scrape-timeout-seconds", text))) == seconds


def test_without_the_header_it_is_not_prometheus():
    assert scrape_timeout(a_scope((b"accept", b"*/*"))) is None
