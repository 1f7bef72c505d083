"""What lists taught of themselves."""

from __future__ import annotations

import pytest

from watcher.core.model import DAY, SECOND, Status
from watcher.core.planner.exit_rates import ExitRates
from watcher.core.planner.row_density import BUCKET, FADE_EVERY, ROWS_A_PAGE, RowDensity

BASE = 100_000_000 * BUCKET
ALL = None


def spread(count: int, start: int, end: int) -> list[int]:
    return [start + (end - start) * number // count for number in range(count)]


def test_no_rows_are_expected_where_nothing_was_read():
    assert RowDensity().between(ALL, BASE, BASE + DAY) == 0


def test_a_list_read_whole_is_known_and_so_is_its_emptiness():
    densities = RowDensity()
    densities.learn_whole(ALL, BASE, BASE + 4 * BUCKET, spread(400, BASE, BASE + 4 * BUCKET))
    assert densities.between(ALL, BASE, BASE + 4 * BUCKET) == pytest.approx(400)
    assert densities.between(ALL, BASE + BUCKET // 4, BASE + BUCKET // 2) == pytest.approx(25)
    assert densities.between(ALL, BASE + BUCKET // 2, BASE + 3 * BUCKET) == pytest.approx(250)
    assert densities.rate(ALL, BASE // BUCKET) == pytest.approx(100 / BUCKET)
    assert densities.between(Status.PROCESSING, BASE, BASE + DAY) == 0
    densities.learn_whole(ALL, BASE, BASE + 4 * BUCKET, [])
    assert densities.between(ALL, BASE, BASE + 4 * BUCKET) == 0


def test_what_lies_outside_of_the_bounds_stays_as_it_was():
    densities = RowDensity()
    densities.learn_whole(ALL, BASE, BASE + BUCKET, spread(100, BASE, BASE + BUCKET))
    densities.learn_whole(ALL, BASE, BASE + BUCKET // 2, [])
    assert densities.between(ALL, BASE, BASE + BUCKET) == pytest.approx(50)


def test_half_a_bucket_speaks_for_the_other_half_where_nothing_is_known():
    densities = RowDensity()
    densities.learn_whole(ALL, BASE, BASE + BUCKET // 2, spread(50, BASE, BASE + BUCKET // 2))
    assert densities.between(ALL, BASE, BASE + BUCKET) == pytest.approx(100)
    densities.learn_whole(ALL, BASE + BUCKET, BASE + BUCKET, [BASE + BUCKET])
    assert densities.between(ALL, BASE + BUCKET, BASE + 2 * BUCKET) == 0


def test_a_list_read_in_part_is_guessed_to_go_on_and_guesses_fade():
    densities = RowDensity()
    densities.fade(0)
    densities.learn_some(ALL, BASE, BASE + 9 * BUCKET, spread(300, BASE + 7 * BUCKET, BASE + 10 * BUCKET))
    assert densities.between(ALL, BASE, BASE + BUCKET) == pytest.approx(100)
    densities.fade(FADE_EVERY - 1)
    assert densities.between(ALL, BASE, BASE + BUCKET) == pytest.approx(100)
    densities.fade(FADE_EVERY)
    assert densities.between(ALL, BASE, BASE + BUCKET) == pytest.approx(50)
    assert densities.between(ALL, BASE + 8 * BUCKET, BASE + 9 * BUCKET) == pytest.approx(100)


def test_what_is_known_is_not_guessed_again():
    densities = RowDensity()
    densities.learn_whole(ALL, BASE, BASE + BUCKET, [BASE])
    densities.learn_some(ALL, BASE, BASE + 3 * BUCKET, spread(100, BASE + 2 * BUCKET, BASE + 3 * BUCKET))
    densities.learn_some(ALL, BASE, BASE + 3 * BUCKET, [])
    assert densities.between(ALL, BASE, BASE + BUCKET) < 2


def test_what_upstream_shows_no_longer_is_forgotten():
    densities = RowDensity()
    densities.learn_whole(ALL, BASE, BASE + BUCKET, [BASE])
    densities.learn_some(Status.PROCESSING, BASE, BASE + 9 * BUCKET, [BASE + 9 * BUCKET])
    densities.forget_before(BASE + 7 * DAY + BUCKET)
    assert densities.between(ALL, BASE, BASE + BUCKET) == 0
    assert densities.between(Status.PROCESSING, BASE, BASE + 9 * BUCKET) > 0


def test_short_pages_are_planned_for_and_slowly_forgotten():
    densities = RowDensity()
    for _ in range(30):
        densities.learn_page(Status.PROCESSING, 100)
    assert densities.rows_a_page(Status.PROCESSING) == pytest.approx(100, abs=1)
    assert densities.rows_a_page(ALL) == ROWS_A_PAGE
    for turn in range(100):
        densities.fade(turn * FADE_EVERY)
    assert densities.rows_a_page(Status.PROCESSING) > 900
    densities.learn_page(ALL, 1000)
    assert densities.rows_a_page(ALL) == ROWS_A_PAGE


def test_exit_rates_are_estimated_by_age():
    exit_rates = ExitRates()
    before = exit_rates.rate(3 * SECOND)
    for _ in range(500):
        exit_rates.expect(5 * SECOND, 1500 * SECOND, 300)
        exit_rates.left(1500 * SECOND)
    assert exit_rates.rate(1100 * SECOND) == pytest.approx(1, rel=0.05)
    assert exit_rates.rate(3 * SECOND) == before


def test_a_wrong_creation_from_1970_makes_no_guesses_over_all_the_years_since():
    densities = RowDensity()
    densities.learn_some(None, 0, 1_790_000_000 * SECOND, [0])
    assert densities.between(None, 0, 1_790_000_000 * SECOND) < 10**5
