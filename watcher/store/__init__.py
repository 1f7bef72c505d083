"""Where state lives: the `Store` protocol and its values.

The store keeps rows and compares instants; it never computes one (`now` and due times come with the call). It numbers
the events of an operation and applies a change only to an operation that is still followed, so that an untracking
between the loop's poll and its write wins. Every method either takes effect whole or raises:

    StoreUnusable   full, read-only, slow, locked: keep what was to be written and try again
    StoreRefused    not ours to use: from a newer version, of another account, held by another daemon

`sqlite` is for the daemon, `memory` for tests, `wait` and whatever needs no durability; both pass the same contract
tests. Both are handed the source of event ids (`watcher.event_ids`).
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
    """One operation that somebody wants followed; `created_at`: what its id or a list says of its creation."""

    account: str
    id: str
    source: Source
    labels: Mapping[str, str] = {}
    created_at: Instant | None = None


class RegistrationResult(enum.StrEnum):
    """What became of an entry."""

    NEW = "new"
    """Followed from now on; also one that had been untracked, when the API asks for it again."""
    KNOWN = "known"
    """Followed already; labels were merged, given keys win."""
    FINISHED = "finished"
    """It has ended (counted, or final); it is not followed again."""
    LEFT_OUT = "passed_over"
    """Untracked earlier; configuration and discovery do not bring it back."""


class Registration(Value, frozen=True, kw_only=True):
    """What became of one entry; `outcome` where it had finished."""

    account: str
    id: str
    result: RegistrationResult
    outcome: Outcome | None = None


class Change(Value, frozen=True, kw_only=True):
    """The new state of an operation, the events that tell of it (and when each occurred), and what it adds to counters.

    A `tally` is given only in the one change that makes the stats final. It counts under the labels that the row has
    then, whatever the loop knows of them.
    """

    operation: Operation
    events: tuple[tuple[Instant, OperationEvent], ...] = ()
    tally: Tally | None = None


class Committed(Value, frozen=True, kw_only=True):
    """What a commit did: the ids it applied to, and what it added to counters that are shown.

    `shows_more`: a combination of counter labels is shown from now on that was not before.
    """

    applied: frozenset[str] = frozenset()
    counted: Mapping[Key, float] = {}
    shows_more: bool = False


class StoredEvent(Value, frozen=True, kw_only=True):
    """An event as it was committed: `position` orders all events, `seq` those of one operation (from 1).

    `event_id` is stored with it: the same however often it is published, and never that of another event. Positions and
    `seq` can come again: after a backup was restored, or when an id is registered long after its end.
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
    """What an account's loop begins with: operations that are followed, settling, or final and perhaps still shown."""

    operations: Sequence[Operation]
    revision: int
    discovery: DiscoveryProgress
    api_key: str | None = None
    """The key that was adopted last, where no account id says whose it is."""


class IntakeChanges(Value, frozen=True, kw_only=True):
    """What intake changed after a revision: operations new or relabelled (as stored), and ids untracked.

    `shows_more`: a combination of counter labels is shown since then.
    """

    revision: int
    operations: Sequence[Operation]
    untracked: Sequence[str]
    shows_more: bool = False


class Found(Value, frozen=True, kw_only=True):
    """An operation as stored; `untracked_at` where it is followed no longer."""

    operation: Operation
    untracked_at: Instant | None = None


class Shown(Value, frozen=True, kw_only=True):
    """Which final operations may still have series: final after one time, and not scraped, or after the other one."""

    final_after: Instant
    scraped_after: Instant

    def includes(self, operation: Operation) -> bool:
        """Whether its details must stay, so that a restart shows it on. `sqlite.pruning` says the same in SQL."""
        scraped_at, final_at = operation.scraped_at, operation.final_at
        if final_at is None or final_at <= self.final_after:
            return False
        return scraped_at is None or scraped_at > self.scraped_after


