"""One scrape: the watcher's own registry and the census in the format and packing that the scraper accepts.

Only what is shown is chosen on the event loop. The text is put together off it, from values that nothing changes any
more: prometheus-client writes the watcher's own metrics and those of accounts, the text of operations is kept.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from watcher.core.snapshot import AccountSnapshot
from watcher.metrics.accept import accepted_format, accepts_gzip
from watcher.metrics.census import CensusCollector
from watcher.metrics.text import OperationText, Pace

GZIP_LEVEL = 1
"""Half the time of higher levels for a tenth more bytes."""

_GZIP = 16 + zlib.MAX_WBITS
_Encode = Callable[[Collector], bytes]


class Exposition:
    """Renders scrapes. `snapshots` is called on the event loop, once a scrape."""

    def __init__(self, registry: CollectorRegistry, snapshots: Callable[[], Sequence[AccountSnapshot]]) -> None:
        self._registry = registry
        self._snapshots = snapshots
        self._text = OperationText()
        self.labels: tuple[str, ...] = ()
        self.counter_labels: tuple[str, ...] = ()

    async def render(
        self, accept: str, accept_encoding: str
    ) -> tuple[bytes, Mapping[str, str], Sequence[AccountSnapshot]]:
        """The body, its headers, and the snapshots that it carries."""
        snapshots = self._snapshots()
        census = CensusCollector(snapshots, labels=self.labels, counter_labels=self.counter_labels)
        if self._text.labels != self.labels:
            self._text = OperationText(self.labels)
        text = self._text
        encode, content_type = choose_encoder(accepted_format(accept))
        pack = _gzipped if accepts_gzip(accept_encoding) else b"".join
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if pack is _gzipped:
            headers["Content-Encoding"] = "gzip"

        def write() -> bytes:
            pace = Pace()
            shown = (operation for snapshot in snapshots for operation in snapshot.shown)
            rest = _Families(self._registry, census)
            return pack(_whole(text.pieces(shown, heads_of(encode, text.labels), pace), lambda: encode(rest)))

        return await asyncio.to_thread(write), headers, snapshots


def _whole(operations: Iterator[bytes], rest: Callable[[], bytes]) -> Iterator[bytes]:
    """The rest comes last, because the encoder ends it as the format wants."""
    yield from operations
    yield rest()


def heads_of(encode: _Encode, labels: Sequence[str]) -> Sequence[bytes]:
    """What stands above the series of each family of operations."""
    return [
        encode(_Only(family)).removesuffix(b"# EOF\n") for family in CensusCollector((), labels=labels).operations()
    ]


class _Only(Collector):
    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return [self._family]


class _Families(Collector):
    """What prometheus-client writes: the registry's families, and of the census what is not of single operations."""

    def __init__(self, registry: CollectorRegistry, census: CensusCollector) -> None:
        self._own = registry
        self._census = census

    def collect(self) -> Iterator[Metric]:
        yield from self._own.collect()
        yield from self._census.finished()
        yield from self._census.accounts()


def _gzipped(pieces: Iterable[bytes]) -> bytes:
    """Packed piece by piece; other threads run meanwhile."""
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP)
    packed = [packer.compress(piece) for piece in pieces]
    return b"".join([*packed, packer.flush()])
