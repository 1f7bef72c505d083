"""Counters by combination of labels: bounded, shown before they count, and never moved once they did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.support.factories import NOW, a_tally
from watcher.core.labelling import (
    COMBINATIONS_AT_MOST,
    LEAVES_AFTER,
    Combination,
    CombinationState,
    CounterBook,
    Counters,
    adopted,
    combination_of,
    count_shown,
    counters_of,
)
from watcher.core.model import DAY, HOUR, Instant
from watcher.core.totals import Key, added_up, increments, starting_totals

COMPLETED = "operations", "completed"
BASE = ("campaign=",)
OTHER = ("campaign=other",)


class Account:
    """An account's rows as a store keeps them, with each transaction written at once."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.states: dict[Combination, CombinationState] = {}
        self.values: dict[Key, float] = {}
        self.held: dict[Key, float] = {}
        self.adopt(*names)

    def adopt(self, *names: str, unfinished: Iterable[Mapping[str, str]] = (), now: Instant = NOW) -> None:
        self.names = names
        self.states |= adopted(names, self.states, unfinished, now)
        self.values, self.held = added_up(self.values, self.held), {}

    def book(self) -> CounterBook:
        shown = [one for one, state in self.states.items() if state.shown_at is not None]
        return CounterBook(self.names, stored=self.states.get, shown_count=lambda: count_shown(shown))

    def write(self, book: CounterBook) -> None:
        self.states |= book.changed
        self.values, self.held = added_up(self.values, book.counted), added_up(self.held, book.held)

    def track(self, at: Instant = NOW, **labels: str) -> None:
        book = self.book()
        book.track(labels, at)
        self.write(book)

    def leave(self, at: Instant = NOW, **labels: str) -> None:
        book = self.book()
        book.leave(labels, at)
        self.write(book)

    def count(self, at: Instant = NOW, **labels: str) -> None:
        book = self.book()
        book.count(labels, a_tally(), at)
        self.write(book)

    def open(self, *combinations: Combination) -> None:
        for one in combinations:
            self.states[one] = replace(self.states[one], is_open=True)
        self.values, self.held = added_up(self.values, self.held), {}

    def hide(self, combination: Combination) -> None:
        self.states[combination] = replace(self.states[combination], shown_at=None, is_open=False)

    @property
    def counters(self) -> Counters:
        return counters_of(self.names, self.states, self.values.items())

    @property
    def shown(self) -> set[Combination]:
        return {*self.counters.combinations}

    def value(self, combination: Combination) -> float | None:
        return self.counters.totals.get((*COMPLETED, *combination))


def test_the_base_is_shown_at_0_and_open_from_the_start():
    account = Account("campaign")
    assert account.counters.totals == starting_totals(BASE)
    account.count()
    assert account.value(BASE) == 1


def test_a_combination_is_shown_at_0_from_the_moment_it_is_tracked():
    account = Account("campaign")
    account.track(campaign="spring", team="not counted by")
    assert account.shown == {BASE, ("campaign=spring",)}
    assert {key: value for key, value in account.counters.totals.items() if key[-1] != BASE[0]} == starting_totals(
        ("campaign=spring",)
    )


def test_what_is_counted_while_a_combination_is_closed_shows_when_it_opens():
    account = Account("campaign")
    spring = ("campaign=spring",)
    account.track(campaign="spring")
    account.count(campaign="spring")
    assert (account.value(spring), account.held[(*COMPLETED, *spring)]) == (0, 1)
    account.open(spring)
    account.count(campaign="spring")
    assert (account.value(spring), account.held) == (2, {})


def test_a_combination_that_comes_back_is_closed_at_its_number():
    account = Account("campaign")
    spring = ("campaign=spring",)
    account.track(campaign="spring")
    account.open(spring)
    account.count(campaign="spring")
    account.hide(spring)
    assert (account.value(spring), account.counters.rest[COMPLETED]) == (None, 1)
    account.count(NOW + DAY, campaign="spring")
    assert (account.value(spring), account.counters.rest) == (1, {})
    state = account.states[spring]
    assert (state.created_at, state.shown_at, state.tracked_at, state.is_open) == (NOW, NOW + DAY, NOW + DAY, False)
    account.open(spring)
    assert account.value(spring) == 2


