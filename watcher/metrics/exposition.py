"""One scrape: the watcher's own registry and the census in the format and packing that the scraper accepts.

The text is written off the event loop, from values that nothing changes any more.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder

from watcher.core.snapshot import AccountSnapshot
from watcher.metrics.census import CensusCollector

GZIP_LEVEL = 1
"""Half the time of higher levels for a tenth more bytes."""


class Exposition:
    """Renders scrapes. `snapshots` is called on the event loop, once a scrape."""

    def __init__(self, registry: CollectorRegistry, snapshots: Callable[[], Sequence[AccountSnapshot]]) -> None:
        self._registry = registry
        self._snapshots = snapshots
        self.labels: tuple[str, ...] = ()
        self.counter_labels: tuple[str, ...] = ()

    async def render(
        self, accept: str, accept_encoding: str
    ) -> tuple[bytes, Mapping[str, str], Sequence[AccountSnapshot]]:
        """The body, its headers, and the snapshots that it carries."""
        snapshots = self._snapshots()
        census = CensusCollector(snapshots, labels=self.labels, counter_labels=self.counter_labels)
        encode, content_type = choose_encoder(accept)
        packed = _accepts_gzip(accept_encoding)

        def write() -> bytes:
            text: bytes = encode(_Families(self._registry, census))
            return gzip.compress(text, GZIP_LEVEL) if packed else text

        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if packed:
            headers["Content-Encoding"] = "gzip"
        return await asyncio.to_thread(write), headers, snapshots


class _Families(CollectorRegistry):
    """What an encoder walks: the registry's families, then the census."""

    def __init__(self, registry: CollectorRegistry, census: CensusCollector) -> None:
        super().__init__(auto_describe=False)
        self._own = registry
        self._census = census

    def collect(self) -> Iterator[Metric]:
        yield from self._own.collect()
        yield from self._census.collect()


def _accepts_gzip(accept_encoding: str) -> bool:
    """Whether the scraper takes gzip (RFC 9110: `q=0` refuses, and what is named goes before `*`)."""
    taken: dict[str, bool] = {}
    for part in accept_encoding.split(","):
        name, _, parameters = part.strip().partition(";")
        taken[name.strip().lower()] = parameters.replace(" ", "").lower() not in _REFUSALS
    return taken.get("gzip", taken.get("*", False))


_REFUSALS = ("q=0", "q=0.0", "q=0.00", "q=0.000")
