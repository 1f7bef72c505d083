"""One scrape: every metric that dashboards hold on to, in the format and packing that the scraper accepts."""

from __future__ import annotations

import asyncio
import gzip
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.metrics.scraping import OPENMETRICS, TEXT, Scraper, a_snapshot, unpacked
from tests.support.factories import NOW, a_final_operation, a_timing
from watcher import __version__
from watcher.core.attempt import Attempt
from watcher.core.governor import AttemptResult
from watcher.core.model import SECOND
from watcher.core.requests import Endpoint
from watcher.core.wire import CODES
from watcher.metrics.instruments import DELAY_BUCKETS, KINDS, REQUEST_BUCKETS

OWN = "operation_watcher_"

# As the contract lists them, "Metrics": name and type.
METRICS = {
    "twilio_operation_messages": "gauge",
    "twilio_operation_size": "gauge",
    "twilio_operation_recipients": "gauge",
    "twilio_operation_unaddressable_recipients": "gauge",
    "twilio_operation_status": "gauge",
    "twilio_operation_created_timestamp_seconds": "gauge",
    "twilio_operation_updated_timestamp_seconds": "gauge",
    "twilio_operation_progressed_timestamp_seconds": "gauge",
    "twilio_operation_ended_timestamp_seconds": "gauge",
    "twilio_operation_info": "gauge",
    "twilio_operations_finished": "counter",
    "twilio_operation_messages_finished": "counter",
    "twilio_operation_recipients_finished": "counter",
    "twilio_operation_unaddressable_recipients_finished": "counter",
    "twilio_operation_duration_seconds": "histogram",
    "twilio_operations": "gauge",
    OWN + "build_info": "gauge",
    OWN + "account_up": "gauge",
    OWN + "account_unauthorized": "gauge",
    OWN + "last_success_timestamp_seconds": "gauge",
    OWN + "api_requests": "counter",
    OWN + "api_request_duration_seconds": "histogram",
    OWN + "api_throttled_seconds": "counter",
    OWN + "api_limit_requests_per_second": "gauge",
    OWN + "freshness_seconds": "gauge",
    OWN + "detection_delay_seconds": "histogram",
    OWN + "poll_lag_seconds": "gauge",
    OWN + "clock_skew_seconds": "gauge",
    OWN + "discovery_last_complete_timestamp_seconds": "gauge",
    OWN + "anomalies": "counter",
    OWN + "operations_suppressed": "gauge",
    OWN + "events_pending": "gauge",
    OWN + "store_usable": "gauge",
    OWN + "store_errors": "counter",
    OWN + "store_bytes": "gauge",
    OWN + "event_loop_lag_seconds": "gauge",
    OWN + "config_last_reload_successful": "gauge",
    OWN + "config_last_reload_success_timestamp_seconds": "gauge",
}


async def test_every_metric_is_there_once_with_its_type_its_help_and_a_series():
    scraper = Scraper(a_snapshot(a_final_operation(), discovered_at=NOW))
    for families in (await scraper.families(), await scraper.openmetrics()):
        ours = [family for family in families if not family.name.startswith(("process_", "python_"))]
        assert {family.name: family.type for family in ours} == METRICS
        assert len(ours) == len(METRICS)
        assert all(family.documentation.endswith(".") and family.samples for family in ours)
        others = {family.name for family in families} - METRICS.keys()
        assert {"process_resident_memory_bytes", "process_open_fds", "python_info"} <= others


async def test_openmetrics_has_the_creation_time_of_every_counter_and_plain_text_does_not():
    scraper = Scraper(a_snapshot(a_final_operation(), started_at=NOW))
    assert not re.search(r"_created[{ ]", await scraper.text(TEXT))
    for family in await scraper.openmetrics():
        if family.type in {"counter", "histogram"} and not family.name.startswith(("process_", "python_")):
            ends = {"counter": "_total", "histogram": "_count"}
            counted = [one.labels for one in family.samples if one.name == family.name + ends[family.type]]
            created = {frozenset(one.labels.items()) for one in family.samples if one.name.endswith("_created")}
            assert created == {frozenset(labels.items()) for labels in counted}, family.name


