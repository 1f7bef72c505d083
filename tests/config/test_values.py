from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.config.factories import ACCOUNT_ID, CREDENTIALS, OPERATION_ID, Loader
from watcher.config import TcpAddress, UnixAddress, format_duration, is_loopback, load, parse_listen
from watcher.core.settings import Account, Configuration

if TYPE_CHECKING:
    from pathlib import Path

MINIMAL = Configuration(accounts=(Account(name="default", account_id=ACCOUNT_ID),))


@pytest.mark.parametrize("text", [None, "", "# nothing\n", "---\n", "~", "\ufeff", "{}", "accounts: []"])
def test_nothing_set_is_all_defaults(loader: Loader, text: str | None) -> None:
    assert loader.load(text).configuration == MINIMAL


@pytest.mark.parametrize(
    ("written", "wait"),
    [
        ("500ms", timedelta(milliseconds=500)),
        ("30s", timedelta(seconds=30)),
        ("15m", timedelta(minutes=15)),
        ("0001h", timedelta(hours=1)),
    ],
)
def test_a_duration_is_a_number_and_a_unit(loader: Loader, written: str, wait: timedelta) -> None:
    assert loader.value(f"polling: {{freshness: {written}}}", "polling", "freshness") == wait


@pytest.mark.parametrize("written", ["0s", "1ms", "1500ms", "90s", "1h", "24h", "36h", "48h", "7d"])
def test_a_duration_is_shown_as_it_is_written(loader: Loader, written: str) -> None:
    wait = loader.value(f"metrics: {{hold: {written}, hold_at_most: 30d}}", "metrics", "hold")
    assert format_duration(wait) == written.replace("48h", "2d")


def test_a_duration_below_milliseconds_is_still_shown() -> None:
    assert format_duration(timedelta(microseconds=250)) == "0.00025s"


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("metrics: {max_operations: 1_000}", ("metrics", "max_operations"), 1000),
        ("metrics: {max_operations: +7}", ("metrics", "max_operations"), 7),
        ("metrics: {labels: [a, b], counter_labels: [b]}", ("metrics", "labels"), ("a", "b")),
        ("metrics: {labels: []}", ("metrics", "labels"), ()),
        ("polling: {settle_after: []}", ("polling", "settle_after"), ()),
        ("web: {config_file: null}", ("web", "config_file"), None),
        ('admin: {listen: "unix:/run/a.sock"}', ("admin", "listen"), "unix:/run/a.sock"),
        ("admin: {allowed_hosts: [A.example, a.example]}", ("admin", "allowed_hosts"), ("a.example",)),
        ("storage: {url: 'sqlite:////var/lib/w.db'}", ("storage", "url"), "sqlite:////var/lib/w.db"),
        ("log: {level: debug, format: console}", ("log", "format"), "console"),
    ],
)
def test_a_value_is_what_was_written(loader: Loader, text: str, path: tuple[str | int, ...], value: Any) -> None:
    assert loader.value(text, *path) == value


@pytest.mark.parametrize(
    ("written", "value"), [("5", 5.0), ("0.5", 0.5), (".5", 0.5), ("1000", 1000.0), ("1.0e+1", 10.0), ("1_00", 100.0)]
)
def test_a_share_is_a_number(loader: Loader, written: str, value: float) -> None:
    text = f"accounts: [{{name: main, max_requests_per_second: {written}}}]"
    assert loader.value(text, "accounts", 0, "max_requests_per_second") == value


@pytest.mark.parametrize("written", ["9" * 400, "1.0e+999"])
def test_a_huge_share_is_refused(loader: Loader, written: str) -> None:
    (reported,) = loader.problems(f"accounts: [{{name: main, max_requests_per_second: {written}}}]")
    assert reported.endswith("must be at most 1,000, got far more")


@pytest.mark.parametrize(("written", "value"), [("true", True), ("yes", True), ("False", False), ("off", False)])
def test_a_truth_value_is_one_of_yaml(loader: Loader, written: str, value: bool) -> None:  # noqa: FBT001 - a value like others
    assert loader.value(f"accounts: [{{name: main, discover: {written}}}]", "accounts", 0, "discover") is value


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("https://comms.example.com/v1/", "https://comms.example.com/v1"),
        ("http://localhost:8080/v1", "http://localhost:8080/v1"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://[::1]:1/", "http://[::1]:1"),
    ],
)
def test_a_base_url_is_https_or_loopback_and_loses_its_last_slash(loader: Loader, written: str, value: str) -> None:
    text = f"accounts: [{{name: main, base_url: '{written}'}}]"
    assert loader.value(text, "accounts", 0, "base_url") == value


