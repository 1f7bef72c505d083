"""The loop of an account on the simulated API, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Sequence

import msgspec
import pytest

from tests.support.failing import FailingStore
from tests.support.rig import ACCOUNT, Rig, loop_settings, running
from tests.support.virtual import EPOCH
from watcher.core.account_health import Began, HealthIssue, Recovered
from watcher.core.census import Retention
from watcher.core.governor import Share
from watcher.core.model import (
    DAY,
    SECOND,
    Corrected,
    Failing,
    Finished,
    Moved,
    Operation,
    Outcome,
    Source,
    Status,
    Tracked,
    Untracked,
)
from watcher.simulator import Scenario, parse_scenario
from watcher.simulator.ids import make_id
from watcher.simulator.life import last_stats
from watcher.store import Entry
from watcher.store.memory import MemoryStore

NOW = round(EPOCH * SECOND)
IDS = [make_id(NOW - 5 * SECOND, random.Random(number)) for number in range(1000)]


def scripted(*lives: str, more: str = "") -> Scenario:
    """A scenario with one operation for each text, under the ids in order."""
    lines = [f"  - {{id: {operation_id}, {life}}}" for operation_id, life in zip(IDS, lives, strict=False)]
    return parse_scenario("operations:\n" + "\n".join(lines) + "\n" + more)


async def finished(rig: Rig, *ids: str, within: float) -> None:
    """Wait until these are final."""
    await rig.until(lambda: all(is_final(rig, one) for one in ids), within=within)


def is_final(rig: Rig, operation_id: str) -> bool:
    operation = seen(rig, operation_id)
    return operation is not None and operation.final_at is not None


def seen(rig: Rig, operation_id: str) -> Operation | None:
    """The operation as the loop shows it now."""
    return next((one for one in rig.snapshot().shown if one.id == operation_id), None)


def known(rig: Rig, operation_id: str) -> Operation:
    operation = seen(rig, operation_id)
    assert operation is not None
    return operation


def status(rig: Rig) -> Status | None:
    operation = seen(rig, IDS[0])
    return None if operation is None else operation.status


def statuses(events: Sequence[object]) -> list[tuple[str | None, str]]:
    return [(event.from_status, event.to_status) for event in events if isinstance(event, Moved)]


@pytest.mark.virtual_time
async def test_every_status_that_lasts_is_published_once_and_the_end_with_the_final_stats() -> None:
    scenario = scripted(
        "created: 0s, processing: 20s, completed: 60s, stats: {recipients: 100, unaddressable: 5, failed: 7}"
    )
    async with running(scenario) as rig:
        await rig.track(IDS[:1])
        await finished(rig, IDS[0], within=300)
        published = [event.event for event in await rig.events()]
        operation = known(rig, IDS[0])
    assert isinstance(published[0], Tracked)
    assert statuses(published) == [
        (None, Status.SCHEDULED),
        (Status.SCHEDULED, Status.PROCESSING),
        (Status.PROCESSING, Status.COMPLETED),
    ]
    ends = [event for event in published if isinstance(event, Finished)]
    assert [end.outcome for end in ends] == [Outcome.COMPLETED]
    assert ends[0].duration_seconds == pytest.approx(60, abs=1)
    assert sum(isinstance(event, Failing) for event in published) == 1
    assert (operation.stats.sent, operation.stats.failed, operation.stats.unaddressable) == (88, 7, 5)
    assert (operation.stats.total, operation.stats.recipients) == (95, 100)
    assert all(0 <= delay <= 6 * SECOND for delay in rig.observer.delays)


@pytest.mark.virtual_time
async def test_counters_count_an_operation_once_when_its_stats_are_final() -> None:
    scenario = scripted("created: 0s, completed: 10s, stats: {recipients: 50, failed: 3}")
    async with running(scenario) as rig:
        await rig.track(IDS[:1])
        await rig.until(lambda: status(rig) is Status.COMPLETED, within=20)
        before = dict(rig.snapshot().totals)
        await finished(rig, IDS[0], within=200)
        await asyncio.sleep(600)
        totals = rig.snapshot().totals
    assert before["operations", "completed"] == 0
    assert totals["operations", "completed"] == 1
    assert (totals["notifications", "sent"], totals["notifications", "failed"]) == (47, 3)
    assert totals["recipients",] == 50


@pytest.mark.virtual_time
async def test_stats_that_move_after_the_end_are_corrected_and_counted_as_corrected() -> None:
    scenario = scripted(
        "steps: [{at: 0s, status: PROCESSING, stats: {total: 5, queued: 5}}, "
        "{at: 9s, status: COMPLETED, stats: {total: 5, sent: 5}}, "
        "{at: 30s, status: COMPLETED, stats: {total: 5, sent: 4, failed: 1}}]"
    )
    async with running(scenario) as rig:
        await rig.track(IDS[:1])
        await finished(rig, IDS[0], within=300)
        corrected = [event.event for event in await rig.events() if isinstance(event.event, Corrected)]
        totals = rig.snapshot().totals
    assert [(event.before.sent, event.stats.sent, event.stats.failed) for event in corrected] == [(5, 4, 1)]
    assert (totals["notifications", "sent"], totals["notifications", "failed"]) == (4, 1)


@pytest.mark.virtual_time
@pytest.mark.unmeasured
async def test_a_thousand_operations_reach_their_end_through_every_kind_of_fault() -> None:
    rng = random.Random(7)
    lives = []
    for _ in range(1000):
        end = rng.randint(30, 900)
        ends = "canceled" if rng.random() < 0.05 else "completed"
        failed = rng.randint(0, 5)
        lives.append(f"created: -5s, processing: 2s, {ends}: {end}s, stats: {{recipients: 40, failed: {failed}}}")
    scenario = scripted(
        *lives,
        more="""
