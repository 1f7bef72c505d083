"""Commit, then publish: the one task that writes committed events to standard output.

Events are read from the store in the order of their commit, written, and marked as published. What was not marked when
the process ended is published again by the next one, under the same id and as `replayed`. While standard output is
blocked or broken, events stay pending, and nothing else stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from watcher.core.backoff import doubled
from watcher.core.errors import StoreUnusable
from watcher.core.model import SECOND, Instant, Micros
from watcher.logs.events import EventLog, fields_of, level_of, operation_fields
from watcher.store import Store, StoredEvent

BATCH = 500
RETRY: Micros = SECOND
RETRY_AT_MOST: Micros = 15 * SECOND


class EventPublisher:
    """Publishes events in order.

    `write` returns when standard output has taken all lines as a whole, and raises OSError when it cannot.
    """

    def __init__(
        self,
        store: Store,
        log: EventLog,
        write: Callable[[Sequence[bytes]], Awaitable[None]],
        now: Callable[[], Instant],
    ) -> None:
        self._store = store
        self._log = log
        self._write = write
        self._now = now
        self._wake = asyncio.Event()
        self._stopping = False
        self._published = 0
        self._marked = 0
        self._earlier = 0

    def wake(self) -> None:
        """Publish now: events may have been committed."""
        self._wake.set()

    def stop(self) -> None:
        """Publish what is committed, then end `run`."""
        self._stopping = True
        self._wake.set()

    async def prepare(self) -> None:
        """Note which events earlier processes committed. Call it before the first commit. Raises StoreUnusable."""
        self._earlier = await self._store.last_position()

    async def run(self) -> None:
        """Publish until stopped, then publish and mark the rest, unless standard output or the store fails."""
        failures = 0
        while True:
            # Read before publishing: a stop during it causes one more round, for what was committed before the stop.
            stopping = self._stopping
            self._wake.clear()
            try:
                while await self._publish_some():
                    pass
            except (OSError, StoreUnusable):
                if stopping:
                    return
                await self._sleep(doubled(RETRY, failures, at_most=RETRY_AT_MOST))
                failures += 1
                continue
            failures = 0
            if stopping:
                return
            await self._sleep(None if self._published == self._marked else RETRY)
            await self._mark()

    async def _publish_some(self) -> bool:
        """Publish the next batch. Returns whether there may be more."""
        events = await self._store.pending_events(self._published, BATCH)
        if not events:
            return False
        await self._write([self._line(event) for event in events])
        # Also where marking fails: this process writes no line twice, and the mark is written later.
        self._published = events[-1].position
        await self._mark()
        return len(events) == BATCH

    async def _mark(self) -> None:
        if self._published > self._marked:
            published = self._published
            try:
                await self._store.mark_published(published, self._now())
            except StoreUnusable:
                return
            self._marked = published

    async def _sleep(self, wait: Micros | None) -> None:
        try:
            async with asyncio.timeout(None if wait is None else wait / SECOND):
                await self._wake.wait()
        except TimeoutError:
            return

    def _line(self, stored: StoredEvent) -> bytes:
        fields = fields_of(stored.event)
        name = str(fields.pop("event"))
        return self._log.line(
            name,
            level_of(stored.event),
            operation_fields(
                account=stored.account,
                operation_id=stored.operation_id,
                labels=stored.labels,
                event_id=stored.event_id,
                seq=stored.seq,
                occurred_at=stored.occurred_at,
                replayed=stored.position <= self._earlier,
            )
            | fields,
        )
