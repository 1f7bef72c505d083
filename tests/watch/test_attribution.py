"""Answers that are not about what was requested: proxies, wrong paths, refused lists, forbidden operations."""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec
import pytest

from tests.support.rig import BASE_URL, Rig, loop_settings, running
from tests.support.virtual import EPOCH
from watcher.core.account_health import Began, HealthIssue, Recovered
from watcher.core.discovery import Scope
from watcher.core.model import HOUR, SECOND, Odd, Status
from watcher.simulator import Scenario, Upstream, parse_scenario
from watcher.simulator.fault_types import Fault
from watcher.simulator.values import Duration
from watcher.store.memory import MemoryStore

LIST = f"{BASE_URL}/PushNotifications/Operations"
PAGE = {"kind": "status", "shape": "html"}


def scenario(lifetime: str = "60h", more: str = "") -> Scenario:
    return parse_scenario(f"population: {{lifetime: {lifetime}}}\n{more}")


async def sent(rig: Rig, number: int) -> list[str]:
    """Operations sent and tracked just now."""
    account_id, now = rig.upstream.accounts[0].account_id, rig.clock.now().at
    ids = [rig.upstream.world.send(account_id, now).id for _ in range(number)]
    await rig.track(ids)
    return ids


def statuses(rig: Rig) -> Counter[Status]:
    return Counter(operation.status for operation in rig.watch.candidates())


def begun(rig: Rig) -> list[tuple[HealthIssue, str]]:
    return [(event.issue, event.why) for event in rig.observer.health_by_account if isinstance(event, Began)]


def over(rig: Rig) -> list[HealthIssue]:
    return [event.issue for event in rig.observer.health_by_account if isinstance(event, Recovered)]


async def latest(rig: Rig, seconds: int) -> int:
    """The greatest lag during `seconds`."""
    most = 0
    for _ in range(seconds):
        await asyncio.sleep(1)
        most = max(most, rig.snapshot().lag)
    return most


# ── one operation that is forbidden ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.virtual_time
async def test_a_403_of_one_operation_is_no_issue_of_the_account_and_delays_no_other() -> None:
    async with running(scenario()) as rig:
        ids = await sent(rig, 30)
        await asyncio.sleep(10)
        rig.upstream.set_faults([Fault(kind="forbidden", operation=ids[0])], 0)
        assert await latest(rig, 1800) < SECOND
        assert (rig.snapshot().up, rig.observer.health_by_account) == (True, [])
        odd = [event.event for event in await rig.events(ids[0]) if isinstance(event.event, Odd)]
        assert odd == [Odd(kind="forbidden")]
        assert rig.observer.anomalies.count("forbidden") == rig.upstream.ledger.count("fetch", "403") == 4
        rig.upstream.set_faults([], 0)
        await asyncio.sleep(3700)
        assert rig.watch.next_poll(ids[0]) is not None
        assert statuses(rig) == {Status.PROCESSING: 30}


@pytest.mark.virtual_time
async def test_a_key_that_may_list_but_not_fetch_as_on_a_trial_account_is_no_issue_of_the_account() -> None:
    async with running(scenario()) as rig:
        ids = await sent(rig, 5)
        rig.upstream.set_faults([Fault(kind="status", status=403, endpoint="fetch")], 0)
        await asyncio.sleep(600)
        assert (rig.snapshot().up, rig.observer.health_by_account) == (True, [])
        assert len(ids) == 5


@pytest.mark.virtual_time
async def test_500_forbidden_ids_cost_four_requests_each_in_an_hour_and_a_check_a_minute_and_delay_no_other() -> None:
    async with running(scenario()) as rig:
        ids = await sent(rig, 600)
        await asyncio.sleep(120)
        rig.upstream.set_faults([Fault(kind="forbidden", operation=operation_id) for operation_id in ids[:500]], 0)
        await asyncio.sleep(120)
        sweeps = rig.upstream.ledger.count("list")
        assert await latest(rig, 3480) < 2 * SECOND
        assert rig.observer.health_by_account == []
        refused = rig.upstream.ledger.count("fetch", "403")
        assert 2000 <= refused <= 2100
        assert rig.upstream.ledger.count("list") - sweeps < 58 * (12 + 1) + 10
        await asyncio.sleep(3600)
        assert rig.upstream.ledger.count("fetch", "403") - refused <= 600


@pytest.mark.virtual_time
async def test_a_403_of_everything_holds_the_account_and_is_over_with_the_first_good_answer() -> None:
    async with running(scenario()) as rig:
        await sent(rig, 20)
        await asyncio.sleep(10)
        rig.upstream.set_faults([Fault(kind="status", status=403)], 0)
        await asyncio.sleep(30)
        requests = rig.upstream.ledger.count()
        await asyncio.sleep(1800)
        assert rig.upstream.ledger.count() - requests <= 61
        ((cause, why),) = begun(rig)
        assert cause is HealthIssue.UNAUTHORIZED
        assert why.startswith("HTTP 403, error 70051, request RQ")
        assert why.endswith(f"from the list at {LIST}")
        assert (rig.snapshot().up, rig.snapshot().unauthorized) == (False, True)
        rig.upstream.set_faults([], 0)
        await rig.until(lambda: rig.snapshot().up, within=121)
        await asyncio.sleep(60)
        assert over(rig) == [HealthIssue.UNAUTHORIZED]
        assert rig.snapshot().lag < SECOND
        assert "forbidden" not in rig.observer.anomalies


