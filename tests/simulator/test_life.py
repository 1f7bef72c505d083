"""One operation: what it shows at a time depends only on its life and that time."""

import random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from watcher.simulator.ids import is_well_formed, make_id
from watcher.simulator.life import ENDED, Life, Stats, last_stats, state, turns
from watcher.simulator.population import Plan, live
from watcher.simulator.timestamps import SECOND, parse_rfc3339, rfc3339

START = 1_705_311_000 * SECOND
RANK = {"SCHEDULED": 0, "PROCESSING": 1, "COMPLETED": 2, "CANCELED": 2}


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    recipients = draw(st.integers(0, 10_000))
    unaddressable = draw(st.integers(0, recipients))
    return Plan(
        recipients=recipients,
        unaddressable=unaddressable,
        failed=draw(st.integers(0, recipients - unaddressable)),
        scheduled_for=draw(st.integers(0, 3600 * SECOND)),
        lifetime=draw(st.integers(1, 7200 * SECOND)),
        canceled_at=draw(st.none() | st.floats(0, 1)),
        corrected_after=draw(st.integers(0, 60 * SECOND)),
    )


def born(plan: Plan) -> Life:
    return live(plan, account_id="AC1", operation_id="one", created_at=START)


LIVES = plans().map(born)
AGES = st.integers(0, 12_000 * SECOND)


@settings(deadline=None)
@given(LIVES)
def test_stats_at_the_end_add_up(life: Life):
    stats = last_stats(life)
    assert stats.sent + stats.failed + stats.canceled == stats.total
    assert (stats.queued, stats.scheduled) == (0, 0)
    assert min(msgspec.structs.astuple(stats)) >= 0
    assert state(life, max(life.ended_at, life.corrected_at)).stats == stats


@settings(deadline=None)
@given(LIVES, AGES)
def test_stats_add_up_at_any_instant(life: Life, age: int):
    stats = state(life, START + age).stats
    assert stats.scheduled + stats.queued + stats.sent + stats.failed + stats.canceled == stats.total
    assert min(msgspec.structs.astuple(stats)) >= 0


@settings(deadline=None)
@given(LIVES, AGES, AGES)
def test_time_only_moves_forward(life: Life, one_age: int, another_age: int):
    earlier, later = (state(life, START + age) for age in sorted((one_age, another_age)))
    assert RANK[earlier.status] <= RANK[later.status]
    assert earlier.stats.failed <= later.stats.failed
    assert earlier.updated_at <= later.updated_at
    if earlier.status == later.status == "PROCESSING":
        assert earlier.stats.sent <= later.stats.sent
        assert earlier.stats.queued >= later.stats.queued


@settings(deadline=None)
@given(LIVES, AGES)
def test_the_update_lies_between_creation_and_now(life: Life, age: int):
    record = state(life, START + age)
    assert record.created_at <= record.updated_at <= rfc3339(START + age)


@settings(deadline=None)
@given(LIVES, AGES)
def test_nothing_has_changed_since_the_update(life: Life, age: int):
    record = state(life, START + age)
    # The update is shown in whole seconds: its own second is over one later.
    changed_by = parse_rfc3339(record.updated_at) + SECOND
    if changed_by <= START + age:
        assert state(life, changed_by) == record


@settings(deadline=None)
@given(LIVES, AGES)
def test_turns_give_the_status_at_every_time(life: Life, age: int):
    passed = [status for at, status in turns(life) if at <= START + age]
    assert passed[-1] == state(life, START + age).status
    assert turns(life)[-1][1] in ENDED


def test_a_correction_turns_sent_into_failed_after_the_end():
    plan = Plan(
        recipients=100,
        unaddressable=0,
        failed=40,
        scheduled_for=0,
        lifetime=10 * SECOND,
        canceled_at=None,
        corrected_after=5 * SECOND,
    )
    life = born(plan)
    ended, corrected = state(life, START + 14 * SECOND), state(life, START + 15 * SECOND)
    assert (ended.status, ended.stats.sent, ended.stats.failed) == ("COMPLETED", 80, 20)
    assert (corrected.status, corrected.stats.sent, corrected.stats.failed) == ("COMPLETED", 60, 40)
    assert (ended.updated_at, corrected.updated_at) == ("2024-01-15T09:30:10Z", "2024-01-15T09:30:15Z")


def test_an_operation_canceled_while_scheduled_was_never_processed():
    plan = Plan(
        recipients=10,
        unaddressable=4,
        failed=6,
        scheduled_for=20 * SECOND,
        lifetime=20 * SECOND,
        canceled_at=0.25,
        corrected_after=0,
    )
    life = born(plan)
    assert state(life, START + 9 * SECOND).stats == Stats(total=6, recipients=10, scheduled=6)
    end = state(life, START + 10 * SECOND)
    assert (end.status, end.stats) == ("CANCELED", Stats(total=6, recipients=10, canceled=6))


@settings(deadline=None)
@given(st.integers(0, 4_000_000_000_000), st.integers())
def test_an_id_is_well_formed_and_contains_its_millisecond(millisecond: int, seed: int):
    made = make_id(millisecond * 1_000, random.Random(seed))
    assert is_well_formed(made)
    assert decoded(made) >> 80 == millisecond
    assert decoded(made) >> 76 & 0xF == 7
    assert decoded(made) >> 62 & 0b11 == 0b10


def test_the_documented_id_is_read_as_a_moment_of_2023():
    assert rfc3339((decoded("comms_operation_01h9krwprkeee8fzqspvwy6nq8") >> 80) * 1_000) == "2023-09-05T22:54:57Z"


def test_an_id_is_matched_to_its_end():
    assert is_well_formed("comms_operation_01h9krwprkeee8fzqspvwy6nq8")
    assert not is_well_formed("comms_operation_01h9krwprkeee8fzqspvwy6nq8/../secrets")
    assert not is_well_formed("comms_operation_91h9krwprkeee8fzqspvwy6nq8")


def decoded(operation_id: str) -> int:
    number = 0
    for letter in operation_id.removeprefix("comms_operation_"):
        number = number * 32 + "0123456789abcdefghjkmnpqrstvwxyz".index(letter)
    return number
