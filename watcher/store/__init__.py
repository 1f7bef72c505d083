"""Where state lives: the `Store` protocol and its values.

The store keeps rows and compares instants. It never reads a clock: `now` and due times come with the call. It numbers
the events of an operation. It applies a change only to an operation that is still tracked, so that an untracking
between the loop's poll and its write wins. Every method takes effect as a whole, or raises:

    StoreUnusable   full, read-only, slow, locked: keep what was to be written and try again
    StoreRefused    not ours to use: from a newer version, of another account, held by another daemon

`sqlite` is for the daemon, `memory` for tests, `wait` and everything that needs no durability. Both pass the same
contract tests. Both get the function that makes event ids (`watcher.event_ids`).
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from watcher.core.discovery import DiscoveryProgress
from watcher.core.labelling import Combination, Counters
from watcher.core.model import Instant, Operation, OperationEvent, Outcome, Source, Tally, Value
from watcher.core.totals import Key


class Entry(Value, frozen=True, kw_only=True):
    """An operation that is to be tracked. `created_at`: its creation according to its id or to a list."""

    account: str
    id: str
    source: Source
    labels: Mapping[str, str] = {}
    created_at: Instant | None = None


class RegistrationResult(enum.StrEnum):
    """The result of the registration of an entry."""

    NEW = "new"
    """Tracked from now on. Also for an untracked id that is registered again by the API."""
    KNOWN = "known"
    """Tracked already. Labels were merged; given keys replace stored ones."""
    FINISHED = "finished"
    """It has ended (counted, or final), and is not tracked again."""
    LEFT_OUT = "passed_over"
    """Untracked earlier. Configuration and discovery do not register it again, only the API does."""


class Registration(Value, frozen=True, kw_only=True):
    """The result of one entry, with the `outcome` where it is `FINISHED`."""

    account: str
    id: str
    result: RegistrationResult
    outcome: Outcome | None = None


class Change(Value, frozen=True, kw_only=True):
    """The new state of an operation, its events (and when each occurred), and what it adds to counters.

    A `tally` is given only in the one change that makes the stats final. It counts under the labels that the row has
    at that moment, even where the loop does not know them yet.
    """

    operation: Operation
    events: tuple[tuple[Instant, OperationEvent], ...] = ()
    tally: Tally | None = None


class Committed(Value, frozen=True, kw_only=True):
    """The result of a commit: the ids of applied changes, and what was added to counters that are shown.

    `shows_more`: a further combination of counter labels is shown from now on.
    """

    applied: frozenset[str] = frozenset()
    counted: Mapping[Key, float] = {}
    shows_more: bool = False


class StoredEvent(Value, frozen=True, kw_only=True):
    """An event as it was committed: `position` orders all events, `seq` those of one operation (from 1).

    `event_id` is stored with the event, so it stays the same when the event is published again, and no other event has
    it. Positions and `seq` are not unique for ever: they repeat after a backup was restored, and `seq` where an id is
    registered long after its end.
    """

    position: int
    event_id: str
    account: str
    operation_id: str
    seq: int
    occurred_at: Instant
    labels: Mapping[str, str]
    event: OperationEvent


class LoadedAccount(Value, frozen=True, kw_only=True):
    """What an account's loop loads first: operations that are tracked, settling, or final and perhaps still shown."""

    operations: Sequence[Operation]
    revision: int
    discovery: DiscoveryProgress
    api_key: str | None = None
    """The API key that was adopted last, where the configuration has no account id."""


class IntakeChanges(Value, frozen=True, kw_only=True):
    """What intake changed after a revision: operations that are new or have new labels (as stored), and untracked ids.

    `shows_more`: a further combination of counter labels is shown since then.
    """

    revision: int
    operations: Sequence[Operation]
    untracked: Sequence[str]
    shows_more: bool = False


class Found(Value, frozen=True, kw_only=True):
    """An operation as stored, with `untracked_at` where it is not tracked any more."""

    operation: Operation
    untracked_at: Instant | None = None


class Shown(Value, frozen=True, kw_only=True):
    """Which final operations may still have series.

    Those that became final after `final_after`, and that were not scraped, or first scraped after `scraped_after`.
    """

    final_after: Instant
    scraped_after: Instant

    def includes(self, operation: Operation) -> bool:
        """Whether its details must stay, so that it is shown after a restart. `sqlite.pruning` has this rule in SQL."""
        scraped_at, final_at = operation.scraped_at, operation.final_at
        if final_at is None or final_at <= self.final_after:
            return False
        return scraped_at is None or scraped_at > self.scraped_after


