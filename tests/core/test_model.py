"""The words of the product: ids, instants, stats, operations."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.factories import (
    HINTED,
    NOW,
    OPERATION_ID,
    PLAIN_ID,
    a_final_operation,
    a_running_operation,
    a_settling_operation,
    an_id,
    an_operation,
    days,
)
from tests.support.strategies import stats
from watcher.core.channels import STAT_NAMES, Stats
from watcher.core.model import (
    DAY,
    HOUR,
    MINUTE,
    OUTCOME_OF,
    SECOND,
    Moment,
    OperationEvent,
    Outcome,
    Phase,
    Status,
    created_hint,
    is_operation_id,
    micros,
    rfc3339,
)


def test_waits_are_whole_microseconds():
    assert micros(timedelta(days=7)) == 7 * DAY == 168 * HOUR
    assert micros(timedelta(milliseconds=1500)) == 3 * SECOND // 2
    assert micros(timedelta(minutes=-1)) == -MINUTE


@pytest.mark.parametrize(
    ("instant", "text"),
    [
        (None, None),
        (0, "1970-01-01T00:00:00.000Z"),
        (NOW, "2026-09-21T14:13:20.000Z"),
        (NOW + 1_999, "2026-09-21T14:13:20.001Z"),
        (253_402_300_799 * SECOND, "9999-12-31T23:59:59.000Z"),
    ],
)
def test_instants_are_shown_in_utc_with_milliseconds(instant: int | None, text: str | None):
    assert rfc3339(instant) == text


@given(st.integers(0, 253_402_300_799 * SECOND))
def test_what_is_shown_reads_back(instant: int):
    shown = rfc3339(instant)
    assert shown is not None
    read = datetime.fromisoformat(shown)
    assert (read - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1) == instant // 1000


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (OPERATION_ID, True),
        (PLAIN_ID, True),
        (an_id(7), True),
        ("comms_operation_0" + "a" * 25, True),
        ("comms_operation_7" + "a" * 34, True),
        ("comms_operation_0" + "a" * 24, False),
        ("comms_operation_0" + "a" * 35, False),
        ("comms_operation_8" + "a" * 25, False),
        ("comms_operation_0" + "a" * 24 + "i", False),
        ("comms_operation_0" + "a" * 24 + "A", False),
        (OPERATION_ID + "/../x", False),
        (OPERATION_ID + "\n", False),
        (" " + OPERATION_ID, False),
        ("", False),
    ],
)
def test_an_id_is_matched_whole(text: str, good):
    assert is_operation_id(text) is good


@given(st.text())
def test_no_id_needs_escaping_in_a_path(text: str):
    assert not is_operation_id(text) or re.fullmatch("[a-z0-9_]+", text)


@pytest.mark.parametrize(
    ("operation_id", "hint"),
    [
        (OPERATION_ID, HINTED),
        (PLAIN_ID, None),
        (OPERATION_ID.upper(), None),  # no letter of its alphabet
        ("comms_operation_01h9krwprkeee8fzqspvwy6nqu", None),  # u is no letter of it either
        ("comms_operation_01h9krwprk8ee8fzqspvwy6nq8", None),  # another version
        ("comms_operation_01h9krwprkeee0fzqspvwy6nq8", None),  # another variant
        ("comms_operation_0000000000eee8fzqspvwy6nq8", None),  # 1970
        ("comms_operation_7zzzzzzzzzeee8fzqspvwy6nq8", None),  # far ahead
        ("comms_operation_zzzzzzzzzzeee8fzqspvwy6nq8", None),  # more than 128 bits
    ],
)
def test_an_id_hints_at_its_creation_only_where_all_fits(operation_id: str, hint: int | None):
    assert created_hint(operation_id, NOW) == hint


def test_a_hint_may_be_a_day_ahead_of_our_clock():
    assert created_hint(OPERATION_ID, HINTED - DAY) == HINTED
    assert created_hint(OPERATION_ID, HINTED - DAY - 1) is None


def test_a_moment_moves_on_both_clocks():
    assert Moment(5, 7).later(10) == Moment(15, 17)


@given(stats, stats)
def test_newer_stats_win_where_they_were_given(older: Stats, newer: Stats):
    merged = older.merged_with(newer)
    for name in STAT_NAMES:
        mine, theirs = getattr(older, name), getattr(newer, name)
        assert getattr(merged, name) == (mine if theirs is None else theirs)


@given(stats)
def test_stats_that_were_never_received_are_not_written(given_stats: Stats):
    written = msgspec.json.decode(msgspec.json.encode(given_stats))
    assert None not in written.values()
    assert msgspec.convert(written, Stats) == given_stats


@pytest.mark.parametrize("count", [-1, 2**53 + 1])
def test_a_count_has_bounds(count: int):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"sent": count}, Stats)


@pytest.mark.parametrize(
    ("some", "failing"),
    [
        (Stats(), False),
        (Stats(failed=0, unaddressable=0), False),
        (Stats(sent=9, canceled=9), False),
        (Stats(failed=1), True),
        (Stats(unaddressable=1), True),
    ],
)
def test_failed_and_unaddressable_are_failures(some: Stats, failing):
    assert some.has_failures is failing


def test_every_outcome_has_its_status():
    assert sorted(OUTCOME_OF.values()) == sorted(Outcome)
    assert {status.value.lower() for status in OUTCOME_OF} == {outcome.value for outcome in Outcome}


@pytest.mark.parametrize("status", list(Status))
def test_what_has_an_outcome_settles_until_it_is_final(status: Status):
    operation = an_operation(status=status)
    assert operation.outcome == OUTCOME_OF.get(status)
    assert operation.phase is (Phase.SETTLING if status in OUTCOME_OF else Phase.FOLLOWED)
    assert operation.with_(final_at=NOW).phase is Phase.FINAL


def test_the_phases_are_tracked_settling_final():
    made = (a_running_operation(), a_settling_operation(), a_final_operation())
    assert [operation.phase for operation in made] == [Phase.FOLLOWED, Phase.SETTLING, Phase.FINAL]


def test_an_operation_is_changed_by_copies_only():
    operation = an_operation()
    assert operation.with_(missed=1) == an_operation(missed=1)
    assert operation.missed == 0
    with pytest.raises(AttributeError):
        operation.missed = 1  # type: ignore[misc]


def test_events_are_published_under_their_documented_names():
    names = {kind.__struct_config__.tag for kind in get_args(OperationEvent)}
    words = ("tracked", "untracked", "moved", "failing", "finished", "corrected", "odd")
    assert names == {f"operation.{word}" for word in words}


def test_a_day_is_a_day():
    assert days(1) == DAY
