"""Discovery over the simulated API in virtual time: every operation of the account is found, each once."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.rig import ACCOUNT, Rig, loop_settings, running
from tests.support.virtual import EPOCH
from watcher.clock import Clock
from watcher.core.discovery import Scope
from watcher.core.governor import Share
from watcher.core.model import HOUR, SECOND, Finished, Source, Status, Tracked
from watcher.simulator import Upstream, parse_scenario
from watcher.store.memory import MemoryStore
from watcher.watch import WatchSettings

LATE = "population: {{in_flight: 0, share_failing: 0}}\nfaults: [{{kind: invisible, wait: {wait}, endpoint: list}}]"
QUIET = parse_scenario("population: {in_flight: 0, share_failing: 0}\nlatency: 20ms..80ms")


class MachineClock:
    """The machine's clock, `ahead` seconds before the true time."""

    def __init__(self, ahead: float) -> None:
        self.ahead = ahead
        loop = asyncio.get_running_loop()
        self.clock = Clock(wall=lambda: EPOCH - 1000.0 + loop.time() + self.ahead, steady=loop.time)


def discovering(*, since: float = 24.0, **changes: object) -> WatchSettings:
    """Settings with discovery, which begins `hours` ago with an empty store."""
    settings = loop_settings(settle_after=(5.0,), **changes)  # type: ignore[arg-type]
    return WatchSettings(
        rules=settings.rules,
        promise=settings.promise,
        retention=settings.retention,
        discovers=Scope(every=5 * SECOND, since=round(since * HOUR)),
    )


def send(rig: Rig, number: int, *, lifetime: float) -> list[str]:
    """What the app does, which knows nothing of the watcher."""
    account_id = rig.upstream.accounts[0].account_id
    now = rig.true_clock.now().at
    return [
        rig.upstream.world.send(account_id, now, lifetime=lifetime * SECOND, recipients=3, failed=0).id
        for _ in range(number)
    ]


def finished(rig: Rig) -> float:
    return sum(value for key, value in rig.snapshot().totals.items() if key[0] == "operations")


@pytest.mark.virtual_time
async def test_operations_of_the_app_are_found_within_freshness_and_tracked_to_their_end() -> None:
    async with running(QUIET, settings=discovering()) as rig:
        await asyncio.sleep(30)
        ids = send(rig, 500, lifetime=40)
        await asyncio.sleep(6)
        assert {operation.id for operation in rig.snapshot().shown} == set(ids)
        await rig.until(lambda: finished(rig) == 500, within=120)
        events = await rig.events()
    tracked = [event.event for event in events if isinstance(event.event, Tracked)]
    assert {event.source for event in tracked} == {Source.DISCOVERY}
    assert sum(isinstance(event.event, Finished) for event in events) == 500


@pytest.mark.virtual_time
async def test_operations_created_and_ended_while_the_daemon_was_down_are_counted_once() -> None:
    store = MemoryStore()
    async with running(QUIET, store=store, settings=discovering()) as rig:
        await asyncio.sleep(30)
        send(rig, 500, lifetime=40)
        await asyncio.sleep(20)
    upstream = rig.upstream
    send(rig, 100, lifetime=10)
    await asyncio.sleep(60)
    async with running(QUIET, store=store, upstream=upstream, settings=discovering()) as rig:
        await rig.until(lambda: finished(rig) == 600, within=120)
        await asyncio.sleep(120)
        assert finished(rig) == 600
    async with running(QUIET, store=store, upstream=upstream, settings=discovering()) as rig:
        await asyncio.sleep(120)
        assert finished(rig) == 600
        events = await rig.events()
    assert sum(isinstance(event.event, Finished) for event in events) == 600


@pytest.mark.virtual_time
@pytest.mark.parametrize("ahead", [0.0, 3 * 3600.0], ids=["clocks agree", "machine ahead"])
@pytest.mark.parametrize("before", [1.0, 3600.0])
async def test_with_an_empty_store_operations_that_ended_before_are_neither_tracked_nor_counted(
    before: float, ahead: float
) -> None:
    upstream: Upstream | None = None
    async with running(QUIET) as rig:
        upstream = rig.upstream
        send(rig, 1100, lifetime=10)
        running_ids = send(rig, 3, lifetime=7200)
    await asyncio.sleep(10 + before)
    machine = MachineClock(ahead)
    settings, share = discovering(), Share(per_second=20)
    async with running(QUIET, upstream=upstream, settings=settings, share=share, clock=machine.clock) as rig:
        await asyncio.sleep(300)
        shown = {operation.id for operation in rig.snapshot().shown}
        assert shown == set(running_ids)
        assert finished(rig) == 0
        assert not any(isinstance(event.event, Finished) for event in await rig.events())


