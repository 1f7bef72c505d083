"""A scrape as a whole: what is in it, in which format and packing, and that scrapes get along."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator, Sequence

import pytest
from prometheus_client import CollectorRegistry, Counter, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from tests.support.factories import a_final_operation, a_running_operation, an_id, an_operation, at
from watcher.core.snapshot import AccountSnapshot
from watcher.core.totals import starting_totals
from watcher.metrics import Exposition
from watcher.metrics.census import CensusCollector

OPENMETRICS = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4"
SHOWN = (
    a_running_operation(id=an_id(1), labels={"campaign": 'a "b"\n\\'}),
    a_final_operation(id=an_id(2)),
    an_operation(id=an_id(3)),
)


def a_snapshot(*shown: object) -> AccountSnapshot:
    return AccountSnapshot(account="main", taken=at(), shown=shown, totals=starting_totals())  # type: ignore[arg-type]


class Reference(Collector):
    """The same families in the same order, all for prometheus-client to write."""

    def __init__(self, registry: CollectorRegistry, census: CensusCollector) -> None:
        self._registry = registry
        self._census = census

    def collect(self) -> Iterator[Metric]:
        yield from self._census.operations()
        yield from self._registry.collect()
        yield from self._census.finished()
        yield from self._census.accounts()


def a_registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("operation_watcher_made_up", "Made up.", registry=registry).inc()
    return registry


@pytest.mark.parametrize("labels", [(), ("campaign",)])
@pytest.mark.parametrize("accept", ["", "text/plain", "text/plain;version=1.0.0;escaping=underscores", OPENMETRICS])
async def test_a_scrape_is_what_prometheus_client_writes(accept: str, labels: tuple[str, ...]):
    registry = a_registry()
    exposition = Exposition(registry, lambda: [a_snapshot(*SHOWN)])
    exposition.labels = labels
    encode, content_type = choose_encoder(accept)
    body, headers, _ = await exposition.render(accept, "")
    assert body == encode(Reference(registry, CensusCollector([a_snapshot(*SHOWN)], labels=labels)))
    assert headers["Content-Type"] == content_type


@pytest.mark.parametrize("scheme", ["dots", "values"])
@pytest.mark.parametrize("kind", ["application/openmetrics-text;version=1.0.0", "text/plain;version=1.0.0"])
async def test_names_that_need_no_escaping_get_none(scheme: str, kind: str):
    exposition = Exposition(a_registry(), lambda: [a_snapshot(*SHOWN)])
    body, headers, _ = await exposition.render(f"{kind};escaping={scheme};q=0.5,*/*;q=0.1", "")
    assert headers["Content-Type"].endswith("escaping=underscores")
    assert b"\noperation_watcher_made_up_total 1.0\n" in body
    assert b"\ntwilio_push_operation_status{" in body


async def test_a_packed_scrape_is_the_same():
    exposition = Exposition(a_registry(), lambda: [a_snapshot(*SHOWN)])
    plain, without, _ = await exposition.render("", "identity, gzip;q=0")
    packed, headers, _ = await exposition.render("", "deflate, gzip")
    assert gzip.decompress(packed) == plain
    assert headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in without


async def test_what_a_scrape_carries_comes_with_it():
    snapshots: Sequence[AccountSnapshot] = [a_snapshot(*SHOWN)]
    _, _, carried = await Exposition(a_registry(), lambda: snapshots).render("", "")
    assert carried is snapshots


async def test_labels_that_come_into_force_are_in_the_next_scrape():
    exposition = Exposition(a_registry(), lambda: [a_snapshot(*SHOWN)])
    before, _, _ = await exposition.render("", "")
    exposition.labels = ("campaign",)
    after, _, _ = await exposition.render("", "")
    assert b"campaign" not in before
    families = {family.name: family for family in text_string_to_metric_families(after.decode())}
    values = [sample.labels["campaign"] for sample in families["twilio_push_operation_info"].samples]
    assert values == ['a "b"\n\\', "", ""]


async def test_scrapes_side_by_side_are_each_whole():
    exposition = Exposition(a_registry(), lambda: [a_snapshot(*SHOWN)])
    alone, _, _ = await exposition.render("", "")
    together = await asyncio.gather(*(exposition.render("", "") for _ in range(8)))
    assert {body for body, _, _ in together} == {alone}
