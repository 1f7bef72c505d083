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

from tests.support.factories import (
    a_final_operation,
    a_running_operation,
    a_tally,
    an_id,
    an_operation,
    at,
    counters_with,
)
from watcher.core.labelling import Counters
from watcher.core.model import Operation
from watcher.core.snapshot import AccountSnapshot
from watcher.core.totals import Key, added_up, increments
from watcher.metrics import Exposition
from watcher.metrics.census import CensusCollector

OPENMETRICS = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4"
SHOWN = (
    a_running_operation(id=an_id(1), labels={"campaign": 'a "b"\n\\'}),
    a_final_operation(id=an_id(2)),
    an_operation(id=an_id(3)),
)


COUNTED: dict[Key, float] = increments(a_tally(sent=1_234_567_890), ('campaign=a "b"\n\\=é',))


def a_snapshot(*shown: Operation, counters: Counters | None = None) -> AccountSnapshot:
    return AccountSnapshot(account="main", taken=at(), shown=shown, counters=counters or counters_with())


class Reference(Collector):
    """The same families in the same order, all for prometheus-client to write."""

    def __init__(self, registry: CollectorRegistry, census: CensusCollector, *, created: bool) -> None:
        self._registry = registry
        self._created = created
        self._census = census

    def collect(self) -> Iterator[Metric]:
        yield from self._census.operations()
        yield from self._census.finished()
        for family in self._registry.collect():
            if not self._created:
                family.samples = [one for one in family.samples if not one.name.endswith("_created")]
            yield family
        yield from self._census.accounts()


def a_registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("operation_watcher_made_up", "Made up.", registry=registry).inc()
    return registry


@pytest.mark.parametrize("labels", [(), ("campaign",)])
@pytest.mark.parametrize("accept", ["", "text/plain", "text/plain;version=1.0.0;escaping=underscores", OPENMETRICS])
async def test_a_scrape_is_what_prometheus_client_writes(accept: str, labels: tuple[str, ...]):
    registry = a_registry()
    snapshots = [a_snapshot(*SHOWN, counters=counters_with(COUNTED, labels))]
    exposition = Exposition(registry, lambda: snapshots)
    exposition.labels = exposition.counter_labels = labels
    encode, content_type = choose_encoder(accept)
    body, headers, _ = await exposition.render(accept, "")
    created = content_type.startswith("application/openmetrics")
    census = CensusCollector(snapshots, labels=labels, counter_labels=labels, created=created)
    assert body == encode(Reference(registry, census, created=created))
    assert (b"_created{" in body) is created
    assert headers["Content-Type"] == content_type


async def test_only_changed_lines_of_counters_are_written_again():
    names = ("campaign",)
    values: dict[Key, float] = {}
    scrapes = []

    def snapshots() -> Sequence[AccountSnapshot]:
        return [a_snapshot(counters=counters_with(values, names))]

    exposition = Exposition(a_registry(), snapshots)
    exposition.counter_labels = names
    for campaign in ("spring", "autumn", "spring"):
        values = added_up(values, increments(a_tally(), (f"campaign={campaign}",)))
        body, _, _ = await exposition.render("", "")
        scrapes.append(body)
        fresh = Exposition(a_registry(), snapshots)
        fresh.counter_labels = names
        assert (await fresh.render("", ""))[0] == body
    assert len(exposition._counter_text(created=False)) == 3
    assert b'{account="main",campaign="spring",channel="push",outcome="completed"} 2.0' in scrapes[-1]


async def test_an_account_that_still_counts_under_other_labels_shows_no_counters():
    exposition = Exposition(a_registry(), lambda: [a_snapshot(counters=counters_with(COUNTED, ("campaign",)))])
    body, _, _ = await exposition.render("", "")
    assert b"_finished_total{" not in body
    exposition.counter_labels = ("campaign",)
    body, _, _ = await exposition.render("", "")
    assert b'_finished_total{account="main",campaign=' in body


@pytest.mark.parametrize("scheme", ["dots", "values"])
@pytest.mark.parametrize("kind", ["application/openmetrics-text;version=1.0.0", "text/plain;version=1.0.0"])
async def test_names_that_need_no_escaping_are_not_escaped(scheme: str, kind: str):
    exposition = Exposition(a_registry(), lambda: [a_snapshot(*SHOWN)])
    body, headers, _ = await exposition.render(f"{kind};escaping={scheme};q=0.5,*/*;q=0.1", "")
    assert headers["Content-Type"].endswith("escaping=underscores")
    assert b"\noperation_watcher_made_up_total 1.0\n" in body
    assert b"\ntwilio_operation_status{" in body


async def test_a_compressed_scrape_has_the_same_content():
    exposition = Exposition(a_registry(), lambda: [a_snapshot(*SHOWN)])
    plain, without, _ = await exposition.render("", "identity, gzip;q=0")
    packed, headers, _ = await exposition.render("", "deflate, gzip")
    assert gzip.decompress(packed) == plain
    assert headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in without


async def test_a_scrape_reports_which_operations_it_contains():
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
    values = [sample.labels["campaign"] for sample in families["twilio_operation_info"].samples]
    assert values == ['a "b"\n\\', "", ""]


async def test_scrapes_side_by_side_are_each_whole():
    exposition = Exposition(a_registry(), lambda: [a_snapshot(*SHOWN)])
    alone, _, _ = await exposition.render("", "")
    together = await asyncio.gather(*(exposition.render("", "") for _ in range(8)))
    assert {body for body, _, _ in together} == {alone}
