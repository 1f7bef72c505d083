"""Sweeps on the simulated API, whose lists do everything that its page names, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from tests.support.rig import loop_settings, running
from tests.support.virtual import EPOCH
from watcher.core.census import Retention
from watcher.core.governor import Share
from watcher.core.model import SECOND, Finished
from watcher.simulator import Scenario, parse_scenario
from watcher.simulator.ids import make_id

NOW = round(EPOCH * SECOND)
IDS = [make_id(NOW - 5 * SECOND, random.Random(number)) for number in range(300)]


def a_campaign(more: str = "") -> Scenario:
    """300 operations that end within some minutes."""
    rng = random.Random(5)
    lines = [
        f"  - {{id: {one}, created: -5s, processing: 2s, completed: {rng.randint(20, 300)}s, stats: {{recipients: 9}}}}"
        for one in IDS
    ]
    return parse_scenario("operations:\n" + "\n".join(lines) + "\nlatency: 20ms..200ms\n" + more)


FAULTS = (
    "short_page, probability: 0.5, share: 0.5",
    "empty_page, probability: 0.3",
    "repeated_token, probability: 0.3",
    "stale_token, probability: 0.5",
    "stale, probability: 0.3, wait: 10s",
    "invisible, probability: 0.3, wait: 60s",
    "status, status: 429, probability: 0.2, retry_after: seconds, wait: 2s",
    "garbage, probability: 0.2",
)


@pytest.mark.virtual_time
@pytest.mark.unmeasured
@pytest.mark.parametrize("cause", ["", *FAULTS, "all"], ids=lambda cause: cause.partition(",")[0] or "behave")
async def test_a_campaign_is_tracked_to_its_end_through_lists_that(cause: str) -> None:
    kinds = FAULTS if cause == "all" else (cause,) if cause else ()
    more = "faults:\n" + "".join(f"  - {{kind: {kind}, until: 240s}}\n" for kind in kinds) if kinds else ""
    settings = loop_settings(settle_after=(10.0,), retention=Retention(max_operations=1000))
    async with running(a_campaign(more), settings=settings, share=Share(per_second=20, concurrency=4)) as rig:
        await rig.track(IDS)
        await rig.until(lambda: len(rig.snapshot().shown) == len(IDS), within=30)
        await rig.until(lambda: rig.watch.unfinished == 0, within=1800)
        await asyncio.sleep(20)
        events = await rig.events()
        totals = rig.snapshot().totals
    ends = Counter(event.operation_id for event in events if isinstance(event.event, Finished))
    assert ends == Counter(IDS)
    assert totals["operations", "completed"] == len(IDS)
    if not cause:
        assert len(rig.observer.attempts) < 1.5 * len(IDS)
        assert max(rig.observer.delays) <= 6.5 * SECOND
