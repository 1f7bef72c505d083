"""What every store promises about what the loop begins with and writes back."""

from __future__ import annotations

import pytest

from tests.store.factories import ACCOUNT, COMPLETED, ID, NOW, OTHER, entry, final, finish, finished, operation, track
from tests.support.stored import counted_in, outcome_in
from watcher.core.channels import Stats
from watcher.core.discovery import DiscoveryProgress
from watcher.core.labelling import Counters
from watcher.core.model import (
    Corrected,
    Evidence,
    Failing,
    Moved,
    Odd,
    Operation,
    Outcome,
    Source,
    Status,
    Tally,
    Tracked,
    Untracked,
)
from watcher.store import Change, RegistrationResult, Store

FULL = operation(
    labels={"campaign": "<script>", "größe": "10"},
    status=Status.UNKNOWN,
    word="PAUSED",
    stats=Stats(total=9, recipients=8, scheduled=7, queued=6, sent=5, failed=4, canceled=0, unaddressable=2),
    created_at=NOW - 1,
    updated_at=NOW + 1,
    progressed_at=NOW + 2,
    ended_at=NOW + 3,
    learned_at=NOW + 4,
    settled=2,
    prolonged=1,
    settling_since=NOW + 9,
    unsettled_since=NOW + 6,
    missing_since=NOW + 7,
    missed=3,
    failing_published=True,
    odd=("unknown_status", "stats_missing"),
    scraped_at=NOW + 8,
    evidence=Evidence(other_created_at=NOW - 2, other_created_asked_at=NOW, is_moving=True),
)
EVENTS = (
    Tracked(source=Source.DISCOVERY),
    Untracked(source=Source.API),
    Moved(
        from_status=None,
        to_status=Status.UNKNOWN,
        stats=Stats(sent=0),
        updated_at="2026-01-15T09:30:00Z",
        delay_seconds=2.0,
        status_word="PAUSED",
    ),
    Failing(stats=Stats(failed=1)),
    finished(),
    Corrected(stats=Stats(sent=2), before=Stats()),
    Odd(kind="stale_answer"),
)


async def test_an_unknown_account_is_empty(store: Store) -> None:
    loaded = await store.load("unknown", final_since=0)
    assert (loaded.operations, loaded.revision, loaded.discovery) == ((), 0, DiscoveryProgress())
    assert (await counted_in(store, "unknown"), await store.counters("unknown")) == ({}, Counters())


@pytest.mark.parametrize("state", [FULL, FULL.with_(final_at=NOW + 5), operation()], ids=["full", "final", "bare"])
async def test_every_field_comes_back_as_it_was_written(store: Store, state: Operation) -> None:
    await track(store, labels=state.labels)
    assert (await store.commit(ACCOUNT, [Change(operation=state.with_(asked_tick=77))])).applied == {ID}
    assert list((await store.load(ACCOUNT, final_since=0)).operations) == [state]
    assert [found.operation for found in await store.find(ID)] == [state]


def test_the_full_operation_leaves_no_field_at_its_default() -> None:
    plain = operation()
    same = {name for name in Operation.__struct_fields__ if getattr(FULL, name) == getattr(plain, name)}
    assert same == {"account", "id", "source", "registered_at", "final_at", "asked_tick"}


async def test_every_event_comes_back_as_it_was_written(store: Store) -> None:
    await track(store, labels={"a": "1"})
    await store.commit(ACCOUNT, [Change(operation=operation(), events=tuple(enumerate(EVENTS)))])
    published = await store.pending_events(1, 99)
    assert tuple(event.event for event in published) == EVENTS
    assert [event.occurred_at for event in published] == list(range(len(EVENTS)))
    assert [event.seq for event in published] == list(range(2, 2 + len(EVENTS)))
    assert {str(event.labels) for event in published} == {"{'a': '1'}"}
    assert tuple(await store.history(ACCOUNT, ID))[1:] == tuple(published)


async def test_labels_and_source_are_intakes(store: Store) -> None:
    await track(store, labels={"a": "1"})
    await store.register([entry(labels={"a": "2"})], NOW + 1)
    await store.commit(ACCOUNT, [Change(operation=operation(labels={"a": "1"}, source=Source.CONFIG, missed=1))])
    (found,) = await store.find(ID)
    assert found.operation == operation(labels={"a": "2"}, missed=1)