def test_above_the_limit_operations_count_as_other_and_what_was_counted_stays_where_it_is():
    account = Account("campaign")
    for number in range(COMBINATIONS_AT_MOST - 1):
        account.track(campaign=str(number))
    account.track(campaign="one too many")
    assert len(account.shown) == COMBINATIONS_AT_MOST + 1
    assert OTHER in account.shown
    account.open(OTHER)
    account.count(campaign="one too many")
    account.count(campaign="another")
    assert (account.value(OTHER), account.value(("campaign=one too many",))) == (2, None)
    account.hide(("campaign=7",))
    account.count(campaign="one too many")
    assert (account.value(OTHER), account.value(("campaign=one too many",))) == (2, 0)
    account.track(campaign="7")
    assert ("campaign=7",) not in account.shown


def test_a_combination_is_used_until_its_last_operation_left_it():
    account = Account("campaign")
    account.track(campaign="spring")
    account.leave(NOW + HOUR, campaign="spring")
    account.leave(NOW + HOUR, campaign="never tracked")
    assert account.states["campaign=spring",].tracked_at == NOW + HOUR
    assert ("campaign=never tracked",) not in account.states


def test_an_operation_that_leaves_other_keeps_it_used():
    account = Account("campaign")
    account.track(campaign="other")
    account.leave(NOW + HOUR, campaign="there was no room for it")
    assert account.states[OTHER].tracked_at == NOW + HOUR


def test_with_a_new_setting_sums_go_on_and_combinations_in_use_are_born_closed():
    account = Account("campaign")
    for campaign in ("spring", "autumn"):
        account.track(campaign=campaign, team="red")
        account.open((f"campaign={campaign}",))
        account.count(campaign=campaign, team="red")
    account.track(campaign="late", team="blue")
    account.count(campaign="late", team="blue")
    account.adopt("team", unfinished=[{"team": "blue"}], now=NOW + HOUR)
    assert account.counters.totals.keys() >= {(*COMPLETED, "team="), (*COMPLETED, "team=blue")}
    assert (account.value(("team=",)), account.value(("team=blue",))) == (3, 0)
    assert account.states["team=blue",].is_open is False
    assert account.states["team=",].created_at == NOW
    account.adopt("campaign", "team", now=NOW + HOUR)
    assert account.value(("campaign=spring", "team=")) == 1
    account.adopt(now=NOW + HOUR)
    assert account.value(()) == 3


def test_a_setting_that_comes_back_shows_what_was_tracked_lately():
    account = Account("campaign")
    account.track(campaign="old")
    account.track(NOW + 2 * HOUR, campaign="new")
    account.adopt(now=NOW + HOUR)
    account.adopt("campaign", now=NOW + LEAVES_AFTER + HOUR)
    assert account.shown == {BASE, ("campaign=new",)}


def test_a_new_setting_shows_no_more_than_the_limit_the_newest_first():
    account = Account("campaign")
    unfinished = [{"campaign": f"{number:03}"} for number in range(COMBINATIONS_AT_MOST + 5)]
    account.track(NOW - HOUR, campaign="older")
    account.adopt(now=NOW)
    account.adopt("campaign", unfinished=unfinished, now=NOW)
    assert len(account.shown) == COMBINATIONS_AT_MOST + 1
    assert account.shown >= {BASE, OTHER}
    assert ("campaign=older",) not in account.shown


def test_a_label_that_is_missing_is_empty_and_one_that_is_not_counted_by_is_left_out():
    assert combination_of(("campaign",), {"team": "x"}) == BASE


labels = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from(["", "1", "x=y"]))
settings_of = st.lists(st.sampled_from("abc"), unique=True).map(sorted)


@given(st.lists(st.tuples(settings_of, labels), max_size=30), settings_of)
def test_whatever_settings_it_was_counted_under_the_sum_over_all_is_exact(
    counted: list[tuple[list[str], dict[str, str]]], names: list[str]
):
    account = Account()
    for setting, labels in counted:
        account.adopt(*setting)
        account.count(NOW, **labels)
    account.adopt(*names)
    counters = account.counters
    shown = sum(value for key, value in counters.totals.items() if key[:2] == COMPLETED)
    assert shown + counters.rest.get(COMPLETED, 0) == len(counted)
    assert len(counters.combinations) <= COMBINATIONS_AT_MOST + 1


@pytest.mark.parametrize("number", [0, 1, 5])
def test_what_counts_is_the_tally_and_nothing_else(number: int):
    account = Account("campaign")
    for _ in range(number):
        account.count()
    expected: dict[Key, float] = {}
    for _ in range(number):
        expected = added_up(expected, increments(a_tally(), BASE))
    assert account.values == expected
