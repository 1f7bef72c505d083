"""The account's share: rate, concurrency and holds, driven by answers in ticks."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.strategies import unhurried
from watcher.core.governor import (
    FLOOR_PER_SECOND,
    FOREVER,
    GROWTH_PER_SECOND,
    LATE_AT_MOST,
    UNAUTHORIZED_PROBE,
    AttemptResult,
    Governor,
    Permit,
    Share,
)
from watcher.core.model import MINUTE, SECOND, Micros

SHARE = Share(per_second=5.0, concurrency=4)


def begun(governor: Governor, tick: Micros) -> Permit:
    assert governor.wait(tick) == 0
    return governor.begin(tick)


def attempt(
    governor: Governor,
    result: AttemptResult,
    tick: Micros,
    *,
    took: Micros = 1000,
    retry_after: Micros | None = None,
    jitter: float = 0.0,
) -> Micros:
    """One attempt that begins now; the tick at which it ended."""
    governor.end(begun(governor, tick), result, tick + took, retry_after=retry_after, jitter=jitter)
    return tick + took


# ── rate ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_first_attempt_may_begin_at_once_and_the_next_after_its_share_of_a_second():
    governor = Governor(SHARE, 0)
    begun(governor, 0)
    assert governor.wait(0) == 200_000
    assert governor.wait(150_000) == 50_000
    assert governor.wait(200_000) == 0


def test_a_timer_that_fires_late_costs_no_slot():
    governor = Governor(SHARE, 0)
    for slot in range(4):
        attempt(governor, AttemptResult.GOOD, slot * 200_000 + 30_000)
    assert governor.wait(780_000) == 20_000


def test_idleness_earns_nothing_but_what_a_late_timer_costs():
    governor = Governor(SHARE, 0)
    begun(governor, 0)
    begun(governor, MINUTE)
    assert governor.wait(MINUTE) == 200_000 - LATE_AT_MOST


def test_a_high_rate_has_slack_for_one_request():
    governor = Governor(Share(per_second=100.0, concurrency=50), 0)
    begun(governor, MINUTE)
    begun(governor, MINUTE)
    assert governor.wait(MINUTE) == 10_000


# ── concurrency ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_above_the_concurrency_an_attempt_waits_until_one_has_ended():
    governor = Governor(Share(per_second=1000.0, concurrency=2), 0)
    first = begun(governor, 0)
    begun(governor, SECOND)
    assert governor.under_way == 2
    assert governor.wait(2 * SECOND) == FOREVER
    governor.end(first, AttemptResult.ABANDONED, 2 * SECOND, retry_after=None, jitter=0)
    assert governor.under_way == 1
    assert governor.wait(2 * SECOND) == 0


# ── 429 ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_429_halves_rate_and_concurrency_and_holds_for_what_upstream_says():
    governor = Governor(SHARE, 0)
    ended = attempt(governor, AttemptResult.THROTTLED, 0, retry_after=7 * SECOND)
    assert (governor.per_second(ended), governor.concurrency(ended)) == (2.5, 2)
    assert governor.wait(ended) == 7 * SECOND
    assert governor.held_until(ended) == ended + 7 * SECOND
    assert governor.throttled == 7 * SECOND


def test_retry_after_is_a_floor():
    governor = Governor(SHARE, 0)
    ended = attempt(governor, AttemptResult.THROTTLED, 0, retry_after=10 * SECOND, jitter=0.5)
    assert governor.wait(ended) == 10 * SECOND + SECOND // 2


def test_a_retry_after_of_nothing_holds_for_a_second():
    governor = Governor(SHARE, 0)
    assert governor.wait(attempt(governor, AttemptResult.THROTTLED, 0, retry_after=0)) == SECOND


def test_without_retry_after_holds_double_up_to_a_minute_until_a_good_answer():
    governor = Governor(SHARE, 0)
    tick, holds = 0, []
    for _ in range(8):
        tick = attempt(governor, AttemptResult.THROTTLED, tick)
        holds.append(governor.wait(tick) // SECOND)
        tick = governor.held_until(tick)
    assert holds == [1, 2, 4, 8, 16, 32, 60, 60]
    tick = attempt(governor, AttemptResult.GOOD, tick)
    tick = attempt(governor, AttemptResult.THROTTLED, tick + SECOND)
    assert governor.wait(tick) == SECOND


def test_attempts_begun_before_a_429_neither_cut_again_nor_lengthen_the_next_hold():
    governor = Governor(SHARE, 0)
    permits = [begun(governor, number * SECOND) for number in range(4)]
    for number, permit in enumerate(permits):
        governor.end(permit, AttemptResult.THROTTLED, (4 + number) * SECOND, retry_after=None, jitter=0)
    assert (governor.per_second(7 * SECOND), governor.concurrency(7 * SECOND)) == (2.5, 2)
    tick = attempt(governor, AttemptResult.THROTTLED, 8 * SECOND)
    assert governor.wait(tick) == 2 * SECOND
    assert governor.per_second(tick) == pytest.approx(1.25, abs=0.001)


def test_good_answers_requested_before_a_429_do_not_shorten_the_next_hold():
    governor = Governor(SHARE, 0)
    early, late = begun(governor, 0), begun(governor, SECOND)
    governor.end(early, AttemptResult.THROTTLED, 2 * SECOND, retry_after=None, jitter=0)
    governor.end(late, AttemptResult.GOOD, 2 * SECOND, retry_after=None, jitter=0)
    tick = attempt(governor, AttemptResult.THROTTLED, 3 * SECOND)
    assert governor.wait(tick) == 2 * SECOND


def test_overlapping_holds_count_once():
    governor = Governor(SHARE, 0)
    early, late = begun(governor, 0), begun(governor, SECOND)
    governor.end(early, AttemptResult.THROTTLED, 2 * SECOND, retry_after=10 * SECOND, jitter=0)
    governor.end(late, AttemptResult.THROTTLED, 4 * SECOND, retry_after=10 * SECOND, jitter=0)
    assert governor.throttled == 12 * SECOND


def test_a_shorter_hold_does_not_end_a_longer():
    governor = Governor(SHARE, 0)
    early, late = begun(governor, 0), begun(governor, SECOND)
    governor.end(early, AttemptResult.THROTTLED, 2 * SECOND, retry_after=10 * SECOND, jitter=0)
    governor.end(late, AttemptResult.THROTTLED, 2 * SECOND, retry_after=3 * SECOND, jitter=0)
    assert governor.held_until(2 * SECOND) == 12 * SECOND
    assert governor.throttled == 10 * SECOND


def test_rate_and_concurrency_have_a_floor():
    governor = Governor(SHARE, 0)
    tick = 0
    for _ in range(8):
        tick = governor.held_until(attempt(governor, AttemptResult.THROTTLED, tick))
    assert governor.per_second(tick) == FLOOR_PER_SECOND
    assert governor.concurrency(tick) == 1


def test_a_share_below_the_floor_is_its_own_floor():
    governor = Governor(Share(per_second=0.5, concurrency=1), 0)
    tick = attempt(governor, AttemptResult.THROTTLED, 0)
    assert (governor.per_second(tick), governor.concurrency(tick)) == (0.5, 1)


def test_what_was_cut_grows_slowly_from_the_end_of_the_hold_up_to_the_share():
    governor = Governor(SHARE, 0)
    tick = governor.held_until(attempt(governor, AttemptResult.THROTTLED, 0, retry_after=MINUTE))
    assert (governor.per_second(tick), governor.concurrency(tick)) == (2.5, 2)
    later = tick + 10 * SECOND
    assert governor.per_second(later) == pytest.approx(2.5 + 10 * GROWTH_PER_SECOND)
    assert governor.concurrency(later) == 3
    assert (governor.per_second(tick + 60 * MINUTE), governor.concurrency(tick + 60 * MINUTE)) == (5.0, 4)
    assert 0.02 <= GROWTH_PER_SECOND <= 0.05


# ── other failures ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_single_failures_hold_nothing_and_many_in_a_row_back_off_with_jitter():
    governor = Governor(SHARE, 0)
    tick, holds = 0, []
    for _ in range(12):
        tick = attempt(governor, AttemptResult.TROUBLED, tick + SECOND, jitter=1.0)
        holds.append(max(governor.held_until(tick) - tick, 0) // SECOND)
        tick = max(governor.held_until(tick), tick)
    assert holds == [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    tick = attempt(governor, AttemptResult.TROUBLED, tick + SECOND, jitter=0.0)
    assert governor.held_until(tick) - tick == 30 * SECOND


def test_failures_keep_the_rate_and_reduce_the_concurrency_to_1():
    governor = Governor(SHARE, 0)
    tick = 0
    for number in range(4):
        assert governor.concurrency(tick) == 4, number
        tick = attempt(governor, AttemptResult.TROUBLED, tick + SECOND)
    assert (governor.per_second(tick), governor.concurrency(tick), governor.throttled) == (5.0, 1, 0)
    attempt(governor, AttemptResult.GOOD, governor.held_until(tick))
    assert governor.concurrency(tick) == 4


def test_a_failure_with_retry_after_holds_at_once_and_longer_than_our_back_off():
    governor = Governor(SHARE, 0)
    tick = attempt(governor, AttemptResult.TROUBLED, 0, retry_after=20 * SECOND)
    assert governor.wait(tick) == 20 * SECOND


def test_a_good_answer_from_before_does_not_end_a_hold():
    governor = Governor(SHARE, 0)
    early, late = begun(governor, 0), begun(governor, SECOND)
    governor.end(early, AttemptResult.TROUBLED, 2 * SECOND, retry_after=20 * SECOND, jitter=0)
    governor.end(late, AttemptResult.GOOD, 2 * SECOND, retry_after=None, jitter=0)
    assert governor.wait(2 * SECOND) == 20 * SECOND


# ── credentials ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_refused_credentials_are_probed_alone_every_half_minute_until_one_is_good():
    governor = Governor(SHARE, 0)
    tick = attempt(governor, AttemptResult.UNAUTHORIZED, 0)
    assert governor.wait(tick) == UNAUTHORIZED_PROBE == 30 * SECOND
    probed = tick + UNAUTHORIZED_PROBE
    probe = begun(governor, probed)
    assert governor.concurrency(probed) == 1
    assert governor.wait(probed) == FOREVER
    governor.end(probe, AttemptResult.TROUBLED, probed + SECOND, retry_after=None, jitter=0)
    assert governor.wait(probed + SECOND) == 29 * SECOND
    attempt(governor, AttemptResult.GOOD, probed + UNAUTHORIZED_PROBE)
    assert governor.wait(probed + 31 * SECOND) == 0
    assert governor.concurrency(probed + 31 * SECOND) == 4


def test_a_good_answer_requested_before_the_refusal_does_not_end_the_hold():
    governor = Governor(SHARE, 0)
    early, late = begun(governor, 0), begun(governor, SECOND)
    governor.end(early, AttemptResult.UNAUTHORIZED, 2 * SECOND, retry_after=None, jitter=0)
    governor.end(late, AttemptResult.GOOD, 3 * SECOND, retry_after=None, jitter=0)
    assert governor.wait(3 * SECOND) == 29 * SECOND


def test_new_credentials_end_the_hold_for_the_old():
    governor = Governor(SHARE, 0)
    tick = attempt(governor, AttemptResult.UNAUTHORIZED, 0)
    governor.forgive()
    assert governor.wait(tick + SECOND) == 0
    assert governor.concurrency(tick) == 4


# ── a new share ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_share_applies_at_once_where_nothing_was_cut():
    governor = Governor(SHARE, 0)
    for share in (Share(per_second=50.0, concurrency=8), Share(per_second=0.2, concurrency=1)):
        governor.adopt(share, SECOND)
        assert (governor.per_second(SECOND), governor.concurrency(SECOND)) == (share.per_second, share.concurrency)


def test_a_rate_that_was_cut_stays_cut_under_a_new_share():
    governor = Governor(SHARE, 0)
    tick = attempt(governor, AttemptResult.THROTTLED, 0)
    governor.adopt(Share(per_second=50.0, concurrency=8), tick)
    assert (governor.per_second(tick), governor.concurrency(tick)) == (2.5, 2)
    governor.adopt(Share(per_second=2.0, concurrency=1), tick)
    assert (governor.per_second(tick), governor.concurrency(tick)) == (2.0, 1)


# ── for all histories ────────────────────────────────────────────────────────────────────────────────────────────────


Answered: TypeAlias = tuple[AttemptResult, Micros, Micros | None, float, Micros]


@dataclass
class Run:
    """What an account did: when each attempt began, and what was true of the governor then."""

    governor: Governor
    begins: list[Micros] = field(default_factory=list)
    held: list[bool] = field(default_factory=list)
    beyond: list[int] = field(default_factory=list)
    probes: list[Micros] = field(default_factory=list)
    cuts: list[Micros] = field(default_factory=list)


answers = st.lists(
    st.tuples(
        st.sampled_from([AttemptResult.GOOD, AttemptResult.GOOD, *AttemptResult]),
        st.integers(1, 3 * SECOND),  # latency
        st.none() | st.integers(0, 20 * SECOND),  # Retry-After
        st.floats(0, 1),  # jitter
        st.sampled_from([0, 0, 0, 1000, SECOND // 2, 40 * SECOND]),  # dawdling before it begins
    ),
    min_size=1,
    max_size=40,
)
shares = st.builds(Share, per_second=st.floats(0.5, 40), concurrency=st.integers(1, 6))


def a_run(share: Share, given_answers: list[Answered]) -> Run:
    """As many attempts at once as the governor allows, each answered as given."""
    run = Run(Governor(share, 0))
    governor, tick, refused = run.governor, 0, False
    flights: list[tuple[Micros, int, Permit]] = []

    def land() -> None:
        nonlocal tick, refused
        ended, number, permit = heapq.heappop(flights)
        tick = max(tick, ended)
        result, _, retry_after, jitter, _ = given_answers[number]
        before = governor.per_second(tick)
        governor.end(permit, result, tick, retry_after=retry_after, jitter=jitter)
        if governor.per_second(tick) < before:
            run.cuts.append(tick)
        refused = refused or result is AttemptResult.UNAUTHORIZED

    for number, (_, latency, _, _, dawdling) in enumerate(given_answers):
        target = tick + dawdling
        while flights and flights[0][0] <= target:
            land()
        tick = max(tick, target)
        while wait := governor.wait(tick):
            if flights and (wait >= FOREVER or flights[0][0] <= tick + wait):
                land()
            else:
                tick += wait
        run.held.append(governor.held_until(tick) > tick)
        run.beyond.append(governor.under_way + 1 - governor.concurrency(tick))
        run.begins.append(tick)
        if refused:
            run.probes.append(tick)
        refused = False
        heapq.heappush(flights, (tick + latency, number, governor.begin(tick)))
    while flights:
        land()
    return run


@unhurried
@given(shares, answers)
def test_no_attempt_begins_during_a_hold_or_beyond_the_concurrency(share: Share, given_answers: list[Answered]):
    run = a_run(share, given_answers)
    assert not any(run.held)
    assert max(run.beyond) <= 0
    assert run.governor.under_way == 0


@unhurried
@given(shares, answers)
def test_over_no_time_the_rate_is_exceeded_by_more_than_one(share: Share, given_answers: list[Answered]):
    begins = a_run(share, given_answers).begins
    for first, last in itertools.combinations(range(len(begins)), 2):
        # A millisecond for the rounding of forty slots.
        allowed = share.per_second * (begins[last] - begins[first] + 1000) / SECOND
        assert last - first <= allowed + 1


@unhurried
@given(shares, answers)
def test_the_rate_is_cut_at_most_once_a_hold_and_stays_above_its_floor(share: Share, given_answers: list[Answered]):
    run = a_run(share, given_answers)
    for first, second in itertools.pairwise(run.cuts):
        # Something began after the first cut, and that was after its hold.
        assert any(first < begin < second for begin in run.begins)
    end = max(run.begins) + MINUTE
    assert min(FLOOR_PER_SECOND, share.per_second) <= run.governor.per_second(end) <= share.per_second
    assert 1 <= run.governor.concurrency(end) <= share.concurrency


@unhurried
@given(st.lists(st.tuples(st.sampled_from(list(AttemptResult)), st.integers(1, 90 * SECOND)), max_size=20))
def test_there_is_at_most_one_probe_in_half_a_minute(probes: list[tuple[AttemptResult, Micros]]):
    governor = Governor(SHARE, 0)
    tick = attempt(governor, AttemptResult.UNAUTHORIZED, 0)
    begins = [0]
    for result, took in probes:
        if result is AttemptResult.GOOD:
            continue
        tick += governor.wait(tick)
        begins.append(tick)
        tick = attempt(governor, result, tick, took=took)
    assert all(later - earlier >= UNAUTHORIZED_PROBE for earlier, later in itertools.pairwise(begins))


# ── a limit below our share ──────────────────────────────────────────────────────────────────────────────────────────

LIMIT = 3.0
LIFTED = 10 * MINUTE


def a_bucket(capacity: float) -> Callable[[Micros], bool]:
    """Upstream's limit as a bucket that fills at 3 a second; whether it lets a request through."""
    left, since = capacity, 0

    def lets_through(tick: Micros) -> bool:
        nonlocal left, since
        left, since = min(capacity, left + LIMIT * (tick - since) / SECOND), tick
        if left < 1 - 1e-6:
            return False
        left -= 1
        return True

    return lets_through


