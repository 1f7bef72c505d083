"""What every store promises about what comes in and what is sent away."""

from __future__ import annotations

import time

import pytest

from tests.store.factories import (
    ACCOUNT,
    ID,
    NOW,
    OTHER,
    entry,
    final,
    finish,
    operation,
    prune_all,
    publish_all,
    track,
)
from tests.support.stored import outcome_in
from watcher.core.errors import StoreRefused
from watcher.core.model import DAY, Outcome, Source, Status, Tracked, Untracked
from watcher.store import Change, Entry, Registration, RegistrationResult, Store


async def results(store: Store, *entries: Entry, now: int = NOW) -> list[RegistrationResult]:
    return [registration.result for registration in await store.register(entries, now)]


async def test_an_account_keeps_its_identity(store: Store) -> None:
    await store.bind({"main": "AC1", "other": "AC2"})
    await store.bind({"main": "AC1"})
    with pytest.raises(StoreRefused, match="'main' was stored with another account_id or api_key"):
        await store.bind({"third": "AC3", "main": "AC9"})
    await store.bind({"third": "AC4"})


async def test_an_account_seen_before_it_was_bound_can_be_bound(store: Store) -> None:
    await track(store)
    await store.bind({ACCOUNT: "AC1"})
    loaded = await store.load(ACCOUNT, final_since=0)
    assert loaded.revision == 1
    with pytest.raises(StoreRefused):
        await store.bind({ACCOUNT: "AC2"})


async def test_an_unknown_id_is_new_and_published(store: Store) -> None:
    registrations = await store.register([entry(labels={"a": "1"}, source=Source.CONFIG)], NOW)
    assert list(registrations) == [Registration(account=ACCOUNT, id=ID, result=RegistrationResult.NEW)]
    assert [found.operation for found in await store.find(ID)] == [
        operation(labels={"a": "1"}, source=Source.CONFIG),
    ]
    (event,) = await store.history(ACCOUNT, ID)
    assert event.event == Tracked(source=Source.CONFIG)
    assert (event.position, event.seq, event.occurred_at, event.labels) == (1, 1, NOW, {"a": "1"})


async def test_a_creation_time_from_the_id_is_not_stored_as_upstreams(store: Store) -> None:
    await track(store, created_at=NOW - DAY)
    (found,) = await store.find(ID)
    assert found.operation.created_at is None


async def test_a_known_id_merges_labels_and_given_keys_win(store: Store) -> None:
    await track(store, labels={"a": "1", "b": "1"})
    assert await results(store, entry(labels={"b": "2", "c": "2"}, source=Source.CONFIG), now=NOW + 1) == [
        RegistrationResult.KNOWN
    ]
    (found,) = await store.find(ID)
    assert found.operation == operation(labels={"a": "1", "b": "2", "c": "2"})
    assert await store.count_pending() == 1


async def test_intake_returns_what_is_new_or_relabelled_or_untracked_since_a_revision(store: Store) -> None:
    await track(store, ID, OTHER)
    first = await store.intake(ACCOUNT, 0)
    assert {found.id for found in first.operations} == {ID, OTHER}
    await store.register([entry(labels={"a": "1"})], NOW)
    second = await store.intake(ACCOUNT, first.revision)
    assert second.operations == (operation(labels={"a": "1"}),)
    assert second.untracked == ()
    await store.untrack(ACCOUNT, OTHER, NOW + 1, Source.API)
    third = await store.intake(ACCOUNT, second.revision)
    assert (third.operations, third.untracked) == ((), (OTHER,))
    assert third.revision > second.revision > first.revision


async def test_intake_that_changes_nothing_leaves_the_revision(store: Store) -> None:
    await track(store, labels={"a": "1"})
    before = await store.intake(ACCOUNT, 0)
    await store.register([entry(), entry(labels={"a": "1"})], NOW + 1)
    await store.register([], NOW + 1)
    assert not await store.untrack(ACCOUNT, OTHER, NOW, Source.API)
    assert (await store.intake(ACCOUNT, before.revision)).revision == before.revision
    assert (await store.intake("unknown", 0)).revision == 0


