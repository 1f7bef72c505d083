"""One scrape: the watcher's own registry and the census in the format and packing that the scraper accepts.

Only what is shown is chosen on the event loop. The text is put together off it, from values that nothing changes any
more: prometheus-client writes the watcher's own metrics and those of accounts, the text of operations is kept.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from watcher.core.snapshot import AccountSnapshot
from watcher.metrics.accept import accepted_format, accepts_gzip
from watcher.metrics.census import CensusCollector
from watcher.metrics.counter_text import CounterText
from watcher.metrics.finished import finished_families
from watcher.metrics.text import OperationText, Pace
from watcher.threads import Threads

GZIP_LEVEL = 1
"""Half the time of higher levels for a tenth more bytes."""

RENDERERS = 2
"""Scrapes that are written at the same time; one that packs its text leaves the interpreter to the other."""

_GZIP = 16 + zlib.MAX_WBITS
_Encode = Callable[[Collector], bytes]


class Exposition:
    """Renders scrapes. `snapshots` is called on the event loop, once a scrape."""

    def __init__(
        self,
        registry: CollectorRegistry,
        snapshots: Callable[[], Sequence[AccountSnapshot]],
        threads: Threads | None = None,
    ) -> None:
        self._threads = threads or Threads("scrapes", RENDERERS)
        self._registry = registry
        self._snapshots = snapshots
        self._text = OperationText()
        self._counter_texts: dict[bool, CounterText] = {}
        self.labels: tuple[str, ...] = ()
        self.counter_labels: tuple[str, ...] = ()

    async def render(
        self, accept: str, accept_encoding: str
    ) -> tuple[bytes, Mapping[str, str], Sequence[AccountSnapshot]]:
        """The body, its headers, and the snapshots that it carries. Raises NoThreadError."""
        snapshots = self._snapshots()
        if self._text.labels != self.labels:
            self._text = OperationText(self.labels)
        text = self._text
        encode, content_type = choose_encoder(accepted_format(accept))
        created = content_type.startswith("application/openmetrics-text")
        counter_text = self._counter_text(created=created)
        census = CensusCollector(snapshots, labels=self.labels, created=created)
        pack = _gzipped if accepts_gzip(accept_encoding) else b"".join
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if pack is _gzipped:
            headers["Content-Encoding"] = "gzip"

        def write() -> bytes:
            pace = Pace()
            shown = (operation for snapshot in snapshots for operation in snapshot.shown)
            operations = heads_of(encode, text.labels)
            finished = _heads(encode, finished_families((), counter_text.names))
            kept = chain(text.pieces(shown, operations, pace), counter_text.pieces(snapshots, finished, pace))
            rest = _Families(self._registry, census, created=created)
            return pack(_whole(kept, lambda: encode(rest)))

        return await self._threads.run(write), headers, snapshots

    def _counter_text(self, *, created: bool) -> CounterText:
        kept = self._counter_texts.get(created)
        if kept is None or kept.names != self.counter_labels:
            kept = self._counter_texts[created] = CounterText(self.counter_labels, created=created)
        return kept


def _whole(kept: Iterator[bytes], rest: Callable[[], bytes]) -> Iterator[bytes]:
    """The rest comes last, because the encoder ends it as the format wants."""
    yield from kept
    yield rest()


def heads_of(encode: _Encode, labels: Sequence[str]) -> Sequence[bytes]:
    """What stands above the series of each family of operations."""
    return _heads(encode, CensusCollector((), labels=labels).operations())


def _heads(encode: _Encode, families: Iterable[Metric]) -> Sequence[bytes]:
    return [encode(_Only(family)).removesuffix(b"# EOF\n") for family in families]


class _Only(Collector):
    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return [self._family]


class _Families(Collector):
    """What prometheus-client writes: the registry's families, and of the census those of accounts.

    The plain text format has no `_created`: as families of their own they would nearly double what is scraped.
    """

    def __init__(self, registry: CollectorRegistry, census: CensusCollector, *, created: bool) -> None:
        self._own = registry
        self._census = census
        self._created = created

    def collect(self) -> Iterator[Metric]:
        for family in self._own.collect():
            if not self._created:
                family.samples = [sample for sample in family.samples if sample.name != f"{family.name}_created"]
            yield family
        yield from self._census.accounts()


def _gzipped(pieces: Iterable[bytes]) -> bytes:
    """Packed piece by piece; other threads run meanwhile."""
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP)
    packed = [packer.compress(piece) for piece in pieces]
    return b"".join([*packed, packer.flush()])
