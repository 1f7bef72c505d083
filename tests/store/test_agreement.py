"""The two stores answer the same to any sequence of calls."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.store.factories import entry, finished, operation
from tests.support.event_ids import foretold
from tests.support.stored import counted_in, outcome_in
from watcher.core.channels import Stats
from watcher.core.model import DAY, OUTCOME_OF, Instant, Odd, Source, Status, Tally
from watcher.store import Change, Entry, Shown, Store
from watcher.store.memory import MemoryStore
from watcher.store.sqlite import SqliteStore

ACCOUNTS = ("a", "b")
IDS = ("1", "2", "3")
START = 100 * DAY

accounts = st.sampled_from(ACCOUNTS)
ids = st.sampled_from(IDS)
labels = st.dictionaries(st.sampled_from("xy"), st.sampled_from("12"), max_size=2)
ages = st.none() | st.integers(0, 10).map(lambda days: START - days * DAY)
entries = st.builds(entry, account=accounts, id=ids, source=st.sampled_from(Source), labels=labels, created_at=ages)


def event_ids(occurred_at: Instant) -> str:
    """Not by number: within a batch the stores write the events of several accounts in different order."""
    return foretold(occurred_at, 1)


class Agreement(RuleBasedStateMachine):
    """Both stores side by side; time passes between the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name, "watcher.db")
        self.memory = MemoryStore(event_ids)
        self.sqlite = self.run(SqliteStore.open(self.path, event_ids=event_ids))
        self.now = START

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    def both(self, method: str, *args: Any, **named: Any) -> Any:
        return self.run(self.call_both(method, *args, **named))

    async def call_both(self, method: str, *args: Any, **named: Any) -> Any:
        stores: tuple[Store, Store] = (self.memory, self.sqlite)
        mine, theirs = [comparable(await getattr(store, method)(*args, **named)) for store in stores]
        assert mine == theirs, method
        return mine

    @initialize()
    def bound(self) -> None:
        self.both("bind", {"a": "AC1"})

    @rule(minutes=st.sampled_from([1, 60, 24 * 60, 3 * 24 * 60]))
    def time_passes(self, minutes: int) -> None:
        self.now += minutes * DAY // (24 * 60)

    @rule(given=st.lists(entries, max_size=5))
    def registers(self, given: list[Entry]) -> None:
        self.both("register", given, self.now)

    @rule(given=st.lists(entries, max_size=3), configured=st.sets(accounts).map(sorted))
    def configures(self, given: list[Entry], configured: list[str]) -> None:
        self.both("register", given, self.now, configured=configured)

    @rule(account=accounts, name=ids, source=st.sampled_from(Source))
    def untracks(self, account: str, name: str, source: Source) -> None:
        self.both("untrack", account, name, self.now, source)

    @rule(data=st.data(), account=accounts, cursor=st.none() | st.integers(0, 9))
    def commits(self, data: st.DataObject, account: str, cursor: int | None) -> None:
        loaded = self.run(self.memory.load(account, final_since=0))
        known = sorted((found.id, found.registered_at) for found in loaded.operations)
        keys = st.sampled_from([*known, ("1", START), ("9", START)])
        changes = data.draw(st.lists(st.builds(self.change, st.just(account), keys, st.data()), max_size=4))
        self.both("commit", account, changes, cursor=cursor)

    def change(self, account: str, key: tuple[str, int], data: st.DataObject) -> Change:
        final_at = data.draw(st.sampled_from([None, None, self.now]))
        ended = (Status.COMPLETED, Status.EXPIRED, Status.NOT_FOUND)
        state = operation(
            account=account,
            id=key[0],
            registered_at=key[1],
            labels={"not": "taken"},
            status=data.draw(st.sampled_from([*Status] if final_at is None else ended)),
            stats=Stats(sent=data.draw(st.integers(0, 3))),
            created_at=data.draw(ages),
            final_at=final_at,
            scraped_at=data.draw(st.sampled_from([None, self.now])),
        )
        events = data.draw(st.lists(st.sampled_from([finished(), Odd(kind="stale_answer")]), max_size=2))
        return Change(
            operation=state,
            events=tuple((self.now, event) for event in events),
            tally=None if final_at is None else Tally(outcome=OUTCOME_OF[state.status]),
        )

    @rule(account=accounts, names=st.sampled_from(["", "x", "xy"]))
    def adopts(self, account: str, names: str) -> None:
        self.both("adopt_counter_labels", account, tuple(names), self.now)

    @rule(account=accounts, data=st.data(), does=st.sampled_from(["open", "retire"]))
    def opens_or_retires(self, account: str, data: st.DataObject, does: str) -> None:
        shown = sorted(self.both("counters", account).combinations)
        if shown and does == "open":
            self.both("open_combinations", account, [data.draw(st.sampled_from(shown))])
        elif shown:
            self.both("retire_combinations", account, shown, tracked_before=self.now - DAY)

    @rule(share=st.sampled_from([0.3, 1.0, 2.0]))
    def publishes(self, share: float) -> None:
        self.both("mark_published", int(self.both("last_position") * share), self.now)

    @rule(keep=st.integers(0, 5), limit=st.integers(1, 4), hold=st.none() | st.integers(0, 3), most=st.integers(0, 5))
    def prunes(self, keep: int, limit: int, hold: int | None, most: int) -> None:
        shown = None
        if hold is not None:
            shown = Shown(final_after=self.now - most * DAY, scraped_after=self.now - hold * DAY)
        while self.both("prune", self.now, keep_since=self.now - keep * DAY, limit=limit, shown=shown):
            pass

    @precondition(lambda self: self.now > START)
    @rule()
    def restarts(self) -> None:
        self.run(self.sqlite.close())
        self.sqlite = self.run(SqliteStore.open(self.path, event_ids=event_ids))

    @invariant()
    def they_agree(self) -> None:
        self.run(self.compare())

    async def compare(self) -> None:
        ask = self.call_both
        await ask("last_position")
        await ask("count_pending")
        await ask("pending_events", 0, 1000)
        await ask("page", account=None, statuses=(), after=None, limit=1000)
        await ask("page", account="a", statuses=["COMPLETED", "UNSEEN"], after=("a", "1"), limit=1)
        for account in ACCOUNTS:
            await ask("load", account, final_since=self.now - DAY)
            assert await counted_in(self.memory, account) == await counted_in(self.sqlite, account)
            await ask("counters", account)
            revision = (await ask("intake", account, 0))["revision"]
            await ask("intake", account, revision // 2)
            for name in IDS:
                await ask("history", account, name)
                assert await outcome_in(self.memory, account, name) == await outcome_in(self.sqlite, account, name)
        for name in IDS:
            await ask("find", name)

    def teardown(self) -> None:
        self.run(self.sqlite.close())
        self.runner.close()
        self.directory.cleanup()


def comparable(answer: Any) -> Any:
    """The answer with its unordered parts in order."""
    match answer:
        case tuple() | list():
            return list(answer)
        case _ if hasattr(answer, "operations"):
            fields = {name: getattr(answer, name) for name in answer.__struct_fields__}
            fields["operations"] = sorted(fields["operations"], key=lambda found: found.id)
            if "untracked" in fields:
                fields["untracked"] = sorted(fields["untracked"])
            return fields
        case _:
            return answer


TestAgreement = Agreement.TestCase
TestAgreement.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
