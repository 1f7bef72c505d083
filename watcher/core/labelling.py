"""The combination of label values that an operation counts under, and from when its counts are shown.

A combination has one value for each name in `metrics.counter_labels`. It is shown, with all its series, from the
transaction in which an operation with it is tracked. At first it is closed: counts are stored but held back, so that
Prometheus has scraped the starting values before the first increase. Otherwise `increase()` would miss that increase.

    operation tracked        values scraped, or 2 min passed        idle for 24 h, last values scraped
    ─────────────────► closed ──────────────────────────────► open ─────────────────────────────────► not shown
                         ▲                                                                              │
                         └──────────────── tracked again: back with its number ─────────────────────────┘

The base (all values empty) belongs to the account: it is shown and open from the start, always. Numbers are stored by
name and value of each label, so a change of the setting loses nothing: `counters_of` adds them up under the new names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeAlias

from msgspec.structs import replace

from watcher.core.model import DAY, MINUTE, Instant, Micros, Tally, Value
from watcher.core.totals import OWN_LABELS, Key, increments, starting_totals

COMBINATIONS_AT_MOST = 200
"""The number of combinations shown for an account, with the base and without `other`."""

OTHER = "other"
LEAVES_AFTER: Micros = DAY
OPENS_AFTER: Micros = 2 * MINUTE

Combination: TypeAlias = tuple[str, ...]
"""`name=value` for each counter label, ordered by name: the end of a counter's key."""


class CombinationState(Value, frozen=True, kw_only=True):
    """The stored state of a combination.

    `created_at`: when it was first tracked, and so counted from 0. `tracked_at`: when an operation with it was last
    registered or ended. `shown_at`: since when it is shown, or None while it is not.
    """

    created_at: Instant
    tracked_at: Instant
    shown_at: Instant | None = None
    is_open: bool = False
    revision: int = 0


class Counters(Value, frozen=True, kw_only=True):
    """An account's counters as they are shown.

    `totals`: of every shown combination. `rest`: the counts of all others, by series and own labels, so that sums over
    everything stay true. `version` rises with each change.
    """

    names: tuple[str, ...] = ()
    totals: Mapping[Key, float] = {}
    rest: Mapping[Key, float] = {}
    combinations: Mapping[Combination, CombinationState] = {}
    version: int = 0


def combination_of(names: Iterable[str], labels: Mapping[str, str]) -> Combination:
    """The combination of an operation with these labels. A missing label has the value ""."""
    return tuple(f"{name}={labels.get(name, '')}" for name in names)


def base_of(names: Iterable[str]) -> Combination:
    """The combination of an operation without any of the labels."""
    return combination_of(names, {})


def names_of(combination: Combination) -> tuple[str, ...]:
    """The counter labels that the combination has values for."""
    return tuple(part.partition("=")[0] for part in combination)


def projected(combination: Combination, names: Iterable[str]) -> Combination:
    """The combination under another setting: missing names get the value "", names that are gone are dropped."""
    return combination_of(names, dict(part.split("=", 1) for part in combination))


def combination_in(key: Key) -> Combination:
    """The combination at the end of a counter's key."""
    return key[1 + OWN_LABELS.get(key[0], 0) :]


def other_than(combination: Combination) -> Combination:
    """The combination to count under instead, if there is no room for this one."""
    return tuple(f"{name}={OTHER}" for name in names_of(combination))