async def test_commits_leave_the_revision(store: Store) -> None:
    await track(store)
    before = await store.intake(ACCOUNT, 0)
    await store.commit(ACCOUNT, [Change(operation=operation(status=Status.PROCESSING))])
    after = await store.intake(ACCOUNT, before.revision)
    assert (after.revision, after.operations) == (before.revision, ())


async def test_accounts_do_not_mix(store: Store) -> None:
    await store.register([entry(), entry(account="second", labels={"a": "1"}), entry(account="second", id=OTHER)], NOW)
    await store.untrack("second", ID, NOW + 1, Source.API)
    assert [found.id for found in (await store.load(ACCOUNT, final_since=0)).operations] == [ID]
    assert [found.id for found in (await store.load("second", final_since=0)).operations] == [OTHER]
    assert (await store.intake(ACCOUNT, 0)).untracked == ()
    assert [(found.operation.account, found.untracked_at) for found in await store.find(ID)] == [
        (ACCOUNT, None),
        ("second", NOW + 1),
    ]
    assert [found.operation.account for found in await store.find(ID, "second")] == ["second"]
    assert [event.seq for event in await store.history("second", ID)] == [1, 2]


async def test_one_list_may_name_an_id_twice(store: Store) -> None:
    given = [entry(labels={"a": "1"}), entry(id=OTHER), entry(labels={"b": "2"})]
    assert await results(store, *given) == [RegistrationResult.NEW, RegistrationResult.NEW, RegistrationResult.KNOWN]
    assert (await store.find(ID))[0].operation.labels == {"a": "1", "b": "2"}
    assert [event.labels for event in await store.pending_events(0, 9)] == [{"a": "1"}, {}]


@pytest.mark.parametrize("source", Source)
async def test_a_final_id_answers_its_outcome_and_is_not_tracked_again(store: Store, source: Source) -> None:
    await track(store)
    await finish(store)
    registrations = await store.register([entry(source=source, labels={"a": "1"})], NOW + 20)
    assert list(registrations) == [
        Registration(account=ACCOUNT, id=ID, result=RegistrationResult.FINISHED, outcome=Outcome.COMPLETED),
    ]
    assert (await store.find(ID))[0].operation.labels == {}
    assert await store.count_pending() == 2


async def test_a_final_id_is_known_by_its_tombstone_when_its_details_have_left(store: Store) -> None:
    await track(store, ID, OTHER)
    await finish(store, ID)
    await store.commit(ACCOUNT, [Change(operation=final(id=OTHER, status=Status.NOT_FOUND))])
    await publish_all(store)
    await prune_all(store, keep_since=NOW + DAY)
    assert await store.find(ID) == ()
    registrations = await store.register([entry(), entry(id=OTHER, source=Source.DISCOVERY)], NOW + 20)
    assert [(answer.result, answer.outcome) for answer in registrations] == [
        (RegistrationResult.FINISHED, Outcome.COMPLETED),
        (RegistrationResult.FINISHED, Outcome.NOT_FOUND),
    ]


async def test_an_id_that_is_settling_is_known(store: Store) -> None:
    await track(store)
    await store.commit(ACCOUNT, [Change(operation=operation(status=Status.COMPLETED, ended_at=NOW))])
    assert await results(store, entry()) == [RegistrationResult.KNOWN]
    assert await outcome_in(store, ACCOUNT, ID) is Outcome.COMPLETED


async def test_untracking_publishes_an_event_and_hides_the_operation(store: Store) -> None:
    await track(store, labels={"a": "1"})
    assert await store.untrack(ACCOUNT, ID, NOW + 5, Source.API)
    assert (await store.load(ACCOUNT, final_since=0)).operations == ()
    assert await store.page(account=None, statuses=(), after=None, limit=9) == ()
    assert (await store.find(ID))[0].untracked_at == NOW + 5
    event = (await store.pending_events(1, 9))[0]
    assert (event.seq, event.occurred_at, event.event) == (2, NOW + 5, Untracked(source=Source.API))
    assert event.labels == {"a": "1"}
    assert await outcome_in(store, ACCOUNT, ID) is None


