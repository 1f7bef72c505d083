"""The answers of the API as types. The OpenAPI document is generated from the same types."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, Union

import msgspec

from watcher.core.channels import DONE, Stats
from watcher.core.model import (
    SECOND,
    Corrected,
    Failing,
    Finished,
    Moment,
    Moved,
    Odd,
    Operation,
    Outcome,
    Phase,
    Source,
    Status,
    Tracked,
    Untracked,
    rfc3339,
)
from watcher.core.snapshot import AccountSnapshot, NextPoll
from watcher.core.totals import MESSAGES, OPERATIONS
from watcher.store import Registration, RegistrationResult, StoredEvent

Timestamp = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]


class OperationView(msgspec.Struct, frozen=True, kw_only=True):
    """One operation. A stat never received is absent, a time null. Web shows only the labels in `metrics.labels`."""

    account: str
    id: str
    status: Status
    status_word: str | None
    phase: Phase
    outcome: Outcome | None
    source: Source
    labels: dict[str, str]
    stats: Stats
    registered_at: Timestamp
    created_at: Timestamp | None
    updated_at: Timestamp | None
    progressed_at: Timestamp | None
    ended_at: Timestamp | None
    final_at: Timestamp | None


class OperationPage(msgspec.Struct, frozen=True, kw_only=True):
    """Operations ordered by account and id. `next` is the `after` of the next page, null on the last page."""

    operations: list[OperationView]
    next: str | None


class AccountView(msgspec.Struct, frozen=True, kw_only=True):
    """The state of an account. `statuses`: the number of tracked or settling operations by status, without zeros.

    `finished` and `notifications` are the counters: finished operations by outcome, their notifications by state.
    """

    account: str
    up: bool
    unauthorized: bool
    last_success_at: Timestamp
    lag_seconds: float
    freshness_seconds: float
    limit_per_second: float
    throttled_seconds: float
    clock_skew_seconds: float
    statuses: dict[str, int]
    finished: dict[Outcome, int]
    notifications: dict[str, int]


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """All accounts, and the operations with series of their own: all of them if `whole`, else those that changed.

    `gone` are operations that are not shown any more, as `account:id`; remove them before you apply `operations`.
    `stats` are sums over all shown operations. `more` is the number of further operations, which are not shown.
    `bookmark` is the `since` of the next request.
    """

    as_of: Timestamp
    bookmark: str
    whole: bool
    accounts: list[AccountView]
    stats: Stats
    more: int
    operations: list[OperationView]
    gone: list[str]


class NextPollView(msgspec.Struct, frozen=True, kw_only=True):
    """When, how and why an operation is polled next. Negative `in_seconds`: the poll is late by that time."""

    at: Timestamp
    in_seconds: float
    how: str
    why: str


_EVENT_TYPES: Sequence[type[msgspec.Struct]] = (Tracked, Untracked, Moved, Failing, Finished, Corrected, Odd)


def _published_type(event_type: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Return a type with the keys of the event and those of all events, as in the log.

    A Struct cannot have both as bases.
    """
    own: list[tuple[str, Any, Any]] = [
        (field.encode_name, field.type, msgspec.field(default=field.default))
        if not field.required
        else (field.encode_name, field.type, msgspec.field())
        for field in msgspec.structs.fields(event_type)
    ]
    common: list[tuple[str, Any, Any]] = [
        ("event_id", str, msgspec.field()),
        ("seq", int, msgspec.field()),
        ("occurred_at", Timestamp, msgspec.field()),
    ]
    config = event_type.__struct_config__
    return msgspec.defstruct(
        f"{event_type.__name__}Entry",
        [*common, *own],
        frozen=True,
        kw_only=True,
        tag=config.tag,
        tag_field=config.tag_field,
        namespace={"__doc__": event_type.__doc__},
    )


_PUBLISHED_TYPES = {event_type: _published_type(event_type) for event_type in _EVENT_TYPES}

if TYPE_CHECKING:
    PublishedEvent: TypeAlias = msgspec.Struct
else:
    PublishedEvent = Union[tuple(_PUBLISHED_TYPES.values())]  # noqa: UP007 -- of a computed tuple


