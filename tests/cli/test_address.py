"""Where web listens, by the scanner: it is never wrong where it is sure, and sure of everything usual."""

import contextlib
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from watcher.cli.address import UnsureError, find_web, scan

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("# web:\npolling: {freshness: 2s}\n", {}),
        ('web: {listen: "127.0.0.1:1", config_file: null}', {"listen": "127.0.0.1:1", "config_file": ""}),
        ("web:\n  listen: :10617\n", {"listen": ":10617"}),
        ("web: # here\r\n\r\n  # there\r\n  listen: '[::1]:1' # so\r\nlog: {level: info}\r\n", {"listen": "[::1]:1"}),
        ("---\naccounts:\n- name: web\nweb:\n    config_file: /etc/web.yml\n", {"config_file": "/etc/web.yml"}),
        ("admin:\n  listen: localhost:1\n", {}),
        ("web:\nadmin:\n  listen: localhost:1\n", {}),
        ("web: {}\n", {}),
        ("web: {config_file: ~}\n", {"config_file": ""}),
    ],
)
def test_common_forms_are_read_by_the_scanner(text: str, found: dict[str, str]):
    assert scan(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "web: &here {listen: ':1'}",
        "web: *there",
        "web: {listen: ':1'}\nweb: {listen: ':2'}",
        "web: {listen: :1}",
        "web: {listen: ':1', listen: ':2'}",
        "web: {listen:\n  ':1'}",
        "web:\n  listen: >-\n    :1",
        'web:\n  listen: "\\x3a1"',
        "web:\n  listen: ':1'\n    config_file: x",
        "web:\n  listen: ':1'\n  lisen: ':2'",
        '"web": {listen: ":1"}',
        "{web: {listen: ':1'}}",
        " web: {listen: ':1'}",
        "? web\n: {listen: ':1'}",
        "web:\n\tlisten: ':1'",
        "log: {}\u0085web: {listen: ':1'}",
    ],
)
def test_unusual_forms_are_left_to_a_parser(text: str):
    with pytest.raises(UnsureError):
        scan(text)


def test_the_example_is_read():
    text = (ROOT / "config.example.yaml").read_text()
    assert scan(text) == {"listen": yaml.safe_load(text)["web"]["listen"], "config_file": ""}


TOKENS = [
    *("web:", "web: ", "  listen: ", "  config_file: ", "admin:", "accounts:", "- ", "'", '"', ":1", "localhost:2"),
    *("{", "}", "listen: ", ", ", "\n", "\n", "\n  ", " ", "# ", "null", "~", "|", ">-", "&a", "*a", "\\", "\t"),
    *("[", "]", "---\n", "x", "\u0085", "\r\n"),
]


@given(st.lists(st.sampled_from(TOKENS), max_size=25).map("".join))
def test_where_the_scanner_is_sure_a_parser_agrees(text: str):
    with contextlib.suppress(UnsureError, yaml.YAMLError):
        found = scan(text)
        whole = yaml.safe_load(text)
        web = whole.get("web") if isinstance(whole, dict) else None
        known = {name: web.get(name) for name in found} if isinstance(web, dict) else {}
        assert {name: value for name, value in found.items() if value} == {
            name: str(value) for name, value in known.items() if value is not None
        }


@pytest.mark.parametrize(
    ("text", "environ", "found"),
    [
        (None, {}, (":10617", False)),
        (None, {"WATCHER_WEB__LISTEN": ":1"}, (":1", False)),
        ("web: {listen: ':2', config_file: x}", {}, (":2", True)),
        ("web: {listen: ':2', config_file: x}", {"WATCHER_WEB__LISTEN": ":1"}, (":1", True)),
        ("web: {listen: ':2', config_file: x}", {"WATCHER_WEB__CONFIG_FILE": ""}, (":2", False)),
        ("web: &a {listen: ':2', config_file: x}", {}, (":2", True)),
        ("web: &a {listen: 7}", {}, (":10617", False)),
        ("web: &a 7", {}, (":10617", False)),
        ("- web\n- [", {}, (":10617", False)),
        ('"web', {}, (":10617", False)),
        ("log: {level: info}", {}, (":10617", False)),
        ("\udcff", {}, (":10617", False)),
    ],
)
def test_the_environment_wins_over_the_file(
    tmp_path: Path, text: str | None, environ: dict[str, str], found: tuple[str, bool]
):
    file = tmp_path / "c.yaml"
    if text is not None:
        file.write_text(text, errors="surrogateescape")
    assert find_web(str(file), environ) == found
    assert find_web(None, {"WATCHER_CONFIG": str(file), **environ}) == found


@pytest.mark.parametrize("odd", [r'log: {format: "\UFFFFFFFF"}', "polling: {freshness: 2020-13-45}", "log: !!int x"])
def test_a_file_that_no_parser_can_read_means_the_defaults(tmp_path: Path, odd: str):
    file = tmp_path / "config.yaml"
    file.write_text(f'web:\n  listen: &a ":1"\n{odd}\n')
    assert find_web(str(file), {}) == find_web(None, {})


def test_a_pipe_is_no_reason_to_wait(tmp_path: Path):
    os.mkfifo(tmp_path / "c.yaml")
    assert find_web(str(tmp_path / "c.yaml"), {}) == (":10617", False)
