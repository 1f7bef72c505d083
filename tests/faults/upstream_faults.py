"""What an upstream, and the way to it, can do to the watcher: each fault by name."""

from __future__ import annotations

import asyncio
import functools
import gzip
import json
import random
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.meddling import (
    Act,
    Port,
    Reader,
    Writer,
    answer,
    changes,
    close_at_once,
    delivers,
    pours,
    reset,
    reset_at_once,
    rows,
    says,
    swallow,
)

TRACKED = "everything is tracked to its end once the fault is over; no event is wrong and nothing is counted twice"


@dataclass(frozen=True)
class UpstreamFault:
    """`act` meddles with connections (None: the port is closed), `simulated` are the simulated API's own faults."""

    name: str
    act: Act | None = None
    simulated: Sequence[Mapping[str, Any]] = ()
    lies: bool = False
    """Rows say something else than the truth: nothing may end meanwhile."""
    promised: str = TRACKED


def sim(name: str, kind: str, *, lies: bool = False, **more: Any) -> UpstreamFault:
    return UpstreamFault(name, act=_pass_on, simulated=[{"kind": kind, **more}], lies=lies)


def status(name: str, code: int, **more: Any) -> UpstreamFault:
    return sim(name, "status", status=code, **more)


async def _pass_on(port: Port, reader: Reader, writer: Writer) -> None:
    await port._pass_on(reader, writer)


async def _cut_in_head(whole: bytes, writer: Writer) -> None:
    writer.write(whole[:25])


async def _cut_in_body(whole: bytes, writer: Writer) -> None:
    writer.write(whole[:-20])
    await writer.drain()


async def _reset_after_40(whole: bytes, writer: Writer) -> None:
    writer.write(whole[:40])
    await writer.drain()
    await asyncio.sleep(0.02)
    reset(writer)


async def _head_then_silence(whole: bytes, writer: Writer) -> None:
    writer.write(whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    await asyncio.sleep(3600)


async def _trickle(whole: bytes, writer: Writer) -> None:
    for at in range(len(whole)):
        writer.write(whole[at : at + 1])
        await writer.drain()
        await asyncio.sleep(0.3)


async def _small_pieces(whole: bytes, writer: Writer) -> None:
    for at in range(0, len(whole), 7):
        writer.write(whole[at : at + 7])
        await writer.drain()
        await asyncio.sleep(0.001)


async def _delay(whole: bytes, writer: Writer) -> None:
    await asyncio.sleep(1)
    writer.write(whole)


async def _corrupt(whole: bytes, writer: Writer) -> None:
    rng = random.Random(len(whole))
    broken = bytearray(whole)
    for _ in range(8):
        broken[rng.randrange(len(broken))] = rng.choice(b"\x00\x7f\xff{[")
    writer.write(bytes(broken))


async def _noise(whole: bytes, writer: Writer) -> None:
    writer.write(random.Random(1).randbytes(5000))


async def _twice(whole: bytes, writer: Writer) -> None:
    writer.write(whole + whole)
    await asyncio.sleep(0.5)


async def _too_long(whole: bytes, writer: Writer) -> None:
    writer.write(whole + b'{"operations": []}' * 50)
    await asyncio.sleep(0.5)


async def _wrong_chunks(whole: bytes, writer: Writer) -> None:
    body = whole.partition(b"\r\n\r\n")[2]
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + body)


async def _both_lengths(whole: bytes, writer: Writer) -> None:
    body = whole.partition(b"\r\n\r\n")[2]
    head = f"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)


@functools.cache
def _bomb(mebibytes: int) -> bytes:
    """A number of MiB of blanks, compressed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = [packer.compress(b" " * (1 << 20)) for _ in range(mebibytes)]
    return b"".join([*packed, packer.flush()])


def replaced(field: str, value: str) -> Act:
    """Raw JSON in place of a field of every row."""

    def change(body: Any) -> bytes:
        marked = rows(lambda row: {**row, field: "\x01"})(body)
        return json.dumps(marked).encode().replace(b'"\\u0001"', value.encode())

    return changes(change)


def stats(value: str) -> Act:
    """Raw JSON in place of every number of the stats."""

    def change(body: Any) -> bytes:
        names = ("total", "recipients", "queued", "sent", "scheduled", "unaddressable", "failed", "canceled")
        marked = rows(lambda row: {**row, "stats": dict.fromkeys(names, "\x01")})(body)
        return json.dumps(marked).encode().replace(b'"\\u0001"', value.encode())

    return changes(change)


def _duplicate_keys(body: Any) -> bytes:
    text = json.dumps(body).encode()
    return text.replace(b'"status": ', b'"status": "CANCELED", "status": ').replace(
        b'"stats": ', b'"stats": {}, "stats": '
    )


def paging(value: str) -> Act:
    """Raw JSON as the token of the next page."""

    def change(body: Any) -> Any:
        if "operations" not in body:
            return body
        return json.dumps(body | {"pagination": {"next": "\x01"}}).encode().replace(b'"\\u0001"', value.encode())

    return changes(change)


class _Endless:
    """A list that always has a next page, under an ever new token."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, body: Any) -> Any:
        self.number += 1
        return body | {"pagination": {"next": f"token-{self.number}"}} if "operations" in body else body


