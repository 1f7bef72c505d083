"""Values for the tests of the stores, with overrides."""

from __future__ import annotations

from typing import Any

from watcher.core.channels import Stats
from watcher.core.model import Finished, Operation, OperationEvent, Outcome, Source, Status, Tally
from watcher.store import Change, Entry, Shown, Store

ACCOUNT = "main"
ID = "comms_operation_01h9krwprkeee8fzqspvwy6nq8"
OTHER = "comms_operation_01h9krwprkeee8fzqspvwy6nq9"
NOW = 1_768_469_400_000_000
COMPLETED = Tally(outcome=Outcome.COMPLETED)


def entry(**overrides: Any) -> Entry:
    return Entry(**{"account": ACCOUNT, "id": ID, "source": Source.API, **overrides})


def operation(**overrides: Any) -> Operation:
    return Operation(**{"account": ACCOUNT, "id": ID, "source": Source.API, "registered_at": NOW, **overrides})


def final(at: int = NOW + 10, **overrides: Any) -> Operation:
    return operation(**{"status": Status.COMPLETED, "final_at": at, **overrides})


def finished(outcome: Outcome = Outcome.COMPLETED) -> OperationEvent:
    return Finished(outcome=outcome, stats=Stats(total=1, sent=1), duration_seconds=1.5)


async def track(store: Store, *ids: str, now: int = NOW, **overrides: Any) -> None:
    await store.register([entry(id=name, **overrides) for name in ids or [ID]], now)


async def finish(store: Store, name: str = ID, at: int = NOW + 10, **overrides: Any) -> None:
    """End a tracked operation as final: one event, one count."""
    change = Change(
        operation=final(at, id=name, **overrides),
        events=((at, finished()),),
        tally=COMPLETED,
    )
    assert (await store.commit(ACCOUNT, [change])).applied == {name}


async def publish_all(store: Store, now: int = NOW + 20) -> None:
    await store.mark_published(await store.last_position(), now)


async def prune_all(
    store: Store, now: int = NOW, *, keep_since: int, limit: int = 3, shown: Shown | None = None
) -> int:
    """Prunes until nothing is left to drop; how many rows left."""
    left = 0
    while batch := await store.prune(now, keep_since=keep_since, limit=limit, shown=shown):
        assert batch <= limit
        left += batch
    return left