latency: 20ms..200ms
faults:
  - {kind: status, status: 429, probability: 0.04, retry_after: seconds, wait: 1s}
  - {kind: status, status: 429, probability: 0.03, retry_after: seconds, wait: 3s}
  - {kind: status, status: 500, probability: 0.05}
  - {kind: status, status: 503, probability: 0.04, retry_after: seconds, wait: 2s}
  - {kind: cut, probability: 0.05}
  - {kind: garbage, probability: 0.05}
  - {kind: silent, probability: 0.04}
""",
    )
    share = Share(per_second=50, concurrency=8)
    settings = loop_settings(freshness=30, settle_after=(5.0, 10.0), retention=Retention(max_operations=1000))
    async with running(scenario, share=share, settings=settings, request_timeout=3.0) as rig:
        await rig.track(IDS)
        await rig.until(lambda: rig.watch.unfinished == 0 and len(rig.snapshot().shown) == 1000, within=36000)
        await asyncio.sleep(60)
        events = await rig.events()
        totals = rig.snapshot().totals
        ledger = rig.upstream.ledger
        lives_by_id = {life.id: life for life in rig.upstream.world.lives()}
        now = rig.clock.now().at
    failed_attempts = sum(1 for attempt in rig.observer.attempts if attempt.why)
    assert 0.2 < failed_attempts / len(rig.observer.attempts) < 0.4
    ends_by_id = Counter(event.operation_id for event in events if isinstance(event.event, Finished))
    assert ends_by_id == Counter(IDS)
    truth = [last_stats(life) for life in lives_by_id.values()]
    assert totals["operations", "completed"] + totals["operations", "canceled"] == 1000
    for state in ("sent", "failed", "canceled"):
        assert totals["notifications", state] == sum(getattr(stats, state) for stats in truth)
    assert totals["recipients",] == 40_000
    assert ledger.during_hold == 0
    assert ledger.most_concurrent[scenario.accounts[0].account_id] <= 8
    assert now > NOW


@pytest.mark.virtual_time
async def test_refused_credentials_reduce_requests_to_probes_until_the_right_ones_are_given() -> None:
    scenario = scripted("created: 0s, completed: 1h, stats: {recipients: 5}")
    secret = ["wrong"]
    async with running(scenario, secret=lambda: secret[0]) as rig:
        await rig.track(IDS[:1])
        await asyncio.sleep(300)
        requested_at = rig.upstream.ledger.instants()
        assert not rig.snapshot().up
        assert rig.snapshot().unauthorized
        secret[0] = scenario.accounts[0].auth_token
        await rig.until(lambda: rig.snapshot().up, within=31)
        assert not rig.snapshot().unauthorized
    assert 5 <= len(requested_at) <= 11
    assert all(later - earlier >= 30 * SECOND for earlier, later in itertools.pairwise(requested_at))
    began, recovered = rig.observer.health_by_account
    assert isinstance(began, Began)
    assert began.issue is HealthIssue.UNAUTHORIZED
    assert isinstance(recovered, Recovered)
    assert 300 * SECOND <= recovered.lasted <= 335 * SECOND


@pytest.mark.virtual_time
async def test_a_token_replaced_under_load_is_no_event() -> None:
    scenario = scripted("created: 0s, completed: 1h, stats: {recipients: 5}")
    account = scenario.accounts[0]
    secret = [account.auth_token]
    async with running(scenario, secret=lambda: secret[0]) as rig:
        await rig.track(IDS[:1])
        await asyncio.sleep(20)
        secret[0] = "the-next-token"
        rig.upstream.set_accounts([msgspec.structs.replace(account, auth_token="the-next-token")])
        await asyncio.sleep(60)
        assert rig.snapshot().up
    assert rig.observer.health_by_account == []
    assert sum(attempt.code == "401" for attempt in rig.observer.attempts) == 1


@pytest.mark.virtual_time
async def test_an_outage_of_upstream_is_published_at_begin_and_end_and_causes_few_requests() -> None:
    scenario = scripted(
        "created: 0s, completed: 3h, stats: {recipients: 5}",
        more="faults: [{kind: reset, from: 60s, until: 3660s}]",
    )
    async with running(scenario) as rig:
        await rig.track(IDS[:1])
        await asyncio.sleep(3600)
        assert not rig.snapshot().up
        lag = rig.snapshot().lag
        await asyncio.sleep(300)
        assert rig.snapshot().up
    assert lag > 3000 * SECOND
    began, recovered = rig.observer.health_by_account
    assert isinstance(began, Began)
    assert began.issue is HealthIssue.UNREACHABLE
    assert isinstance(recovered, Recovered)
    assert len([attempt for attempt in rig.observer.attempts if attempt.why]) < 3 * 60 * 2


@pytest.mark.virtual_time
async def test_an_operation_not_shown_yet_is_waited_for_and_not_found_if_it_never_is() -> None:
    scenario = scripted(
        "created: 0s, completed: 20m, stats: {recipients: 5}",
        more=f"faults: [{{kind: invisible, wait: 45s, operation: {IDS[0]}}}]",
    )
    async with running(scenario) as rig:
        await rig.track(IDS[:2])
        await asyncio.sleep(30)
        assert {known(rig, one).status for one in IDS[:2]} == {Status.UNSEEN}
        await finished(rig, IDS[1], within=900)
        assert known(rig, IDS[1]).status is Status.NOT_FOUND
        assert known(rig, IDS[0]).status is Status.PROCESSING
        polls = [a for a in rig.observer.attempts if a.code == "404"]
        published = await rig.events(IDS[1])
        totals = rig.snapshot().totals
    assert statuses([event.event for event in published]) == [(None, Status.NOT_FOUND)]
    assert totals["operations", "not_found"] == 1
    assert len(polls) < 30


@pytest.mark.virtual_time
async def test_an_id_older_than_its_record_and_never_tracked_before_expires_and_is_not_counted() -> None:
    old = make_id(NOW - 8 * DAY, random.Random(1))
    async with running(parse_scenario("{}")) as rig:
        await rig.track([old])
        await finished(rig, old, within=10)
        totals = rig.snapshot().totals
        published = [event.event for event in await rig.events(old)]
    assert [event.outcome for event in published if isinstance(event, Finished)] == [Outcome.EXPIRED]
    assert totals["operations", "expired"] == 0


@pytest.mark.virtual_time
async def test_a_refused_id_is_rejected_at_once() -> None:
    scenario = scripted(
        "created: 0s, completed: 1h, stats: {recipients: 5}",
        more="faults: [{kind: status, status: 400, endpoint: fetch}]",
    )
    async with running(scenario) as rig:
        await rig.track(IDS[:1])
        await finished(rig, IDS[0], within=10)
        await asyncio.sleep(60)
        assert known(rig, IDS[0]).outcome is Outcome.REJECTED
    assert sum(a.endpoint == "fetch" for a in rig.observer.attempts) == 1


@pytest.mark.virtual_time
async def test_an_untracked_operation_is_neither_polled_nor_counted() -> None:
    scenario = scripted("created: 0s, completed: 30s, stats: {recipients: 5}")
    async with running(scenario) as rig:
        await rig.track(IDS[:1])
        await asyncio.sleep(10)
        await rig.untrack(IDS[0])
        await asyncio.sleep(1)
        fetches = rig.upstream.ledger.count("fetch")
        await asyncio.sleep(300)
        assert rig.upstream.ledger.count("fetch") == fetches
        assert seen(rig, IDS[0]) is None
        assert rig.snapshot().totals["operations", "completed"] == 0
        events = await rig.events()
    assert isinstance(events[-1].event, Untracked)


@pytest.mark.virtual_time
async def test_labels_given_later_reach_a_tracked_operation() -> None:
    scenario = scripted("created: 0s, completed: 1h, stats: {recipients: 5}")
    async with running(scenario) as rig:
        await rig.track(IDS[:1], {"campaign": "one"})
        await asyncio.sleep(12)
        await rig.track(IDS[:1], {"team": "two"})
        await asyncio.sleep(1)
        operation = known(rig, IDS[0])
    assert operation.labels == {"campaign": "one", "team": "two"}
    assert operation.status is Status.PROCESSING


@pytest.mark.virtual_time
async def test_a_finished_operation_registered_again_is_neither_polled_nor_counted_again() -> None:
    store = MemoryStore()
    scenario = scripted("created: 0s, completed: 10s, stats: {recipients: 5}")
    async with running(scenario, store=store) as rig:
        await rig.track(IDS[:1])
        await finished(rig, IDS[0], within=200)
        await rig.track(IDS[:1])
        await asyncio.sleep(10)
    upstream = rig.upstream
    fetches = upstream.ledger.count("fetch")
    async with running(scenario, store=store, upstream=upstream) as rig:
        await rig.track(IDS[:1])
        await asyncio.sleep(60)
        assert rig.snapshot().totals["operations", "completed"] == 1
    assert upstream.ledger.count("fetch") == fetches


@pytest.mark.virtual_time
async def test_changes_while_the_daemon_was_down_are_detected_and_published_after_the_start() -> None:
    store = MemoryStore()
    scenario = scripted("created: 0s, completed: 60s, stats: {recipients: 5, failed: 2}")
    async with running(scenario, store=store) as rig:
        await rig.track(IDS[:1])
        await asyncio.sleep(20)
    upstream = rig.upstream
    await asyncio.sleep(600)
    async with running(scenario, store=store, upstream=upstream) as rig:
        await finished(rig, IDS[0], within=200)
        events = [event.event for event in await rig.events()]
    assert statuses(events) == [(None, Status.PROCESSING), (Status.PROCESSING, Status.COMPLETED)]
    assert rig.observer.delays == []


@pytest.mark.virtual_time
async def test_settling_goes_on_where_it_was_after_a_restart() -> None:
    store = MemoryStore()
    scenario = scripted("created: 0s, completed: 10s, stats: {recipients: 5}")
    async with running(scenario, store=store) as rig:
        await rig.track(IDS[:1])
        await rig.until(lambda: status(rig) is Status.COMPLETED and known(rig, IDS[0]).settled == 1, within=60)
    fetches = rig.upstream.ledger.count("fetch")
    async with running(scenario, store=store, upstream=rig.upstream) as again:
        await finished(again, IDS[0], within=130)
        assert rig.upstream.ledger.count("fetch") == fetches + 1
        assert again.snapshot().totals["operations", "completed"] == 1


@pytest.mark.virtual_time
async def test_too_small_a_share_makes_all_polls_late_evenly_and_the_lag_shows_by_how_much() -> None:
    # Without lists, each must be fetched by its id.
    no_lists = "faults: [{kind: status, status: 400, endpoint: list}]"
    scenario = scripted(*["created: -5s, completed: 5h, stats: {recipients: 5}"] * 100, more=no_lists)
    async with running(scenario, share=Share(per_second=4, concurrency=4)) as rig:
        await rig.track(IDS[:100])
        await asyncio.sleep(600)
        lag = rig.snapshot().lag
        entries = [entry for entry in rig.upstream.ledger.entries if entry.operation_id is not None]
        last: dict[str, list[int]] = {}
        for entry in entries:
            last.setdefault(str(entry.operation_id), []).append(entry.at)
    gaps = [later - earlier for at in last.values() for earlier, later in itertools.pairwise(at[2:])]
    assert len(last) == 100
    assert max(gaps) < 27 * SECOND
    assert min(gaps) > 23 * SECOND
    assert 18 * SECOND < lag < 22 * SECOND


@pytest.mark.virtual_time
@pytest.mark.parametrize("count", [1, 20])
async def test_with_one_request_at_a_time_the_next_is_sent_when_it_is_due(count: int) -> None:
    scenario = scripted(*["created: -5s, completed: 5h, stats: {recipients: 5}"] * count)
    share = Share(per_second=10, concurrency=1)
    async with running(scenario, share=share, settings=loop_settings(freshness=2)) as rig:
        await rig.track(IDS[:count])
        await asyncio.sleep(60)
        requested_at = [attempt.timing.asked.tick for attempt in rig.observer.attempts]
        assert rig.snapshot().lag < 2 * SECOND
    assert max(later - earlier for earlier, later in itertools.pairwise(requested_at)) <= 2 * SECOND


@pytest.mark.virtual_time
async def test_an_idle_account_is_probed_at_the_start_and_every_five_minutes() -> None:
    async with running(parse_scenario("{}")) as rig:
        await asyncio.sleep(1)
        assert rig.snapshot().up
        await asyncio.sleep(3600)
    assert rig.upstream.ledger.count("list") == 13
    assert rig.upstream.ledger.count("fetch") == 0


@pytest.mark.virtual_time
async def test_series_leave_a_hold_after_the_first_completed_scrape_of_the_final_stats() -> None:
    scenario = scripted("created: 0s, completed: 10s, stats: {recipients: 5}")
    async with running(scenario) as rig:
        await rig.track(IDS[:1])
        before_the_end = rig.snapshot()
        await finished(rig, IDS[0], within=200)
        rig.watch.scraped(before_the_end)
        await asyncio.sleep(1800)
        assert seen(rig, IDS[0]) is not None
        rig.watch.scraped(rig.snapshot())
        await asyncio.sleep(599)
        assert seen(rig, IDS[0]) is not None
        await asyncio.sleep(2)
        assert seen(rig, IDS[0]) is None
        await asyncio.sleep(10)
        assert len(await rig.store.find(IDS[0])) == 1


@pytest.mark.virtual_time
@pytest.mark.unmeasured
async def test_series_leave_without_any_scrape_after_hold_at_most() -> None:
    scenario = scripted("created: 0s, completed: 10s, stats: {recipients: 5}")
    async with running(scenario) as rig:
        await rig.track(IDS[:1])
        await finished(rig, IDS[0], within=200)
        final_at = known(rig, IDS[0]).final_at
        assert final_at is not None
        await asyncio.sleep((final_at + DAY - rig.clock.now().at) / SECOND - 1)
        assert seen(rig, IDS[0]) is not None
        await asyncio.sleep(2)
        assert seen(rig, IDS[0]) is None


@pytest.mark.virtual_time
async def test_memory_holds_no_more_finished_operations_than_are_shown() -> None:
    lives = [f"created: -5s, completed: 5s, stats: {{recipients: 5, failed: {int(n < 3)}}}" for n in range(50)]
    settings = loop_settings(settle_after=(), retention=Retention(max_operations=10))
    async with running(scripted(*lives), settings=settings, share=Share(per_second=100, concurrency=4)) as rig:
        await rig.track(IDS[:50])
        await rig.until(lambda: rig.snapshot().totals["operations", "completed"] == 50, within=60)
        await asyncio.sleep(120)
        snapshot = rig.snapshot()
    assert len(snapshot.shown) + snapshot.suppressed == 10
    assert set(IDS[:3]) <= {operation.id for operation in snapshot.shown}


@pytest.mark.virtual_time
async def test_while_the_store_fails_polling_goes_on_and_afterwards_nothing_is_missing() -> None:
    store = FailingStore()
    scenario = scripted("created: 0s, processing: 30s, completed: 60s, stats: {recipients: 5, failed: 2}")
    async with running(scenario, store=store, settings=loop_settings(settle_after=(5.0,))) as rig:
        await rig.track(IDS[:1])
        await asyncio.sleep(10)
        store.fails = True
        await asyncio.sleep(120)
        assert is_final(rig, IDS[0])
        assert rig.snapshot().totals["operations", "completed"] == 0
        assert rig.observer.store_troubles[-1] is not None
        store.fails = False
        await rig.until(lambda: rig.snapshot().totals["operations", "completed"] == 1, within=16)
        events = await rig.events()
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert statuses([event.event for event in events]) == [
        (None, Status.SCHEDULED),
        (Status.SCHEDULED, Status.PROCESSING),
        (Status.PROCESSING, Status.COMPLETED),
    ]
    assert rig.observer.store_troubles[-1] is None


@pytest.mark.virtual_time
async def test_a_loop_starts_as_soon_as_the_store_can_be_read() -> None:
    store = FailingStore()
    await store.register([Entry(account=ACCOUNT, id=IDS[0], source=Source.API)], NOW)
    store.fails = True
    scenario = scripted("created: 0s, completed: 60s, stats: {recipients: 5}")
    async with running(scenario, store=store) as rig:
        await asyncio.sleep(30)
        assert rig.upstream.ledger.count() == 0
        assert not rig.watch.is_overdue()
        store.fails = False
        await rig.until(lambda: seen(rig, IDS[0]) is not None, within=16)


@pytest.mark.virtual_time
async def test_an_operation_registered_just_before_the_store_fails_is_tracked_when_it_works_again() -> None:
    store = FailingStore()
    async with running(scripted("created: 0s, completed: 1h, stats: {recipients: 5}"), store=store) as rig:
        await asyncio.sleep(10)
        await rig.track(IDS[:1])
        store.fails = True
        await asyncio.sleep(10)
        assert rig.observer.store_troubles[-1] is not None
        assert seen(rig, IDS[0]) is None
        store.fails = False
        await rig.until(lambda: seen(rig, IDS[0]) is not None, within=16)
        assert rig.observer.store_troubles[-1] is None


@pytest.mark.virtual_time
async def test_the_next_poll_is_explained() -> None:
    scenario = scripted("created: 0s, completed: 1h, stats: {recipients: 5}")
    async with running(scenario) as rig:
        await rig.track(IDS[:1])
        await asyncio.sleep(2)
        poll = rig.watch.next_poll(IDS[0])
        assert poll is not None
        assert 0 < poll.due_tick - rig.clock.now().tick <= 5 * SECOND
        assert (poll.how, poll.why) == ("GET by id", "freshness after the last poll")
        assert rig.watch.next_poll(IDS[1]) is None


@pytest.mark.virtual_time
async def test_a_store_that_could_not_be_read_has_recovered_once_it_can_be_also_with_nothing_to_write() -> None:
    store = FailingStore()
    store.fails = True
    async with running(parse_scenario("{}"), store=store) as rig:
        await asyncio.sleep(5)
        assert rig.observer.store_troubles[-1] is not None
        store.fails = False
        await asyncio.sleep(16)
        assert rig.observer.store_troubles[-1] is None
