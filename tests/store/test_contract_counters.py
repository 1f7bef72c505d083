"""What every store promises about counters and the combinations of counter labels they are kept by."""

from __future__ import annotations

import pytest

from tests.store.factories import ACCOUNT, COMPLETED, ID, NOW, OTHER, entry, final, track
from tests.support.stored import counted_in
from watcher.core.labelling import COMBINATIONS_AT_MOST
from watcher.core.model import DAY, Instant, Operation, Source
from watcher.store import Change, Committed, Store

KEY = "operations", "completed"
SPRING = ("campaign=spring",)
LABELS = {"campaign": "spring"}


@pytest.fixture
async def counting(store: Store) -> Store:
    """A store whose account counts by campaign."""
    await store.adopt_counter_labels(ACCOUNT, ["campaign"], NOW)
    return store


async def end(store: Store, name: str = ID, at: Instant = NOW + 10, **changes: object) -> Committed:
    operation: Operation = final(at, id=name, **changes)
    return await store.commit(ACCOUNT, [Change(operation=operation, tally=COMPLETED)])


async def shown(store: Store, campaign: str = "spring") -> float | None:
    return (await store.counters(ACCOUNT)).totals.get((*KEY, f"campaign={campaign}"))


async def stored(store: Store, campaign: str = "spring") -> float:
    return (await counted_in(store, ACCOUNT)).get((*KEY, f"campaign={campaign}"), 0)


async def test_a_registration_shows_its_combination_and_says_so(counting: Store) -> None:
    before = (await counting.intake(ACCOUNT, 0)).revision
    await track(counting, labels=LABELS)
    assert (await counting.intake(ACCOUNT, before)).shows_more
    assert await shown(counting) == 0
    await track(counting, OTHER, labels=LABELS)
    assert not (await counting.intake(ACCOUNT, before + 1)).shows_more


async def test_what_a_closed_combination_counts_is_stored_and_shows_when_it_opens(counting: Store) -> None:
    await track(counting, ID, OTHER, labels=LABELS)
    assert (await end(counting)).counted == {}
    assert (await shown(counting), await stored(counting)) == (0, 1)
    await counting.open_combinations(ACCOUNT, [SPRING])
    assert (await shown(counting), await stored(counting)) == (1, 1)
    assert (await end(counting, OTHER)).counted == {(*KEY, *SPRING): 1}
    assert (await shown(counting), await stored(counting)) == (2, 2)


async def test_an_operation_counts_under_the_labels_of_its_row(counting: Store) -> None:
    await track(counting)
    await counting.register([entry(labels=LABELS)], NOW + 1)
    await end(counting, labels={"campaign": "what the loop believes"})
    assert (await stored(counting), await stored(counting, "")) == (1, 0)
    assert await stored(counting, "what the loop believes") == 0


async def test_labels_that_come_twice_in_one_request_show_both_combinations(counting: Store) -> None:
    await counting.register([entry(labels={"campaign": "a"}), entry(labels={"campaign": "b"})], NOW)
    assert (await shown(counting, "a"), await shown(counting, "b")) == (0, 0)
    await end(counting)
    assert (await stored(counting, "a"), await stored(counting, "b")) == (0, 1)


async def test_the_limit_holds_within_one_request_and_across_them(counting: Store) -> None:
    names = [f"{number:03}" for number in range(COMBINATIONS_AT_MOST + 3)]
    await counting.register([entry(id=name, labels={"campaign": name}) for name in names[:-1]], NOW)
    await counting.register([entry(id=names[-1], labels={"campaign": names[-1]})], NOW)
    assert len((await counting.counters(ACCOUNT)).combinations) == COMBINATIONS_AT_MOST + 1
    await end(counting, names[-1])
    await end(counting, names[0])
    assert (await stored(counting, "other"), await stored(counting, names[0])) == (1, 1)


async def test_only_what_is_open_and_idle_is_retired(counting: Store) -> None:
    await track(counting, labels=LABELS)
    for before in (NOW + 1, NOW):
        await counting.retire_combinations(ACCOUNT, [SPRING], tracked_before=before)
        assert await shown(counting) == 0
        await counting.open_combinations(ACCOUNT, [SPRING])
    await counting.register([entry(id=OTHER, labels=LABELS)], NOW + 5)
    await counting.retire_combinations(ACCOUNT, [SPRING], tracked_before=NOW + 5)
    assert await shown(counting) == 0
    await end(counting)
    await counting.retire_combinations(ACCOUNT, [SPRING], tracked_before=NOW + DAY)
    counters = await counting.counters(ACCOUNT)
    assert (await shown(counting), counters.rest[KEY], await stored(counting)) == (None, 1, 1)


async def test_what_comes_back_shows_its_number_first(counting: Store) -> None:
    await track(counting, ID, OTHER, labels=LABELS)
    await counting.open_combinations(ACCOUNT, [SPRING])
    await end(counting)
    await counting.retire_combinations(ACCOUNT, [SPRING], tracked_before=NOW + DAY)
    assert (await end(counting, OTHER, NOW + 2 * DAY)).shows_more
    assert (await shown(counting), await stored(counting)) == (1, 2)
    state = (await counting.counters(ACCOUNT)).combinations[SPRING]
    assert (state.created_at, state.shown_at, state.is_open) == (NOW, NOW + 2 * DAY, False)


async def test_untracking_and_an_uncounted_end_record_when_the_combination_was_last_tracked(counting: Store) -> None:
    await track(counting, ID, OTHER, labels=LABELS)
    await counting.untrack(ACCOUNT, ID, NOW + 7, Source.API)
    assert (await counting.counters(ACCOUNT)).combinations[SPRING].tracked_at == NOW + 7
    await counting.commit(ACCOUNT, [Change(operation=final(NOW + 9, id=OTHER))])
    assert (await counting.counters(ACCOUNT)).combinations[SPRING].tracked_at == NOW + 9
    await counting.untrack(ACCOUNT, OTHER, NOW + 11, Source.API)
    assert (await counting.counters(ACCOUNT)).combinations[SPRING].tracked_at == NOW + 9


async def test_operations_registered_before_any_labels_were_adopted_are_shown_by_the_adoption(store: Store) -> None:
    await track(store, labels=LABELS)
    await store.adopt_counter_labels(ACCOUNT, ["campaign"], NOW + 1)
    assert await shown(store) == 0
    await store.adopt_counter_labels(ACCOUNT, ["campaign"], NOW + 2)
    assert (await store.counters(ACCOUNT)).combinations[SPRING].shown_at == NOW + 1


async def test_a_change_of_the_setting_shows_what_was_held(counting: Store) -> None:
    await track(counting, labels=LABELS)
    await end(counting)
    await counting.adopt_counter_labels(ACCOUNT, [], NOW + 20)
    assert (await counting.counters(ACCOUNT)).totals[KEY] == 1
    await counting.adopt_counter_labels(ACCOUNT, ["campaign"], NOW + 30)
    assert (await shown(counting), await shown(counting, "")) == (1, 0)