DEEP = "[" * 10_000 + "]" * 10_000
DIGITS = "9" * 4000
HTML = b"<html><body><h1>Maintenance</h1></body></html>"
OTHER_ID = "comms_operation_01h9krwprkeee8fzqspvwy6nq9"
GZIP = "Content-Encoding: gzip"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def redirect(code: str, to: str) -> Act:
    return says(answer(b"", f"Location: {to}", status=code))


def faults(elsewhere: int) -> list[UpstreamFault]:
    """All of them; `elsewhere` is the port of a server that records its requests."""
    never = f"credentials are not sent to another host; {TRACKED}"
    there = f"http://localhost:{elsewhere}/v1/PushNotifications/Operations"
    return [
        # ── the way ──
        UpstreamFault("connections are refused"),
        UpstreamFault("connections are accepted and closed", close_at_once),
        UpstreamFault("connections are accepted and reset", reset_at_once),
        UpstreamFault("a black hole: everything is taken, nothing answered", swallow),
        UpstreamFault("answers are reset after 40 bytes", delivers(_reset_after_40)),
        UpstreamFault("answers are cut in the head", delivers(_cut_in_head)),
        UpstreamFault("answers are cut 20 bytes before their end", delivers(_cut_in_body)),
        UpstreamFault("silence after the head", delivers(_head_then_silence)),
        UpstreamFault("answers trickle, a byte every 0.3 s", delivers(_trickle)),
        UpstreamFault("answers come in crumbs of 7 bytes", delivers(_small_pieces)),
        UpstreamFault("answers are a second late", delivers(_delay)),
        UpstreamFault("bytes are corrupted", delivers(_corrupt), lies=True),
        UpstreamFault("noise instead of HTTP", delivers(_noise)),
        UpstreamFault("every answer comes twice", delivers(_twice)),
        UpstreamFault("bytes behind the end of the answer", delivers(_too_long)),
        UpstreamFault("chunks of no length", delivers(_wrong_chunks)),
        UpstreamFault("two lengths that disagree", delivers(_both_lengths)),
        UpstreamFault("a malformed status line", says(b"HTTP/1.1 abc\r\n\r\n", then="close")),
        UpstreamFault("a body without a head", says(b'{"operations": []}', then="close")),
        UpstreamFault(
            "headers without end", pours(b"HTTP/1.1 200 OK\r\n", b"X-Filler: " + b"x" * 4000 + b"\r\n", pieces=2600)
        ),
        UpstreamFault("100 Continue without end", pours(b"", b"HTTP/1.1 100 Continue\r\n\r\n", pieces=100_000)),
        UpstreamFault("chunks of one byte, without end", pours(CHUNKED, b"1\r\n \r\n" * 100, pieces=16_384)),
        # ── answers of another kind ──
        UpstreamFault("204 without content", says(b"HTTP/1.1 204 No Content\r\n\r\n")),
        UpstreamFault("200 and an empty body", says(answer(b""))),
        UpstreamFault("200 and HTML", says(answer(HTML, "X-Kind: text/html"))),
        UpstreamFault("200 and an error object", says(answer(b'{"errors": [{"code": 20500}]}'))),
        UpstreamFault("301 to another host", redirect("301 Moved Permanently", there), promised=never),
        UpstreamFault("302 to another host", redirect("302 Found", there), promised=never),
        UpstreamFault("307 to another host", redirect("307 Temporary Redirect", there), promised=never),
        UpstreamFault(
            "308 to itself, without end", redirect("308 Permanent Redirect", "/v1/PushNotifications/Operations")
        ),
        UpstreamFault("a redirect to nowhere", redirect("302 Found", "http://[::bad")),
        status("400 to every request of a list", 400, endpoint="list"),
        status("401 to everything", 401),
        status("403 to everything", 403),
        status("404 to everything", 404),
        UpstreamFault("418 to everything", says(answer(b"", status="418 I'm a teapot"))),
        status("429 with Retry-After", 429, retry_after="seconds", wait="2s"),
        status("429 without Retry-After", 429),
        status("429 and a malformed Retry-After", 429, retry_after="garbage"),
        status("500 to everything", 500),
        status("502 in HTML", 502, shape="html"),
        status("503 to everything", 503),
        status("503 and Retry-After as a date", 503, retry_after="date", wait="2s"),
        UpstreamFault("503 and a Retry-After of 20 s", says(answer(HTML, "Retry-After: 20", status="503 No"))),
        status("504 to everything", 504),
        status("half of all answers are 500", 500, probability=0.5),
        # ── bodies ──
        UpstreamFault("JSON 10,000 deep", says(answer(DEEP.encode()))),
        UpstreamFault("rows 10,000 deep", replaced("extra", DEEP)),
        UpstreamFault("stats 10,000 deep", replaced("stats", DEEP), lies=True),
        UpstreamFault("numbers of 4,000 digits", stats(DIGITS), lies=True),
        UpstreamFault("NaN for numbers", stats("NaN"), lies=True),
        UpstreamFault("infinities for numbers", stats("-1e999"), lies=True),
        UpstreamFault("negative numbers", stats("-5"), lies=True),
        UpstreamFault("huge numbers", stats("9007199254740993000"), lies=True),
        UpstreamFault("fractions for numbers", stats("2.5"), lies=True),
        UpstreamFault("texts for numbers", stats('"many"'), lies=True),
        UpstreamFault("every key twice", changes(_duplicate_keys)),
        UpstreamFault("the status is a list", replaced("status", "[1, 2]"), lies=True),
        UpstreamFault("the status is 100,000 letters", replaced("status", '"' + "Ā" * 100_000 + '"'), lies=True),
        UpstreamFault("the status is a lone surrogate", replaced("status", r'"\ud800"'), lies=True),
        UpstreamFault("unknown statuses", replaced("status", r'"FAILED\u0000\n{}"'), lies=True),
        UpstreamFault("the id is of another operation", replaced("id", f'"{OTHER_ID}"')),
        UpstreamFault("the id is a number", replaced("id", "7")),
        UpstreamFault("times before 1970", replaced("updatedAt", '"0001-01-01T00:00:00Z"')),
        UpstreamFault("times in the year 2999", replaced("updatedAt", '"2999-01-01T00:00:00Z"'), lies=True),
        UpstreamFault("creation in the year 2999", replaced("createdAt", '"2999-01-01T00:00:00Z"'), lies=True),
        UpstreamFault("malformed times", replaced("createdAt", '"soon"')),
        UpstreamFault("rows are null", changes(rows(lambda row: None))),
        UpstreamFault("a text instead of an object", says(answer(b'"COMPLETED"'))),
        UpstreamFault("bytes that are no UTF-8", says(answer(b'{"operations": ["\xff\xfe"]}'))),
        UpstreamFault(
            "a mark of byte order in front", changes(lambda body: b"\xef\xbb\xbf" + json.dumps(body).encode())
        ),
        sim("unknown fields", "unknown_fields", share=1.0),
        sim("everything is null", "nulls", share=1.0, lies=True),
        UpstreamFault("a body that is not gzip", says(answer(b"no gzip at all", GZIP))),
        UpstreamFault("gzip that ends too early", says(answer(gzip.compress(b" " * 5000)[:20], GZIP))),
        UpstreamFault("an encoding that was not requested", says(answer(b"xyz", "Content-Encoding: br"))),
        # ── lists ──
        UpstreamFault("a list without end under ever new tokens", changes(_Endless())),
        UpstreamFault("a token of 1 MiB", paging('"' + "t" * (1 << 20) + '"')),
        UpstreamFault("tokens that are objects", paging('{"a": 1}')),
        sim("the same token again and again", "repeated_token"),
        sim("tokens that have gone stale", "stale_token"),
        sim("pages that are empty", "empty_page"),
        sim("rows that lists leave out", "missed_rows", rows=3),
        sim("answers five seconds old", "stale", wait="5s"),
        sim("operations not visible for ten seconds", "invisible", wait="10s"),
        # ── headers ──
        sim("upstream's clock ten minutes ahead", "skewed_date", wait="10m"),
        UpstreamFault("a malformed date", says(answer(HTML, "Date: yesterday", status="500 No"))),
        sim("a hint to come back later", "hint", retry_after="seconds", wait="4s"),
    ]


def giants() -> list[UpstreamFault]:
    """Bodies that must not cost memory; each alone, so that what it costs can be measured."""
    promised = f"costs less than 32 MiB of memory; {TRACKED}"
    piece = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    true_with_blanks = changes(lambda body: json.dumps(body).encode() + b" " * (10 << 20))
    return [
        UpstreamFault("an endless body of 1 GiB", pours(CHUNKED, piece, pieces=16_384), promised=promised),
        UpstreamFault("a gzip bomb of 1 GiB", says(answer(_bomb(1024), GZIP), then="close"), promised=promised),
        UpstreamFault("bodies of 10 MiB", true_with_blanks, promised=promised),
    ]
