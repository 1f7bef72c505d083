from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.config.factories import CREDENTIALS, Loader
from watcher.config import ConfigurationError, Problem, load
from watcher.config.problems import suggest
from watcher.core.errors import OperatorError
from watcher.core.printable import shortened

if TYPE_CHECKING:
    from pathlib import Path


def test_a_problem_reads_as_place_path_fact_and_suggestion() -> None:
    problem = Problem(
        file="config.yaml", line=12, path="polling.freshnes", message="unknown key", suggestion="freshness"
    )
    assert str(problem) == 'config.yaml:12: polling.freshnes: unknown key; did you mean "freshness"?'


def test_a_problem_of_the_whole_file_has_neither_line_nor_path() -> None:
    assert (
        str(Problem(file="c.yaml", line=None, path="", message="is larger than 1 MiB"))
        == "c.yaml: is larger than 1 MiB"
    )


def test_all_problems_are_reported_at_once_in_the_order_of_the_file_then_those_of_the_environment(
    loader: Loader,
) -> None:
    reported = loader.problems(
        "web: {listen: x}\nlog: {level: loud}\npolling: {freshness: 0s}\n",
        CREDENTIALS | {"WATCHER_LOG__FORMAT": "xml", "TWILIO_ACCOUNT_SID": "AC"},
    )
    assert [line.partition(": ")[0] for line in reported] == [
        "config.yaml:1",
        "config.yaml:2",
        "config.yaml:3",
        "environment",
        "environment",
    ]


def test_the_text_of_the_error_is_a_line_for_each_problem(loader: Loader) -> None:
    with pytest.raises(ConfigurationError) as caught:
        loader.load("a: 1\nb: 2\n")
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
    assert isinstance(caught.value, OperatorError)


def test_after_a_hundred_problems_the_check_stops(loader: Loader) -> None:
    reported = loader.problems("\n".join(f"key{number}: 1" for number in range(500)))
    assert len(reported) == 101
    assert reported[0] == "config.yaml: has 100 problems and perhaps more"


def test_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.yaml: cannot be read: no such file or directory"):
        load(tmp_path / "none.yaml", CREDENTIALS)


def test_a_directory_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: is a directory"):
        load(tmp_path, CREDENTIALS)


def test_a_name_that_no_file_can_have_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"x\\x00: cannot be read: not a valid file name"):
        load(tmp_path / "x\0", CREDENTIALS)


def test_a_file_over_a_mebibyte_is_refused(loader: Loader) -> None:
    assert loader.problems("#" * (1024 * 1024 + 1)) == ["config.yaml: is larger than 1 MiB"]


@pytest.mark.unmeasured
def test_aliases_cannot_make_a_small_file_a_huge_one(loader: Loader) -> None:
    ids = ", ".join(["comms_operation_01h9krwprkeee8fzqspvwy6nq8"] * 1000)
    bomb = f"accounts:\n- &a {{name: a, operations: [{ids}]}}\n" + "- *a\n" * 1000
    assert loader.problems(bomb) == [
        "config.yaml:2: accounts[99].operations[498]: more than 100,000 values, counting each alias"
    ]


def test_an_alias_into_itself_ends(loader: Loader) -> None:
    assert loader.problems("metrics: &m {labels: [*m], counter_labels: *m}") == [
        "config.yaml:1: metrics.labels[0]: expected a single value, got a mapping",
        "config.yaml:1: metrics.counter_labels: expected a list, got a mapping",
    ]


def test_a_flood_of_brackets_does_not_exhaust_the_stack(loader: Loader) -> None:
    assert loader.problems("[" * 20_000) == ["config.yaml:1: is not valid YAML: too deeply nested"]


@pytest.mark.parametrize(
    "text",
    [r'log: "\UFFFFFFFF"', r'log: "\U00110000"', f"%YAML 1.{'9' * 5000}", f"%YAML {'9' * 5000}.1"],
    ids=["beyond 32 bits", "beyond Unicode", "a long minor version", "a long version"],
)
def test_characters_and_versions_that_do_not_exist_are_reported(loader: Loader, text: str) -> None:
    assert loader.problems(f"\n{text}") == [
        "config.yaml:2: is not valid YAML: a character or version that does not exist"
    ]


def test_without_file_and_environment_the_problem_says_what_to_set(loader: Loader) -> None:
    (reported,) = loader.problems(None, {})
    assert reported == (
        "environment: accounts[0]: no credentials; set account_id and auth_token_file, or api_key and "
        "api_key_secret_file, or in the environment TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN, or TWILIO_API_KEY and "
        "TWILIO_API_KEY_SECRET (each also with _FILE)"
    )


@pytest.mark.parametrize(("word", "meant"), [("Freshness", "freshness"), ("colour", None), ("f" * 100_000, None)])
def test_only_a_similar_name_is_suggested(word: str, meant: str | None) -> None:
    assert suggest(word, ["freshness", "request_timeout"]) == meant


def test_what_is_shown_is_short_and_printable() -> None:
    assert shortened("a\x1b[31m\ud800") == "a\\x1b[31m\\ud800"
    assert shortened("x" * 100) == "x" * 59 + "…"
