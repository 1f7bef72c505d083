"""The loop of one account: plan → request → observe → commit → publish.

Only this loop changes the tracked operations. Handlers write to the store and wake the loop. A turn never waits for the
network or the store: requests and writes run in tasks of their own and hand over their results, so the loop keeps
turning while a disk or upstream hangs. Snapshots are built on demand and are immutable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import assert_never

from watcher.api import Client, Gate
from watcher.core.account_health import AccountEvent, AccountHealth, note, with_causes
from watcher.core.attempt import Attempt
from watcher.core.clocks import UpstreamClock
from watcher.core.governor import AttemptResult
from watcher.core.model import MINUTE, SECOND, Micros, Moment, Operation
from watcher.core.observation import FailureCause, ListAnswer, Missing, Page, Seen, Unanswered
from watcher.core.requests import Answer, Discover, Fetch, Probe, Request, Sweep, honours
from watcher.core.snapshot import AccountSnapshot, NextPoll
from watcher.core.turns import Turns
from watcher.store import Store
from watcher.watch.attributor import Attributor
from watcher.watch.counters import CounterSync
from watcher.watch.discovery_runner import DiscoveryRunner
from watcher.watch.ports import AccountObserver, WatchSettings
from watcher.watch.store_sync import StoreSync
from watcher.watch.tracker import Tracker
from watcher.watch.write_buffer import WriteBuffer

SLEEP_AT_MOST: Micros = 5 * SECOND
"""The longest sleep between two turns of the loop, also when nothing is due."""

OVERDUE_AFTER: Micros = MINUTE
"""A loop without a turn for longer than this is reported as overdue."""

GRACE_SECONDS = 1.0
"""How long a loop that stops waits for the answers to requests that were sent."""


class AccountWatch:
    """Tracks the operations of one account until it is stopped."""

    def __init__(
        self,
        account: str,
        *,
        following: WatchSettings,
        store: Store,
        connect: Callable[[Callable[[Attempt], None]], Client],
        gate: Gate,
        now: Callable[[], Moment],
        listener: AccountObserver,
        health: AccountHealth | None = None,
    ) -> None:
        self.account = account
        self._client = connect(self.observer)
        self._gate = gate
        self._now = now
        self._listener = listener
        self._started = now()
        self._progress_tick: Micros = self._started.tick
        self._health = health or AccountHealth()
        self._skew: Micros = 0
        self._upstream_clock = UpstreamClock()
        self._counters = CounterSync(account, store, following.counter_labels, now)
        self._buffer = WriteBuffer()
        self._tracker = Tracker(
            account, following, buffer=self._buffer, listener=listener, now=now, clock=self._upstream_clock
        )
        self._attributor = Attributor(
            self._tracker,
            gate,
            health=self._health,
            address=self._client.address,
            now=self._started,
            api_key=following.api_key,
        )
        self._finder = DiscoveryRunner(
            account,
            store,
            clock=self._upstream_clock,
            odd=lambda: listener.anomaly(account, "id_garbled"),
            uses_lists=lambda: self._attributor.uses_lists,
        )
        self._turns = Turns([self._attributor], [self._tracker.planner, self._finder])
        self._sync = StoreSync(
            account,
            store,
            buffer=self._buffer,
            counters=self._counters,
            attributor=self._attributor,
            finder=self._finder,
            listener=listener,
            now=now,
        )
        self._answers: list[tuple[Request, Answer]] = []
        self._asking: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()

    # ── called from outside, on the same event loop ───────────────────────────────────────────────────────────────────

    def wake(self) -> None:
        """Start a turn now: intake changed something, or the loop is to stop."""
        self._sync.intake_changed()
        self._wake.set()

    def observer(self, attempt: Attempt) -> None:
        """Take note of an HTTP attempt that ended; the client calls this."""
        self._listener.attempted(self.account, attempt)
        now = self._now()
        self._report(*note(self._health, attempt.result, now, attempt.why, asked=attempt.timing.asked.tick))
        if attempt.result is AttemptResult.GOOD:  # the `Date` of a proxy's page is not upstream's
            self._upstream_clock.note(attempt.timing)
        if attempt.timing.date is not None:
            # `Date` has whole seconds: half of one is the expected remainder.
            self._skew = attempt.timing.date + SECOND // 2 - attempt.timing.answered.at

    def _report(self, health: AccountHealth, events: Sequence[AccountEvent]) -> None:
        self._health = health
        for event in events:
            self._listener.health_changed(self.account, event)

    def adopt(self, following: WatchSettings) -> None:
        """Use new settings, from the next poll on."""
        self._tracker.adopt(following)
        self._counters.adopt(following.counter_labels)
        # Before the load is done, discovery has no stored progress; the load starts it with the settings of then.
        if self._sync.is_loaded:
            self._finder.adopt(following.discovers, self._now())
        self._wake.set()

    def scraped(self, snapshot: AccountSnapshot) -> None:
        """Note that a scrape that carried this snapshot is complete."""
        self._tracker.scraped(snapshot)
        self._counters.scraped(snapshot.counters)
        if self._counters.is_due(self._now()):
            self._wake.set()

    def next_poll(self, operation_id: str) -> NextPoll | None:
        """When, how and why an operation is polled next."""
        return self._tracker.planner.next_poll(operation_id)

    def is_overdue(self) -> bool:
        """Whether the loop has made no turn for `OVERDUE_AFTER`."""
        return self._now().tick - self._progress_tick > OVERDUE_AFTER

    @property
    def health(self) -> AccountHealth:
        """The health of the account, for the loop that replaces this one after a reload."""
        return self._health

    @property
    def unfinished(self) -> int:
        """The number of operations that are not final."""
        return self._tracker.operations.unfinished

    def now(self) -> Moment:
        """The present moment by the loop's clock."""
        return self._now()

    def candidates(self) -> Sequence[Operation]:
        """All operations that could have series: tracked, settling, and final but not yet retired."""
        return self._tracker.operations.candidates(self._now().at, self._tracker.following.retention)

    def snapshot(self, shown: Sequence[Operation], *, suppressed: int) -> AccountSnapshot:
        """The account as it is now. `shown` are the candidates that have series, `suppressed` the number of others."""
        now = self._now()
        tick = now.tick
        success_at = self._health.last_success_at
        return AccountSnapshot(
            account=self.account,
            taken=now,
            started_at=self._started.at,
            is_loaded=self._sync.is_loaded,
            shown=tuple(shown),
            suppressed=suppressed,
            statuses=self._tracker.operations.statuses,
            counters=self._counters.shown,
            up=self._health.is_up,
            unauthorized=self._health.is_unauthorized,
            last_success_at=self._started.at if success_at is None else success_at,
            limit_per_second=self._gate.governor.per_second(tick),
            throttled=self._gate.governor.throttled,
            freshness=self._tracker.following.promise.freshness,
            lag=self._tracker.planner.lag(now),
            skew=self._skew,
            discovered_at=self._finder.complete_at,
        )

    # ── the loop ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set and `wake` was called, then write what is left. Raises only for faults of ours."""
        async with asyncio.TaskGroup() as tasks:
            while not stop.is_set():
                # Cleared first: what happens during this turn starts another turn, and is not missed.
                self._wake.clear()
                self._progress_tick = self._now().tick
                await self._take_answers()
                self._tracker.let_go()
                self._sync.start(tasks, done=self._wake.set)
                await self._ask(tasks)
                await self._sleep()
            await self._finish()

    async def _ask(self, tasks: asyncio.TaskGroup) -> None:
        governor = self._gate.governor
        # Requests are chosen from what is tracked, so they wait until all of it is loaded. While the store fails, the
        # answers wait in memory: above a limit, nothing more is requested.
        while self._sync.is_loaded and not self._buffer.is_full:
            now = self._now()
            if governor.wait(now.tick):
                return
            if len(self._asking) >= governor.concurrency(now.tick):
                return
            request = self._turns.choose(now)
            if request is None:
                return
            task = tasks.create_task(self._perform(request), name=f"ask {self.account}")
            self._asking.add(task)
            task.add_done_callback(self._asked)
            # Choosing a request is the longest computation of a turn, so other tasks run between two of them.
            await asyncio.sleep(0)

    async def _perform(self, request: Request) -> None:
        answer = await self._client.ask(request)
        # Not in one line with the request: meanwhile a turn has taken the list of answers and put another in its place.
        self._answers.append((request, answer))

    def _asked(self, task: asyncio.Task[None]) -> None:
        """Wake the loop: a request ended, so its answer can be taken and another request sent."""
        self._asking.discard(task)
        self._wake.set()

    async def _take_answers(self) -> None:
        answers, self._answers = self._answers, []
        tracker, finder = self._tracker, self._finder
        for request, answer in answers:
            now = self._now()
            tracker.planner.answered(request, now)
            if isinstance(answer, Unanswered) and answer.cause is FailureCause.GARBLED:
                self._listener.anomaly(self.account, "garbled")
            match request:
                case Fetch():
                    assert not isinstance(answer, Page)  # noqa: S101 -- as the request reads it
                    self._attributor.fetched(request.operation_id, answer)
                case Probe():
                    self._attributor.listed(_of_list(answer))
                case Sweep():
                    listed = await self._take_list(request, answer)
                    # Where the filter was ignored, this is another list than the requested one. The operations that it
                    # lacks may still be on the requested one, so the planner must not take them for absent.
                    is_it = not isinstance(listed, Page) or self._is_filtered(request, listed)
                    tracker.planner.swept(request, listed if is_it else Missing(timing=listed.timing), now)
                case Discover():
                    listed = await self._take_list(request, answer)
                    if isinstance(listed, Page):
                        self._is_filtered(request, listed)
                    finder.answered(request, listed, tracker.operations, now)
                case _:
                    assert_never(request)
        if answers:
            causes = self._attributor.settle(self._health)
            self._report(*with_causes(self._health, causes, self._now()))

    async def _take_list(self, request: Sweep | Discover, answer: Answer) -> ListAnswer:
        listed = _of_list(answer)
        self._attributor.listed(listed, is_first_page=request.token is None)
        if isinstance(listed, Page):
            await self._tracker.learn_page(listed)
        return listed

    def _is_filtered(self, request: Sweep | Discover, page: Page) -> bool:
        is_filtered = honours(request, page)
        if not is_filtered:
            self._listener.anomaly(self.account, "filter_ignored")
        return is_filtered

    async def _sleep(self) -> None:
        now = self._now().tick
        wait = SLEEP_AT_MOST
        wake = self._turns.wake_tick() if self._sync.is_loaded else None
        if wake is not None and len(self._asking) < self._gate.governor.concurrency(now):
            wait = min(wait, max(wake - now, self._gate.governor.wait(now)))
        opens = self._counters.wake_tick() - now
        wait = min(wait, opens if opens > 0 else SECOND)  # where overdue, the store is busy with it, or fails
        if self._sync.is_failing:
            wait = min(wait, self._sync.retry_wait())
        try:
            # At least 1 ms: with a due time in the past the loop would turn without a pause.
            async with asyncio.timeout(max(wait, 1000) / SECOND):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _finish(self) -> None:
        """Take the answers that come within `GRACE_SECONDS`, then write everything."""
        if self._asking:
            await asyncio.wait(self._asking, timeout=GRACE_SECONDS)
        for task in self._asking:
            task.cancel()
        # The store task ends first: only one task at a time reads and writes for the account.
        await self._sync.rest()
        await self._take_answers()
        await self._sync.finish()


def _of_list(answer: Answer) -> ListAnswer:
    assert not isinstance(answer, Seen)  # noqa: S101 -- a request of a list reads no single operations
    return answer
