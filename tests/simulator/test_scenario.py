"""Scenario files: what they may say, and what is said about mistakes in them."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watcher.simulator import (
    Scenario,
    ScenarioError,
    built_in,
    built_in_names,
    load_scenario,
    parse_scenario,
    read_scenario,
)
from watcher.simulator.values import Counts, Duration, Durations

MISTAKES = [
    ("limit: {}", "scenario: Object contains unknown field `limit`"),
    ("limits: {retries: 3}", "unknown field `retries` - at `$.limits`"),
    ("latency: 5 seconds", "expected a duration such as 500ms, 30s or 2m, got '5 seconds' - at `$.latency`"),
    ("latency: 5", "expected a duration such as 500ms, 30s or 2m, got 5"),
    ("latency: true", "got True"),
    ("latency: 5s..1s", "expected one value or least..most, got '5s..1s'"),
    ("latency: -5s", "expected no negative value"),
    ("population: {recipients: many}", "expected a count such as 100 or 1..10000, got 'many'"),
    ("population: {share_failing: 2}", "`$.population.share_failing`"),
    ("accounts: []", "Expected `array` of length >= 1"),
    ("accounts: [{account_id: A}, {account_id: A}]", "two accounts have the same account_id"),
    ("operations: [{account: unknown}]", "operations of unknown accounts: unknown"),
    ("operations: [{id: a}, {id: a}]", "two operations have the same id"),
    ("operations: [{completed: 5s, canceled: 5s}]", "completed or canceled, not both - at `$.operations[0]`"),
    ("operations: [{processing: 9s, completed: 5s}]", "not in order"),
    ("operations: [{completed: 0s}]", "not in order"),
    (
        "operations: [{completed: 5s, steps: [{at: 1s, status: PROCESSING}]}]",
        "steps replace processing, completed and canceled",
    ),
    ("faults: [{kind: sulking}]", "Invalid enum value 'sulking' - at `$.faults[0].kind`"),
    ("faults: [{kind: slow, rows: 3}]", "a fault of kind slow has no rows - at `$.faults[0]`"),
    ("faults: [{kind: status}]", "needs a status"),
    ("faults: [{kind: empty, every: 2, probability: 0.5}]", "not both"),
    ("seed: [", "scenario: not valid YAML: while parsing a flow node"),
    ('"\\UFFFFFFFF"', "scenario: not valid YAML: "),
    (f"seed: {'9' * 5000}", "scenario: not valid YAML: "),
    (f"%YAML 1.{'9' * 5000}\n--- {{}}", "scenario: not valid YAML: "),
    ("seed: 2020-13-45", "scenario: not valid YAML: "),
    ("seed: !!timestamp x", "scenario: not valid YAML: "),
    ("seed: !!int x", "scenario: not valid YAML: "),
    ("- 1", "Expected `object`, got `array`"),
]


@pytest.mark.parametrize(("text", "said"), MISTAKES, ids=[text for text, _ in MISTAKES])
def test_a_mistake_is_named_with_its_place(text: str, said: str):
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(text)
    assert said in str(caught.value)


def test_nothing_at_all_is_a_scenario():
    assert parse_scenario("") == Scenario()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(ScenarioError, match=r"missing\.yaml: .*No such file"):
        read_scenario(tmp_path / "missing.yaml")


def test_a_file_is_read(tmp_path: Path):
    path = tmp_path / "busy.yaml"
    path.write_text("seed: 7\nlatency: 5ms..10ms\n")
    assert read_scenario(path) == Scenario(seed=7, latency=Durations((5_000, 10_000)))


def test_a_scenario_is_loaded_by_its_name_or_from_a_file(tmp_path: Path):
    (tmp_path / "demo").write_text("seed: 7")
    assert load_scenario("demo") == built_in("demo")
    assert load_scenario(str(tmp_path / "demo")) == Scenario(seed=7)


def test_the_scenarios_that_come_along_can_be_read():
    assert built_in_names() == ("calm", "demo", "nasty")
    assert built_in("calm").faults == ()
    assert built_in("demo").population.in_flight == 40
    assert len({fault.kind for fault in built_in("nasty").faults}) > 25


def test_an_unknown_scenario_is_refused_with_those_that_exist():
    with pytest.raises(ScenarioError, match="no scenario is called 'wild', only calm, demo, nasty"):
        built_in("wild")


def test_an_account_keeps_its_secrets_to_itself():
    account = Scenario().accounts[0]
    assert account.auth_token not in repr(account)
    assert str(account.api_key_secret) not in repr(Scenario())


@pytest.mark.parametrize(
    ("written", "microseconds"),
    [("500ms", 500_000), ("1.5s", 1_500_000), ("2m", 120_000_000), ("-1h", -3_600_000_000), ("7d", 604_800_000_000)],
)
def test_durations_have_units(written: str, microseconds: int):
    assert Duration.parse(written) == microseconds


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers())
def test_what_is_drawn_lies_within_its_range(least: int, more: int, seed: int):
    counts = Counts((least, least + more))
    rng = random.Random(seed)
    assert least <= counts.draw(rng) <= least + more
    assert least <= counts.draw_evenly(rng) <= least + more


def test_nothing_can_be_drawn_where_nothing_is_allowed():
    assert {Counts.parse("0..3").draw(random.Random(seed)) for seed in range(200)} == {0, 1, 2, 3}


def test_the_mean_is_that_of_many_draws():
    durations = Durations.parse("2s..2h")
    rng = random.Random(1)
    drawn = sum(durations.draw(rng) for _ in range(20_000)) / 20_000
    assert drawn == pytest.approx(durations.mean, rel=0.05)
