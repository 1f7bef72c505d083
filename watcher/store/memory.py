"""A store in memory, gone when the process ends: for tests, `wait`, and everything that needs no durability.

Plain dictionaries, no thread and no clock, so it works under virtual time. No method contains an `await`, so each takes
effect as a whole. Rows, tombstones and events follow the same rules as in `sqlite`.
"""

from __future__ import annotations

import heapq
from itertools import islice, takewhile
from typing import TYPE_CHECKING, TypeAlias

from msgspec.structs import replace

from watcher.core.discovery import DiscoveryProgress
from watcher.core.labelling import (
    Combination,
    CombinationState,
    CounterBook,
    Counters,
    adopted,
    combination_in,
    count_shown,
    counters_of,
)
from watcher.core.model import (
    TOMBSTONE_LIFE,
    Instant,
    Operation,
    OperationEvent,
    Source,
    Tracked,
    Untracked,
    Value,
)
from watcher.core.totals import Key, added_up
from watcher.event_ids import EventIds, new_event_id
from watcher.store import (
    Change,
    Committed,
    Entry,
    Found,
    IntakeChanges,
    LoadedAccount,
    Registration,
    RegistrationResult,
    Shown,
    StoredEvent,
)
from watcher.store.rules import (
    Applicability,
    IdHistory,
    applicability_of,
    first_known,
    other_identity,
    registration_time,
    result_for,
    settle_counters,
    youngest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

_Key: TypeAlias = tuple[str, str]


class _StoredRow(Value, frozen=True, kw_only=True):
    """A registered operation. `hint`: its creation according to its id or a list, before an answer showed it."""

    operation: Operation
    hint: Instant | None
    revision: int
    seq: int
    position: int = 0
    untracked_at: Instant | None = None

    @property
    def trace(self) -> IdHistory:
        operation = self.operation
        is_final = operation.final_at is not None
        return IdHistory(
            followed=self.untracked_at is None and not is_final,
            outcome=operation.outcome if is_final else None,
            created_at=youngest(operation.created_at, self.hint, operation.registered_at),
            done_at=youngest(self.untracked_at, operation.final_at) or 0,
            seq=self.seq,
        )


class _Account(Value, frozen=True, kw_only=True):
    """An account. `shown` and `held` are what was counted: shown already, or held back until its combination opens."""

    identity: str | None = None
    revision: int = 0
    cursor: Instant | None = None
    discovery_began_at: Instant | None = None
    api_key: str | None = None
    counter_labels: tuple[str, ...] | None = None
    combinations: Mapping[Combination, CombinationState] = {}
    shown: Mapping[Key, float] = {}
    held: Mapping[Key, float] = {}


class MemoryStore:
    """The `Store` in dictionaries."""

    def __init__(self, event_ids: EventIds = new_event_id) -> None:
        self._event_ids = event_ids
        self._accounts: dict[str, _Account] = {}
        self._rows: dict[_Key, _StoredRow] = {}
        self._done = _Calendar()
        self._tombstones: dict[_Key, IdHistory] = {}
        self._dead = _Calendar()
        self._configured: set[_Key] = set()
        self._events: dict[int, StoredEvent] = {}
        self._histories: dict[_Key, list[StoredEvent]] = {}
        self._position = 0
        self._published: list[tuple[int, Instant]] = [(0, 0)]

    async def bind(self, accounts: Mapping[str, str]) -> None:
        """See `Store`."""
        for name, identity in accounts.items():
            stored = self._account(name).identity
            if stored not in {None, identity}:
                raise other_identity(name)
        for name, identity in accounts.items():
            self._change_account(name, identity=identity)

    async def load(self, account: str, *, final_since: Instant) -> LoadedAccount:
        """See `Store`."""
        stored = self._account(account)
        operations = tuple(
            row.operation
            for row in self._rows_of(account)
            if row.untracked_at is None and (row.operation.final_at is None or row.operation.final_at >= final_since)
        )
        progress = DiscoveryProgress(cursor=stored.cursor, began_at=stored.discovery_began_at)
        return LoadedAccount(
            operations=operations, revision=stored.revision, discovery=progress, api_key=stored.api_key
        )

    async def register(
        self, entries: Sequence[Entry], now: Instant, *, configured: Sequence[str] = ()
    ) -> Sequence[Registration]:
        """See `Store`."""
        self._configured = {key for key in self._configured if key[0] not in configured}
        self._configured |= {(entry.account, entry.id) for entry in entries if entry.account in configured}
        revisions = {entry.account: self._account(entry.account).revision + 1 for entry in entries}
        books = {account: self._book(account, revision) for account, revision in revisions.items()}
        # Entry by entry: the same id may occur twice, and the second one must find the first one registered.
        registrations = tuple(
            self._register(entry, now, revisions[entry.account], books[entry.account]) for entry in entries
        )
        for account, book in books.items():
            self._write_book(account, book)
        return registrations

    async def untrack(self, account: str, operation_id: str, now: Instant, source: Source) -> bool:
        """See `Store`."""
        key = account, operation_id
        row = self._rows.get(key)
        if row is None or row.untracked_at is not None:
            return False
        revision = self._account(account).revision + 1
        self._change_account(account, revision=revision)
        if row.operation.final_at is None:  # otherwise its combination was noted when it was counted
            book = self._book(account)
            book.leave(row.operation.labels, now)
            self._write_book(account, book)
        row = replace(self._add_event(row, now, Untracked(source=source)), revision=revision, untracked_at=now)
        self._keep(row)
        self._insert_tombstones(key, row)
        return True

    async def insert_tombstones(self, account: str, created: Mapping[str, Instant | None], now: Instant) -> None:
        """See `Store`."""
        for operation_id, created_at in created.items():
            key = account, operation_id
            if key not in self._rows and key not in self._tombstones:
                # With an unknown creation, the newest possible one: the tombstone must not leave early.
                self._tombstones[key] = IdHistory(created_at=now if created_at is None else created_at, done_at=now)
                self._dead.set(key, now)

    async def note_discovery_began(self, account: str, began_at: Instant) -> None:
        """See `Store`."""
        self._change_account(account, discovery_began_at=began_at)

    async def intake(self, account: str, since: int) -> IntakeChanges:
        """See `Store`."""
        changed = [row for row in self._rows_of(account) if row.revision > since]
        stored = self._account(account)
        return IntakeChanges(
            revision=stored.revision,
            operations=tuple(row.operation for row in changed if row.untracked_at is None),
            untracked=tuple(row.operation.id for row in changed if row.untracked_at is not None),
            shows_more=any(
                state.shown_at is not None and state.revision > since for state in stored.combinations.values()
            ),
        )

    async def commit(self, account: str, changes: Sequence[Change], *, cursor: Instant | None = None) -> Committed:
        """See `Store`."""
        if cursor is not None:
            self._change_account(account, cursor=cursor)
        book = self._book(account)
        applied = frozenset(change.operation.id for change in changes if self._apply(account, change, book))
        self._write_book(account, book)
        return Committed(applied=applied, counted=book.counted, shows_more=book.shows_more)

    async def adopt_key(self, account: str, api_key: str) -> None:
        """See `Store`."""
        self._change_account(account, api_key=api_key)

    async def adopt_counter_labels(self, account: str, names: Sequence[str], now: Instant) -> None:
        """See `Store`."""
        stored = self._account(account)
        if stored.counter_labels == tuple(names):
            return
        rows = (row for row in self._rows_of(account) if row.untracked_at is None)
        unfinished = [row.operation.labels for row in rows if row.operation.final_at is None]
        self._change_account(
            account,
            counter_labels=tuple(names),
            combinations={**stored.combinations, **adopted(names, stored.combinations, unfinished, now)},
            shown=added_up(stored.shown, stored.held),
            held={},
        )

    async def counters(self, account: str) -> Counters:
        """See `Store`."""
        stored = self._account(account)
        return counters_of(stored.counter_labels or (), stored.combinations, stored.shown.items())

    async def open_combinations(self, account: str, combinations: Collection[Combination]) -> None:
        """See `Store`."""
        stored = self._account(account)
        opening = {key: state for key, state in stored.combinations.items() if key in combinations}
        shown = {key: value for key, value in stored.held.items() if combination_in(key) in opening}
        self._change_account(
            account,
            combinations={
                **stored.combinations,
                **{key: replace(state, is_open=True) for key, state in opening.items()},
            },
            shown=added_up(stored.shown, shown),
            held={key: value for key, value in stored.held.items() if key not in shown},
        )

    async def retire_combinations(
        self, account: str, combinations: Collection[Combination], *, tracked_before: Instant
    ) -> None:
        """See `Store`."""
        stored = self._account(account)
        leaving = {
            combination: replace(state, shown_at=None, is_open=False)
            for combination, state in stored.combinations.items()
            if combination in combinations and state.is_open and state.tracked_at < tracked_before
        }
        self._change_account(account, combinations={**stored.combinations, **leaving})

    async def pending_events(self, after: int, limit: int) -> Sequence[StoredEvent]:
        """See `Store`."""
        # Positions have no gaps, and pending events are never pruned.
        start = max(after, self._published_up_to)
        return tuple(self._events[position] for position in range(start + 1, min(start + limit, self._position) + 1))

    async def mark_published(self, up_to: int, now: Instant) -> None:
        """See `Store`."""
        up_to = min(up_to, self._position)  # events that do not exist yet must not count as published
        published_up_to, published_at = self._published[-1]
        if up_to > published_up_to:
            # The times never fall as positions rise: `prune` deletes everything up to the last mark that is old enough.
            self._published.append((up_to, max(now, published_at)))

    async def last_position(self) -> int:
        """See `Store`."""
        return self._position

    async def count_pending(self) -> int:
        """See `Store`."""
        return self._position - self._published_up_to

    async def touch(self) -> None:
        """See `Store`."""

    async def find(self, operation_id: str, account: str | None = None) -> Sequence[Found]:
        """See `Store`."""
        names = sorted(self._accounts) if account is None else [account]
        rows = (self._rows.get((name, operation_id)) for name in names)
        return tuple(Found(operation=row.operation, untracked_at=row.untracked_at) for row in rows if row is not None)

    async def page(
        self, *, account: str | None, statuses: Sequence[str], after: tuple[str, str] | None, limit: int
    ) -> Sequence[Operation]:
        """See `Store`."""
        keys = sorted(key for key in self._rows if after is None or key > after)
        rows = (self._rows[key] for key in keys if account in {None, key[0]})
        wanted = (
            row.operation
            for row in rows
            if row.untracked_at is None and (not statuses or row.operation.status in statuses)
        )
        return tuple(islice(wanted, limit))

    async def history(self, account: str, operation_id: str) -> Sequence[StoredEvent]:
        """See `Store`."""
        return tuple(self._histories.get((account, operation_id), ()))

    async def prune(self, now: Instant, *, keep_since: Instant, limit: int, shown: Shown | None = None) -> int:
        """See `Store`."""
        published_up_to = self._published_up_to

        def stays(key: _Key) -> bool:
            row = self._rows[key]
            is_shown = shown is not None and row.untracked_at is None and shown.includes(row.operation)
            return is_shown or row.position > published_up_to

        details = self._done.take(keep_since, limit, stays=stays)
        for key in details:
            del self._rows[key]
        published = max(up_to for up_to, published_at in self._published if up_to == 0 or published_at < keep_since)
        events = [*islice(takewhile(lambda position: position <= published, self._events), limit - len(details))]
        for position in events:
            self._forget(position)
        left = len(details) + len(events)
        if left < limit:
            # All of these events are gone. Their last mark stays: it says up to where events are published.
            self._published = [
                (0, 0),
                *((up_to, published_at) for up_to, published_at in self._published[1:] if up_to >= published),
            ]
        tombstones = self._dead.take(now - TOMBSTONE_LIFE, limit - left, stays=lambda key: self._stays(key, now))
        for key in tombstones:
            del self._tombstones[key]
        return left + len(tombstones)

    async def size_bytes(self) -> int:
        """See `Store`."""
        return 0

    async def close(self) -> None:
        """See `Store`."""

    @property
    def _published_up_to(self) -> int:
        return self._published[-1][0]

    def _account(self, name: str) -> _Account:
        return self._accounts.get(name) or _Account()

    def _change_account(self, name: str, **changes: object) -> None:
        self._accounts[name] = replace(self._account(name), **changes)

    def _rows_of(self, account: str) -> Iterator[_StoredRow]:
        return (row for key, row in self._rows.items() if key[0] == account)

    def _book(self, name: str, revision: int = 0) -> CounterBook:
        account = self._account(name)
        states = account.combinations
        return CounterBook(
            account.counter_labels or (),
            stored=states.get,
            shown_count=lambda: count_shown([key for key, state in states.items() if state.shown_at is not None]),
            revision=revision,
        )

    def _write_book(self, account: str, book: CounterBook) -> None:
        stored = self._account(account)
        if book.changed or book.counted:
            self._change_account(
                account,
                combinations={**stored.combinations, **book.changed},
                shown=added_up(stored.shown, book.counted),
                held=added_up(stored.held, book.held),
            )

    def _register(self, entry: Entry, now: Instant, revision: int, book: CounterBook) -> Registration:
        key = entry.account, entry.id
        row = self._rows.get(key)
        trace = self._tombstones.get(key) if row is None else row.trace
        result = result_for(entry, trace)
        if result is RegistrationResult.NEW:
            self._take_in(entry, now, trace or IdHistory(), revision)
            book.track(entry.labels, now)
        elif result is RegistrationResult.KNOWN and row is not None and self._relabel(row, entry.labels, revision):
            book.leave(row.operation.labels, now)
            book.track({**row.operation.labels, **entry.labels}, now)
        outcome = trace.outcome if trace is not None and result is RegistrationResult.FINISHED else None
        return Registration(account=entry.account, id=entry.id, result=result, outcome=outcome)

    def _take_in(self, entry: Entry, now: Instant, trace: IdHistory, revision: int) -> None:
        key = entry.account, entry.id
        earlier = self._rows.get(key)
        operation = Operation(
            account=entry.account,
            id=entry.id,
            source=entry.source,
            registered_at=registration_time(now, None if earlier is None else earlier.operation.registered_at),
            labels=dict(entry.labels),
        )
        hint = youngest(entry.created_at, trace.created_at)
        row = _StoredRow(operation=operation, hint=hint, revision=revision, seq=trace.seq)
        self._keep(self._add_event(row, now, Tracked(source=entry.source)))
        self._tombstones.pop(key, None)
        self._dead.discard(key)
        self._change_account(entry.account, revision=revision)

    def _relabel(self, row: _StoredRow, labels: Mapping[str, str], revision: int) -> bool:
        merged = {**row.operation.labels, **labels}
        if merged == row.operation.labels:
            return False
        self._keep(replace(row, operation=row.operation.with_(labels=merged), revision=revision))
        self._change_account(row.operation.account, revision=revision)
        return True

    def _apply(self, account: str, change: Change, book: CounterBook) -> bool:
        operation = change.operation
        row = self._rows.get((account, operation.id))
        if row is None:
            return False
        stored = row.operation
        reach = applicability_of(
            operation,
            registered_at=stored.registered_at,
            untracked_at=row.untracked_at,
            final_at=stored.final_at,
        )
        if reach is Applicability.WHOLE:
            self._apply_whole(account, row, change, book)
        elif reach is Applicability.SCRAPE and operation.scraped_at is not None:
            self._keep(replace(row, operation=stored.with_(scraped_at=operation.scraped_at)))
        return reach is not Applicability.NOTHING

    def _apply_whole(self, account: str, row: _StoredRow, change: Change, book: CounterBook) -> None:
        stored = row.operation
        operation = change.operation.with_(account=account, labels=stored.labels, source=stored.source, asked_tick=0)
        row = replace(row, operation=operation)
        for occurred_at, event in change.events:
            row = self._add_event(row, occurred_at, event)
        self._keep(row)
        if operation.final_at is not None:
            self._insert_tombstones((account, operation.id), row)
        settle_counters(book, operation.labels, change)

    def _keep(self, row: _StoredRow) -> None:
        key = row.operation.account, row.operation.id
        self._rows[key] = row
        self._done.set(key, first_known(row.untracked_at, row.operation.final_at))

    def _insert_tombstones(self, key: _Key, row: _StoredRow) -> None:
        trace = row.trace
        self._tombstones[key] = trace
        self._dead.set(key, trace.done_at)

    def _add_event(self, row: _StoredRow, occurred_at: Instant, event: OperationEvent) -> _StoredRow:
        operation = row.operation
        self._position += 1
        stored = StoredEvent(
            position=self._position,
            event_id=self._event_ids(occurred_at),
            account=operation.account,
            operation_id=operation.id,
            seq=row.seq + 1,
            occurred_at=occurred_at,
            labels=operation.labels,
            event=event,
        )
        self._events[stored.position] = stored
        self._histories.setdefault((operation.account, operation.id), []).append(stored)
        return replace(row, seq=stored.seq, position=stored.position)

    def _stays(self, key: _Key, now: Instant) -> bool:
        """Whether a tombstone must stay. While events are kept it does: only it knows their last `seq`.

        Without it, the id would be registered as unknown, and its events would start with `seq` 1 a second time.
        """
        return key in self._histories or key in self._configured or not self._tombstones[key].is_over(now)

    def _forget(self, position: int) -> None:
        event = self._events.pop(position)
        key = event.account, event.operation_id
        history = self._histories[key]
        history.remove(event)
        if not history:
            del self._histories[key]


class _Calendar:
    """Keys ordered by an instant, the earliest first."""

    def __init__(self) -> None:
        self._instants: dict[_Key, Instant] = {}
        self._heap: list[tuple[Instant, _Key]] = []

    def set(self, key: _Key, instant: Instant | None) -> None:
        """Set the key's instant; None removes the key."""
        if instant is None:
            self.discard(key)
        elif self._instants.get(key) != instant:
            self._instants[key] = instant
            heapq.heappush(self._heap, (instant, key))

    def discard(self, key: _Key) -> None:
        """Remove the key. Its entry in the heap is skipped later."""
        self._instants.pop(key, None)

    def take(self, before: Instant, limit: int, *, stays: Callable[[_Key], bool]) -> Sequence[_Key]:
        """Remove and return the keys with an instant before `before`, at most `limit`, without those that must stay."""
        taken: list[_Key] = []
        staying: list[tuple[Instant, _Key]] = []
        while self._heap and self._heap[0][0] < before and len(taken) < limit:
            instant, key = heapq.heappop(self._heap)
            if self._instants.get(key) != instant:
                continue  # the key was changed or removed since this entry was pushed
            if stays(key):
                staying.append((instant, key))
            else:
                taken.append(key)
                del self._instants[key]
        for entry in staying:
            heapq.heappush(self._heap, entry)
        return taken
