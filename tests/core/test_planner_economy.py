"""Requests and delays of the real planner and governor on a model of upstream, in small; the benchmark has the rest."""

from __future__ import annotations

import random

import pytest

from benchmarks.planner.drive import Case, drive
from benchmarks.planner.policies import Polling, every
from benchmarks.planner.tomorrow import Lone, Tomorrow
from benchmarks.planner.world import World

pytestmark = pytest.mark.unmeasured


def test_many_operations_cost_less_than_a_request_each_and_are_known_in_time():
    case = Case(in_flight=1500, warm_up=40, seconds=60)
    outcome = drive(case, World(case.in_flight, case.tracked, random.Random(3)))
    assert outcome.ended > 80
    assert outcome.per_operation < 0.85
    assert outcome.delay(0.99) <= 5.2


def test_settling_reads_join_sweeps():
    case = Case(in_flight=1500, warm_up=170, seconds=60, settle_after=(30, 120))
    outcome = drive(case, World(case.in_flight, case.tracked, random.Random(3)))
    assert outcome.finished > 80
    assert outcome.per_operation < 1.1, "as GETs they would be two more for each"


def test_few_tracked_operations_among_many_rows_cost_no_long_sweeps():
    case = Case(in_flight=3000, tracked=0.01, warm_up=60, seconds=120)
    world = World(case.in_flight, case.tracked, random.Random(3))
    outcome = drive(case, world)
    plain_sweeps = 4 * case.seconds / case.freshness
    assert sum(outcome.requests.values()) <= 1.5 * plain_sweeps
    assert outcome.delay(0.99) <= 5.2


def test_a_cold_start_among_foreign_rows_makes_no_long_chains():
    case = Case(in_flight=8800, tracked=0.005, warm_up=0, seconds=30)
    outcome = drive(case, World(case.in_flight, case.tracked, random.Random(3)))
    # GETs alone would be 44 in 5 s.
    assert sum(outcome.requests.values()) <= 30 / 5 * 44 * 0.6


def test_a_thousand_scheduled_for_tomorrow_cost_less_than_two_requests_a_minute():
    case = Case(in_flight=1000, warm_up=600, seconds=3600)
    outcome = drive(case, Tomorrow(1000, 1.0, random.Random(3)))
    assert 0 < sum(outcome.requests.values()) < 2 * 60


def test_a_thousand_that_were_scheduled_are_known_to_have_begun_and_ended():
    case = Case(in_flight=1000, warm_up=0, seconds=1300)
    outcome = drive(case, Tomorrow(1000, 1.0, random.Random(3), begin_after=600))
    assert outcome.finished == 1000
    assert len(outcome.begun) == 1000
    assert max(outcome.begun) <= 125
    assert outcome.delay(0.99) <= 5.2


def test_a_single_operation_costs_a_request_a_poll():
    case = Case(in_flight=1, warm_up=0, seconds=7220)
    for seed in range(3):
        ours = drive(case, Lone(1, 1.0, random.Random(seed)))
        polling = drive(case, Lone(1, 1.0, random.Random(seed)), lambda _, now: Polling(every(5), now))
        assert ours.requests["fetch"] <= 1.02 * polling.requests["fetch"] + 2
        assert ours.delay(1) <= 5.2
