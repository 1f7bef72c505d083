"""All simulated operations: they are created, change, end and are forgotten, the same way for the same seed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watcher.simulator import ScenarioError, built_in, parse_scenario
from watcher.simulator.life import Life, Stats, Status, state
from watcher.simulator.population import arrivals_per_second
from watcher.simulator.timeline import LAST_ID, Timeline
from watcher.simulator.timestamps import DAY, SECOND
from watcher.simulator.world import World

START = 1_705_311_000 * SECOND
ACCOUNT = "AC00000000000000000000000000000000"
STATUSES: tuple[Status, ...] = ("SCHEDULED", "PROCESSING", "COMPLETED", "CANCELED")
FROM, TO = (0, ""), (2**60, LAST_ID)


def row_state(world: World, status: Status | None) -> list[Life]:
    return list(world.timeline(ACCOUNT, status).between(FROM, TO, newest_first=False))


def test_equal_seeds_make_equal_worlds_at_any_interval_of_updates():
    often, once = World(built_in("demo"), START), World(built_in("demo"), START)
    for second in range(0, 600, 7):
        often.advance(START + second * SECOND)
    often.advance(START + 600 * SECOND)
    once.advance(START + 600 * SECOND)
    assert {life.id: life for life in often.lives()} == {life.id: life for life in once.lives()}


def test_other_seeds_make_other_worlds():
    one, other = (World(parse_scenario(f"{{seed: {seed}, population: {{in_flight: 5}}}}"), START) for seed in (1, 2))
    assert {life.id for life in one.lives()}.isdisjoint(life.id for life in other.lives())


def test_what_is_sent_does_not_change_what_arrives():
    quiet, busy = World(built_in("demo"), START), World(built_in("demo"), START)
    sent = busy.send(ACCOUNT, START + 5 * SECOND)
    for world in (quiet, busy):
        world.advance(START + 300 * SECOND)
    assert {life.id for life in busy.lives()} - {life.id for life in quiet.lives()} == {sent.id}


def test_the_lists_by_status_agree_with_the_state_of_each_life():
    world = World(built_in("demo"), START)
    for second in range(0, 400, 37):
        now = START + second * SECOND
        world.advance(now)
        for status in STATUSES:
            assert {state(life, now).status for life in row_state(world, status)} <= {status}
        assert sum(len(row_state(world, status)) for status in STATUSES) == len(row_state(world, None))
        assert len(row_state(world, None)) == sum(1 for _ in world.lives())


def test_the_number_in_flight_stays_near_the_configured_one():
    world = World(parse_scenario("population: {in_flight: 400, lifetime: 5s..2m, share_scheduled: 0.2}"), START)
    assert world.in_flight() == 400
    counts = []
    for minute in range(1, 31):
        world.advance(START + minute * 60 * SECOND)
        counts.append(world.in_flight())
    assert sum(counts) / len(counts) == pytest.approx(400, rel=0.1)


def test_lives_of_one_length_arrive_at_an_even_rate():
    population = parse_scenario("population: {in_flight: 30, lifetime: 10s}").population
    assert arrivals_per_second(population) == pytest.approx(3)


def test_operations_arrive_at_the_configured_rate():
    scenario = parse_scenario("population: {arrivals_per_second: 10, lifetime: 1s}")
    world = World(scenario, START)
    world.advance(START + 200 * SECOND)
    assert arrivals_per_second(scenario.population) == 10
    assert sum(1 for _ in world.lives()) == pytest.approx(2_000, rel=0.1)


def test_an_operation_after_its_retention_is_forgotten_ended_or_not():
    world = World(parse_scenario("operations: [{id: ended, completed: 5s}, {id: running}]"), START)
    world.advance(START + 7 * DAY - 1)
    assert {life.id for life in world.lives()} == {"ended", "running"}
    world.advance(START + 7 * DAY)
    assert list(world.lives()) == []
    assert row_state(world, None) == row_state(world, "PROCESSING") == row_state(world, "COMPLETED") == []
    assert world.find("ended") is None


def test_an_operation_that_would_end_after_its_retention_is_forgotten():
    world = World(parse_scenario("retention: 10s\noperations: [{id: late, completed: 20s}]"), START)
    world.advance(START + 10 * SECOND)
    world.advance(START + 30 * SECOND)
    assert world.find("late") is None
    assert row_state(world, "COMPLETED") == []


def test_after_a_week_without_an_update_only_operations_within_retention_exist():
    world = World(parse_scenario("retention: 1h\npopulation: {arrivals_per_second: 0.01, lifetime: 1m}"), START)
    world.advance(START + 7 * DAY)
    assert all(life.created_at > START + 7 * DAY - 3600 * SECOND for life in world.lives())
    assert sum(1 for _ in world.lives()) == pytest.approx(36, abs=20)


def test_a_script_is_followed_to_the_second():
    world = World(
        parse_scenario(
            """
            operations:
              - id: one
                created: 5s
                processing: 10s
                completed: 20s
                stats: {recipients: 12, unaddressable: 2, failed: 4}
            """
        ),
        START,
    )
    assert world.find("one") is None
    world.advance(START + 5 * SECOND)
    life = world.find("one")
    assert life is not None
    shown = [
        (state(life, START + at * SECOND).status, state(life, START + at * SECOND).stats) for at in (5, 10, 15, 20)
    ]
    common = {"total": 10, "recipients": 12}
    assert shown == [
        ("SCHEDULED", Stats(**common, scheduled=10)),
        ("PROCESSING", Stats(**common, unaddressable=2, queued=10)),
        ("PROCESSING", Stats(**common, unaddressable=2, queued=5, sent=3, failed=2)),
        ("COMPLETED", Stats(**common, unaddressable=2, sent=6, failed=4)),
    ]


def test_what_a_script_leaves_out_of_its_stats_follows_from_the_rest():
    scenario = parse_scenario("operations: [{id: one, canceled: 5s, stats: {sent: 3, failed: 2, canceled: 5}}]")
    world = World(scenario, START)
    world.advance(START + 5 * SECOND)
    life = world.find("one")
    assert life is not None
    assert life.final == Stats(total=10, recipients=10, sent=3, failed=2, canceled=5)
    assert [found.id for found in row_state(world, "CANCELED")] == ["one"]


def test_steps_may_contradict_themselves():
    world = World(
        parse_scenario(
            """
            operations:
              - id: odd
                steps:
                  - {at: 0s, status: SCHEDULED, stats: {total: 1, sent: 5}}
                  - {at: 10s, status: COMPLETED, stats: {total: 1, queued: -3}}
                  - {at: 20s, status: PROCESSING}
            """
        ),
        START,
    )
    life = world.find("odd")
    assert life is not None
    shown: list[tuple[int, Status]] = [(0, "SCHEDULED"), (10, "COMPLETED"), (20, "PROCESSING")]
    for at, status in shown:
        world.advance(START + at * SECOND)
        assert state(life, START + at * SECOND).status == status
        assert [found.id for found in row_state(world, status)] == ["odd"]
    assert state(life, START).stats == Stats(total=1, sent=5)


def test_the_population_is_shared_out_by_weight():
    world = World(
        parse_scenario(
            "accounts: [{account_id: A, weight: 3}, {account_id: B, weight: 1, api_key: null}]\n"
            "population: {in_flight: 1000}"
        ),
        START,
    )
    assert len(world.timeline("A", None)) == pytest.approx(750, abs=60)
    assert len(world.timeline("A", None)) + len(world.timeline("B", None)) == 1_000


LIVES = st.lists(st.tuples(st.integers(0, 300 * SECOND), st.uuids().map(str)), unique_by=lambda pair: pair[1])


@settings(deadline=None)
@given(LIVES, st.tuples(st.integers(0, 300 * SECOND), st.integers(0, 300 * SECOND)), st.booleans(), st.data())
def test_a_timeline_is_a_sorted_list(places, ends, newest_first, data):
    timeline = Timeline()
    for place in places:
        timeline.add(life_at(*place))
    gone = data.draw(st.lists(st.sampled_from(places), unique=True)) if places else []
    for place in gone:
        timeline.remove(life_at(*place))
    kept = sorted(set(places) - set(gone))
    after, before = (ends[0], LAST_ID), (ends[1], "")
    found = [(life.created_at, life.id) for life in timeline.between(after, before, newest_first=newest_first)]
    assert found == sorted((place for place in kept if after < place < before), reverse=newest_first)
    assert len(timeline) == len(kept)
    oldest = timeline.oldest()
    assert (oldest and (oldest.created_at, oldest.id)) == (kept[0] if kept else None)


def life_at(created_at: int, operation_id: str) -> Life:
    return Life(
        id=operation_id,
        account_id=ACCOUNT,
        created_at=created_at,
        processing_at=created_at,
        ended_at=created_at + 1,
        outcome="COMPLETED",
        final=Stats(),
    )


def test_a_history_is_ended_operations_at_the_rate_of_those_to_come():
    text = "population: {in_flight: 50, lifetime: 2s..2m, share_canceled: 0.1, history: 2h}"
    scenario = parse_scenario(text)
    world = World(scenario, START)
    ended = [*row_state(world, "COMPLETED"), *row_state(world, "CANCELED")]
    expected = arrivals_per_second(scenario.population) * 7200
    assert world.in_flight() == 50
    assert expected * 0.9 < len(ended) < expected * 1.1
    assert all(START - 7200 * SECOND <= life.created_at < life.ended_at <= START for life in ended)
    halves = [sum(life.created_at < START - 3600 * SECOND for life in ended), len(ended)]
    assert 0.4 < halves[0] / halves[1] < 0.6


def test_a_history_changes_nothing_of_what_runs_and_arrives():
    with_history, without = (
        World(parse_scenario(f"population: {{in_flight: 20, history: {history}}}"), START) for history in ("1h", "0s")
    )
    for world in (with_history, without):
        world.advance(START + 60 * SECOND)
    assert {life.id for life in with_history.lives() if life.ended_at > START} == {
        life.id for life in without.lives() if life.ended_at > START
    }


def test_a_history_is_no_longer_than_records_are_kept():
    world = World(parse_scenario("{retention: 10m, population: {arrivals_per_second: 1, history: 2h}}"), START)
    assert min(life.created_at for life in world.lives()) > START - 600 * SECOND


def test_a_negative_history_is_an_error():
    with pytest.raises(ScenarioError, match="history"):
        parse_scenario("population: {history: -1h}")