def test_plain_http_elsewhere_is_allowed_on_request(loader: Loader) -> None:
    text = "accounts: [{name: main, base_url: 'http://gateway:80/v1', allow_http: true}]"
    assert loader.value(text, "accounts", 0, "base_url") == "http://gateway:80/v1"


@pytest.mark.parametrize("host", ["[v1.x]", "xn--a", "a..b", "x" * 64])
def test_a_base_url_has_a_valid_host_name(loader: Loader, host: str) -> None:
    (reported,) = loader.problems(f"accounts: [{{name: main, base_url: 'https://{host}/v1'}}]")[:1]
    assert "accounts[0].base_url: " in reported


def test_an_operation_that_is_listed_twice_is_tracked_once(loader: Loader) -> None:
    text = f"accounts: [{{name: main, operations: [{OPERATION_ID}, {OPERATION_ID}]}}]"
    assert loader.value(text, "accounts", 0, "operations") == (OPERATION_ID,)


def test_a_value_may_be_a_yaml_alias(loader: Loader) -> None:
    assert loader.value("log: {level: &x info}\nmetrics: {labels: [*x]}", "metrics", "labels") == ("info",)


def test_a_text_has_a_maximum_length(loader: Loader) -> None:
    (reported,) = loader.problems(f"storage: {{url: 'sqlite:///{'x' * 5000}'}}")
    assert reported == "config.yaml:1: storage.url: the text is longer than 4096 characters"


def test_files_are_sought_beside_the_configuration(loader: Loader) -> None:
    token = loader.write("token", "admin-token\n")
    assert loader.value("admin: {token_file: token}", "admin", "token_file") == str(token)
    assert loader.value(f"admin: {{token_file: {token}}}", "admin", "token_file") == str(token)


def test_an_admin_listener_for_others_needs_a_token(loader: Loader) -> None:
    loader.write("token", "admin-token\n")
    loaded = loader.load('admin: {listen: ":10618", token_file: token}')
    assert loaded.admin_token is not None
    assert loaded.admin_token.read().reveal() == "admin-token"


def test_a_bad_token_file_is_reported_once(loader: Loader) -> None:
    assert loader.problems('admin: {listen: ":10618", token_file: 7}') == [
        "config.yaml:1: admin.token_file: expected text, got the number 7; put it in quotes"
    ]


def test_the_file_is_remembered(loader: Loader) -> None:
    assert loader.load("").file == loader.file
    assert loader.load(None).file is None


def test_the_environment_may_name_the_file(tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text("log: {level: debug}")
    assert load(None, CREDENTIALS | {"WATCHER_CONFIG": str(file)}).configuration.log.level == "debug"


def test_a_certificate_file_in_pem_form_is_taken(loader: Loader) -> None:
    certifi = pytest.importorskip("certifi")
    text = f"accounts: [{{name: main, ca_file: {certifi.where()}}}]"
    assert loader.value(text, "accounts", 0, "ca_file") == certifi.where()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":10617", TcpAddress(host=None, port=10617)),
        ("localhost:0", TcpAddress(host="localhost", port=0)),
        ("0.0.0.0:65535", TcpAddress(host="0.0.0.0", port=65535)),
        ("[::1]:1", TcpAddress(host="::1", port=1)),
        ("a-b.example_c.:1", TcpAddress(host="a-b.example_c.", port=1)),
        ("unix:/run/a.sock", UnixAddress(path="/run/a.sock")),
    ],
)
def test_an_address_is_parsed(text: str, address: TcpAddress | UnixAddress) -> None:
    assert parse_listen(text) == address


@pytest.mark.parametrize(
    "text", ["", ":", "a", "a:b", "a:1:2", "[]:1", "[::1:1", "a b:1", ":123456", "unix:", "unix:/" + "x" * 107]
)
def test_an_invalid_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|must"):
        parse_listen(text)


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "127.0.0.1", "127.255.0.1", "::1"])
def test_loopback_is_known_by_its_name(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "10.0.0.1", "localhost.example.com", "127.0.0.1.example.com"])
def test_what_is_not_loopback_by_its_name_is_not(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("web", "admin", "is_refused"),
    [
        ("localhost:1", "localhost:1", True),
        ("0.0.0.0:1", "127.0.0.1:1", True),
        ("10.0.0.1:1", "127.0.0.1:1", False),
        (":1", "localhost:2", False),
        ("localhost:0", "localhost:0", False),
    ],
)
def test_the_listeners_do_not_share_a_port(loader: Loader, web: str, admin: str, is_refused: bool) -> None:  # noqa: FBT001 - expected
    text = f"web: {{listen: '{web}'}}\nadmin: {{listen: '{admin}'}}"
    if is_refused:
        assert loader.problems(text)[0].startswith("config.yaml:2: admin.listen: port 1 is also")
    else:
        assert loader.value(text, "admin", "listen") == admin
