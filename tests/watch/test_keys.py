"""An API key alone does not name its account: a new key is adopted when it has shown an operation of the account."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.support.rig import ACCOUNT, Rig, running
from watcher.core.account_health import Began, HealthIssue, Recovered
from watcher.core.model import Status
from watcher.simulator import parse_scenario
from watcher.store.memory import MemoryStore

TWO = parse_scenario(
    "accounts:\n"
    "  - {account_id: AC1, auth_token: one, api_key: SK1, api_key_secret: first}\n"
    "  - {account_id: AC2, auth_token: two, api_key: SK2, api_key_secret: second}\n"
    "  - {account_id: AC3, auth_token: three, api_key: SK3, api_key_secret: third}\n"
    "population: {lifetime: 60h}\n"
)
NUMBER = 5


async def sent(rig: Rig) -> None:
    now = rig.clock.now().at
    await rig.track([rig.upstream.world.send("AC1", now).id for _ in range(NUMBER)])


def statuses(rig: Rig) -> Counter[Status]:
    return Counter(operation.status for operation in rig.watch.candidates())


async def stored_key(store: MemoryStore) -> str | None:
    return (await store.load(ACCOUNT, final_since=0)).api_key


@pytest.mark.virtual_time
async def test_the_key_of_another_account_is_not_adopted_and_no_operation_ends_by_it_also_after_a_restart() -> None:
    store = MemoryStore()
    async with running(TWO, store=store, api_key="SK1") as rig:
        await sent(rig)
        await asyncio.sleep(20)
        assert await stored_key(store) == "SK1"
        upstream = rig.upstream
    for _ in range(2):
        async with running(TWO, store=store, upstream=upstream, api_key="SK2") as rig:
            requests = upstream.ledger.count()
            await asyncio.sleep(7200)
            assert statuses(rig) == {Status.PROCESSING: NUMBER}
            (began,) = rig.observer.health_by_account
            assert isinstance(began, Began)
            assert began.issue is HealthIssue.UNAUTHORIZED
            assert "the new API key has not shown a tracked operation" in began.why
            assert (rig.snapshot().up, rig.snapshot().unauthorized) == (False, True)
            assert upstream.ledger.count() - requests <= 2 * 120 + 10
        assert await stored_key(store) == "SK1"
    async with running(TWO, store=store, upstream=upstream, api_key="SK1") as rig:
        await asyncio.sleep(10)
        assert (rig.snapshot().up, rig.observer.health_by_account) == (True, [])


@pytest.mark.virtual_time
async def test_a_new_key_of_the_same_account_is_adopted_with_the_first_operation_that_it_shows() -> None:
    store = MemoryStore()
    scenario = TWO
    async with running(scenario, store=store, api_key="SK1") as rig:
        await sent(rig)
        await asyncio.sleep(20)
        upstream = rig.upstream
    await store.adopt_key(ACCOUNT, "SK0")
    async with running(scenario, store=store, upstream=upstream, api_key="SK1") as rig:
        await asyncio.sleep(5)
        assert (rig.snapshot().up, rig.observer.health_by_account) == (True, [])
        assert await stored_key(store) == "SK1"


@pytest.mark.virtual_time
async def test_a_new_key_is_adopted_where_nothing_is_tracked_or_everything_is_untracked() -> None:
    store = MemoryStore()
    await store.adopt_key(ACCOUNT, "SK1")
    async with running(TWO, store=store, api_key="SK2") as rig:
        await asyncio.sleep(5)
        assert await stored_key(store) == "SK2"
        await sent(rig)
        upstream = rig.upstream
    async with running(TWO, store=store, upstream=upstream, api_key="SK3") as rig:
        await asyncio.sleep(60)
        assert await stored_key(store) == "SK2"
        for operation in rig.watch.candidates():
            await rig.untrack(operation.id)
        await asyncio.sleep(120)
        assert await stored_key(store) == "SK3"
        assert rig.snapshot().up
        assert isinstance(rig.observer.health_by_account[-1], Recovered)


@pytest.mark.virtual_time
async def test_a_first_key_must_show_an_operation_only_where_one_was_seen_before() -> None:
    store = MemoryStore()
    async with running(TWO, store=store) as rig:
        await sent(rig)
        await asyncio.sleep(20)
        upstream = rig.upstream
    assert await stored_key(store) is None
    async with running(TWO, store=store, upstream=upstream, api_key="SK2") as rig:
        await asyncio.sleep(600)
        assert not rig.snapshot().up
        assert await stored_key(store) is None
