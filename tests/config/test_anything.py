"""Whatever is given as a configuration, the answer is a configuration or its problems, and never shows a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.config.factories import ACCOUNT_ID, API_KEY, OPERATION_ID, TOKEN
from watcher.config import ConfigurationError, describe, load, warnings_of
from watcher.config.schema import SCHEMA, Section, Setting, environment_name, settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LIKELY = st.sampled_from(
    [
        *(None, True, 0, 5, -1, 0.5, float("nan"), "", "5s", "24h", "0s", ":10617", "unix:/a", "json", "info", "main"),
        *(
            ACCOUNT_ID,
            API_KEY,
            OPERATION_ID,
            "https://a/v1",
            "sqlite:///a.db",
            "token",
            "team",
            "yes",
            "\0",
            "http://a",
        ),
    ]
)
SCALARS = st.one_of(LIKELY, st.text(max_size=20), st.integers(), st.floats(), st.dates(), st.binary(max_size=5))
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5) | SCALARS, inner, max_size=4)
    ),
)


def shaped(node: Setting | Section) -> st.SearchStrategy[Any]:
    """Return configurations that are nearly right: the keys mostly known, the values mostly likely."""
    if isinstance(node, Setting):
        return st.lists(LIKELY, max_size=3) | LIKELY if node.is_list else LIKELY | ANYTHING
    children = {name: shaped(child) for name, child in node.children.items()}
    mapping = st.fixed_dictionaries({}, optional=children)
    return st.lists(mapping, max_size=3) if node.is_list else mapping


NAMES = [
    *(environment_name(setting.path) for setting in settings()),
    *(f"TWILIO_{part}{suffix}" for part in ("ACCOUNT_SID", "API_KEY") for suffix in ("", "_FILE")),
    *(
        "TWILIO_AUTH_TOKEN_FILE",
        "TWILIO_API_KEY_SECRET_FILE",
        "WATCHER_ACCOUNTS__1__NAME",
        "WATCHER_X__Y",
        "WATCHER_PORT",
    ),
]
ENVIRONMENTS = st.dictionaries(st.sampled_from(NAMES), st.text(max_size=20) | LIKELY.map(str), max_size=4)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("anything")
    (path / "token").write_text(TOKEN)
    return path


def outcome(directory: Path, content: bytes, environ: Mapping[str, str]) -> str:
    """Return all that is said; an exception other than `ConfigurationError` goes through and fails the test."""
    file = directory / "config.yaml"
    file.write_bytes(content)
    try:
        loaded = load(file, {"TWILIO_AUTH_TOKEN": TOKEN, **environ})
    except ConfigurationError as exc:
        return str(exc)
    return "\n".join([*describe(loaded), *warnings_of(loaded), repr(loaded)])


any_number = hypothesis_settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])


@any_number
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass")))
def test_arbitrary_bytes_are_a_configuration_or_a_problem(directory: Path, content: bytes) -> None:
    assert TOKEN not in outcome(directory, content, {})


@any_number
@given(content=st.text("[]{}&*!|>'\"%@`-?:,# \n\tab1<~=.", max_size=60))
def test_the_marks_of_yaml_are_a_configuration_or_a_problem(directory: Path, content: str) -> None:
    assert TOKEN not in outcome(directory, content.encode(), {})


@any_number
@given(value=shaped(SCHEMA) | ANYTHING, environ=ENVIRONMENTS)
def test_arbitrary_values_are_a_configuration_or_a_problem(
    directory: Path, value: Any, environ: dict[str, str]
) -> None:
    content = yaml.safe_dump(value, allow_unicode=True).encode(errors="surrogatepass")
    assert TOKEN not in outcome(directory, content, environ)
