"""Discovery over the simulated API in virtual time: every operation of the account is found, each once."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.rig import Rig, following, running
from tests.support.virtual import run_virtually
from watcher.core.discovery import Scope
from watcher.core.governor import Share
from watcher.core.model import HOUR, SECOND, Finished, Source, Status, Tracked
from watcher.simulator import Upstream, parse_scenario
from watcher.store.memory import MemoryStore
from watcher.watch import Following

QUIET = parse_scenario("population: {in_flight: 0, share_failing: 0}\nlatency: 20ms..80ms")


def discovering(**changes: object) -> Following:
    settings = following(settle_after=(5.0,), **changes)  # type: ignore[arg-type]
    return Following(
        rules=settings.rules,
        promise=settings.promise,
        retention=settings.retention,
        discovers=Scope(every=5 * SECOND, since=24 * HOUR),
    )


def send(rig: Rig, number: int, *, lifetime: float) -> list[str]:
    """What the app does, which knows nothing of the watcher."""
    account_id = rig.upstream.accounts[0].account_id
    now = rig.clock.now().at
    return [
        rig.upstream.world.send(account_id, now, lifetime=lifetime * SECOND, recipients=3, failed=0).id
        for _ in range(number)
    ]


def finished(rig: Rig) -> float:
    return sum(value for key, value in rig.snapshot().totals.items() if key[0] == "operations")


def test_what_the_app_creates_is_found_within_freshness_and_followed_to_its_end() -> None:
    async def main() -> None:
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

    run_virtually(main())


def test_what_was_created_and_ended_while_the_daemon_was_down_is_counted_once() -> None:
    async def main() -> None:
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

    run_virtually(main())


@pytest.mark.parametrize("before", [1.0, 3600.0])
def test_an_empty_store_neither_follows_nor_counts_what_had_ended_before(before: float) -> None:
    async def main() -> None:
        upstream: Upstream | None = None
        async with running(QUIET) as rig:
            upstream = rig.upstream
            send(rig, 2500, lifetime=10)
            running_ids = send(rig, 3, lifetime=7200)
        await asyncio.sleep(10 + before)
        async with running(QUIET, upstream=upstream, settings=discovering(), share=Share(per_second=20)) as rig:
            await asyncio.sleep(300)
            shown = {operation.id for operation in rig.snapshot().shown}
            assert shown == set(running_ids)
            assert finished(rig) == 0
            assert not any(isinstance(event.event, Finished) for event in await rig.events())

    run_virtually(main())


def test_untracked_and_finished_operations_stay_away() -> None:
    async def main() -> None:
        async with running(QUIET, settings=discovering()) as rig:
            await asyncio.sleep(10)
            short, long = send(rig, 1, lifetime=10) + send(rig, 1, lifetime=3600)
            await rig.until(lambda: finished(rig) == 1, within=60)
            await rig.untrack(long)
            await asyncio.sleep(120)
            assert {operation.id for operation in rig.snapshot().shown} == {short}
            assert finished(rig) == 1

    run_virtually(main())


def test_pages_that_fail_are_read_again_and_nothing_is_missed() -> None:
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

    async def main() -> None:
        scenario = parse_scenario("population: {in_flight: 0}\n" + faults)
        async with running(scenario, settings=discovering(), share=Share(per_second=20)) as rig:
            await asyncio.sleep(60)
            for _ in range(10):
                send(rig, 30, lifetime=30)
                await asyncio.sleep(15)
            await rig.until(lambda: finished(rig) == 300, within=1800)
            assert all(operation.status is Status.COMPLETED for operation in rig.snapshot().shown)

    run_virtually(main())


def test_the_cursor_waits_until_the_store_has_taken_the_page() -> None:
    async def main() -> None:
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

    run_virtually(main())
