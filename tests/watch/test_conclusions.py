"""What wrong times must not do to an account's operations, on the simulated API in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from tests.support.rig import Rig, loop_settings, running
from tests.support.virtual import EPOCH
from watcher.core.census import Retention
from watcher.core.governor import Share
from watcher.core.model import SECOND, Corrected, Finished
from watcher.simulator import Scenario, parse_scenario
from watcher.simulator.ids import make_id

NOW = round(EPOCH * SECOND)
IDS = [make_id(NOW - 5 * SECOND, random.Random(number)) for number in range(200)]
ONE = IDS[0]
FRESHNESS = 5.0


def operations(*lines: str, faults: tuple[str, ...] = ()) -> Scenario:
    more = "faults:\n" + "".join(f"  - {{kind: {fault}}}\n" for fault in faults) if faults else ""
    return parse_scenario("operations:\n" + "".join(f"  - {{{line}}}\n" for line in lines) + "latency: 50ms\n" + more)


def two_hundred(*faults: str) -> Scenario:
    rng = random.Random(5)
    ends = (f"id: {one}, created: -5s, completed: {rng.randint(20, 120)}s, stats: {{recipients: 9}}" for one in IDS)
    return operations(*ends, faults=faults)


async def ends(rig: Rig) -> tuple[Counter[str], list[float]]:
    """How operations ended, and how many seconds later that was detected."""
    outcomes: Counter[str] = Counter()
    delays = []
    for event in await rig.events():
        if isinstance(event.event, Finished):
            life = rig.upstream.world.find(event.operation_id)
            assert life is not None
            outcomes[event.event.outcome.value] += 1
            delays.append((event.occurred_at - life.ended_at) / SECOND)
    return outcomes, delays


async def until_counted(scenario: Scenario, ids: list[str], *, within: float) -> tuple[Rig, int]:
    settings = loop_settings(settle_after=(30.0, 120.0), retention=Retention(max_operations=1000))
    async with running(scenario, settings=settings, share=Share(per_second=20, concurrency=4)) as rig:
        await rig.track(ids)
        await rig.until(lambda: len(rig.snapshot().shown) == len(ids), within=30)
        await rig.until(lambda: rig.watch.unfinished == 0, within=within)
        return rig, len(rig.observer.attempts)


@pytest.mark.virtual_time
@pytest.mark.unmeasured
async def test_two_hundred_operations_whose_ends_are_stamped_coarser_end_in_time_and_cost_no_more_requests():
    _, plain = await until_counted(two_hundred(), IDS, within=600)
    rig, fine = await until_counted(two_hundred("fine_times, share: 1"), IDS, within=600)
    outcomes, delays = await ends(rig)
    assert outcomes == {"completed": len(IDS)}
    assert max(delays) <= 2 * FRESHNESS
    assert rig.observer.anomalies.count("stale_answer") == 0
    assert rig.observer.anomalies.count("end_older") <= len(IDS)
    assert fine <= plain * 1.05 + 2


@pytest.mark.virtual_time
@pytest.mark.unmeasured
@pytest.mark.parametrize(
    "fault",
    [
        "skewed_time, wait: 30m, times: 1, from: 10s, share: 1",
        "skewed_date, wait: 9d, times: 1, from: 10s",
        "skewed_date, wait: 9d, times: 1",
        "skewed_time, field: createdAt, wait: -30000d, times: 1, from: 10s, share: 1",
        "skewed_time, field: createdAt, wait: -30000d, times: 1, share: 1",
    ],
    ids=["updatedAt ahead", "Date ahead", "the first Date ahead", "createdAt 1970", "the first createdAt 1970"],
)
async def test_one_page_with_wrong_times_ends_and_delays_no_operation(fault: str):
    rig, _ = await until_counted(two_hundred(fault), IDS, within=600)
    outcomes, delays = await ends(rig)
    assert outcomes == {"completed": len(IDS)}
    assert min(delays) >= 0
    assert max(delays) <= 2 * FRESHNESS


@pytest.mark.virtual_time
async def test_one_wrong_completed_row_is_published_early_and_counted_with_the_true_stats():
    line = f"id: {ONE}, created: -5s, completed: 30m, stats: {{recipients: 300}}"
    async with running(operations(line, faults=("premature, times: 1, from: 60s",))) as rig:
        await rig.track([ONE])
        await rig.until(lambda: rig.watch.unfinished == 1, within=10)
        await rig.until(lambda: rig.watch.unfinished == 0, within=3600)
        await asyncio.sleep(5)
        (shown,) = rig.snapshot().shown
        assert (shown.status, shown.stats.sent) == ("COMPLETED", 300)
        kinds = [type(event.event) for event in await rig.events()]
        assert kinds.count(Finished) == 1
        assert Corrected in kinds
        finished = next(event for event in await rig.events() if isinstance(event.event, Finished))
        assert finished.occurred_at < NOW + 90 * SECOND
        assert any(value == 300 for value in rig.snapshot().totals.values())


@pytest.mark.virtual_time
async def test_a_single_404_while_settling_does_not_make_final():
    steps = (
        "{at: 0s, status: PROCESSING, stats: {total: 100}}",
        "{at: 20s, status: COMPLETED, stats: {total: 100, sent: 50}}",
        "{at: 65s, status: COMPLETED, stats: {total: 100, sent: 100}}",
    )
    line = f"id: {ONE}, steps: [{', '.join(steps)}]"
    faults = ("status, status: 404, endpoint: fetch, times: 1, from: 40s",)
    async with running(operations(line, faults=faults)) as rig:
        await rig.track([ONE])
        await rig.until(lambda: rig.watch.unfinished == 1, within=10)
        await rig.until(lambda: rig.watch.unfinished == 0, within=3600)
        (shown,) = rig.snapshot().shown
        assert shown.stats.sent == 100