def a_window() -> Callable[[Micros], bool]:
    """Upstream's limit as three requests in each second by the clock."""
    count, window = 0, -1

    def lets_through(tick: Micros) -> bool:
        nonlocal count, window
        count, window = (count + 1 if window == tick // SECOND else 1), tick // SECOND
        return count <= LIMIT

    return lets_through


LIMITS = {"bucket": lambda: a_bucket(3.0), "strict": lambda: a_bucket(1.0), "window": a_window}


def hungry(
    lets_through: Callable[[Micros], bool], latency: Micros, retry_after: Micros | None, seed: int
) -> tuple[list[tuple[Micros, bool]], Micros]:
    """Send as many requests as allowed: when each was sent, if it succeeded, and when 4.5/s were allowed again."""
    rng, governor, tick = random.Random(seed), Governor(SHARE, 0), 0
    flights: list[tuple[Micros, int, Permit, bool]] = []
    sent: list[tuple[Micros, bool]] = []
    while tick < LIFTED + 3 * MINUTE:
        while flights and flights[0][0] <= tick:
            _, _, permit, good = heapq.heappop(flights)
            result, after = (AttemptResult.GOOD, None) if good else (AttemptResult.THROTTLED, retry_after)
            governor.end(permit, result, tick, retry_after=after, jitter=rng.random())
        while governor.wait(tick) == 0:
            good = tick >= LIFTED or lets_through(tick)
            landing = tick + round(latency * rng.uniform(0.7, 1.3))
            heapq.heappush(flights, (landing, len(sent), governor.begin(tick), good))
            sent.append((tick, good))
        if tick >= LIFTED and governor.per_second(tick) >= 4.5:
            return sent, tick
        tick = min(tick + governor.wait(tick), flights[0][0] if flights else FOREVER)
    return sent, tick


@pytest.mark.parametrize("latency", [20_000, 100_000, 300_000], ids=lambda latency: f"{latency // 1000}ms")
@pytest.mark.parametrize("retry_after", [None, SECOND, 3 * SECOND], ids=["", "after1s", "after3s"])
@pytest.mark.parametrize("kind", sorted(LIMITS))
def test_a_limit_below_our_share_is_found_used_and_its_lifting_noticed(
    kind: str, retry_after: Micros | None, latency: Micros
):
    for seed in range(3):
        sent, recovered = hungry(LIMITS[kind](), latency, retry_after, seed)
        settled = [good for tick, good in sent if MINUTE <= tick < LIFTED]
        assert settled.count(False) < 0.02 * len(settled)
        assert settled.count(True) >= 0.7 * LIMIT * (LIFTED - MINUTE) / SECOND
        assert recovered < LIFTED + 3 * MINUTE


def test_an_account_that_is_refused_is_held_until_what_was_requested_since_is_answered_well():
    governor = Governor(Share(), 0)
    early = governor.begin(0)
    governor.refuse(SECOND)
    refused = []
    for result, tick in ((AttemptResult.GOOD, 2), (AttemptResult.DOUBTFUL, 32), (AttemptResult.GOOD, 62)):
        governor.end(early, result, tick * SECOND, retry_after=None, jitter=0.0)
        refused.append(governor.is_refused)
        early = governor.begin(tick * SECOND)
    assert refused == [True, True, False]
