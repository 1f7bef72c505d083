"""One scrape: the watcher's own registry and the census, in the format and compression that the scraper accepts.

The event loop only chooses the operations that are shown. A thread writes the text, from immutable values:
prometheus-client writes the watcher's own metrics and those of accounts, and the text of operations and counters is
kept from scrape to scrape.
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
"""Takes half the time of higher levels, for a tenth more bytes."""

RENDERERS = 2
"""Scrapes that are written at the same time. While one is compressed, the interpreter lock is free for the other."""

# zlib writes the header and trailer of gzip where 16 is added to the window bits. Its default is the zlib format.
_GZIP = 16 + zlib.MAX_WBITS
_Encode = Callable[[Collector], bytes]


class Exposition:
    """Renders scrapes. `snapshots` is called on the event loop, once per scrape."""

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
        # Everything that a reload can replace is read here, on the event loop. The thread works on these values only.
        snapshots = self._snapshots()
        if self._text.labels != self.labels:
            self._text = OperationText(self.labels)
        # One text for both formats, because gauges are the same in both. Counters are not: OpenMetrics adds `_created`.
        text = self._text
        encode, content_type = choose_encoder(accepted_format(accept))
        created = content_type.startswith("application/openmetrics-text")
        counter_text = self._counter_text(created=created)
        census = CensusCollector(snapshots, labels=self.labels, created=created)
        pack = _gzipped if accepts_gzip(accept_encoding) else b"".join
        # A cache must not answer a scraper with a body in a format or compression that another scraper asked for.
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if pack is _gzipped:
            headers["Content-Encoding"] = "gzip"

        def write() -> bytes:
            pace = Pace()
            # Iterators up to `pack`: gzip gets piece by piece, so 17 MB for 10,000 operations are never joined at once.
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
    """Kept text, then the rest: the encoder ends it as the format requires (`# EOF` in OpenMetrics)."""
    yield from kept
    yield rest()


def heads_of(encode: _Encode, labels: Sequence[str]) -> Sequence[bytes]:
    """The HELP and TYPE lines of each family of operations, in the order of the reference."""
    return _heads(encode, CensusCollector((), labels=labels).operations())


# prometheus-client writes the heads, from families without samples. They differ by format: plain text names the family
# of a counter with `_total`, OpenMetrics without. A head that kept its `# EOF` would end the exposition in the middle.
def _heads(encode: _Encode, families: Iterable[Metric]) -> Sequence[bytes]:
    return [encode(_Only(family)).removesuffix(b"# EOF\n") for family in families]


class _Only(Collector):
    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return [self._family]


class _Families(Collector):
    """The families that prometheus-client writes: those of the registry, and those of accounts from the census.

    The plain text format gets no `_created`. They would be families of their own there, and nearly double the scrape.
    """

    def __init__(self, registry: CollectorRegistry, census: CensusCollector, *, created: bool) -> None:
        self._own = registry
        self._census = census
        self._created = created

    def collect(self) -> Iterator[Metric]:
        for family in self._own.collect():
            if not self._created:
                # Changes only this scrape: `collect` of the registry makes its families anew at each call.
                family.samples = [sample for sample in family.samples if sample.name != f"{family.name}_created"]
            yield family
        yield from self._census.accounts()


def _gzipped(pieces: Iterable[bytes]) -> bytes:
    """The pieces compressed one by one. zlib releases the interpreter lock, so other threads run meanwhile."""
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP)
    packed = [packer.compress(piece) for piece in pieces]
    return b"".join([*packed, packer.flush()])