class Store(Protocol):
    """The life of followed operations, made durable. Keys are (account, id)."""

    async def bind(self, accounts: Mapping[str, str]) -> None:
        """Tie account names to their identities (name to account id or api key) for good.

        Raises StoreRefused when a name was stored with another identity.
        """

    async def load(self, account: str, *, final_since: Instant) -> LoadedAccount:
        """What the account's loop begins with; final ones only if they became final at or after `final_since`."""

    async def register(
        self, entries: Sequence[Entry], now: Instant, *, configured: Sequence[str] = ()
    ) -> Sequence[Registration]:
        """Take entries in, all or none, with a `Tracked` event for each new one; durable when it returns.

        The combinations of counter labels of new and relabelled ones are shown from then on.
        Ids that are finished or untracked (tombstones included) are answered as `RegistrationResult` says. `configured`
        are the accounts of which the entries are everything that the configuration names: their tombstones stay as long
        as that is so. Of an account that is not among them, what was named last counts on.
        """

    async def untrack(self, account: str, operation_id: str, now: Instant, source: Source) -> bool:
        """Stop following, with an `Untracked` event and a tombstone; False where the id is not followed or shown."""

    async def insert_tombstones(self, account: str, created: Mapping[str, Instant | None], now: Instant) -> None:
        """Note ids, each with its creation, that discovery passes over as if untracked; known ids stay as they are."""

    async def note_discovery_began(self, account: str, began_at: Instant) -> None:
        """When discovery's very first answer came, by the best-known time."""

    async def intake(self, account: str, since: int) -> IntakeChanges:
        """What `register` and `untrack` changed for the account after revision `since`."""

    async def commit(self, account: str, changes: Sequence[Change], *, cursor: Instant | None = None) -> Committed:
        """Write states, events, counters, tombstones and the cursor in one transaction.

        A change to an operation that was untracked meanwhile is dropped with its events and its tally. Labels are
        intake's and are not overwritten. A change with `final_at` set leaves a tombstone.
        """

    async def adopt_key(self, account: str, api_key: str) -> None:
        """Remember the API key (its id, never its secret) as one of the account."""

    async def adopt_counter_labels(self, account: str, names: Sequence[str], now: Instant) -> None:
        """Count under these labels from now on, given in order; nothing where they are in force already."""

    async def counters(self, account: str) -> Counters:
        """The account's counters as they are to be shown."""

    async def open_combinations(self, account: str, combinations: Collection[Combination]) -> None:
        """Show from now on what was counted under them, and what will be, at once."""

    async def retire_combinations(
        self, account: str, combinations: Collection[Combination], *, tracked_before: Instant
    ) -> None:
        """Show those of them no longer that are open and were last tracked before then; their numbers stay."""

    async def pending_events(self, after: int, limit: int) -> Sequence[StoredEvent]:
        """Events not yet marked as told with a position above `after`, in order of position."""

    async def mark_published(self, up_to: int, now: Instant) -> None:
        """Mark every event up to this position as told."""

    async def last_position(self) -> int:
        """The position of the newest event committed so far, 0 for none."""

    async def count_pending(self) -> int:
        """How many events wait to be told."""

    async def touch(self) -> None:
        """Write something that changes nothing, to see whether writing works."""

    async def find(self, operation_id: str, account: str | None = None) -> Sequence[Found]:
        """The operation in one or all accounts, while its details are kept."""

    async def page(
        self, *, account: str | None, statuses: Sequence[str], after: tuple[str, str] | None, limit: int
    ) -> Sequence[Operation]:
        """Operations not untracked, ordered by (account, id), after a key."""

    async def history(self, account: str, operation_id: str) -> Sequence[StoredEvent]:
        """The events of one operation that are still kept, in order."""

    async def prune(self, now: Instant, *, keep_since: Instant, limit: int, shown: Shown | None = None) -> int:
        """Drop one small batch: finished details and told events older than `keep_since`, tombstones past their time.

        Details of what is `shown` stay too. A tombstone stays until 8 days after the operation was done and 8 days
        after its creation, as long as events of it are kept, and as long as the configuration names its id.

        Returns how many rows left; 0 means nothing is left to drop. Untold events never leave.
        """

    async def size_bytes(self) -> int:
        """What the store takes on its medium, 0 where it has none."""

    async def close(self) -> None:
        """Write out and let go; idempotent."""