class OperationDetail(OperationView, frozen=True, kw_only=True):
    """One operation with its events that are still kept, oldest first, and with its next poll."""

    history: list[PublishedEvent]
    next_poll: NextPollView | None


class RegistrationView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of one entry. `outcome` is given if the operation had finished."""

    id: str
    account: str
    result: RegistrationResult
    outcome: Outcome | None = None


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """The result of each entry, in the order of the request."""

    operations: list[RegistrationView]


class Untracking(msgspec.Struct, frozen=True, kw_only=True):
    """The operation that is not tracked any more."""

    id: str
    account: str


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """The new configuration is in force."""

    reloaded: bool


def operation_view(operation: Operation, visible: Sequence[str] | None) -> OperationView:
    """Return the view of an operation. `visible` are the names of the labels to show, None for all."""
    return OperationView(**_shown(operation, visible))


def operation_detail(
    operation: Operation, visible: Sequence[str] | None, history: Sequence[StoredEvent], next_poll: NextPollView | None
) -> OperationDetail:
    """Return the view of one operation with its history and next poll."""
    return OperationDetail(
        **_shown(operation, visible), history=[_published(event) for event in history], next_poll=next_poll
    )


def account_view(snapshot: AccountSnapshot) -> AccountView:
    """Return the view of an account."""
    return AccountView(
        account=snapshot.account,
        up=snapshot.up,
        unauthorized=snapshot.unauthorized,
        last_success_at=rfc3339(snapshot.last_success_at) or "",
        lag_seconds=snapshot.lag / SECOND,
        freshness_seconds=snapshot.freshness / SECOND,
        limit_per_second=snapshot.limit_per_second,
        throttled_seconds=snapshot.throttled / SECOND,
        clock_skew_seconds=snapshot.skew / SECOND,
        statuses={status: count for status, count in snapshot.statuses.items() if count},
        finished={outcome: _total(snapshot, OPERATIONS, outcome.value) for outcome in Outcome},
        notifications={state: _total(snapshot, MESSAGES, state) for state in DONE},
    )


def next_poll_view(next_poll: NextPoll | None, now: Moment) -> NextPollView | None:
    """Return the view of the next poll, with its time by the wall clock."""
    if next_poll is None:
        return None
    wait = next_poll.due_tick - now.tick
    at = rfc3339(now.at + wait) or ""
    return NextPollView(at=at, in_seconds=wait / SECOND, how=next_poll.how, why=next_poll.why)


def registration_view(registration: Registration) -> RegistrationView:
    """Return the view of the result of one entry."""
    return RegistrationView(
        id=registration.id, account=registration.account, result=registration.result, outcome=registration.outcome
    )


def visible_labels(labels: Mapping[str, str], visible: Sequence[str] | None) -> dict[str, str]:
    """Return the labels whose names are in `visible`; all if that is None."""
    return {name: value for name, value in labels.items() if visible is None or name in visible}


def _total(snapshot: AccountSnapshot, series: str, word: str) -> int:
    """Return the counter summed over all user labels, shown or not."""
    shown = sum(value for key, value in snapshot.totals.items() if key[:2] == (series, word))
    return round(shown + snapshot.counters.rest.get((series, word), 0))


def _shown(operation: Operation, visible: Sequence[str] | None) -> dict[str, Any]:
    return {
        "account": operation.account,
        "id": operation.id,
        "status": operation.status,
        "status_word": operation.word,
        "phase": operation.phase,
        "outcome": operation.outcome,
        "source": operation.source,
        "labels": visible_labels(operation.labels, visible),
        "stats": operation.stats,
        "registered_at": rfc3339(operation.registered_at),
        "created_at": rfc3339(operation.created_at),
        "updated_at": rfc3339(operation.updated_at),
        "progressed_at": rfc3339(operation.progressed_at),
        "ended_at": rfc3339(operation.ended_at),
        "final_at": rfc3339(operation.final_at),
    }


def _published(event: StoredEvent) -> PublishedEvent:
    return _PUBLISHED_TYPES[type(event.event)](
        event_id=event.event_id,
        seq=event.seq,
        occurred_at=rfc3339(event.occurred_at),
        **msgspec.structs.asdict(event.event),
    )
