"""Outages of hours, in virtual time: events at begin and end only, two requests a minute at most, nothing lost."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.rig import running
from watcher.core.account_health import Began, HealthIssue, Recovered
from watcher.core.model import HOUR, SECOND
from watcher.simulator import Scenario
from watcher.simulator.fault_types import Fault

HOURS = 2
NUMBER = 50


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (Fault(kind="status", status=503), HealthIssue.THROTTLED),
        (Fault(kind="status", status=500), HealthIssue.UNREACHABLE),
        (Fault(kind="reset"), HealthIssue.UNREACHABLE),
        (Fault(kind="silent"), HealthIssue.UNREACHABLE),
        (Fault(kind="garbage"), HealthIssue.UNREACHABLE),
    ],
)
async def test_an_outage_of_hours_is_published_at_begin_and_end_and_costs_two_requests_a_minute_at_most(
    fault: Fault, cause: HealthIssue
) -> None:
    async with running(Scenario()) as rig:
        now = rig.clock.now().at
        lives = [rig.upstream.world.send(rig.upstream.accounts[0].account_id, now) for _ in range(NUMBER)]
        await rig.track([life.id for life in lives])
        await asyncio.sleep(2)
        rig.upstream.set_faults([fault], 0)
        before = rig.upstream.ledger.count()
        await asyncio.sleep(HOURS * 3600)
        requests = rig.upstream.ledger.count() - before
        assert rig.snapshot().up is (cause is HealthIssue.THROTTLED)
        rig.upstream.set_faults([], 0)
        await rig.until(lambda: rig.watch.unfinished == 0, within=600)
        totals = rig.snapshot().totals
    assert requests < 2 * HOURS * 60
    assert [event.issue for event in rig.observer.health_by_account] == [cause, cause]
    began, recovered = rig.observer.health_by_account
    assert isinstance(began, Began)
    assert isinstance(recovered, Recovered)
    assert abs(recovered.lasted - HOURS * HOUR) < 300 * SECOND
    assert totals["operations", "completed"] == NUMBER
