"""The tracked operations of an account. Each answer is applied to them: new state, changes to write, next poll.

`core.lifecycle` decides what an answer changes; this module carries it out. Nothing waits for the network or the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from watcher.core.clocks import ClockReading, UpstreamClock
from watcher.core.lifecycle import Step, observe
from watcher.core.model import MINUTE, SECOND, Micros, Moment, Operation, Phase
from watcher.core.observation import (
    FailureCause,
    Forbidden,
    Negative,
    Observation,
    Page,
    Record,
    Seen,
    Timing,
    Unanswered,
)
from watcher.core.planner import Planner
from watcher.core.snapshot import AccountSnapshot
from watcher.watch.operation_table import OperationTable
from watcher.watch.ports import AccountObserver, WatchSettings
from watcher.watch.write_buffer import WriteBuffer

SLICE = 100
"""Rows of a page, or operations from the store, that are handled before the event loop turns."""

LET_GO_EVERY: Micros = MINUTE
SURPLUS_EVERY: Micros = SECOND
"""How often final operations that may leave memory are searched for, usually and above `metrics.max_operations`.

What is shown does not depend on it.
"""


class Tracker:
    """The operations of one account and the plan of their polls. Changes go into the buffer to be written."""

    def __init__(
        self,
        account: str,
        following: WatchSettings,
        *,
        buffer: WriteBuffer,
        listener: AccountObserver,
        now: Callable[[], Moment],
        clock: UpstreamClock,
    ) -> None:
        self._account = account
        self._buffer = buffer
        self._listener = listener
        self._now = now
        self._clock = clock
        started = now()
        self.following = following
        self.operations = OperationTable()
        self.planner = Planner(following.promise, started)
        self._let_go_tick: Micros = started.tick

    def adopt(self, following: WatchSettings) -> None:
        """Use new settings, from the next poll on."""
        self.following = following
        self.planner.adopt(following.promise)

    # ── tracking and untracking ───────────────────────────────────────────────────────────────────────────────────────

    async def follow(self, operations: Sequence[Operation]) -> None:
        """Track the operations, in slices between which the event loop turns. All count as added at the same moment."""
        now = self._now()
        for start in range(0, len(operations), SLICE):
            if start:
                await asyncio.sleep(0)
            for operation in operations[start : start + SLICE]:
                self._follow(operation, now)

    def _follow(self, operation: Operation, now: Moment) -> None:
        known = self.operations.get(operation.id)
        if known is not None and known.registered_at == operation.registered_at:
            # Only intake changes labels. Everything else changes here first, and is newer than what is stored.
            self.operations.put(known.with_(labels=operation.labels))
            return
        self.operations.put(operation)
        if operation.phase is not Phase.FINAL:
            self.planner.follow(operation, now)

    def labels_in_use(self) -> Sequence[Mapping[str, str]]:
        """The labels of each operation that is not final."""
        return [operation.labels for operation in self.operations if operation.final_at is None]

    def untrack(self, operation_ids: Sequence[str]) -> None:
        """Stop tracking the operations and drop their changes that are not written yet."""
        for operation_id in operation_ids:
            self.operations.drop(operation_id)
            self.planner.forget(operation_id)
            self._buffer.drop(operation_id)

    def scraped(self, snapshot: AccountSnapshot) -> None:
        """Note the time of the first completed scrape of each final operation that this snapshot carried."""
        now = self._now()
        for shown in snapshot.shown:
            operation = self.operations.get(shown.id) if shown.final_at is not None else None
            if operation is not None and operation.scraped_at is None:
                operation = operation.with_(scraped_at=now.at)
                self.operations.put(operation)
                self._buffer.enter_stats(operation)

    def let_go(self) -> None:
        """Remove final operations from memory that are not shown any more, or that exceed the number held there."""
        moment = self._now()
        retention = self.following.retention
        every = SURPLUS_EVERY if self.operations.final_count > retention.max_operations else LET_GO_EVERY
        if moment.tick < self._let_go_tick + every:
            return
        self._let_go_tick = moment.tick
        leaving = self.operations.leaving(moment.at, retention)
        for operation_id in leaving:
            # With a change that waits for the store, it stays until that is written.
            if not self._buffer.has(operation_id):
                self.operations.drop(operation_id)

    # ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def learn(self, operation_id: str, observation: Observation) -> None:
        """Apply an answer to its operation; nothing where that is final or not tracked any more."""
        before = self.operations.get(operation_id)
        if before is not None and before.final_at is None:
            now = self._now()
            self._observe(before, observation, now, self._clock.read(now))

    def reading(self) -> ClockReading:
        """The present reading of both clocks, the machine's and upstream's."""
        return self._clock.read(self._now())

    def conclude(self, operation_id: str, observation: Observation) -> None:
        """Apply an answer that was doubtful and is believed now. After a 403, the next poll is planned already."""
        before = self.operations.get(operation_id)
        if before is None or before.final_at is not None:
            return
        now, reading = self._now(), self.reading()
        if isinstance(observation, Forbidden):
            self._apply(before, observe(before, observation, reading, self.following.rules), now)
        else:
            self._observe(before, observation, now, reading)

    def put_off(self, operation_id: str, answer: Negative, *, is_held: bool) -> None:
        """Plan the next poll after an answer that is not believed, or not yet: it counts as no answer."""
        operation = self.operations.get(operation_id)
        if operation is None:
            return
        if isinstance(answer, Forbidden) and operation.phase is Phase.FOLLOWED and not is_held:
            self.planner.learned(operation, answer, self._now())
        else:
            self.learn(operation_id, Unanswered(timing=answer.timing, cause=FailureCause.DOUBTFUL, why=answer.why))

    def plan_again(self, operation_id: str) -> None:
        """Poll an operation as soon as allowed: its doubtful answer was forgotten, as the account had a problem."""
        operation, now = self.operations.get(operation_id), self._now()
        if operation is not None and operation.final_at is None:
            timing = Timing(asked=now, answered=now)
            self.planner.learned(operation, Unanswered(timing=timing, cause=FailureCause.DOUBTFUL), now)

    async def learn_page(self, page: Page) -> None:
        """Apply each row of a page to its operation, in slices between which the event loop turns.

        Rows of operations that are final or not tracked are left out.
        """
        for _ in range(page.garbled):
            self._listener.anomaly(self._account, "row_garbled")
        for start in range(0, len(page.records), SLICE):
            if start:
                await asyncio.sleep(0)
            now = self._now()
            reading = self._clock.read(now)
            for record in page.records[start : start + SLICE]:
                before = self.operations.get(record.id or "")
                if before is not None and before.final_at is None:
                    self._observe(before, Seen(timing=page.timing, record=record), now, reading)

    def learn_first(self, record: Record, page: Page) -> None:
        """Apply the row by which an operation was discovered, unless another answer was applied since."""
        operation = self.operations.get(record.id or "")
        if operation is not None and operation.asked_tick == 0 and operation.final_at is None:
            now = self._now()
            self._observe(operation, Seen(timing=page.timing, record=record), now, self._clock.read(now))

    def _observe(self, before: Operation, observation: Observation, now: Moment, reading: ClockReading) -> None:
        step = observe(before, observation, reading, self.following.rules)
        self._apply(before, step, now)
        self.planner.learned(step.operation, observation, now)

    def _apply(self, before: Operation, step: Step, now: Moment) -> None:
        operation = step.operation
        self.operations.put(operation)
        if not step.is_news:
            return
        for kind in step.anomalies:
            self._listener.anomaly(self._account, kind)
        if step.delay is not None:
            self._listener.detected(self._account, step.delay)
        has_turned = operation.status is not before.status or operation.final_at != before.final_at
        if step.events or step.tally is not None or has_turned or operation.settled != before.settled:
            self._buffer.enter(operation, step.events, now.at, step.tally)
        elif operation is not before:
            self._buffer.enter_stats(operation)