async def test_untracking_twice_or_an_unknown_id_is_false(store: Store) -> None:
    await track(store)
    assert await store.untrack(ACCOUNT, ID, NOW, Source.API)
    assert not await store.untrack(ACCOUNT, ID, NOW, Source.API)
    assert not await store.untrack(ACCOUNT, OTHER, NOW, Source.API)
    assert not await store.untrack("unknown", ID, NOW, Source.API)
    assert await store.last_position() == 2


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("source", [Source.CONFIG, Source.DISCOVERY])
async def test_configuration_and_discovery_do_not_bring_back_the_untracked(
    store: Store, source: Source, *, pruned: bool
) -> None:
    await track(store)
    await store.untrack(ACCOUNT, ID, NOW, Source.API)
    if pruned:
        await publish_all(store)
        await prune_all(store, keep_since=NOW + DAY)
    assert await results(store, entry(source=source)) == [RegistrationResult.LEFT_OUT]
    assert await store.last_position() == 2


@pytest.mark.parametrize("pruned", [False, True])
async def test_the_api_brings_back_the_untracked_afresh_and_its_events_count_on(store: Store, *, pruned: bool) -> None:
    await track(store, labels={"a": "1"})
    await store.commit(ACCOUNT, [Change(operation=operation(status=Status.PROCESSING, missed=2))])
    await store.untrack(ACCOUNT, ID, NOW + 1, Source.API)
    if pruned:
        await publish_all(store)
        await prune_all(store, keep_since=NOW + DAY)
    before = await store.intake(ACCOUNT, 0)
    assert await results(store, entry(labels={"b": "2"}), now=NOW + 2) == [RegistrationResult.NEW]
    after = await store.intake(ACCOUNT, before.revision)
    assert after.operations == (operation(labels={"b": "2"}, registered_at=NOW + 2),)
    assert (await store.history(ACCOUNT, ID))[-1].seq == 3
    assert await results(store, entry(source=Source.CONFIG)) == [RegistrationResult.KNOWN]
    assert await store.untrack(ACCOUNT, ID, NOW + 3, Source.API)


async def test_a_settling_operation_that_was_untracked_was_not_counted_and_can_be_tracked_again(store: Store) -> None:
    await track(store)
    await store.commit(ACCOUNT, [Change(operation=operation(status=Status.COMPLETED))])
    await store.untrack(ACCOUNT, ID, NOW + 1, Source.API)
    assert await results(store, entry(), now=NOW + 2) == [RegistrationResult.NEW]


async def test_a_final_operation_that_was_untracked_stays_finished(store: Store) -> None:
    await track(store)
    await finish(store)
    assert await store.untrack(ACCOUNT, ID, NOW + 20, Source.API)
    assert (await store.load(ACCOUNT, final_since=0)).operations == ()
    assert (await store.history(ACCOUNT, ID))[-1].event == Untracked(source=Source.API)
    assert await results(store, entry()) == [RegistrationResult.FINISHED]
    await publish_all(store)
    await prune_all(store, keep_since=NOW + DAY)
    assert await results(store, entry()) == [RegistrationResult.FINISHED]
    assert not await store.untrack(ACCOUNT, ID, NOW + 20, Source.API)


async def test_ten_thousand_operations_are_registered_at_once(store: Store) -> None:
    entries = [entry(id=f"{number:05}", labels={"campaign": "spring"}) for number in range(10_000)]
    began = time.process_time()
    answers = await store.register(entries, NOW)
    assert time.process_time() - began < 2  # 0.2 s where nothing else runs
    assert {answer.result for answer in answers} == {RegistrationResult.NEW}
    assert [answer.id for answer in answers] == [given.id for given in entries]
    assert await store.count_pending() == 10_000
