"""What Prometheus reads of the operations and accounts in made-up snapshots."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from tests.metrics.scraping import Scraper, a_snapshot, samples_of
from tests.support.factories import (
    CREATED,
    NOW,
    PLAIN_ID,
    a_final_operation,
    a_running_operation,
    a_tally,
    an_id,
    an_operation,
    counters_with,
)
from tests.support.strategies import stats, unhurried
from watcher.core.channels import Stats
from watcher.core.labelling import Counters, combination_of
from watcher.core.model import SECOND, Outcome, Source, Status
from watcher.core.totals import Key, added_up, increments

KEY = {("account", "main"), ("channel", "push"), ("operation_id", PLAIN_ID)}


def labelled(**labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(({"account": "main", "channel": "push"} | labels).items()))


async def test_an_operation_is_shown_with_its_stats_instants_and_status():
    operation = a_final_operation(
        stats=Stats(total=9, recipients=10, scheduled=1, queued=2, sent=3, failed=4, canceled=5, unaddressable=6),
        labels={"campaign": "spring", "secret": "x"},
    )
    samples = await Scraper(a_snapshot(operation), labels=["campaign", "team"]).samples()
    shown = {
        (name, labels - frozenset(KEY)): value
        for (name, labels), value in samples.items()
        if name.startswith("twilio_operation_") and ("operation_id", PLAIN_ID) in labels
    }
    states = {"scheduled": 1, "queued": 2, "sent": 3, "failed": 4, "canceled": 5}
    assert shown == {
        ("twilio_operation_messages", frozenset({("state", state)})): value for state, value in states.items()
    } | {
        ("twilio_operation_size", frozenset()): 9,
        ("twilio_operation_recipients", frozenset()): 10,
        ("twilio_operation_unaddressable_recipients", frozenset()): 6,
        ("twilio_operation_status", frozenset({("status", "COMPLETED")})): 1,
        ("twilio_operation_created_timestamp_seconds", frozenset()): CREATED / SECOND,
        ("twilio_operation_updated_timestamp_seconds", frozenset()): CREATED / SECOND + 30,
        ("twilio_operation_progressed_timestamp_seconds", frozenset()): NOW / SECOND - 10,
        ("twilio_operation_ended_timestamp_seconds", frozenset()): CREATED / SECOND + 30,
        ("twilio_operation_info", frozenset({("campaign", "spring"), ("team", "")})): 1,
    }


async def test_of_a_registered_operation_only_status_and_labels_are_shown():
    samples = await Scraper(a_snapshot(an_operation())).samples()
    shown = {name: labels - KEY for name, labels in samples if ("operation_id", PLAIN_ID) in labels}
    assert shown == {
        "twilio_operation_status": {("status", "UNSEEN")},
        "twilio_operation_info": frozenset(),
    }


async def test_a_stat_of_zero_is_shown_and_a_stat_that_was_never_received_is_absent():
    series = await Scraper(a_snapshot(a_running_operation(stats=Stats(sent=0)))).series("twilio_operation_messages")
    assert series == {labelled(operation_id=PLAIN_ID, state="sent"): 0}


operations = st.builds(
    lambda number, status, stats, text: an_operation(
        id=an_id(number), status=status, stats=stats, labels={"campaign": text}, created_at=None
    ),
    number=st.integers(0, 10**6),
    status=st.sampled_from(Status),
    stats=stats,
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
)


@settings(unhurried, max_examples=40)
@given(st.lists(operations, unique_by=lambda operation: operation.id, max_size=5))
def test_any_operation_and_any_label_comes_back_as_it_was_from_both_formats(shown: list[Any]):
    scraper = Scraper(a_snapshot(*shown), labels=["campaign"], registry=CollectorRegistry())

    async def main() -> None:
        text, openmetrics = samples_of(await scraper.families()), samples_of(await scraper.openmetrics())
        for samples in (text, openmetrics):
            campaigns = {
                dict(labels)["operation_id"]: dict(labels)["campaign"]
                for name, labels in samples
                if name == "twilio_operation_info"
            }
            assert campaigns == {operation.id: operation.labels["campaign"] for operation in shown}
            statuses = [dict(labels) for name, labels in samples if name == "twilio_operation_status"]
            assert Counter(one["operation_id"] for one in statuses) == Counter(operation.id for operation in shown)
            assert {(one["operation_id"], one["status"]) for one in statuses} == {
                (operation.id, operation.status.value) for operation in shown
            }
            sizes = {
                dict(labels)["operation_id"]: value
                for (name, labels), value in samples.items()
                if name == "twilio_operation_size"
            }
            assert sizes == {op.id: op.stats.total for op in shown if op.stats.total is not None}

    asyncio.run(main())


# ── counters of the finished ──────────────────────────────────────────────────────────────────────────────────────────


async def test_counters_are_shown_at_zero_from_the_start():
    samples = await Scraper(a_snapshot()).samples()
    finished = {
        (name, *(value for _, value in sorted(labels) if value not in {"main", "push"})): value
        for (name, labels), value in samples.items()
        if name.endswith("_finished_total")
    }
    expected: dict[tuple[str, ...], float] = {
        **{("twilio_operations_finished_total", outcome.value): 0 for outcome in Outcome},
        **{("twilio_operation_messages_finished_total", state): 0 for state in ("sent", "failed", "canceled")},
        ("twilio_operation_recipients_finished_total",): 0,
        ("twilio_operation_unaddressable_recipients_finished_total",): 0,
    }
    assert finished == expected
    assert (
        samples["twilio_operation_duration_seconds_count", frozenset({("account", "main"), ("channel", "push")})] == 0
    )
    assert samples["twilio_operation_duration_seconds_sum", frozenset({("account", "main"), ("channel", "push")})] == 0


async def test_counters_that_are_not_yet_known_are_absent_rather_than_zero():
    samples = await Scraper(a_snapshot(is_loaded=False)).samples()
    assert not [name for name, _ in samples if name.endswith("_finished_total")]
    assert not [name for name, _ in samples if name.startswith("twilio_operation_duration")]
    assert samples["operation_watcher_account_up", frozenset({("account", "main")})] == 1


def test_what_finished_is_counted_under_its_outcome_and_states():
    counters = counted(({}, {"sent": 9, "failed": 1, "canceled": 2, "recipients": 14, "unaddressable": 2}))
    samples = asyncio.run(Scraper(a_snapshot(counters=counters)).samples())
    account, channel = ("account", "main"), ("channel", "push")
    assert {
        (name, labels): value for (name, labels), value in samples.items() if name.endswith("_finished_total") and value
    } == {
        ("twilio_operations_finished_total", frozenset({account, channel, ("outcome", "completed")})): 1,
        ("twilio_operation_messages_finished_total", frozenset({account, channel, ("state", "sent")})): 9,
        ("twilio_operation_messages_finished_total", frozenset({account, channel, ("state", "failed")})): 1,
        ("twilio_operation_messages_finished_total", frozenset({account, channel, ("state", "canceled")})): 2,
        ("twilio_operation_recipients_finished_total", frozenset({account, channel})): 14,
        ("twilio_operation_unaddressable_recipients_finished_total", frozenset({account, channel})): 2,
    }


def counted(*tallies: tuple[dict[str, str], dict[str, Any]], names: Sequence[str] = ()) -> Counters:
    """Counters of tallies, each with its labels, under these counter labels."""
    totals: dict[Key, float] = {}
    for labels, changes in tallies:
        totals = added_up(totals, increments(a_tally(**changes), combination_of(sorted(labels), labels)))
    return counters_with(totals, names)


async def test_counter_labels_split_counters_and_a_change_of_the_setting_keeps_every_sum():
    tallies: Sequence[tuple[dict[str, str], dict[str, Any]]] = (
        ({}, {}),
        ({"campaign": "a=b", "team": "x"}, {"duration_seconds": 3.0}),
        ({"campaign": "a=b", "team": "y"}, {"outcome": Outcome.CANCELED}),
        ({"team": "y"}, {}),
    )
    name = "twilio_operations_finished_total"
    by_campaign = await Scraper(
        a_snapshot(counters=counted(*tallies, names=["campaign"])), counter_labels=["campaign"]
    ).series(name)
    assert {labels: value for labels, value in by_campaign.items() if value} == {
        labelled(outcome="completed", campaign=""): 2,
        labelled(outcome="completed", campaign="a=b"): 1,
        labelled(outcome="canceled", campaign="a=b"): 1,
    }
    sums = {}
    for setting in ([], ["campaign"], ["team"], ["campaign", "team"], ["region"]):
        scraper = Scraper(a_snapshot(counters=counted(*tallies, names=setting)), counter_labels=setting)
        samples = await scraper.samples()
        sums[tuple(setting)] = {
            outcome.value: sum(
                value for (one, labels), value in samples.items() if one == name and ("outcome", outcome) in labels
            )
            for outcome in Outcome
        } | {
            part: sum(
                value for (one, _), value in samples.items() if one == f"twilio_operation_duration_seconds_{part}"
            )
            for part in ("sum", "count")
        }
        assert await scraper.openmetrics()
    expected = {"completed": 3, "canceled": 1, "expired": 0, "not_found": 0, "rejected": 0, "sum": 93, "count": 4}
    assert sums == dict.fromkeys(sums, expected)


async def test_a_value_of_a_counter_label_that_was_counted_once_has_every_outcome_and_state():
    expired = {"campaign": "a"}, {"outcome": Outcome.EXPIRED, "duration_seconds": None}
    scraper = Scraper(a_snapshot(counters=counted(expired, names=["campaign"])), counter_labels=["campaign"])
    outcomes = await scraper.series("twilio_operations_finished_total")
    assert outcomes == {
        labelled(outcome=outcome.value, campaign=campaign): float((outcome, campaign) == (Outcome.EXPIRED, "a"))
        for outcome in Outcome
        for campaign in ("", "a")
    }
    states = await scraper.series("twilio_operation_messages_finished_total")
    assert set(states) == {
        labelled(state=state, campaign=campaign) for state in ("sent", "failed", "canceled") for campaign in ("", "a")
    }
    unaddressable = await scraper.series("twilio_operation_unaddressable_recipients_finished_total")
    assert unaddressable == {labelled(campaign=""): 0, labelled(campaign="a"): 0}
    counts = await scraper.series("twilio_operation_duration_seconds_count")
    assert counts == {labelled(campaign=""): 0, labelled(campaign="a"): 0}


async def test_durations_fall_into_cumulative_buckets():
    durations = (0.0, 5.0, 5.1, 100.0, 10**7)
    counters = counted(*(({}, {"duration_seconds": seconds}) for seconds in durations))
    scraper = Scraper(a_snapshot(counters=counters))
    buckets = await scraper.series("twilio_operation_duration_seconds_bucket")
    assert {dict(labels)["le"]: value for labels, value in buckets.items()} == {
        "5.0": 2,
        "30.0": 3,
        "60.0": 3,
        "300.0": 4,
        "900.0": 4,
        "3600.0": 4,
        "14400.0": 4,
        "86400.0": 4,
        "259200.0": 4,
        "604800.0": 4,
        "+Inf": 5,
    }
    assert await scraper.series("twilio_operation_duration_seconds_count") == {labelled(): 5}
    assert await scraper.series("twilio_operation_duration_seconds_sum") == {labelled(): sum(durations)}


# ── accounts ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_account_shows_its_health():
    snapshot = a_snapshot(
        statuses={status.value: 0 for status in Status} | {"PROCESSING": 7},
        up=False,
        unauthorized=True,
        throttled=2_500_000,
        lag=1_500_000,
        skew=-250_000,
        discovered_at=NOW + SECOND,
        suppressed=3,
    )
    samples = await Scraper(snapshot, a_snapshot(account="other", suppressed=4)).samples()
    account, push = frozenset({("account", "main")}), frozenset({("channel", "push")})
    prefix = "operation_watcher_"
    assert {
        name: samples[prefix + name, account | channel]
        for channel, name in (
            (frozenset(), "account_up"),
            (frozenset(), "account_unauthorized"),
            (frozenset(), "last_success_timestamp_seconds"),
            (frozenset(), "api_limit_requests_per_second"),
            (frozenset(), "api_throttled_seconds_total"),
            (frozenset(), "freshness_seconds"),
            (push, "poll_lag_seconds"),
            (frozenset(), "clock_skew_seconds"),
            (push, "discovery_last_complete_timestamp_seconds"),
        )
    } == {
        "account_up": 0,
        "account_unauthorized": 1,
        "last_success_timestamp_seconds": NOW / SECOND,
        "api_limit_requests_per_second": 5,
        "api_throttled_seconds_total": 2.5,
        "freshness_seconds": 5,
        "poll_lag_seconds": 1.5,
        "clock_skew_seconds": -0.25,
        "discovery_last_complete_timestamp_seconds": NOW / SECOND + 1,
    }
    assert samples["operation_watcher_operations_suppressed", frozenset()] == 7
    tracked = {
        dict(labels)["status"]: value
        for (name, labels), value in samples.items()
        if name == "twilio_operations" and ("account", "main") in labels
    }
    assert tracked == dict.fromkeys(Status, 0) | {"PROCESSING": 7}
    assert (prefix + "discovery_last_complete_timestamp_seconds", frozenset({("account", "other")})) not in samples


async def test_the_same_id_in_two_accounts_is_two_operations():
    one, two = an_operation(), an_operation(account="other", source=Source.CONFIG)
    scraper = Scraper(a_snapshot(one), a_snapshot(two, account="other"))
    assert len(await scraper.series("twilio_operation_status")) == 2
    assert await scraper.openmetrics()