class CounterBook:
    """Decides what one transaction does to an account's counters.

    Both stores report to it what happens to operations, and then write `changed`, `counted` and `held`. `stored` gives
    the stored state of a combination, `shown_count` the number of those shown without `other`. Both are called only
    when needed.
    """

    def __init__(
        self,
        names: Iterable[str],
        *,
        stored: Callable[[Combination], CombinationState | None],
        shown_count: Callable[[], int],
        revision: int = 0,
    ) -> None:
        self._names = tuple(names)
        self._base = base_of(self._names)
        self._stored = stored
        self._shown_count = shown_count
        self._added = 0
        self._revision = revision
        self._known: dict[Combination, CombinationState | None] = {}
        self.changed: dict[Combination, CombinationState] = {}
        self.counted: dict[Key, float] = {}
        """Increments of open combinations, which show at once."""
        self.held: dict[Key, float] = {}
        """Increments of closed combinations, which show when they open."""
        self.shows_more = False

    def track(self, labels: Mapping[str, str], at: Instant) -> None:
        """An operation is registered with these labels, or gets them."""
        self._show(self._place(labels), at)

    def leave(self, labels: Mapping[str, str], at: Instant) -> None:
        """An operation loses these labels, or ends uncounted: its combination was tracked until now."""
        # The 24 hours until an idle combination leaves begin now. It is not stored whether the operation was under its
        # own combination or under `other`, so the one that is shown is taken.
        combination = combination_of(self._names, labels)
        for candidate in (combination, other_than(combination)):
            if self._is_shown(candidate):
                self._show(candidate, at)
                return

    def count(self, labels: Mapping[str, str], tally: Tally, at: Instant) -> None:
        """The stats of an operation with these labels became final."""
        combination = self._place(labels)
        added = self.counted if self._show(combination, at).is_open else self.held
        for key, value in increments(tally, combination).items():
            added[key] = added.get(key, 0) + value

    def _place(self, labels: Mapping[str, str]) -> Combination:
        """The combination of the labels if it is shown or there is room for it, else `other`."""
        combination = combination_of(self._names, labels)
        # The store is written after the book is complete, so its number lacks what this transaction shows.
        if self._is_shown(combination) or self._shown_count() + self._added < COMBINATIONS_AT_MOST:
            return combination
        return other_than(combination)

    def _is_shown(self, combination: Combination) -> bool:
        state = self._state(combination)
        return state is not None and state.shown_at is not None

    def _state(self, combination: Combination) -> CombinationState | None:
        if combination not in self._known:
            self._known[combination] = self._stored(combination)
        return self._known[combination]

    def _show(self, combination: Combination, at: Instant) -> CombinationState:
        state = self._state(combination) or CombinationState(created_at=at, tracked_at=at)
        if state.shown_at is not None and combination == self._base:
            return state  # it never leaves, so nothing needs to be written each time
        if state.shown_at is None:
            # Also one that comes back is closed at first: Prometheus must see its old number before it rises.
            state = replace(state, shown_at=at, is_open=combination == self._base, revision=self._revision)
            self._added += combination != other_than(combination)
            self.shows_more = True
        state = self._known[combination] = self.changed[combination] = replace(state, tracked_at=at)
        return state


def adopted(
    names: Sequence[str],
    states: Mapping[Combination, CombinationState],
    unfinished: Iterable[Mapping[str, str]],
    now: Instant,
) -> Mapping[Combination, CombinationState]:
    """The states that change when these counter labels come into force.

    From then on the base is shown, the combinations of `unfinished` operations, and those that were shown under the old
    setting or tracked within a day, the newest first as far as there is room.
    """
    # Combinations of the old setting are not shown any more. Their numbers stay stored and count under the new names.
    changed = {
        combination: replace(state, shown_at=None, is_open=False)
        for combination, state in states.items()
        if state.shown_at is not None and names_of(combination) != tuple(names)
    }
    # Several old combinations may become the same new one: it is as old as the oldest and tracked as lately as the
    # newest.
    tracked: dict[Combination, Instant] = {}
    created: dict[Combination, Instant] = {}
    for combination, state in states.items():
        target = projected(combination, names)
        created[target] = min(state.created_at, created.get(target, now))
        if state.shown_at is not None or state.tracked_at > now - LEAVES_AFTER:
            tracked[target] = max(state.tracked_at, tracked.get(target, 0))
    tracked |= {combination_of(names, labels): now for labels in unfinished}
    base = base_of(names)
    tracked.setdefault(base, now)
    own = {combination: state for combination, state in states.items() if combination not in changed}
    shown = {combination for combination, state in own.items() if state.shown_at is not None}
    # The base first, so that it always has room.
    for combination in sorted(tracked, key=lambda key: (key != base, -tracked[key], key)):
        has_room = count_shown(shown) < COMBINATIONS_AT_MOST
        target = combination if combination in shown or has_room else other_than(combination)
        if target not in shown:
            shown.add(target)
            changed[target] = CombinationState(
                created_at=created.get(target, now),
                tracked_at=tracked[combination],
                shown_at=now,
                is_open=target == base,
            )
    return changed


def count_shown(shown: Collection[Combination]) -> int:
    """The number of combinations shown, without `other`."""
    return len(shown) - sum(combination == other_than(combination) for combination in shown if combination)


def counters_of(
    names: Iterable[str], states: Mapping[Combination, CombinationState], stored: Iterable[tuple[Key, float]]
) -> Counters:
    """The counters to show: every series of the shown combinations, with all counts stored for them.

    Counts from other settings are added up under the names in force.
    """
    names = tuple(names)
    shown = {combination: state for combination, state in states.items() if state.shown_at is not None}
    totals: dict[Key, float] = {}
    for combination in shown:
        totals |= starting_totals(combination)
    rest: dict[Key, float] = {}
    targets: dict[Combination, Combination] = {}
    for key, value in stored:
        combination = combination_in(key)
        # Each combination has a key for every series, so its projection is worth keeping.
        target = targets.get(combination)
        if target is None:
            target = targets[combination] = projected(combination, names)
        own = key[: len(key) - len(combination)]
        if target in shown:
            totals[(*own, *target)] = totals.get((*own, *target), 0) + value
        else:
            rest[own] = rest.get(own, 0) + value
    return Counters(names=names, totals=totals, rest=rest, combinations=shown)