async def test_without_accounts_there_is_text_all_the_same():
    scraper = Scraper()
    assert {family.name for family in await scraper.families()} >= {OWN + "build_info", OWN + "operations_suppressed"}
    assert await scraper.openmetrics()


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4"),
        (TEXT, "text/plain; version=0.0.4"),
        (OPENMETRICS + ";q=0.9,text/plain;q=0.5", "application/openmetrics-text; version=1.0.0"),
        (OPENMETRICS + ";q=0.5,text/plain;q=0.9", "text/plain; version=0.0.4"),
        (OPENMETRICS + ";q=0", "text/plain; version=0.0.4"),
        (OPENMETRICS + ";q=none,text/plain;q=0.1", "text/plain; version=0.0.4"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text;version=0.0.1,*/*;q=0.1", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;version=2.0.0", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;version=9e999", "text/plain; version=0.0.4"),
        ('application/openmetrics-text; version="1.0.0"', "application/openmetrics-text; version=1.0.0"),
        ("text/plain;version=1.0.0;escaping=allow-utf-8", "text/plain; version=1.0.0; charset=utf-8; escaping=allow"),
        ("text/html, application/json", "text/plain; version=0.0.4"),
        (";;,=;q", "text/plain; version=0.0.4"),
    ],
)
async def test_the_format_is_what_the_scraper_accepts(accept: str, content_type: str):
    body, headers, _ = await Scraper(a_snapshot()).exposition.render(accept, "")
    assert headers["Content-Type"].startswith(content_type)
    assert headers["Vary"] == "Accept, Accept-Encoding"
    assert "Content-Encoding" not in headers
    assert body.endswith(b"# EOF\n") is ("openmetrics" in content_type)


@pytest.mark.parametrize(
    ("accept_encoding", "packed"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("deflate, gzip;q=0.5", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000, *", False),
        ("*;q=0, gzip", True),
        ("identity", False),
    ],
)
async def test_the_exposition_is_compressed_where_that_is_accepted(accept_encoding: str, packed: bool):  # noqa: FBT001 -- a table
    scraper = Scraper(a_snapshot(a_final_operation()))
    body, headers, _ = await scraper.exposition.render(TEXT, accept_encoding)
    assert (headers.get("Content-Encoding") == "gzip") is packed
    assert list(text_string_to_metric_families(unpacked(body, headers).decode()))
    if packed:
        assert gzip.decompress(body)


async def test_scrapes_side_by_side_each_carry_what_was_there_when_they_began():
    scraper = Scraper(a_snapshot(lag=SECOND))
    first = asyncio.ensure_future(scraper.exposition.render(TEXT, ""))
    await asyncio.sleep(0)
    scraper.snapshots = [a_snapshot(lag=2 * SECOND)]
    second = await scraper.exposition.render(TEXT, "")
    (body, _, carried), later = await first, second
    assert b'operation_watcher_poll_lag_seconds{account="main",channel="push"} 1.0\n' in body
    assert b'operation_watcher_poll_lag_seconds{account="main",channel="push"} 2.0\n' in later[0]
    assert [snapshot.lag for snapshot in carried] == [SECOND]


# ── metrics of the watcher itself ─────────────────────────────────────────────────────────────────────────────────────


def attempt(code: str = "200", *, seconds: float = 0.2, endpoint: Endpoint = Endpoint.FETCH) -> Attempt:
    return Attempt(endpoint=endpoint, code=code, result=AttemptResult.GOOD, timing=a_timing(latency=seconds))


async def test_all_counters_by_account_are_shown_at_zero_from_the_start():
    scraper = Scraper(a_snapshot())
    requests = await scraper.series(OWN + "api_requests_total")
    assert requests == {
        (("account", "main"), ("code", code), ("endpoint", endpoint)): 0
        for code in CODES
        for endpoint in ("fetch", "list")
    }
    anomalies = await scraper.series(OWN + "anomalies_total")
    assert anomalies == {(("account", "main"), ("kind", kind)): 0 for kind in KINDS}
    assert set(CODES) == {
        "200", "400", "401", "403", "404", "429", "5xx", "timeout", "connect", "garbled", "other",
    }  # fmt: skip


async def test_attempts_delays_and_anomalies_are_counted():
    scraper = Scraper(a_snapshot())
    instruments = scraper.instruments
    for seconds in (0.04, 0.3, 20):
        instruments.attempted("main", attempt(seconds=seconds))
    instruments.attempted("main", attempt("429", endpoint=Endpoint.LIST))
    instruments.detected("main", 3 * SECOND)
    instruments.anomaly("main", "stale_answer")
    samples = await scraper.samples()
    account = ("account", "main")
    fetch = ("endpoint", "fetch")
    assert samples[OWN + "api_requests_total", frozenset({account, fetch, ("code", "200")})] == 3
    assert samples[OWN + "api_requests_total", frozenset({account, ("endpoint", "list"), ("code", "429")})] == 1
    assert samples[OWN + "api_request_duration_seconds_count", frozenset({account, fetch})] == 3
    assert samples[OWN + "anomalies_total", frozenset({account, ("kind", "stale_answer")})] == 1
    buckets = [
        samples[OWN + "api_request_duration_seconds_bucket", frozenset({account, fetch, ("le", le)})]
        for le in [*map(str, map(float, REQUEST_BUCKETS)), "+Inf"]
    ]
    assert buckets == [1, 1, 1, 2, 2, 2, 2, 2, 3]
    delays = [
        samples[OWN + "detection_delay_seconds_bucket", frozenset({account, ("channel", "push"), ("le", le)})]
        for le in [*map(str, map(float, DELAY_BUCKETS)), "+Inf"]
    ]
    assert delays == [0, 0, 1, 1, 1, 1, 1, 1, 1]


async def test_series_of_a_closed_account_disappear_and_start_again_at_zero():
    scraper = Scraper(a_snapshot(), a_snapshot(account="other"))
    scraper.instruments.attempted("other", attempt())
    scraper.instruments.close_accounts(["other"])
    scraper.snapshots = scraper.snapshots[:1]
    assert 'account="other"' not in await scraper.text()
    assert 'account="main"' in await scraper.text()
    scraper.instruments.open_account("other")
    requests = await scraper.series(OWN + "api_requests_total")
    assert {value for labels, value in requests.items() if ("account", "other") in labels} == {0}


async def test_the_state_of_store_loop_and_configuration_is_shown():
    scraper = Scraper()
    instruments = scraper.instruments

    async def shown(*names: str) -> list[float]:
        samples = await scraper.samples()
        return [samples[OWN + name, frozenset()] for name in names]

    assert await shown("store_usable", "store_errors_total", "config_last_reload_successful") == [1, 0, 1]
    instruments.store_failed()
    instruments.refused_configuration()
    assert await shown("store_usable", "store_errors_total", "config_last_reload_successful") == [0, 1, 0]
    instruments.store_works()
    instruments.configured(NOW)
    instruments.measured(events_pending=3, store_bytes=4096)
    instruments.loop_lagged(0.25)
    assert await shown("store_usable", "store_errors_total", "config_last_reload_successful") == [1, 1, 1]
    assert await shown("config_last_reload_success_timestamp_seconds") == [NOW / SECOND]
    assert await shown("events_pending", "store_bytes", "event_loop_lag_seconds") == [3, 4096, 0.25]


async def test_the_version_that_runs_is_shown():
    samples = await Scraper().samples()
    ((_, labels),) = [key for key in samples if key[0] == OWN + "build_info"]
    assert dict(labels)["version"] == __version__