async def test_an_event_carries_the_labels_of_its_commit(store: Store) -> None:
    await track(store, labels={"a": "1"})
    await store.register([entry(labels={"a": "2"})], NOW + 1)
    await store.commit(ACCOUNT, [Change(operation=operation(), events=((NOW, finished()),))])
    assert [event.labels for event in await store.history(ACCOUNT, ID)] == [{"a": "1"}, {"a": "2"}]


async def test_an_untracking_wins_over_a_late_write(store: Store) -> None:
    await track(store, ID, OTHER)
    await store.untrack(ACCOUNT, ID, NOW + 1, Source.API)
    late = Change(operation=final(), events=((NOW, finished()),), tally=COMPLETED)
    fine = Change(operation=operation(id=OTHER, missed=1))
    assert (await store.commit(ACCOUNT, [late, fine])).applied == {OTHER}
    assert await counted_in(store, ACCOUNT) == {}
    assert len(await store.history(ACCOUNT, ID)) == 2
    assert (await store.find(ID))[0].operation == operation()


async def test_a_write_for_an_earlier_registration_is_dropped(store: Store) -> None:
    await track(store)
    await store.untrack(ACCOUNT, ID, NOW + 1, Source.API)
    await track(store, now=NOW + 2)
    assert (await store.commit(ACCOUNT, [Change(operation=operation(missed=1))])).applied == frozenset()
    assert (await store.commit(ACCOUNT, [Change(operation=operation(missed=1, registered_at=NOW + 2))])).applied == {ID}


async def test_two_registrations_of_an_id_never_have_the_same_time_though_the_clock_was_set_back(store: Store) -> None:
    await track(store)
    await store.untrack(ACCOUNT, ID, NOW, Source.API)
    await track(store)
    assert (await store.commit(ACCOUNT, [Change(operation=operation(missed=1))])).applied == frozenset()
    (found,) = await store.find(ID)
    again = found.operation.with_(missed=1)
    assert (await store.commit(ACCOUNT, [Change(operation=again)])).applied == {ID}


async def test_a_write_for_an_id_that_was_never_registered_is_dropped(store: Store) -> None:
    change = Change(operation=final(), events=((NOW, finished()),), tally=COMPLETED)
    assert (await store.commit(ACCOUNT, [change])).applied == frozenset()
    assert (await store.commit(ACCOUNT, [])).applied == frozenset()
    assert (await counted_in(store, ACCOUNT), await store.last_position()) == ({}, 0)


async def test_a_final_operation_is_counted_once(store: Store) -> None:
    await track(store)
    await finish(store)
    again = Change(
        operation=final(status=Status.CANCELED),
        events=((NOW, finished()),),
        tally=Tally(outcome=Outcome.CANCELED),
    )
    assert (await store.commit(ACCOUNT, [again])).applied == {ID}
    assert await counted_in(store, ACCOUNT) == {("operations", "completed"): 1}
    assert await store.last_position() == 2
    assert await outcome_in(store, ACCOUNT, ID) is Outcome.COMPLETED


async def test_a_final_operation_is_counted_once_within_one_commit_too(store: Store) -> None:
    await track(store)
    change = Change(operation=final(), events=((NOW, finished()),), tally=COMPLETED)
    assert (await store.commit(ACCOUNT, [change, change])).applied == {ID}
    assert await counted_in(store, ACCOUNT) == {("operations", "completed"): 1}
    assert await store.last_position() == 2


async def test_a_final_operation_changes_only_in_its_scrape_time(store: Store) -> None:
    await track(store)
    await finish(store)
    assert (await store.commit(ACCOUNT, [Change(operation=operation(status=Status.PROCESSING))])).applied == frozenset()
    assert (await store.commit(ACCOUNT, [Change(operation=final(missed=7, scraped_at=NOW + 30))])).applied == {ID}
    assert (await store.commit(ACCOUNT, [Change(operation=final(missed=8))])).applied == {ID}
    assert (await store.find(ID))[0].operation == final(scraped_at=NOW + 30)
    await store.untrack(ACCOUNT, ID, NOW + 40, Source.API)
    assert (await store.commit(ACCOUNT, [Change(operation=final(scraped_at=NOW + 50))])).applied == frozenset()
    assert (await store.find(ID))[0].operation == final(scraped_at=NOW + 30)


async def test_changes_of_one_operation_apply_in_order(store: Store) -> None:
    await track(store)
    changes = [Change(operation=operation(missed=number), events=((number, finished()),)) for number in (1, 2)]
    assert (await store.commit(ACCOUNT, changes)).applied == {ID}
    assert (await store.find(ID))[0].operation.missed == 2
    assert [event.occurred_at for event in await store.pending_events(1, 9)] == [1, 2]