@pytest.mark.virtual_time
async def test_untracked_and_finished_operations_are_not_discovered_again() -> None:
    async with running(QUIET, settings=discovering()) as rig:
        await asyncio.sleep(10)
        short, long = send(rig, 1, lifetime=10) + send(rig, 1, lifetime=3600)
        await rig.until(lambda: finished(rig) == 1, within=60)
        await rig.untrack(long)
        await asyncio.sleep(120)
        assert {operation.id for operation in rig.snapshot().shown} == {short}
        assert finished(rig) == 1


@pytest.mark.virtual_time
async def test_pages_that_fail_are_read_again_and_nothing_is_missed() -> None:
    faults = """
faults:
  - {kind: status, status: 500, probability: 0.3}
  - {kind: garbage, probability: 0.1}
  - {kind: cut, probability: 0.1}
  - {kind: short_page, probability: 0.3, share: 0.5}
  - {kind: empty_page, probability: 0.1}
  - {kind: repeated_token, probability: 0.05}
  - {kind: stale_token, probability: 0.1}
"""
    scenario = parse_scenario("population: {in_flight: 0}\n" + faults)
    async with running(scenario, settings=discovering(), share=Share(per_second=20)) as rig:
        await asyncio.sleep(60)
        for _ in range(10):
            send(rig, 30, lifetime=30)
            await asyncio.sleep(15)
        await rig.until(lambda: finished(rig) == 300, within=1800)
        assert all(operation.status is Status.COMPLETED for operation in rig.snapshot().shown)


@pytest.mark.virtual_time
async def test_the_cursor_waits_until_the_store_has_taken_the_page() -> None:
    from tests.support.failing import FailingStore

    store = FailingStore()
    async with running(QUIET, store=store, settings=discovering()) as rig:
        await asyncio.sleep(30)
        before = rig.snapshot().discovered_at
        store.fails = True
        send(rig, 20, lifetime=3)
        await asyncio.sleep(60)
        assert rig.snapshot().discovered_at is not None
        assert before is not None
        store.fails = False
        await rig.until(lambda: finished(rig) == 20, within=120)
        after = rig.snapshot().discovered_at
        assert after is not None
        assert after > before


# ── lists are no snapshots ────────────────────────────────────────────────────────────────────────────────────────────


def tracked(rig: Rig) -> set[str]:
    """The ids of all operations that are tracked, settling or just finished."""
    return {operation.id for operation in rig.watch.candidates()}


def requests_per_minute(rig: Rig, *, since: int, minutes: float) -> float:
    return (len(rig.observer.attempts) - since) / minutes


@pytest.mark.virtual_time
async def test_what_was_created_just_before_the_first_start_and_is_visible_just_after_is_found() -> None:
    scenario = parse_scenario(LATE.format(wait="13s"))
    async with running(scenario) as rig:
        upstream = rig.upstream
        ids = send(rig, 5, lifetime=600)
    await asyncio.sleep(3)
    async with running(scenario, upstream=upstream, settings=discovering()) as rig:
        await asyncio.sleep(5)
        assert not tracked(rig)
        await rig.until(lambda: tracked(rig) == set(ids), within=15)


@pytest.mark.virtual_time
@pytest.mark.parametrize("seconds", [63, 70, 88])
async def test_an_operation_that_becomes_visible_within_90_seconds_is_found_within_30_of_that(seconds: int) -> None:
    scenario = parse_scenario(LATE.format(wait=f"{seconds}s"))
    async with running(scenario, settings=discovering()) as rig:
        await asyncio.sleep(30)
        ids = send(rig, 3, lifetime=20)
        await asyncio.sleep(seconds)
        await rig.until(lambda: tracked(rig) == set(ids), within=30)
        await rig.until(lambda: finished(rig) == 3, within=120)


@pytest.mark.virtual_time
@pytest.mark.parametrize("minutes", [3, 9, 14.9])
async def test_an_operation_that_becomes_visible_up_to_15_minutes_late_is_found_by_a_wide_round(minutes: float) -> None:
    scenario = parse_scenario(LATE.format(wait=f"{minutes * 60:.0f}s"))
    async with running(scenario, settings=discovering()) as rig:
        await asyncio.sleep(30)
        ids = send(rig, 3, lifetime=20)
        await asyncio.sleep(minutes * 60)
        await rig.until(lambda: tracked(rig) == set(ids), within=200)


@pytest.mark.virtual_time
async def test_three_first_starts_within_five_minutes_count_every_end_at_most_once() -> None:
    upstream: Upstream | None = None
    counted: list[str] = []
    sent: list[str] = []
    for _ in range(3):
        store = MemoryStore()
        async with running(QUIET, store=store, upstream=upstream, settings=discovering()) as rig:
            upstream = rig.upstream
            for _ in range(9):
                sent += send(rig, 4, lifetime=15)
                await asyncio.sleep(10)
            events = await rig.events()
        counted += [event.operation_id for event in events if isinstance(event.event, Finished)]
        await asyncio.sleep(2)
    assert len(counted) == len(set(counted))
    assert len(set(counted)) > 0.75 * len(sent)


