"""Counters by combination: shown at 0 before they count, also when an operation ends at once, and across restarts."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.factories import NOW, TICK
from tests.support.failing import FailingStore
from tests.support.rig import ACCOUNT, Rig, loop_settings, running
from tests.support.stored import counted_in
from tests.support.strategies import unhurried
from tests.support.virtual import EPOCH
from watcher.core.labelling import COMBINATIONS_AT_MOST, Counters
from watcher.core.model import HOUR, MINUTE, SECOND, Instant, Moment, Outcome, Source, Status, Tally
from watcher.core.snapshot import AccountSnapshot
from watcher.simulator import Scenario
from watcher.simulator.ids import make_id
from watcher.simulator.scenario import parse_scenario
from watcher.store import Change, Committed, Entry
from watcher.store.memory import MemoryStore
from watcher.watch.counters import CounterSync

ONE, TWO = (make_id(round(EPOCH * SECOND), random.Random(number)) for number in range(2))
SPRING = ("campaign=spring",)
COMPLETED = "operations", "completed"
BY_CAMPAIGN = loop_settings(freshness=1.0, settle_after=(), counter_labels=("campaign",))


def scenario(one: str = "completed: 5s", two: str = "completed: 8s") -> Scenario:
    return parse_scenario(f"operations:\n  - {{id: {ONE}, {one}}}\n  - {{id: {TWO}, {two}}}\n")


REFUSING = parse_scenario(
    f"operations:\n  - {{id: {ONE}, completed: 1h}}\nfaults:\n  - {{kind: status, status: 400, endpoint: fetch}}\n"
)


def shown(rig: Rig, campaign: str = "spring", outcome: str = "completed") -> float | None:
    return rig.snapshot().totals.get(("operations", outcome, f"campaign={campaign}"))


async def stored(rig: Rig, campaign: str = "spring", outcome: str = "completed") -> float:
    return (await counted_in(rig.store, ACCOUNT)).get(("operations", outcome, f"campaign={campaign}"), 0)


async def counted(rig: Rig, outcome: str = "completed", campaign: str = "spring", number: int = 1) -> None:
    """Wait until the store has counted `number` operations."""
    async with asyncio.timeout(600):
        while await stored(rig, campaign, outcome) < number:  # noqa: ASYNC110 -- virtual time
            await asyncio.sleep(0.25)


async def scrape(rig: Rig) -> AccountSnapshot:
    """One completed scrape; some time for what it leads to."""
    snapshot = rig.snapshot()
    rig.watch.scraped(snapshot)
    await asyncio.sleep(1)
    return snapshot


@pytest.mark.virtual_time
async def test_the_first_scrape_of_a_campaign_shows_0_and_the_next_what_was_counted_before_it():
    async with running(scenario(), settings=BY_CAMPAIGN) as rig:
        await rig.track([ONE], {"campaign": "spring"})
        await counted(rig)
        assert shown(rig) == 0
        await scrape(rig)
        assert shown(rig) == 1


@pytest.mark.virtual_time
async def test_a_rejected_operation_is_shown_at_0_first_too():
    async with running(REFUSING, settings=BY_CAMPAIGN) as rig:
        await rig.track([ONE], {"campaign": "spring"})
        await counted(rig, "rejected")
        values = []
        for _ in range(3):
            values.append(shown(rig, outcome="rejected"))
            await scrape(rig)
        assert values == [0, 1, 1]


@pytest.mark.virtual_time
async def test_without_a_scrape_it_shows_what_was_counted_after_two_minutes():
    async with running(scenario(), settings=BY_CAMPAIGN) as rig:
        await rig.track([ONE], {"campaign": "spring"})
        tracked_at = rig.clock.now().at
        await rig.until(lambda: shown(rig) == 1, within=200)
        assert 2 * MINUTE <= rig.clock.now().at - tracked_at <= 2 * MINUTE + 3 * SECOND


@pytest.mark.virtual_time
async def test_the_wait_goes_on_over_a_restart():
    store = MemoryStore()
    async with running(scenario(), store=store, settings=BY_CAMPAIGN) as rig:
        await rig.track([ONE], {"campaign": "spring"})
        await counted(rig)
    await asyncio.sleep(60)
    async with running(scenario(), store=store, settings=BY_CAMPAIGN) as rig:
        await rig.until(lambda: shown(rig) == 0, within=10)
        restarted_at = rig.clock.now().at
        await rig.until(lambda: shown(rig) == 1, within=120)
        assert rig.clock.now().at - restarted_at <= MINUTE
    async with running(scenario(), store=store, settings=BY_CAMPAIGN) as rig:
        await rig.until(lambda: rig.snapshot().is_loaded, within=10)
        assert shown(rig) == 1


@pytest.mark.virtual_time
async def test_a_scrape_that_did_not_carry_the_campaign_opens_nothing():
    async with running(scenario(), settings=BY_CAMPAIGN) as rig:
        await rig.until(lambda: rig.snapshot().is_loaded, within=10)
        before = rig.snapshot()
        await rig.track([ONE], {"campaign": "spring"})
        await counted(rig)
        rig.watch.scraped(before)
        await asyncio.sleep(10)
        assert shown(rig) == 0


@pytest.mark.virtual_time
async def test_an_operation_counts_under_the_labels_in_the_store_and_not_those_in_the_memory_of_the_loop():
    async with running(scenario(), settings=BY_CAMPAIGN) as rig:
        await rig.track([ONE])
        await rig.until(lambda: rig.watch.unfinished == 1, within=10)
        # The loop is not woken: the change is in the store and not yet in the memory of the loop.
        entry = Entry(account=ACCOUNT, id=ONE, source=Source.API, labels={"campaign": "spring"})
        await rig.store.register([entry], rig.clock.now().at)
        await counted(rig)
        assert await stored(rig, "") == 0
        rig.watch.wake()
        await rig.until(lambda: shown(rig) == 0, within=5)
        await scrape(rig)
        assert shown(rig) == 1


@pytest.mark.virtual_time
async def test_an_operation_without_labels_counts_under_empty_values_at_once():
    async with running(scenario(), settings=BY_CAMPAIGN) as rig:
        await rig.track([ONE])
        await rig.until(lambda: shown(rig, "") == 1, within=30)
        assert shown(rig) is None


@pytest.mark.virtual_time
async def test_while_the_store_fails_nothing_opens_and_nothing_is_lost():
    store = FailingStore()
    async with running(scenario(), store=store, settings=BY_CAMPAIGN) as rig:
        await rig.track([ONE], {"campaign": "spring"})
        await counted(rig)
        store.fails = True
        await scrape(rig)
        await asyncio.sleep(600)
        assert shown(rig) == 0
        store.fails = False
        await rig.until(lambda: shown(rig) == 1, within=30)


@pytest.mark.virtual_time
async def test_a_commit_that_took_effect_but_said_it_failed_is_shown_once():
    class FailsAfterCommit(FailingStore):
        is_to_fail = True

        async def commit(self, account: str, changes: Sequence[Change], *, cursor: Instant | None = None) -> Committed:
            done = await super().commit(account, changes, cursor=cursor)
            if self.is_to_fail and done.counted:
                self.is_to_fail = False
                self.fails = True
                self._check()
            return done

    store = FailsAfterCommit()
    async with running(scenario(), store=store, settings=BY_CAMPAIGN) as rig:
        await rig.track([ONE, TWO])
        await rig.until(lambda: store.fails, within=30)
        await asyncio.sleep(10)
        store.fails = False
        await counted(rig, campaign="", number=2)
        await rig.until(lambda: shown(rig, "") == 2, within=30)
        await asyncio.sleep(30)
        assert shown(rig, "") == 2


class Shown:
    """Counters in step with a store, on a clock that is set by hand."""

    def __init__(self) -> None:
        self.moment = Moment(NOW, TICK)
        self.store = MemoryStore()
        self.counters = CounterSync(ACCOUNT, self.store, ("campaign",), lambda: self.moment)
        self.in_use: list[dict[str, str]] = []

    async def later(self, hours: float = 0.0, *, scraped: bool = False) -> float | None:
        """Let time pass; what is shown of completed operations of the campaign then."""
        if scraped:
            self.counters.scraped(self.counters.shown)
        for _ in range(2):
            self.moment = self.moment.later(round(hours * HOUR) // 2)
            while self.counters.is_due(self.moment):
                await self.counters.sync(lambda: self.in_use)
        return self.counters.shown.totals.get((*COMPLETED, *SPRING))

    async def track(self, name: str) -> None:
        labels = {"campaign": "spring"}
        entry = Entry(account=ACCOUNT, id=name, source=Source.API, labels=labels)
        await self.store.register([entry], self.moment.at)
        self.counters.invalidate()
        self.in_use.append(labels)

    async def finish(self, name: str) -> None:
        (found,) = await self.store.find(name)
        final = found.operation.with_(status=Status.COMPLETED, final_at=self.moment.at)
        change = Change(operation=final, tally=Tally(outcome=Outcome.COMPLETED))
        self.counters.committed(await self.store.commit(ACCOUNT, [change]))
        self.in_use.pop()


async def test_a_campaign_that_was_idle_for_a_day_is_hidden_and_comes_back_with_its_count():
    account = Shown()
    await account.track("a")
    await account.later()
    assert await account.later(scraped=True) == 0
    await account.finish("a")
    assert await account.later(scraped=True) == 1
    assert await account.later(23.9) == 1
    assert await account.later(0.4) is None
    assert account.counters.shown.rest["operations", "completed"] == 1
    await account.later(100)
    await account.track("b")
    await account.finish("b")
    assert await account.later() == 1
    assert await account.later(scraped=True) == 2
    assert account.counters.shown.combinations[SPRING].created_at == NOW


@pytest.mark.parametrize("scrapes", [0, 1])
async def test_a_campaign_whose_last_value_was_not_scraped_stays(scrapes: int):
    account = Shown()
    await account.track("a")
    await account.later()
    for _ in range(scrapes):
        await account.later(scraped=True)
    await account.finish("a")
    assert await account.later(100) == 1
    await account.later(scraped=True)
    assert await account.later(0.4) is None


async def test_a_campaign_with_an_operation_under_way_stays_however_long_it_takes():
    account = Shown()
    await account.track("a")
    assert await account.later(scraped=True) == 0
    assert await account.later(150, scraped=True) == 0
    await account.finish("a")
    assert await account.later(scraped=True) == 1
    assert await account.later(23.9, scraped=True) == 1
    assert await account.later(0.4) is None


async def test_an_untracked_operation_keeps_its_campaign_for_a_day():
    account = Shown()
    await account.track("a")
    await account.later(scraped=True)
    await account.later(48, scraped=True)
    await account.store.untrack(ACCOUNT, "a", account.moment.at, Source.API)
    account.in_use.clear()
    assert await account.later(23.9, scraped=True) == 0
    assert await account.later(0.4) is None


async def test_a_campaign_that_is_tracked_again_just_before_it_leaves_stays():
    account = Shown()
    await account.track("a")
    await account.later(scraped=True)
    await account.finish("a")
    await account.later(24.1)
    await account.later(scraped=True)
    await account.track("b")
    account.in_use.clear()  # the loop does not know of it yet
    assert await account.later(0.4) == 1


async def test_operations_above_the_limit_keep_the_combination_other():
    account = Shown()
    entries = [
        Entry(account=ACCOUNT, id=str(n), source=Source.API, labels={"campaign": str(n)})
        for n in range(COMBINATIONS_AT_MOST)
    ]
    await account.later()
    await account.store.register(entries, NOW)
    account.counters.invalidate()
    account.in_use = [{"campaign": str(COMBINATIONS_AT_MOST - 1)}]
    await account.later(scraped=True)
    await account.later(0.2)
    assert len(account.counters.shown.combinations) == COMBINATIONS_AT_MOST + 1
    await account.later(30, scraped=True)
    assert {*account.counters.shown.combinations} == {("campaign=",), ("campaign=other",)}


class Scraped(Shown):
    """What a Prometheus keeps of it, and what is true."""

    def __init__(self) -> None:
        super().__init__()
        self.running: dict[str, str] = {}
        self.finished: Counter[str] = Counter()
        self.samples: dict[str, list[float]] = {}
        self.pending: Counters | None = None
        self.number = 0

    async def act(self, what: str, campaign: str) -> None:
        match what:
            case "track":
                await self.start(campaign)
            case "finish":
                await self.end(campaign)
            case "turn":
                await self.later()
            case "scrape":
                self.scrape()
            case "complete" if self.pending is not None:
                self.counters.scraped(self.pending)
                self.pending = None
            case "restart":
                self.counters = CounterSync(ACCOUNT, self.store, ("campaign",), lambda: self.moment)
                self.pending = None
                await self.later()
            case "idle":
                await self.settle()
                await self.later(30)

    async def start(self, campaign: str) -> None:
        self.number += 1
        labels = {"campaign": campaign}
        await self.store.register(
            [Entry(account=ACCOUNT, id=str(self.number), source=Source.API, labels=labels)], self.moment.at
        )
        self.running[str(self.number)] = campaign
        self.in_use = [{"campaign": used} for used in self.running.values()]
        self.counters.invalidate()

    async def end(self, campaign: str) -> None:
        name = next((name for name, used in self.running.items() if used == campaign), None)
        if name is not None:
            self.in_use.append({})
            await self.finish(name)
            self.finished[self.running.pop(name)] += 1
            self.in_use = [{"campaign": used} for used in self.running.values()]

    def scrape(self) -> None:
        self.pending = self.counters.shown
        for (combination,) in self.pending.combinations:
            value = self.pending.totals[(*COMPLETED, combination)]
            self.samples.setdefault(combination.removeprefix("campaign="), []).append(value)

    async def settle(self) -> None:
        for what in ("turn", "scrape", "complete") * 3:
            await self.act(what, "")


steps = st.tuples(
    st.sampled_from(["track", "finish", "turn", "scrape", "complete", "restart", "idle"]), st.sampled_from(["a", "b"])
)


@settings(unhurried, max_examples=200)
@given(st.lists(steps, max_size=40))
def test_what_scrapes_show_of_a_campaign_begins_at_0_never_falls_and_ends_at_what_finished(
    taken: list[tuple[str, str]],
):
    async def main() -> None:
        account = Scraped()
        await account.later()
        for what, campaign in taken:
            await account.act(what, campaign)
            account.moment = account.moment.later(SECOND)
        await account.settle()
        for campaign, values in account.samples.items():
            assert values[0] == 0
            assert values == sorted(values)
            assert values[-1] == account.finished[campaign]
        assert account.finished.keys() <= account.samples.keys()

    asyncio.run(main())


@pytest.mark.virtual_time
async def test_a_change_of_the_setting_while_running_shows_what_is_under_way_at_0_and_loses_nothing():
    store = MemoryStore()
    async with running(scenario(two="completed: 300s"), store=store, settings=loop_settings(settle_after=())) as rig:
        await rig.track([ONE], {"campaign": "spring"})
        await rig.track([TWO], {"campaign": "autumn"})
        await rig.until(lambda: rig.snapshot().totals["operations", "completed"] == 1, within=30)
        rig.watch.adopt(BY_CAMPAIGN)
        await rig.until(lambda: shown(rig, "") == 1, within=10)
        assert (shown(rig, "autumn"), shown(rig)) == (0, None)
        await scrape(rig)
        await rig.until(lambda: shown(rig, "autumn") == 1, within=400)
        rig.watch.adopt(loop_settings(settle_after=()))
        await rig.until(lambda: rig.snapshot().totals.get(("operations", "completed")) == 2, within=10)


async def test_a_scrape_just_after_a_reload_carried_no_counters_and_opens_nothing():
    account = Shown()
    await account.track("a")
    await account.later()
    await account.finish("a")
    account.counters.adopt(["campaign", "team"])
    account.counters.scraped(account.counters.shown)
    account.counters.adopt(["campaign"])
    assert await account.later() == 0
    assert await account.later(scraped=True) == 1


@pytest.mark.virtual_time
async def test_a_wall_clock_that_is_set_ahead_does_not_open_a_campaign_early():
    async with running(scenario(), settings=BY_CAMPAIGN) as rig:
        await rig.track([ONE], {"campaign": "spring"})
        await counted(rig)
        rig.clock._anchor += HOUR
        await asyncio.sleep(60)
        assert shown(rig) == 0
        await rig.until(lambda: shown(rig) == 1, within=70)


def sums(snapshots: Sequence[AccountSnapshot]) -> list[float]:
    return [
        sum(value for key, value in one.totals.items() if key[:2] == ("operations", "completed")) for one in snapshots
    ]


@pytest.mark.virtual_time
async def test_no_counter_ever_falls_while_campaigns_come_and_go():
    store = MemoryStore()
    taken: list[AccountSnapshot] = []
    for number, campaign in enumerate(("spring", "autumn", "spring")):
        async with running(scenario(), store=store, settings=BY_CAMPAIGN) as rig:
            await rig.track([(ONE, TWO, ONE)[number]], {"campaign": campaign})
            await rig.until(lambda: rig.snapshot().is_loaded, within=10)
            taken += [await scrape(rig) for _ in range(60)]
    assert sums(taken) == sorted(sums(taken))
