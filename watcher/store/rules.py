"""What both stores judge alike: who is taken in, and how much of a change still applies.

Values in, values out. `IdHistory` is what a store remembers of an id, be it from a row or from a tombstone.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from watcher.core.errors import StoreRefused
from watcher.core.labelling import CounterBook
from watcher.core.model import TOMBSTONE_LIFE, Instant, Operation, Outcome, Source, Value
from watcher.store import Change, Entry, RegistrationResult


class IdHistory(Value, frozen=True, kw_only=True):
    """What is remembered of an id: `outcome` once it was final, `created_at`, the last `seq`.

    `created_at` is the youngest of what upstream, the id and the registration say: any one of them may be wrong, and an
    operation was never created after all of them. `done_at`: when it became final or was untracked, by our clock.
    """

    followed: bool = False
    outcome: Outcome | None = None
    created_at: Instant | None = None
    done_at: Instant = 0
    seq: int = 0

    def is_over(self, now: Instant) -> bool:
        """Whether a tombstone of this has outlived whatever upstream may still show.

        It stays 8 days after the operation was done, by our clock, and 8 days after its creation. A creation further
        ahead than that is a wrong one, and must not keep it for ever. `sqlite.pruning` says the same in SQL.
        """
        before = now - TOMBSTONE_LIFE
        is_old = self.created_at is None or not before <= self.created_at <= now + TOMBSTONE_LIFE
        return self.done_at < before and is_old


class Applicability(enum.Enum):
    """How much of a change applies."""

    WHOLE = "whole"
    SCRAPE = "scrape"
    """The row is final: only `scraped_at` may still be noted; nothing is told or counted again."""
    NOTHING = "nothing"


def result_for(entry: Entry, trace: IdHistory | None) -> RegistrationResult:
    """What becomes of an entry, given what is remembered of its id."""
    if trace is None:
        return RegistrationResult.NEW
    if trace.followed:
        return RegistrationResult.KNOWN
    if trace.outcome is not None:
        return RegistrationResult.FINISHED
    return RegistrationResult.NEW if entry.source is Source.API else RegistrationResult.LEFT_OUT


def applicability_of(
    operation: Operation, *, registered_at: Instant, untracked_at: Instant | None, final_at: Instant | None
) -> Applicability:
    """How much of the operation's new state applies to the row with these instants.

    Another `registered_at` means that it was untracked and taken in afresh meanwhile: the state is of an earlier life.
    """
    if untracked_at is not None or registered_at != operation.registered_at:
        return Applicability.NOTHING
    if final_at is None:
        return Applicability.WHOLE
    return Applicability.NOTHING if operation.final_at is None else Applicability.SCRAPE


def registration_time(now: Instant, earlier: Instant | None) -> Instant:
    """When an id is registered, `earlier` being the time of the row that it replaces.

    Two lives of an id are told apart by these times, and a clock that was set back may show one instant twice.
    """
    return now if now != earlier else now + 1


def settle_counters(book: CounterBook, labels: Mapping[str, str], change: Change) -> None:
    """Count an operation that became final under the labels that its row has, or note that it ended uncounted."""
    final_at = change.operation.final_at
    if final_at is None:
        return
    if change.tally is None:
        book.leave(labels, final_at)
    else:
        book.count(labels, change.tally, final_at)


def first_known(*instants: Instant | None) -> Instant | None:
    """The first instant that is known."""
    return next((instant for instant in instants if instant is not None), None)


def youngest(*instants: Instant | None) -> Instant | None:
    """The latest instant that is known."""
    return max((instant for instant in instants if instant is not None), default=None)


def other_identity(name: str) -> StoreRefused:
    """The refusal of an account whose name was stored with other credentials."""
    return StoreRefused(
        f"account {name!r} was stored with another account_id or api_key; "
        "give the new one another name, or use another storage.url"
    )