# ── what a proxy answers ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.virtual_time
@pytest.mark.parametrize("status", [400, 403, 404])
@pytest.mark.parametrize("number", [1, 30])
async def test_a_proxys_page_at_the_first_poll_ends_no_operation(status: int, number: int) -> None:
    faults = f"faults: [{{kind: status, status: {status}, shape: html, until: 240s}}]"
    async with running(scenario("1h", faults)) as rig:
        await sent(rig, number)
        await asyncio.sleep(200)
        assert statuses(rig) == {Status.UNSEEN: number}
        ((cause, why),) = begun(rig)
        assert cause is (HealthIssue.UNAUTHORIZED if status == 403 else HealthIssue.UNREACHABLE)
        assert f"HTTP {status}" in why
        assert LIST in why
        assert not rig.snapshot().up
        await asyncio.sleep(160)
        assert statuses(rig) == {Status.PROCESSING: number}
        assert (rig.snapshot().up, over(rig)) == (True, [cause])


@pytest.mark.virtual_time
@pytest.mark.parametrize("status", [400, 404])
@pytest.mark.parametrize("number", [1, 2, 3, 30])
async def test_a_proxys_page_as_every_answer_for_an_hour_ends_no_operation_that_was_seen_before(
    status: int, number: int
) -> None:
    async with running(scenario()) as rig:
        await sent(rig, number)
        await asyncio.sleep(20)
        rig.upstream.set_faults([Fault(kind="status", status=status, shape="html")], 0)
        await asyncio.sleep(3600)
        assert statuses(rig) == {Status.PROCESSING: number}
        assert not rig.snapshot().up
        assert begun(rig)[0][0] is HealthIssue.UNREACHABLE
        rig.upstream.set_faults([], 0)
        await asyncio.sleep(130)
        assert (rig.snapshot().up, rig.snapshot().lag < SECOND) == (True, True)
        assert len(begun(rig)) == len(over(rig)) == 1


@pytest.mark.virtual_time
@pytest.mark.parametrize("shape", ["errors", "classic", "bare", "problem", "several", "html"])
@pytest.mark.parametrize("number", [1, 30])
async def test_a_wrong_path_in_base_url_ends_no_operation_and_is_reported_with_the_url(shape: str, number: int) -> None:
    wrong = "https://comms.example/v2"
    async with running(scenario("1h", f"error_shape: {shape}"), base_url=wrong) as rig:
        await sent(rig, number)
        await asyncio.sleep(3600)
        assert statuses(rig) == {Status.UNSEEN: number}
        ((cause, why),) = begun(rig)
        assert cause is HealthIssue.UNREACHABLE
        assert f"{wrong}/PushNotifications/Operations" in why
        assert "HTTP 404" in why
        assert rig.upstream.ledger.count() <= 2 * 60 + 10


@pytest.mark.virtual_time
async def test_a_404_that_is_upstreams_is_believed_where_its_list_is_answered() -> None:
    for shape in ("errors", "classic", "bare", "problem", "problem_errors", "several", "mixed", "html", "empty"):
        async with running(scenario("1h", f"error_shape: {shape}")) as rig:
            await rig.track(["comms_operation_0123456789abcdefghjkmnpqrstv"])
            await asyncio.sleep(900)
            assert statuses(rig) == {Status.NOT_FOUND: 1}, shape
            assert rig.snapshot().up


# ── lists that are refused ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.virtual_time
@pytest.mark.parametrize("status", [400, 403, 404, 405, 410])
@pytest.mark.parametrize("number", [0, 1, 60])
async def test_refused_lists_are_an_issue_and_operations_are_polled_by_id(status: int, number: int) -> None:
    faults = f"faults: [{{kind: status, status: {status}, endpoint: list}}]"
    settings = loop_settings(freshness=30)
    async with running(scenario("10m", faults), settings=settings) as rig:
        await sent(rig, number)
        # One operation alone is fetched by its id, so that its lists are not missed until a check is due.
        await asyncio.sleep(330)
        ((cause, why),) = begun(rig)
        assert cause is (HealthIssue.UNAUTHORIZED if status == 403 else HealthIssue.UNREACHABLE)
        assert f"HTTP {status}" in why
        assert LIST in why
        assert not rig.snapshot().up
        lists = rig.upstream.ledger.count("list")
        assert await latest(rig, 240) < 5 * SECOND
        assert rig.upstream.ledger.count("list") - lists <= 5
        await asyncio.sleep(600)
        assert statuses(rig) in ({Status.COMPLETED: number}, {})
        rig.upstream.set_faults([], 0)
        await rig.until(lambda: rig.snapshot().up, within=301)
        assert over(rig) == [cause]


