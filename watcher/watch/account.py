"""The loop of one account: plan → ask → observe → commit → tell.

It alone owns what is followed; handlers write to the store and wake it. A turn never waits for the network or the
store: questions and writes run beside it and report back, so a hung disk or upstream leaves the loop healthy. What it
shows is built on demand and immutable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeAlias, assert_never

from watcher.api import Client, Gate
from watcher.core.asks import Ask, Discover, Fetch, Probe, Sweep
from watcher.core.attempt import Attempt
from watcher.core.condition import Condition, note
from watcher.core.errors import StoreUnusable
from watcher.core.labelling import CounterLabels
from watcher.core.lifecycle import Step, observe
from watcher.core.model import (
    MINUTE,
    SECOND,
    Micros,
    Moment,
    Operation,
    Phase,
)
from watcher.core.observation import Missing, Observation, Page, Refused, Seen, Trouble, Unanswered
from watcher.core.planner import Planner
from watcher.core.snapshot import AccountSnapshot, NextLook
from watcher.core.totals import increments, starting_totals
from watcher.store import Intake, Store
from watcher.watch.finder import Finder
from watcher.watch.ledger import Ledger
from watcher.watch.patience import Patience
from watcher.watch.ports import Following, Listener
from watcher.watch.roster import Roster

SLEEP_AT_MOST: Micros = 5 * SECOND
"""The loop looks around at least so often, also when nothing is due."""

OVERDUE_AFTER: Micros = MINUTE
STATS_EVERY: Micros = MINUTE
LET_GO_EVERY: Micros = MINUTE
SURPLUS_EVERY: Micros = SECOND
"""How often the finished are looked through, and when there are too many. What is shown does not wait for it."""

GRACE_SECONDS = 1.0
"""How long answers that are on their way are waited for when the loop stops."""

SLICE = 100
"""Rows of a page, or operations from the store, that are handled in one go."""

_Answer: TypeAlias = Observation | Page


class AccountWatch:
    """Follows the operations of one account until told to stop."""

    def __init__(
        self,
        account: str,
        *,
        following: Following,
        store: Store,
        connect: Callable[[Callable[[Attempt], None]], Client],
        gate: Gate,
        now: Callable[[], Moment],
        listener: Listener,
        condition: Condition | None = None,
    ) -> None:
        self.account = account
        self._following = following
        self._store = store
        self._client = connect(self.heard)
        self._gate = gate
        self._now = now
        self._listener = listener
        started = now()
        self._started = started
        self._planner = Planner(following.promise, started)
        self._ledger = Ledger(account, store, self._store_heard)
        self._ledger.totals = starting_totals()
        self._counter_labels = CounterLabels(following.counter_labels)
        self._operations = Roster()
        self._condition = condition or Condition()
        self._skew: Micros = 0
        self._loaded = False
        self._revision = 0
        self._intake_due = True
        self._stats_due: Micros = started.tick + STATS_EVERY
        self._let_go_tick: Micros = started.tick
        self._patience = Patience()
        self._finder = Finder(account, store, odd=lambda: listener.anomaly(account, "id_garbled"))
        self._answers: list[tuple[Ask, _Answer]] = []
        self._asking: set[asyncio.Task[None]] = set()
        self._writing: asyncio.Task[None] | None = None
        self._progress_tick: Micros = started.tick
        self._wake = asyncio.Event()

    # ── what others may call, from the same event loop ────────────────────────────────────────────────────────────────

    def wake(self) -> None:
        """Intake changed something."""
        self._intake_due = True
        self._wake.set()

    def heard(self, attempt: Attempt) -> None:
        """The client's report of an attempt; `connect` is given this method."""
        self._listener.attempted(self.account, attempt)
        now = self._now()
        self._condition, events = note(
            self._condition, attempt.verdict, now, attempt.why, asked=attempt.timing.asked.tick
        )
        for event in events:
            self._listener.condition_changed(self.account, event)
        if attempt.timing.date is not None:
            # `Date` has whole seconds: half of one is the expected remainder.
            self._skew = attempt.timing.date + SECOND // 2 - attempt.timing.answered.at

    def adopt(self, following: Following) -> None:
        """New settings; they hold from the next look on."""
        self._following = following
        self._counter_labels = CounterLabels(following.counter_labels, self._ledger.totals)
        self._planner.adopt(following.promise)
        if self._loaded:
            self._finder.adopt(following.discovers, self._now())
        self._wake.set()

    def scraped(self, snapshot: AccountSnapshot) -> None:
        """A scrape that carried this snapshot was completed just now."""
        now = self._now()
        for shown in snapshot.shown:
            operation = self._operations.get(shown.id) if shown.final_at is not None else None
            if operation is not None and operation.scraped_at is None:
                operation = operation.with_(scraped_at=now.at)
                self._operations.put(operation)
                self._ledger.enter_stats(operation)

    def next_look(self, operation_id: str) -> NextLook | None:
        """When, how and why an operation is looked at next."""
        return self._planner.next_look(operation_id)

    def is_overdue(self) -> bool:
        """Whether the loop has made no turn for longer than it should."""
        return self._now().tick - self._progress_tick > OVERDUE_AFTER

    @property
    def condition(self) -> Condition:
        """How the account is doing, for the loop that carries on after this one."""
        return self._condition

    @property
    def unfinished(self) -> int:
        """How many operations have not become final."""
        return self._operations.unfinished

    def now(self) -> Moment:
        """The present moment by the loop's clock."""
        return self._now()

    def candidates(self) -> Sequence[Operation]:
        """Everything that could have series: followed, settling, and finished but not yet retired."""
        return self._operations.candidates(self._now().at, self._following.retention)

    def snapshot(self, shown: Sequence[Operation], *, suppressed: int) -> AccountSnapshot:
        """The account as it is now, with those of its candidates that are to be shown; so many are not."""
        now = self._now()
        tick = now.tick
        success_at = self._condition.last_success_at
        return AccountSnapshot(
            account=self.account,
            taken=now,
            is_loaded=self._loaded,
            shown=tuple(shown),
            suppressed=suppressed,
            statuses=self._operations.statuses,
            totals=self._ledger.totals,
            up=self._condition.is_up,
            unauthorized=self._condition.is_unauthorized,
            last_success_at=self._started.at if success_at is None else success_at,
            limit_per_second=self._gate.governor.per_second(tick),
            throttled=self._gate.governor.throttled,
            freshness=self._following.promise.freshness,
            lag=self._planner.lag(now),
            skew=self._skew,
            discovered_at=self._finder.complete_at,
        )

    # ── the loop ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, stop: asyncio.Event) -> None:
        """Follow until `stop` is set and `wake` is called; then write what is left. Raises only our own faults."""
        async with asyncio.TaskGroup() as tasks:
            while not stop.is_set():
                self._wake.clear()
                self._progress_tick = self._now().tick
                await self._take_answers()
                self._let_go()
                self._write(tasks)
                await self._ask(tasks)
                await self._sleep()
            await self._finish()

    async def _ask(self, tasks: asyncio.TaskGroup) -> None:
        governor = self._gate.governor
        while self._loaded and not self._ledger.is_full:
            now = self._now()
            if governor.wait(now.tick):
                return
            if len(self._asking) >= governor.concurrency(now.tick):
                return
            ask = self._choose(now)
            if ask is None:
                return
            task = tasks.create_task(self._perform(ask), name=f"ask {self.account}")
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
            # What to ask next is the longest thought of a turn: not two of them in one go.
            await asyncio.sleep(0)

    def _choose(self, now: Moment) -> Ask | None:
        discovery = self._finder.choose(now)
        return discovery if discovery is not None else self._planner.choose(now)

    async def _perform(self, ask: Ask) -> None:
        answer: _Answer
        match ask:
            case Fetch(operation_id=operation_id):
                answer = await self._client.fetch(operation_id)
            case Sweep() | Discover():
                answer = await self._client.page(ask.query)
            case Probe():
                answer = await self._client.page({"pageSize": "1"})
            case _:
                assert_never(ask)
        self._answers.append((ask, answer))
        self._wake.set()

    async def _take_answers(self) -> None:
        answers, self._answers = self._answers, []
        for ask, answer in answers:
            now = self._now()
            self._planner.answered(ask, now)
            if isinstance(answer, Unanswered) and answer.trouble is Trouble.GARBLED:
                self._listener.anomaly(self.account, "garbled")
            match ask, answer:
                case Fetch(operation_id=operation_id), Seen() | Missing() | Refused() | Unanswered():
                    before = self._operations.get(operation_id)
                    if before is not None and before.final_at is None:
                        self._observe(before, answer, now)
                case Sweep(), Page():
                    await self._take_page(answer)
                    self._planner.swept(ask, answer, now)
                case Sweep(), Missing() | Refused() | Unanswered():
                    self._planner.swept(ask, answer, now)
                case Discover(), Page():
                    await self._take_page(answer)
                    self._finder.find(ask, answer, self._operations)
                case Discover(), Missing() | Refused() | Unanswered():
                    self._finder.failed(answer, now)
                case _:
                    pass  # a probe tells of the account alone, and that was heard

    async def _take_page(self, page: Page) -> None:
        """Observe each row, in slices between which the event loop turns."""
        for _ in range(page.garbled):
            self._listener.anomaly(self.account, "row_garbled")
        for start in range(0, len(page.records), SLICE):
            if start:
                await asyncio.sleep(0)
            now = self._now()
            for record in page.records[start : start + SLICE]:
                # Sweeps show others too, and many that have ended long ago.
                before = self._operations.get(record.id or "")
                if before is not None and before.final_at is None:
                    self._observe(before, Seen(timing=page.timing, record=record), now)

    def _observe(self, before: Operation, observation: Observation, now: Moment) -> None:
        step = observe(before, observation, now, self._following.rules)
        self._apply(before, step, now)
        self._planner.learned(step.operation, observation, now)

    def _apply(self, before: Operation, step: Step, now: Moment) -> None:
        operation = step.operation
        self._operations.put(operation)
        if not step.is_news:
            return
        for kind in step.anomalies:
            self._listener.anomaly(self.account, kind)
        if step.delay is not None:
            self._listener.detected(self.account, step.delay)
        added = {}
        if step.tally is not None:
            added = increments(step.tally, self._counter_labels.of(step.tally.labels))
        has_turned = operation.status is not before.status or operation.final_at != before.final_at
        if step.events or added or has_turned or operation.settled != before.settled:
            self._ledger.enter(operation, step.events, now.at, added)
        elif operation is not before:
            self._ledger.enter_stats(operation)

    def _let_go(self) -> None:
        """Forget finished operations that are shown no longer, or that are more than memory should hold."""
        moment = self._now()
        retention = self._following.retention
        every = SURPLUS_EVERY if self._operations.final_count > retention.max_operations else LET_GO_EVERY
        if moment.tick < self._let_go_tick + every:
            return
        self._let_go_tick = moment.tick
        leaving = self._operations.leaving(moment.at, retention)
        for operation_id in leaving:
            if not self._ledger.has(operation_id):
                self._operations.drop(operation_id)

    async def _sleep(self) -> None:
        now = self._now().tick
        wait = SLEEP_AT_MOST
        wake = self._next_wake() if self._loaded else None
        if wake is not None and len(self._asking) < self._gate.governor.concurrency(now):
            wait = min(wait, max(wake - now, self._gate.governor.wait(now)))
        if self._patience.is_tried:
            wait = min(wait, self._patience.wait(now))
        try:
            async with asyncio.timeout(max(wait, 1000) / SECOND):
                await self._wake.wait()
        except TimeoutError:
            return

    def _next_wake(self) -> Micros | None:
        """When the next question falls due, of the planner or of discovery."""
        wakes = (self._planner.wake_tick(), self._finder.wake_tick())
        return min((wake for wake in wakes if wake is not None), default=None)

    async def _finish(self) -> None:
        """Take what is on its way, then write everything; the store may take its time, bounded by the daemon."""
        if self._asking:
            await asyncio.wait(self._asking, timeout=GRACE_SECONDS)
        for task in self._asking:
            task.cancel()
        if self._writing is not None:
            await asyncio.wait([self._writing])
        await self._take_answers()
        await self._ledger.flush(with_stats=True)
        self._listener.committed()

    # ── the store ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _write(self, tasks: asyncio.TaskGroup) -> None:
        """Start the one task that reads from and writes to the store, where there is something to do."""
        tick = self._now().tick
        stats_due = tick >= self._stats_due
        if self._writing is not None or self._patience.wait(tick):
            return
        is_idle = self._loaded and not self._intake_due and not len(self._ledger) and not self._finder.has_found
        if is_idle and not stats_due:
            return
        if stats_due:
            self._stats_due = tick + STATS_EVERY
        self._writing = tasks.create_task(self._store_turn(with_stats=stats_due), name=f"store {self.account}")
        self._writing.add_done_callback(self._written)

    def _written(self, _: asyncio.Task[None]) -> None:
        self._writing = None
        self._wake.set()

    async def _store_turn(self, *, with_stats: bool) -> None:
        try:
            if not self._loaded:
                await self._load()
            if self._finder.has_found:
                await self._finder.register(self._now())
                self._intake_due = True
            if self._intake_due:
                self._intake_due = False
                try:
                    await self._take_in(await self._store.intake(self.account, self._revision))
                except StoreUnusable:
                    self._intake_due = True
                    raise
            if self._finder.has_found:
                self._observe_found()
                await self._finder.commit(self._now)
        except StoreUnusable as exc:
            self._store_heard(exc)
            return
        if await self._ledger.flush(with_stats=with_stats):
            if self._patience.is_tried:  # it was reading that failed, and there was nothing to write
                self._store_heard(None)
            self._listener.committed()

    def _observe_found(self) -> None:
        """What is new is seen at once by what the page showed of it."""
        for record, page in self._finder.rows():
            operation = self._operations.get(record.id or "")
            if operation is not None and operation.asked_tick == 0 and operation.final_at is None:
                self._observe(operation, Seen(timing=page.timing, record=record), self._now())

    async def _load(self) -> None:
        now = self._now()
        loaded = await self._store.load(self.account, final_since=now.at - self._following.retention.hold_at_most)
        self._revision = loaded.revision
        self._ledger.totals = {**starting_totals(), **loaded.totals}
        self._counter_labels = CounterLabels(self._following.counter_labels, loaded.totals)
        await self._take_operations(loaded.operations)
        self._finder.begin(self._following.discovers, loaded.cursor, self._now())
        self._loaded = True

    async def _take_in(self, intake: Intake) -> None:
        self._revision = intake.revision
        for operation_id in intake.untracked:
            self._operations.drop(operation_id)
            self._planner.forget(operation_id)
            self._ledger.drop(operation_id)
        await self._take_operations(intake.operations)
        self._listener.committed()

    async def _take_operations(self, operations: Sequence[Operation]) -> None:
        """Hold and follow them, in slices between which the event loop turns."""
        for start in range(0, len(operations), SLICE):
            if start:
                await asyncio.sleep(0)
            self._take_some(operations[start : start + SLICE], self._now())

    def _take_some(self, operations: Sequence[Operation], now: Moment) -> None:
        for operation in operations:
            known = self._operations.get(operation.id)
            if known is not None and known.registered_at == operation.registered_at:
                # Labels are intake's; everything else is ours and newer than what is stored.
                self._operations.put(known.with_(labels=operation.labels))
                continue
            self._operations.put(operation)
            if operation.phase is not Phase.FINAL:
                self._planner.follow(operation, now)

    def _store_heard(self, trouble: StoreUnusable | None) -> None:
        if trouble is None:
            self._patience.worked()
        else:
            self._patience.failed(self._now().tick)
        self._listener.store_trouble(trouble)
