"""What every store promises about pending events, reading and pruning."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

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
from tests.support.stored import counted_in, outcome_in
from watcher.core.model import DAY, TOMBSTONE_LIFE, Outcome, Source, Status
from watcher.store import Change, RegistrationResult, Shown, Store
from watcher.store.sqlite import SqliteStore


def positions(events) -> list[int]:
    return [event.position for event in events]


async def test_events_are_pending_in_order_until_they_are_published(store: Store) -> None:
    assert (await store.last_position(), await store.count_pending(), await store.pending_events(0, 9)) == (0, 0, ())
    await track(store, "a", "b", "c", "d")
    assert positions(await store.pending_events(0, 3)) == [1, 2, 3]
    assert positions(await store.pending_events(2, 9)) == [3, 4]
    await store.mark_published(2, NOW)
    assert positions(await store.pending_events(0, 9)) == [3, 4]
    assert (await store.count_pending(), await store.last_position()) == (2, 4)


async def test_marking_never_goes_back_nor_past_the_end(store: Store) -> None:
    await track(store, "a", "b", "c")
    await store.mark_published(2, NOW)
    await store.mark_published(1, NOW + 1)
    assert positions(await store.pending_events(0, 9)) == [3]
    await store.mark_published(99, NOW + 1)
    await track(store, "d")
    assert positions(await store.pending_events(0, 9)) == [4]


async def test_a_position_is_never_given_twice(store: Store) -> None:
    await track(store)
    await store.untrack(ACCOUNT, ID, NOW, Source.API)
    await publish_all(store)
    await prune_all(store, now=NOW + 9 * DAY, keep_since=NOW + DAY)
    assert await store.history(ACCOUNT, ID) == ()
    assert (await store.last_position(), await store.count_pending()) == (2, 0)
    await track(store)
    assert positions(await store.pending_events(0, 9)) == [3]


async def test_pending_events_and_their_operations_are_never_pruned(store: Store) -> None:
    await track(store, ID, OTHER)
    await finish(store, ID)
    await finish(store, OTHER)
    await store.mark_published(3, NOW + 20)
    assert await prune_all(store, now=NOW + 99 * DAY, keep_since=NOW + 99 * DAY) == 1 + 3 + 1
    assert positions(await store.pending_events(0, 9)) == [4]
    assert await store.find(ID) == ()
    assert len(await store.find(OTHER)) == 1
    assert await outcome_in(store, ACCOUNT, OTHER) is Outcome.COMPLETED


async def test_operations_and_published_events_are_pruned_after_their_time(store: Store) -> None:
    await track(store)
    await finish(store, at=NOW + 10)
    await store.mark_published(1, NOW + 10)
    await store.mark_published(2, NOW + 20)
    assert await prune_all(store, keep_since=NOW + 10) == 0
    assert await prune_all(store, keep_since=NOW + 11) == 2
    assert positions(await store.history(ACCOUNT, ID)) == [2]
    assert await store.find(ID) == ()
    assert await prune_all(store, keep_since=NOW + 20) == 0
    assert await prune_all(store, keep_since=NOW + 21) == 1
    assert await store.history(ACCOUNT, ID) == ()


async def test_a_clock_that_was_set_back_prunes_no_event_early(store: Store) -> None:
    await track(store, "a", "b")
    await store.mark_published(1, NOW + 50)
    await store.mark_published(2, NOW)
    assert await prune_all(store, keep_since=NOW + 50) == 0
    assert await prune_all(store, keep_since=NOW + 51) == 2


async def test_a_tracked_operation_is_never_pruned(store: Store) -> None:
    await track(store)
    await store.commit(ACCOUNT, [Change(operation=operation(status=Status.COMPLETED, ended_at=NOW))])
    await publish_all(store)
    assert await prune_all(store, now=NOW + 99 * DAY, keep_since=NOW + 99 * DAY) == 1
    assert len((await store.load(ACCOUNT, final_since=0)).operations) == 1


async def test_an_untracked_operation_is_pruned_by_the_time_of_its_untracking(store: Store) -> None:
    await track(store)
    await finish(store, at=NOW + 10)
    await store.untrack(ACCOUNT, ID, NOW + 30, Source.API)
    await publish_all(store, NOW + 30)
    assert await prune_all(store, keep_since=NOW + 30) == 0
    assert await prune_all(store, keep_since=NOW + 31) == 4
    assert await store.find(ID) == ()


async def test_an_operation_that_is_tracked_again_is_not_pruned(store: Store) -> None:
    await track(store)
    await store.untrack(ACCOUNT, ID, NOW + 1, Source.API)
    await track(store, now=NOW + 2)
    await publish_all(store)
    await prune_all(store, now=NOW + 99 * DAY, keep_since=NOW + 99 * DAY)
    assert [found.untracked_at for found in await store.find(ID)] == [None]


async def _result_after_all_has_left(store: Store, now: int) -> RegistrationResult:
    await publish_all(store, NOW + 20)
    await prune_all(store, now=now, keep_since=NOW + DAY)
    (answer,) = await store.register([entry()], now)
    return answer.result


@pytest.mark.parametrize("created_at", [None, NOW - DAY, 0], ids=["unknown", "a day before", "in 1970"])
async def test_a_tombstone_stays_until_eight_days_after_the_end_whatever_creation_was_shown(
    store: Store, created_at: int | None
) -> None:
    await track(store, created_at=NOW - 5)
    await finish(store, at=NOW + 10, created_at=created_at)
    assert await _result_after_all_has_left(store, NOW + 10 + TOMBSTONE_LIFE) is RegistrationResult.FINISHED
    assert await _result_after_all_has_left(store, NOW + 10 + TOMBSTONE_LIFE + 1) is RegistrationResult.NEW


async def test_a_tombstone_of_what_was_untracked_stays_until_eight_days_after_that(store: Store) -> None:
    await track(store, created_at=NOW - DAY)
    await store.untrack(ACCOUNT, ID, NOW + 10, Source.API)
    await publish_all(store)
    await prune_all(store, now=NOW + 10 + TOMBSTONE_LIFE, keep_since=NOW + DAY)
    (answer,) = await store.register([entry(source=Source.CONFIG)], NOW)
    assert answer.result is RegistrationResult.LEFT_OUT
    assert await _result_after_all_has_left(store, NOW + 10 + TOMBSTONE_LIFE + 1) is RegistrationResult.NEW


async def test_a_tombstone_stays_until_eight_days_after_a_creation_that_our_clock_was_behind_of(store: Store) -> None:
    await track(store, created_at=NOW + DAY)
    await finish(store)
    assert await _result_after_all_has_left(store, NOW + DAY + TOMBSTONE_LIFE) is RegistrationResult.FINISHED
    assert await _result_after_all_has_left(store, NOW + DAY + TOMBSTONE_LIFE + 1) is RegistrationResult.NEW


async def test_a_tombstone_stays_eight_days_after_a_registration_that_the_clock_was_set_back_from(store: Store) -> None:
    await track(store)
    await finish(store, at=NOW - 99 * DAY)
    assert await _result_after_all_has_left(store, NOW + TOMBSTONE_LIFE) is RegistrationResult.FINISHED


async def test_a_creation_far_ahead_keeps_no_tombstone_for_ever(store: Store) -> None:
    await track(store)
    await finish(store, created_at=NOW + 999 * DAY)
    assert await _result_after_all_has_left(store, NOW + 10 + TOMBSTONE_LIFE) is RegistrationResult.FINISHED
    assert await _result_after_all_has_left(store, NOW + 10 + TOMBSTONE_LIFE + 1) is RegistrationResult.NEW


async def _named(store: Store, *ids: str, account: str = ACCOUNT, now: int = NOW) -> list[RegistrationResult]:
    entries = [entry(account=account, id=name, source=Source.CONFIG) for name in ids]
    return [answer.result for answer in await store.register(entries, now, configured=[account])]


async def test_a_tombstone_stays_as_long_as_the_configuration_names_its_id(store: Store) -> None:
    await _named(store, ID, OTHER)
    await finish(store)
    await store.untrack(ACCOUNT, OTHER, NOW, Source.API)
    for day in (9, 99, 999):
        await publish_all(store)
        await prune_all(store, now=NOW + day * DAY, keep_since=NOW + day * DAY)
        assert await store.find(ID) == ()
        assert await _named(store, ID, OTHER, now=NOW + day * DAY) == [
            RegistrationResult.FINISHED,
            RegistrationResult.LEFT_OUT,
        ]
    assert await _named(store, OTHER, now=NOW + 999 * DAY) == [RegistrationResult.LEFT_OUT]
    await prune_all(store, now=NOW + 999 * DAY, keep_since=NOW + 999 * DAY)
    assert await outcome_in(store, ACCOUNT, ID) is None
    assert await _named(store, OTHER, now=NOW + 999 * DAY) == [RegistrationResult.LEFT_OUT]


async def test_what_the_configuration_names_is_remembered_over_a_restart(path: Path) -> None:
    before = await SqliteStore.open(path)
    await _named(before, ID)
    await finish(before)
    await publish_all(before)
    await before.close()
    store = await SqliteStore.open(path)
    # The first pruning may come before the configuration is registered.
    await prune_all(store, now=NOW + 99 * DAY, keep_since=NOW + 99 * DAY)
    assert await _named(store, ID, now=NOW + 99 * DAY) == [RegistrationResult.FINISHED]
    assert await counted_in(store, ACCOUNT) == {("operations", "completed"): 1}
    await store.close()


async def test_tombstones_of_an_account_that_is_configured_no_longer_stay_as_it_named_them_last(store: Store) -> None:
    await _named(store, ID)
    await finish(store)
    await publish_all(store)
    await _named(store, ID, account="another", now=NOW + DAY)
    await prune_all(store, now=NOW + 99 * DAY, keep_since=NOW + 99 * DAY)
    assert await _named(store, ID, now=NOW + 99 * DAY) == [RegistrationResult.FINISHED]
    assert await _named(store, now=NOW + 99 * DAY) == []
    await prune_all(store, now=NOW + 99 * DAY, keep_since=NOW + 99 * DAY)
    assert await _named(store, ID, now=NOW + 99 * DAY) == [RegistrationResult.NEW]


async def test_a_registration_by_the_api_or_discovery_changes_nothing_about_what_is_configured(store: Store) -> None:
    await _named(store, ID)
    await finish(store)
    await publish_all(store)
    await track(store, OTHER)
    await prune_all(store, now=NOW + 99 * DAY, keep_since=NOW + 20)
    assert await outcome_in(store, ACCOUNT, ID) is Outcome.COMPLETED


async def test_a_tombstone_stays_as_long_as_events_so_that_their_sequence_goes_on(store: Store) -> None:
    await track(store)
    await store.commit(ACCOUNT, [Change(operation=final(created_at=NOW - 99 * DAY))])
    await store.mark_published(1, NOW + DAY)
    await prune_all(store, keep_since=NOW + DAY)
    assert await store.find(ID) == ()
    assert len(await store.history(ACCOUNT, ID)) == 1
    await prune_all(store, now=NOW + 99 * DAY, keep_since=NOW + DAY)
    assert await outcome_in(store, ACCOUNT, ID) is Outcome.COMPLETED
    await prune_all(store, now=NOW + 99 * DAY, keep_since=NOW + DAY + 1)
    assert await outcome_in(store, ACCOUNT, ID) is None


async def test_an_event_has_the_same_id_each_time_it_is_read(store: Store) -> None:
    await track(store, ID, OTHER)
    await finish(store)
    await store.untrack(ACCOUNT, OTHER, NOW + 20, Source.API)
    read = [[event.event_id for event in await store.pending_events(0, 9)] for _ in range(2)]
    assert read[0] == read[1]
    assert len(set(read[0])) == 4
    assert [UUID(event_id).version for event_id in read[0]] == [7] * 4
    histories = [*await store.history(ACCOUNT, ID), *await store.history(ACCOUNT, OTHER)]
    assert {event.event_id for event in histories} == set(read[0])


async def test_an_event_id_is_never_used_again_though_the_sequence_restarts(store: Store) -> None:
    await track(store)
    await finish(store)
    before = await store.history(ACCOUNT, ID)
    assert await _result_after_all_has_left(store, NOW + 99 * DAY) is RegistrationResult.NEW
    again = await store.history(ACCOUNT, ID)
    assert [event.seq for event in again] == [before[0].seq]
    assert not {event.event_id for event in again} & {event.event_id for event in before}


@pytest.mark.parametrize(
    ("final_after", "scraped_after", "stay"),
    [(0, 0, {"1", "2"}), (0, NOW + 50, {"1"}), (NOW + 10, 0, set()), (NOW + 9, NOW + 49, {"1", "2"})],
)
async def test_an_operation_is_kept_while_its_series_are_shown(
    store: Store, final_after: int, scraped_after: int, stay: set[str]
) -> None:
    await track(store, "1", "2", "3")
    await finish(store, "1")
    await finish(store, "2", scraped_at=NOW + 50)
    await store.untrack(ACCOUNT, "3", NOW + 10, Source.API)
    await publish_all(store)
    shown = Shown(final_after=final_after, scraped_after=scraped_after)
    await prune_all(store, keep_since=NOW + 99, shown=shown)
    loaded = await store.load(ACCOUNT, final_since=0)
    assert {operation.id for operation in loaded.operations} == stay


async def test_outcomes_are_kept_longer_than_operations(store: Store) -> None:
    await track(store, ID, OTHER)
    await store.commit(ACCOUNT, [Change(operation=final(status=Status.EXPIRED))])
    await store.untrack(ACCOUNT, OTHER, NOW, Source.API)
    await publish_all(store)
    await prune_all(store, keep_since=NOW + DAY)
    assert await outcome_in(store, ACCOUNT, ID) is Outcome.EXPIRED
    assert await outcome_in(store, ACCOUNT, OTHER) is None
    assert await outcome_in(store, "unknown", ID) is None


async def test_pages_are_in_order_and_without_gaps(store: Store) -> None:
    names = [("a", "3"), ("a", "1"), ("b", "2"), ("b", "0"), ("c", "9")]
    await store.register([entry(account=account, id=name) for account, name in names], NOW)
    seen: list[tuple[str, str]] = []
    after = None
    while page := await store.page(account=None, statuses=(), after=after, limit=2):
        seen += [(found.account, found.id) for found in page]
        after = seen[-1]
    assert seen == sorted(names)


async def test_a_page_keeps_to_its_account_and_statuses(store: Store) -> None:
    await store.register([entry(account=account, id=name) for account in ("a", "b") for name in ("1", "2", "3")], NOW)
    moved = [operation(account="a", id="1", status=Status.PROCESSING), final(account="a", id="2")]
    await store.commit("a", [Change(operation=state) for state in moved])

    async def ids(**filters: Any) -> list[tuple[str, str]]:
        page = await store.page(**{"account": None, "statuses": (), "after": None, "limit": 99, **filters})
        return [(found.account, found.id) for found in page]

    assert await ids(account="b") == [("b", "1"), ("b", "2"), ("b", "3")]
    assert await ids(account="b", after=("a", "2")) == [("b", "1"), ("b", "2"), ("b", "3")]
    assert await ids(account="a", after=("b", "1")) == []
    assert await ids(account="b", after=("b", "1"), limit=1) == [("b", "2")]
    assert await ids(statuses=["PROCESSING", "COMPLETED"]) == [("a", "1"), ("a", "2")]
    assert await ids(account="a", statuses=["UNSEEN"]) == [("a", "3")]
    assert await ids(statuses=["nonsense"]) == []
    assert await ids(account="c") == []


async def test_an_unknown_id_is_not_found(store: Store) -> None:
    assert await store.find(ID) == ()
    assert await store.find(ID, "unknown") == ()
    assert await store.history("unknown", ID) == ()


async def test_closing_twice_is_fine(store: Store) -> None:
    assert await store.size_bytes() >= 0
    await store.close()
    await store.close()
