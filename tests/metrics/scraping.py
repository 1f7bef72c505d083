"""Made-up snapshots, and what a scraper reads of them."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from tests.support.factories import NOW, at, counters_with
from watcher.core.model import SECOND, Operation, Status
from watcher.core.snapshot import AccountSnapshot
from watcher.metrics import Exposition, Instruments

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
TEXT = "text/plain; version=0.0.4"

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def a_snapshot(*operations: Operation, **changes: Any) -> AccountSnapshot:
    """An account that is up, with these operations shown and its counters at their start."""
    fields: dict[str, Any] = {
        "account": "main",
        "taken": at(),
        "is_loaded": True,
        "shown": operations,
        "statuses": {status.value: 0 for status in Status},
        "counters": counters_with(),
        "up": True,
        "last_success_at": NOW,
        "limit_per_second": 5.0,
        "freshness": 5 * SECOND,
    }
    return AccountSnapshot(**fields | changes)


class Scraper:
    """Scrapes an exposition of such snapshots."""

    def __init__(
        self,
        *snapshots: AccountSnapshot,
        labels: Sequence[str] = (),
        counter_labels: Sequence[str] = (),
        registry: CollectorRegistry | None = None,
    ) -> None:
        self.instruments = Instruments()
        self.snapshots: Sequence[AccountSnapshot] = snapshots
        for snapshot in snapshots:
            self.instruments.open_account(snapshot.account)
        self.exposition = Exposition(registry or self.instruments.registry, lambda: self.snapshots)
        self.exposition.labels = tuple(labels)
        self.exposition.counter_labels = tuple(counter_labels)

    async def text(self, accept: str = TEXT) -> str:
        body, _, carried = await self.exposition.render(accept, "")
        assert carried is self.snapshots
        return body.decode()

    async def families(self) -> Sequence[Metric]:
        return list(text_families(await self.text()))

    async def openmetrics(self) -> Sequence[Metric]:
        return list(openmetrics_families(await self.text(OPENMETRICS)))

    async def samples(self) -> Samples:
        return samples_of(await self.families())

    async def series(self, name: str) -> dict[tuple[tuple[str, str], ...], float]:
        """The samples of one name, by their labels in order."""
        return {tuple(sorted(labels)): value for (one, labels), value in (await self.samples()).items() if one == name}


def samples_of(families: Sequence[Metric]) -> Samples:
    """Every sample by name and labels; fails where one is there twice."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in families:
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, key
            found[key] = sample.value
    return found


def unpacked(body: bytes, headers: Mapping[str, str]) -> bytes:
    """The text, whatever it was packed in."""
    return gzip.decompress(body) if headers.get("Content-Encoding") == "gzip" else body
