from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.config.factories import ACCOUNT_ID, API_KEY, OPERATION_ID
from watcher.config import describe, warnings_of

if TYPE_CHECKING:
    from tests.config.factories import Loader

ABSOLUTE = "storage: {url: 'sqlite:////var/lib/watcher.db'}\n"


def test_the_defaults_are_described_in_plain_words(loader: Loader) -> None:
    assert describe(loader.load(None)) == [
        "configuration: no file, the environment alone",
        f"account default: polls https://comms.twilio.com/v1 as {ACCOUNT_ID}",
        "  auth token from environment variable TWILIO_AUTH_TOKEN",
        (
            "  share: 5 requests/s, at most 4 at a time; keeps 5s freshness up to about 25 operations by single GETs, "
            "beyond that by sweeping lists"
        ),
        "  tracks 0 operations from the start and those that are registered",
        "polling: a change is known at most 5s late, while limits allow",
        "  a request may take 10s",
        "  an ended operation is polled again after 30s and 2m",
        "  an operation may be unknown upstream for 2m",
        "storage: SQLite in watcher.db",
        "  finished operations and published events stay readable for 24h",
        (
            "metrics: a finished operation is shown for 10m after the scrape that carried its end, at most 24h; "
            "at most 1,000 operations are shown"
        ),
        "  user labels: none; on counters: none",
        "web: port 10617 of all addresses, read only; no TLS, no password",
        "admin: localhost:10618; without a token",
        "log: json, from info up; events of operations always",
    ]


def test_settings_are_described_in_plain_words(loader: Loader) -> None:
    certifi = pytest.importorskip("certifi")
    loader.write("secret", "hidden")
    loader.write("web.yaml", "{}")
    said = describe(
        loader.load(
            f"accounts: [{{name: main, api_key: {API_KEY}, api_key_secret_file: secret, discover: true, "
            f"operations: [{OPERATION_ID}], ca_file: {certifi.where()}}}]\n"
            "polling: {settle_after: []}\n"
            "metrics: {labels: [team], counter_labels: [team]}\n"
            "web: {config_file: web.yaml}\n"
            "admin: {listen: 'unix:/run/a.sock', token_file: secret}\n",
            {},
        )
    )
    assert f"configuration: {loader.file}" in said
    assert f"account main: polls https://comms.twilio.com/v1 as {API_KEY}" in said
    assert f"  secret of the API key from file {loader.directory}/secret" in said
    assert "  tracks 1 operations from the start and those that are registered" in said
    since = "on an empty store, those of the last 24h that have not ended"
    assert f"  discovers every operation of the account; {since}" in said
    assert f"  trusts the certificates in {certifi.where()}" in said
    assert "  the end of an operation is confirmed by one more read" in said
    assert "  user labels: team; on counters: team" in said
    place = f"{loader.directory}/web.yaml"
    assert f"web: port 10617 of all addresses, read only; no TLS, no password, as in {place}" in said
    assert "admin: the Unix socket /run/a.sock; with a token" in said


def test_a_plain_configuration_has_no_warnings(loader: Loader) -> None:
    assert warnings_of(loader.load(ABSOLUTE)) == []


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("accounts: [{name: main, discover: true}]", "account main: discover tracks the whole account"),
        (
            "accounts: [{name: main, max_requests_per_second: 5.5}]",
            "account main: 5.5 requests/s is above the recommended 5",
        ),
        (
            "accounts: [{name: main, max_concurrency: 5}]",
            "account main: 5 requests at a time is above the recommended 4",
        ),
        ("accounts: [{name: main, allow_http: true}]", "account main: allow_http lets credentials travel in the clear"),
        ("polling: {freshness: 500ms}", "polling.freshness: 500ms costs many requests for little gain"),
        ("polling: {request_timeout: 2m}", "polling.request_timeout: one slow answer may delay others by 2m"),
        ("polling: {settle_after: []}", "polling.settle_after: is empty"),
        ("metrics: {hold: 30s}", "metrics.hold: 30s is short"),
        ("metrics: {hold_at_most: 48h}", "storage.keep: 24h is shorter than metrics.hold_at_most (2d), so details of"),
        ("metrics: {max_operations: 0}", "metrics.max_operations: is 0"),
        (
            "metrics: {labels: [team, app], counter_labels: [team, x]}",
            "metrics.counter_labels: x is not in metrics.labels",
        ),
        ("metrics: {counter_labels: [team]}", "metrics.counter_labels: team is not in metrics.labels"),
        ("metrics: {labels: [job]}", "metrics.labels: Prometheus sets job itself and renames ours to exported_job"),
    ],
)
def test_a_doubtful_setting_has_a_warning(loader: Loader, text: str, warning: str) -> None:
    (said,) = warnings_of(loader.load(ABSOLUTE + text))
    assert said.startswith(warning)


def test_a_relative_path_of_the_database_has_a_warning(loader: Loader) -> None:
    (said,) = warnings_of(loader.load(None))
    assert said.startswith("storage.url: is a relative path")


def test_a_secret_that_all_users_can_read_has_a_warning(loader: Loader) -> None:
    for name in ("token", "admin"):
        loader.write(name, "x").chmod(0o644)
    text = f"accounts: [{{name: main, account_id: {ACCOUNT_ID}, auth_token_file: token}}]\nadmin: {{token_file: admin}}"
    assert warnings_of(loader.load(ABSOLUTE + text, {})) == [
        f"account main: every user of this machine can read the secret in {loader.directory}/token",
        f"admin.token_file: every user of this machine can read the secret in {loader.directory}/admin",
    ]


def test_credentials_that_are_not_used_have_a_warning(loader: Loader) -> None:
    loader.write("token", "x").chmod(0o600)
    account = f"{{name: NAME, account_id: ID, auth_token_file: {loader.directory}/token}}"
    accounts = [account.replace("NAME", f"a{digit}").replace("ID", f"AC{digit * 32}") for digit in "12"]
    said = warnings_of(loader.load(f"{ABSOLUTE}accounts: [{', '.join(accounts)}]"))
    assert said == [
        "TWILIO_ACCOUNT_SID is not used: every account has credentials of its own",
        "TWILIO_AUTH_TOKEN is not used: every account has credentials of its own",
    ]
