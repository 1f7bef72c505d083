from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.config.factories import ACCOUNT_ID, CREDENTIALS, OPERATION_ID, OTHER_ACCOUNT_ID
from watcher.config.schema import environment_name, settings

if TYPE_CHECKING:
    from tests.config.factories import Loader


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("POLLING__FRESHNESS", "2s", timedelta(seconds=2)),
        ("POLLING__SETTLE_AFTER", "1s, 2m", (timedelta(seconds=1), timedelta(minutes=2))),
        ("METRICS__LABELS", "team,campaign", ("team", "campaign")),
        ("METRICS__LABELS", "", ()),
        ("METRICS__MAX_OPERATIONS", "7", 7),
        ("WEB__CONFIG_FILE", "", None),
        ("ACCOUNTS__0__NAME", "123", "123"),
        ("ACCOUNTS__0__BASE_URL", "http://localhost:1/v1", "http://localhost:1/v1"),
        ("ACCOUNTS__0__DISCOVER", "TRUE", True),
        ("ACCOUNTS__0__DISCOVER", "1", True),
        ("ACCOUNTS__0__DISCOVER", "0", False),
        ("ACCOUNTS__0__MAX_REQUESTS_PER_SECOND", "2.5", 2.5),
        ("ACCOUNTS__0__OPERATIONS", OPERATION_ID, (OPERATION_ID,)),
        ("LOG__LEVEL", "warning", "warning"),
    ],
)
def test_every_kind_of_setting_comes_from_the_environment(loader: Loader, variable: str, text: str, value: Any) -> None:
    path = [int(part) if part.isdigit() else part for part in variable.lower().split("__")]
    assert loader.value(None, *path, environ={f"WATCHER_{variable}": text}) == value


def test_the_environment_wins_over_the_file(loader: Loader) -> None:
    text = "log: {level: debug}\naccounts: [{name: main}]"
    environ = {"WATCHER_LOG__LEVEL": "error", "WATCHER_ACCOUNTS__0__NAME": "other"}
    assert loader.value(text, "log", "level", environ=environ) == "error"
    assert loader.value(text, "accounts", 0, "name", environ=environ) == "other"


def test_an_error_of_the_file_is_reported_also_when_the_environment_overrides_it(loader: Loader) -> None:
    assert loader.problems("log: {level: loud}", CREDENTIALS | {"WATCHER_LOG__LEVEL": "info"}) == [
        'config.yaml:1: log.level: expected one of debug, info, warning, error, got "loud"'
    ]


@pytest.mark.parametrize(
    "name", ["WATCHER_PORT", "WATCHER_PORT_10617_TCP_ADDR", "WATCHER_SERVICE_HOST", "WATCHER_", "OTHER__X"]
)
def test_variables_without_our_prefix_are_ignored(loader: Loader, name: str) -> None:
    assert loader.load(None, CREDENTIALS | {name: "tcp://10.0.0.1:10617"}).warnings == ()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("WATCHER_POLLING__FRESHNES", 'unknown setting; did you mean "WATCHER_POLLING__FRESHNESS"?'),
        ("WATCHER_polling__freshness", 'unknown setting; did you mean "WATCHER_POLLING__FRESHNESS"?'),
        ("WATCHER_ACCOUNTS__2__NAM", 'unknown setting; did you mean "WATCHER_ACCOUNTS__2__NAME"?'),
        ("WATCHER_X__Y", "unknown setting"),
        (
            "WATCHER_ACCOUNTS__3__NAME",
            "there is no account 3: accounts are counted from 0, and 0 are defined before this one",
        ),
    ],
)
def test_an_unknown_variable_with_our_prefix_is_an_error(loader: Loader, name: str, message: str) -> None:
    assert loader.problems(None, CREDENTIALS | {name: "x"}) == [f"environment: {name}: {message}"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("WATCHER_POLLING__FRESHNESS", "", 'expected a duration such as 500ms, 30s, 15m, 24h or 7d, got the text ""'),
        (
            "WATCHER_POLLING__FRESHNESS",
            "5",
            'expected a duration such as 500ms, 30s, 15m, 24h or 7d, got the text "5", which has no unit',
        ),
        ("WATCHER_METRICS__MAX_OPERATIONS", "many", 'expected a whole number, got the text "many"'),
        (
            "WATCHER_METRICS__MAX_OPERATIONS",
            "010",
            'expected a whole number in plain decimal digits, got the text "010"',
        ),
        ("WATCHER_ACCOUNTS__0__MAX_REQUESTS_PER_SECOND", "x", 'expected a number, got the text "x"'),
        ("WATCHER_ACCOUNTS__0__DISCOVER", "2", 'expected true or false, got the text "2"'),
        ("WATCHER_METRICS__LABELS", "a,,b", "the text is empty"),
        ("WATCHER_STORAGE__URL", "", "the text is empty"),
        ("WATCHER_STORAGE__URL", "mysql://", "expected sqlite:///relative/path.db or sqlite:////absolute/path.db"),
        ("WATCHER_STORAGE__URL", "sqlite:///\udcff", "the text has line breaks or characters that cannot be printed"),
    ],
)
def test_a_bad_value_is_reported_with_the_name_of_the_variable(
    loader: Loader, name: str, text: str, message: str
) -> None:
    assert loader.problems(None, CREDENTIALS | {name: text}) == [f"environment: {name}: {message}"]


def test_problems_between_settings_name_the_variable_too(loader: Loader) -> None:
    assert loader.problems("metrics: {hold_at_most: 1h}", CREDENTIALS | {"WATCHER_METRICS__HOLD": "2h"}) == [
        "environment: WATCHER_METRICS__HOLD: must not be longer than hold_at_most (1h), got 2h"
    ]


def test_the_environment_alone_can_make_several_accounts(loader: Loader) -> None:
    loader.write("token", "x")
    environ = CREDENTIALS | {
        "WATCHER_ACCOUNTS__1__NAME": "second",
        "WATCHER_ACCOUNTS__1__ACCOUNT_ID": OTHER_ACCOUNT_ID,
        "WATCHER_ACCOUNTS__1__AUTH_TOKEN_FILE": f"{loader.directory}/token",
        "WATCHER_ACCOUNTS__0__MAX_CONCURRENCY": "2",
    }
    first, second = loader.load(None, environ).configuration.accounts
    assert (first.name, first.account_id, first.max_concurrency) == ("default", ACCOUNT_ID, 2)
    assert (second.name, second.account_id) == ("second", OTHER_ACCOUNT_ID)


def test_accounts_of_the_environment_are_numbers_not_names_in_order(loader: Loader) -> None:
    names = {f"WATCHER_ACCOUNTS__{index}__NAME": f"a{index}" for index in range(12)}
    reported = loader.problems(None, CREDENTIALS | names)
    assert len(reported) == 11
    assert all("no credentials" in line for line in reported)


def test_every_setting_has_a_variable_of_its_own() -> None:
    names = [environment_name(setting.path) for setting in settings()]
    assert len(set(names)) == len(names)
    assert all("__" in name for name in names)