class Store(Protocol):
    """Durable state of tracked operations. Keys are (account, id)."""

    async def bind(self, accounts: Mapping[str, str]) -> None:
        """Store the identity of each account for good (name to account id or api key).

        Raises StoreRefused when a name was stored with another identity.
        """

    async def load(self, account: str, *, final_since: Instant) -> LoadedAccount:
        """What the account's loop loads first. Final operations only if they became final at or after `final_since`."""

    async def register(
        self, entries: Sequence[Entry], now: Instant, *, configured: Sequence[str] = ()
    ) -> Sequence[Registration]:
        """Register all entries or none, with a `Tracked` event for each new operation. Durable when it returns.

        The combinations of counter labels of new and relabelled operations are shown from then on. Results for ids that
        are finished or untracked (tombstones included) are as `RegistrationResult` says.

        `configured`: the accounts for which the entries are the complete list of ids in the configuration. Tombstones
        of these ids stay while the configuration names them. For other accounts, the list that was given last remains
        valid.
        """

    async def untrack(self, account: str, operation_id: str, now: Instant, source: Source) -> bool:
        """Stop tracking, with an `Untracked` event and a tombstone. False where the id is not tracked or shown."""

    async def insert_tombstones(self, account: str, created: Mapping[str, Instant | None], now: Instant) -> None:
        """Store tombstones, so that discovery does not register these ids (each with its creation). Known ids stay."""

    async def note_discovery_began(self, account: str, began_at: Instant) -> None:
        """Store when discovery got its very first answer, by the best-known time."""

    async def intake(self, account: str, since: int) -> IntakeChanges:
        """What `register` and `untrack` changed for the account after revision `since`."""

    async def commit(self, account: str, changes: Sequence[Change], *, cursor: Instant | None = None) -> Committed:
        """Write states, events, counters, tombstones and the cursor in one transaction.

        A change to an operation that was untracked meanwhile is dropped with its events and its tally. Labels are not
        overwritten: only `register` changes them. A change with `final_at` set leaves a tombstone.
        """

    async def adopt_key(self, account: str, api_key: str) -> None:
        """Store the API key (its id, never its secret) as a key of the account."""

    async def adopt_counter_labels(self, account: str, names: Sequence[str], now: Instant) -> None:
        """Count under these labels from now on, given in order. Does nothing where they are in force already."""

    async def counters(self, account: str) -> Counters:
        """The account's counters as they are to be shown."""

    async def open_combinations(self, account: str, combinations: Collection[Combination]) -> None:
        """Show what was held back for these combinations, and show at once what they count from now on."""

    async def retire_combinations(
        self, account: str, combinations: Collection[Combination], *, tracked_before: Instant
    ) -> None:
        """Stop showing those of them that are open and were last tracked before `tracked_before`. Their counts stay."""

    async def pending_events(self, after: int, limit: int) -> Sequence[StoredEvent]:
        """Events not yet marked as published with a position above `after`, in order of position."""

    async def mark_published(self, up_to: int, now: Instant) -> None:
        """Mark every event up to this position as published."""

    async def last_position(self) -> int:
        """The position of the newest event that was ever committed, 0 before the first."""

    async def count_pending(self) -> int:
        """The number of events that wait to be published."""

    async def touch(self) -> None:
        """Write without changing anything, to find out whether writing works."""

    async def find(self, operation_id: str, account: str | None = None) -> Sequence[Found]:
        """The operation in one or all accounts, while its details are kept."""

    async def page(
        self, *, account: str | None, statuses: Sequence[str], after: tuple[str, str] | None, limit: int
    ) -> Sequence[Operation]:
        """At most `limit` operations that are not untracked, ordered by (account, id), after the key `after`."""

    async def history(self, account: str, operation_id: str) -> Sequence[StoredEvent]:
        """The events of one operation that are still kept, in order."""

    async def prune(self, now: Instant, *, keep_since: Instant, limit: int, shown: Shown | None = None) -> int:
        """Delete one small batch of details and events from before `keep_since`, and of tombstones past their time.

        Details count from the end or the untracking, events from their publication. Details of operations that are
        `shown` stay, and so do pending events. A tombstone stays until 8 days after the operation was done and 8 days
        after its creation, while events of it are kept, and while the configuration names its id.

        Returns the number of deleted rows; 0 when there is nothing left to delete.
        """

    async def size_bytes(self) -> int:
        """The size of the store's files in bytes, 0 where it has no files."""

    async def close(self) -> None:
        """Write everything and release the store. Calling it again does nothing."""
