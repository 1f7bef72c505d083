"""The example and the manual cannot lie: every setting is in both, and nothing else is."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from tests.config.factories import CREDENTIALS
from watcher.config import format_duration, load
from watcher.config.rules import RULES
from watcher.config.schema import Setting, environment_name, settings
from watcher.core.settings import Account, Configuration

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config.example.yaml"
MANUAL = (ROOT / "docs" / "configuration.md").read_text()
ROWS = {
    row[0]: row[1:]
    for row in re.findall(r"^\| `([a-z_.\[\]]+)` \| (.+?) \| (.+?) \| (.*?) ?\| `(\w+)` \|$", MANUAL, re.MULTILINE)
}
PATHS = [setting.path for setting in settings()]


def paths(value: Any, prefix: str = "") -> list[str]:
    if isinstance(value, dict):
        return [path for key, child in value.items() for path in paths(child, f"{prefix}.{key}".lstrip("."))]
    if prefix == "accounts":
        return [path for child in value for path in paths(child, "accounts[]")]
    return [prefix]


def written(setting: Setting) -> str:  # noqa: PLR0911 - a case for each type
    match setting.default:
        case msgspec.NODEFAULT:
            return "needed"
        case None:
            return "`null`"
        case bool(value):
            return f"`{str(value).lower()}`"
        case timedelta() as value:
            return f"`{format_duration(value)}`"
        case tuple(values):
            return f"`[{', '.join(map(format_duration, values))}]`"
        case float(value):
            return f"`{value:g}`"
        case value:
            return f"`{value}`"


def test_the_example_loads_and_says_the_defaults() -> None:
    loaded = load(EXAMPLE, CREDENTIALS)
    account = Account(name="main", account_id=CREDENTIALS["TWILIO_ACCOUNT_SID"])
    assert loaded.configuration == Configuration(accounts=(account,))


def test_every_setting_occurs_in_the_example_and_nothing_else() -> None:
    assert sorted(paths(yaml.safe_load(EXAMPLE.read_text()))) == sorted(PATHS)


def test_every_setting_of_the_example_has_a_comment() -> None:
    lines = EXAMPLE.read_text().splitlines()
    settled = [line for line in lines if re.match(r" +(- )?[a-z_]+: ", line)]
    without = [line for line in settled if " # " not in line]
    assert [line.strip().partition(":")[0] for line in without] == ["auth_token_file"]  # its comment is above it


def test_the_manual_has_every_setting_and_no_others() -> None:
    assert sorted(ROWS) == sorted(PATHS)


@pytest.mark.parametrize("setting", list(settings()), ids=lambda setting: setting.path)
def test_the_manual_names_default_and_variable_of_a_setting(setting: Setting) -> None:
    _, default, _, variable = ROWS[setting.path]
    assert variable == environment_name(setting.path)
    assert default.partition(";")[0] == written(setting)


def test_every_rule_is_of_a_setting() -> None:
    lists = {f"{setting.path}[]" for setting in settings() if setting.is_list}
    assert set(RULES) <= set(PATHS) | lists


def test_every_link_of_the_manual_has_a_target() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", MANUAL):
        assert (ROOT / "docs" / target).exists()