async def test_counters_add_up_under_whatever_key(store: Store) -> None:
    await track(store, ID, OTHER)
    await store.adopt_counter_labels(ACCOUNT, ["größe"], NOW)
    labels = {"größe": 'quo"te\n'}
    await store.register([entry(labels=labels), entry(id=OTHER, labels=labels)], NOW)
    await store.commit(
        ACCOUNT, [Change(operation=final(), tally=Tally(outcome=Outcome.COMPLETED, duration_seconds=0.25))]
    )
    await store.commit(
        ACCOUNT, [Change(operation=final(id=OTHER), tally=Tally(outcome=Outcome.COMPLETED, stats=Stats(recipients=5)))]
    )
    part = 'größe=quo"te\n'
    assert await counted_in(store, ACCOUNT) == {
        ("operations", "completed", part): 2,
        ("duration_bucket", "5", part): 1,
        ("duration_micros", part): 250_000,
        ("recipients", part): 5,
    }
    assert await counted_in(store, "other") == {}


async def test_the_adopted_key_is_kept_beside_everything_else_of_the_account(store: Store) -> None:
    assert (await store.load(ACCOUNT, final_since=0)).api_key is None
    await store.adopt_key(ACCOUNT, "SK1")
    await store.commit(ACCOUNT, [], cursor=5)
    await store.adopt_key(ACCOUNT, "SK2")
    loaded = await store.load(ACCOUNT, final_since=0)
    assert (loaded.api_key, loaded.discovery.cursor) == ("SK2", 5)
    assert (await store.load("other", final_since=0)).api_key is None


async def test_the_cursor_is_kept_and_moves_only_when_given(store: Store) -> None:
    assert (await store.commit(ACCOUNT, [], cursor=5)).applied == frozenset()
    await track(store)
    await store.commit(ACCOUNT, [Change(operation=operation(missed=1))])
    loaded = await store.load(ACCOUNT, final_since=0)
    assert (loaded.discovery.cursor, loaded.revision) == (5, 1)
    await store.commit(ACCOUNT, [Change(operation=operation(missed=2))], cursor=6)
    assert (await store.load(ACCOUNT, final_since=0)).discovery.cursor == 6


async def test_the_loop_loads_tracked_and_recently_final_operations(store: Store) -> None:
    await track(store, "a", "b", "c", "d")
    await finish(store, "a", at=NOW + 10)
    await finish(store, "b", at=NOW + 11)
    await store.untrack(ACCOUNT, "c", NOW + 12, Source.API)
    loaded = await store.load(ACCOUNT, final_since=NOW + 11)
    assert {found.id for found in loaded.operations} == {"b", "d"}


async def test_when_discovery_began_is_kept_and_can_be_corrected(store: Store) -> None:
    await store.note_discovery_began(ACCOUNT, 7)
    await store.commit(ACCOUNT, [], cursor=9)
    await store.note_discovery_began(ACCOUNT, 8)
    assert (await store.load(ACCOUNT, final_since=0)).discovery == DiscoveryProgress(cursor=9, began_at=8)


async def test_an_operation_that_ended_before_is_ignored_by_discovery_and_registered_by_the_api(store: Store) -> None:
    await store.insert_tombstones(ACCOUNT, {ID: NOW - 5, OTHER: None}, NOW)
    found = await store.register([entry(id=ID, source=Source.DISCOVERY), entry(id=OTHER, source=Source.CONFIG)], NOW)
    assert [answer.result for answer in found] == [RegistrationResult.LEFT_OUT, RegistrationResult.LEFT_OUT]
    assert await store.pending_events(0, 9) == ()
    (answer,) = await store.register([entry(id=ID, source=Source.API)], NOW)
    assert answer.result is RegistrationResult.NEW


async def test_a_tombstone_of_an_operation_that_ended_before_replaces_neither_a_row_nor_a_tombstone(
    store: Store,
) -> None:
    await track(store)
    await store.insert_tombstones(ACCOUNT, {ID: None}, NOW)
    (answer,) = await store.register([entry(id=ID)], NOW)
    assert answer.result is RegistrationResult.KNOWN
    await store.untrack(ACCOUNT, ID, NOW, Source.API)
    await store.insert_tombstones(ACCOUNT, {ID: None}, NOW)
    assert [event.seq for event in await store.pending_events(0, 9)] == [1, 2]