@pytest.mark.virtual_time
@pytest.mark.parametrize("kind", ["empty_page", "short_page, share: 0.05"])
async def test_a_backlog_of_discovery_never_stops_polling(kind: str) -> None:
    lags: list[int] = []
    pages: list[int] = []
    fault = f"{{kind: {kind}, endpoint: list}}"
    scenario = parse_scenario(f"population: {{in_flight: 0}}\nfaults: [{fault}]")
    async with running(scenario) as rig:
        upstream = rig.upstream
        ids = send(rig, 30, lifetime=7200)
        send(rig, 1500, lifetime=0.5)
    await asyncio.sleep(2)
    settings, share = discovering(), Share(per_second=20)
    async with running(scenario, upstream=upstream, settings=settings, share=share) as rig:
        await rig.track(ids)
        await asyncio.sleep(20)
        for _ in range(30):
            await asyncio.sleep(1)
            lags.append(rig.snapshot().lag)
        pages.append(sum(attempt.endpoint == "list" for attempt in rig.observer.attempts))
    assert max(lags) < 5 * SECOND
    assert pages[0] > 100


@pytest.mark.virtual_time
async def test_a_burst_is_not_read_again_in_every_round() -> None:
    scenario = parse_scenario("population: {in_flight: 0}\nfaults: [{kind: short_page, share: 0.15, endpoint: list}]")
    async with running(scenario, settings=discovering(), share=Share(per_second=20)) as rig:
        await asyncio.sleep(30)
        for _ in range(10):
            send(rig, 150, lifetime=0.5)
            await asyncio.sleep(1)
        await rig.until(lambda: finished(rig) == 1500, within=900)
        await asyncio.sleep(120)
        before = len(rig.observer.attempts)
        await asyncio.sleep(1200)
        assert requests_per_minute(rig, since=before, minutes=20) <= 2 * 12


# ── clocks are hints ──────────────────────────────────────────────────────────────────────────────────────────────────


async def found_after(rig: Rig, seconds: float) -> None:
    """Operations that come and go all the time are all found."""
    ids: list[str] = []
    for _ in range(round(seconds / 20)):
        ids += send(rig, 3, lifetime=10)
        await asyncio.sleep(20)
    await rig.until(lambda: finished(rig) >= len(ids), within=300)


@pytest.mark.virtual_time
@pytest.mark.parametrize("ahead", ["5m", "1d", "-5m"])
async def test_one_page_with_a_wrong_date_hides_no_operation(ahead: str) -> None:
    for since in ("0s", "40s", "400s"):
        fault = f"{{kind: skewed_date, wait: {ahead}, endpoint: list, from: {since}, times: 1}}"
        scenario = parse_scenario(f"population: {{in_flight: 0}}\nfaults: [{fault}]")
        async with running(scenario, settings=discovering()) as rig:
            await found_after(rig, 460)


@pytest.mark.virtual_time
async def test_without_a_date_and_with_a_machine_clock_that_is_corrected_everything_is_found() -> None:
    machine = MachineClock(ahead=3 * 3600.0)
    store = MemoryStore()
    scenario = parse_scenario("population: {in_flight: 0}\nfaults: [{kind: no_date}]")
    async with running(scenario, store=store, settings=discovering(since=1.0), clock=machine.clock) as rig:
        await found_after(rig, 300)
        machine.ahead = 0.0
        assert machine.clock.reanchor()
        upstream = rig.upstream
        before = finished(rig)
        ids = send(rig, 3, lifetime=10)
        await rig.until(lambda: finished(rig) == before + len(ids), within=120)
    async with running(scenario, store=store, upstream=upstream, settings=discovering()) as rig:
        ids = send(rig, 3, lifetime=600)
        await rig.until(lambda: set(ids) <= tracked(rig), within=30)


@pytest.mark.virtual_time
async def test_a_first_start_with_the_machines_clock_ahead_finds_what_discover_since_says() -> None:
    async with running(QUIET) as rig:
        upstream = rig.upstream
        send(rig, 1, lifetime=36_000)
        await asyncio.sleep(7200)
        ids = send(rig, 2, lifetime=36_000)
    await asyncio.sleep(600)
    machine = MachineClock(ahead=3 * 3600.0)
    settings = discovering(since=1.0)
    async with running(QUIET, upstream=upstream, settings=settings, clock=machine.clock) as rig:
        await asyncio.sleep(20)
        assert tracked(rig) == set(ids)


@pytest.mark.virtual_time
async def test_a_stored_cursor_ahead_of_the_time_is_corrected() -> None:
    store = MemoryStore()
    async with running(QUIET, store=store) as rig:
        await store.commit(ACCOUNT, (), cursor=rig.clock.now().at + 24 * HOUR)
        ids = send(rig, 3, lifetime=600)
        upstream = rig.upstream
    async with running(QUIET, store=store, upstream=upstream, settings=discovering()) as rig:
        await rig.until(lambda: tracked(rig) == set(ids), within=20)
