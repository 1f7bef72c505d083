"""The rules that both stores share: which entries become new operations, and how much of a change still applies.

Values in, values out. `IdHistory` is what a store remembers of an id, from a row or from a tombstone.
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

    `created_at` is the latest of the times that upstream, the id and the registration give. Each may be wrong, but an
    operation was never created after all of them. `done_at`: when it became final or was untracked, by our clock.
    """

    followed: bool = False
    outcome: Outcome | None = None
    created_at: Instant | None = None
    done_at: Instant = 0
    seq: int = 0

    def is_over(self, now: Instant) -> bool:
        """Whether a tombstone of this id may go, because upstream cannot show the operation any more.

        It stays 8 days after the operation was done, by our clock, and 8 days after its creation. A creation more than
        8 days in the future is wrong, and must not keep it for ever. `sqlite.pruning` has the same rule in SQL.
        """
        before = now - TOMBSTONE_LIFE
        is_old = self.created_at is None or not before <= self.created_at <= now + TOMBSTONE_LIFE
        return self.done_at < before and is_old


class Applicability(enum.Enum):
    """How much of a change applies."""

    WHOLE = "whole"
    SCRAPE = "scrape"
    """The row is final: only `scraped_at` may still be written. Nothing is published or counted again."""
    NOTHING = "nothing"


def result_for(entry: Entry, trace: IdHistory | None) -> RegistrationResult:
    """The result for an entry, given what is remembered of its id."""
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

    Another `registered_at` means that the id was untracked and registered again meanwhile: the state belongs to the
    earlier registration.
    """
    if untracked_at is not None or registered_at != operation.registered_at:
        return Applicability.NOTHING
    if final_at is None:
        return Applicability.WHOLE
    return Applicability.NOTHING if operation.final_at is None else Applicability.SCRAPE


def registration_time(now: Instant, earlier: Instant | None) -> Instant:
    """The registration time of an id. `earlier` is that of the row that it replaces.

    Two registrations of an id are distinguished by these times alone, so they must differ, also where the clock was set
    back and shows the same instant twice.
    """
    return now if now != earlier else now + 1


def settle_counters(book: CounterBook, labels: Mapping[str, str], change: Change) -> None:
    """Count an operation that became final under the labels of its row, or note that it ended uncounted."""
    final_at = change.operation.final_at
    if final_at is None:
        return
    if change.tally is None:
        book.leave(labels, final_at)
    else:
        book.count(labels, change.tally, final_at)


def first_known(*instants: Instant | None) -> Instant | None:
    """The first of the instants that is not None."""
    return next((instant for instant in instants if instant is not None), None)


def youngest(*instants: Instant | None) -> Instant | None:
    """The latest of the instants that are not None."""
    return max((instant for instant in instants if instant is not None), default=None)


def other_identity(name: str) -> StoreRefused:
    """The error for an account whose name was stored with another account id or API key."""
    return StoreRefused(
        f"account {name!r} was stored with another account_id or api_key; "
        "give the new one another name, or use another storage.url"
    )
