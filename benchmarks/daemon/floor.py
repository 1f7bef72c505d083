"""The floor: what decoding and comparing the same answers costs in a bare loop, and nothing else.

No watcher can know what changed for less: each answer is decoded once into typed rows, and each row is compared with
the last one of its id. There is no network, no order of polls, no store, no event and no metric in it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from benchmarks.daemon.upstream import LENGTH

PASSES = 3


class Stats(msgspec.Struct, gc=False):
    """The stats of a row."""

    total: int = 0
    recipients: int = 0
    queued: int = 0
    sent: int = 0
    scheduled: int = 0
    unaddressable: int = 0
    failed: int = 0
    canceled: int = 0


class Row(msgspec.Struct, gc=False):
    """An operation as an answer shows it."""

    id: str
    status: str
    stats: Stats
    createdAt: str  # noqa: N815 - upstream's word
    updatedAt: str  # noqa: N815 - upstream's word


class Answer(msgspec.Struct, gc=False):
    """A page of a list."""

    operations: list[Row]


def floor_seconds(file: Path) -> float | None:
    """CPU seconds for the recorded answers of one side, the least of a few passes; None where nothing was recorded."""
    if not file.exists():
        return None
    bodies = list(recorded(file))
    return min(one_pass(bodies) for _ in range(PASSES))


def one_pass(bodies: list[bytes]) -> float:
    """Decode and compare everything once, from no knowledge at all."""
    pages, single = msgspec.json.Decoder(Answer), msgspec.json.Decoder(Row)
    known: dict[str, Row] = {}
    began = time.thread_time()
    for body in bodies:
        rows = pages.decode(body).operations if body.startswith(b'{"operations"') else [single.decode(body)]
        for row in rows:
            if known.get(row.id) != row:
                known[row.id] = row
    return time.thread_time() - began


def recorded(file: Path) -> Iterator[bytes]:
    """The recorded bodies in order."""
    with file.open("rb") as source:
        while length := source.read(LENGTH.size):
            yield source.read(LENGTH.unpack(length)[0])