@pytest.mark.virtual_time
async def test_a_key_that_may_not_list_cannot_discover_and_says_so() -> None:
    settings = msgspec.structs.replace(loop_settings(), discovers=Scope(every=5 * SECOND, since=HOUR))
    faults = "faults: [{kind: status, status: 403, endpoint: list, until: 600s}]"
    async with running(scenario("1h", faults), settings=settings) as rig:
        account_id, now = rig.upstream.accounts[0].account_id, rig.clock.now().at
        rig.upstream.world.send(account_id, now)
        await sent(rig, 1)
        await asyncio.sleep(590)
        assert [cause for cause, _ in begun(rig)] == [HealthIssue.UNAUTHORIZED]
        assert rig.snapshot().discovered_at is None
        assert rig.upstream.ledger.count("list") <= 12
        await asyncio.sleep(400)
        assert statuses(rig) == {Status.PROCESSING: 2}
        assert rig.snapshot().discovered_at is not None


@pytest.mark.virtual_time
async def test_a_single_refusal_of_a_list_is_no_issue() -> None:
    faults = "faults: [{kind: status, status: 404, endpoint: list, times: 1}]"
    async with running(scenario("1h", faults)) as rig:
        await asyncio.sleep(20)
        assert (rig.snapshot().up, rig.observer.health_by_account) == (True, [])
        assert rig.upstream.ledger.count("list") == 2


# ── several that are gone ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.virtual_time
@pytest.mark.parametrize("number", [3, 30])
async def test_seen_operations_that_all_answer_404_are_an_issue_of_the_account(number: int) -> None:
    async with running(scenario()) as rig:
        await sent(rig, number)
        await asyncio.sleep(20)
        # Upstream's own words, and the lists are those of another account.
        faults = [
            Fault(kind="status", status=404, endpoint="fetch"),
            Fault(kind="invisible", wait=Duration(10**13)),
        ]
        rig.upstream.set_faults(faults, 0)
        await asyncio.sleep(7200)
        assert statuses(rig) == {Status.PROCESSING: number}
        ((cause, why),) = begun(rig)
        assert cause is HealthIssue.UNREACHABLE
        assert "operations that were seen before are missing" in why
        assert not rig.snapshot().up
        rig.upstream.set_faults([], 0)
        await asyncio.sleep(130)
        assert (rig.snapshot().up, over(rig)) == (True, [cause])


@pytest.mark.virtual_time
async def test_three_operations_that_are_really_gone_end_as_not_found_where_others_are_shown() -> None:
    async with running(scenario()) as rig:
        ids = await sent(rig, 100)
        await asyncio.sleep(20)
        gone = [Fault(kind="status", status=404, endpoint="fetch", operation=one) for one in ids[:3]]
        # They are on no list either.
        rig.upstream.set_faults([*gone, *(Fault(kind="forbidden", operation=one) for one in ids[:3])], 0)
        await asyncio.sleep(1800)
        assert statuses(rig) == {Status.PROCESSING: 97, Status.NOT_FOUND: 3}
        assert rig.observer.health_by_account == []


# ── filters that are ignored ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.virtual_time
async def test_an_ignored_filter_ends_no_operation_and_is_an_anomaly() -> None:
    text = "population: {in_flight: 300, arrivals_per_second: 0, lifetime: 30h}\nfaults: [{kind: unfiltered}]"
    async with running(parse_scenario(text)) as rig:
        account_id, now = rig.upstream.accounts[0].account_id, rig.clock.now().at
        ends = [rig.upstream.world.send(account_id, now, lifetime=20 * SECOND).id for _ in range(30)]
        await rig.track(ends)
        await asyncio.sleep(400)
        assert statuses(rig) == {Status.COMPLETED: 30}
        assert "filter_ignored" in rig.observer.anomalies
        assert rig.snapshot().up


@pytest.mark.virtual_time
async def test_operations_that_ended_long_before_are_not_discovered_where_date_filters_are_ignored() -> None:
    store = MemoryStore()
    settings = msgspec.structs.replace(loop_settings(), discovers=Scope(every=5 * SECOND, since=HOUR))
    text = "population: {in_flight: 0}\nfaults: [{kind: unfiltered, from: 3700s}]"
    scene = parse_scenario(text)
    upstream = Upstream(scene, round(EPOCH * SECOND))
    for _ in range(20):
        upstream.world.send(scene.accounts[0].account_id, round(EPOCH * SECOND), lifetime=10 * SECOND)
    await asyncio.sleep(3600)
    async with running(scene, store=store, upstream=upstream, settings=settings) as rig:
        await asyncio.sleep(600)
        assert rig.watch.candidates() == []
        assert "filter_ignored" in rig.observer.anomalies
