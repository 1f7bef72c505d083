from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.config.factories import ACCOUNT_ID, API_KEY, CREDENTIALS, OTHER_ACCOUNT_ID, TOKEN
from watcher.config import EnvironmentSecret, FileSecret, username

if TYPE_CHECKING:
    from tests.config.factories import Loader

KEY = {"TWILIO_API_KEY": API_KEY, "TWILIO_API_KEY_SECRET": "key-secret"}
OTHER_KEY = "SK" + "1" * 32
UNREADABLE = "cannot read /none: no such file or directory; create the file or make it readable for this user"


@pytest.fixture
def by_token(loader: Loader) -> str:
    loader.write("token", "token-of-the-file\n")
    return f"accounts: [{{name: main, account_id: {OTHER_ACCOUNT_ID}, auth_token_file: token}}]"


@pytest.fixture
def by_key(loader: Loader) -> str:
    loader.write("secret", "secret-of-the-file\n")
    return f"accounts: [{{name: main, api_key: {OTHER_KEY}, api_key_secret_file: secret}}]"


def used(loader: Loader, text: str | None, environ: dict[str, str]) -> tuple[str, str]:
    loaded = loader.load(text, environ)
    (account,) = loaded.configuration.accounts
    return username(account), loaded.secrets[account.name].read().reveal()


def test_an_account_uses_the_pair_of_the_file(loader: Loader, by_token: str, by_key: str) -> None:
    assert used(loader, by_token, {}) == (OTHER_ACCOUNT_ID, "token-of-the-file")
    assert used(loader, by_key, {}) == (OTHER_KEY, "secret-of-the-file")


def test_without_a_file_the_account_is_called_default(loader: Loader) -> None:
    assert used(loader, None, CREDENTIALS) == (ACCOUNT_ID, TOKEN)
    assert loader.load(None, CREDENTIALS).configuration.accounts[0].name == "default"


def test_an_api_key_needs_no_account_id(loader: Loader) -> None:
    assert used(loader, None, KEY) == (API_KEY, "key-secret")
    assert loader.load(None, KEY).configuration.accounts[0].account_id is None


def test_an_account_id_may_be_set_beside_an_api_key(loader: Loader) -> None:
    account = loader.load(None, KEY | {"TWILIO_ACCOUNT_SID": ACCOUNT_ID}).configuration.accounts[0]
    assert (account.account_id, account.api_key) == (ACCOUNT_ID, API_KEY)


def test_the_environment_replaces_the_pair_of_the_file(loader: Loader, by_token: str, by_key: str) -> None:
    assert used(loader, by_token, CREDENTIALS) == (ACCOUNT_ID, TOKEN)
    assert used(loader, by_key, CREDENTIALS) == (ACCOUNT_ID, TOKEN)
    assert used(loader, by_token, KEY) == (API_KEY, "key-secret")


def test_the_environment_may_give_the_secret_alone(loader: Loader, by_token: str) -> None:
    assert used(loader, by_token, {"TWILIO_AUTH_TOKEN": TOKEN}) == (OTHER_ACCOUNT_ID, TOKEN)


def test_of_two_whole_pairs_in_the_environment_the_api_key_is_taken(loader: Loader) -> None:
    assert used(loader, None, CREDENTIALS | KEY) == (API_KEY, "key-secret")
    assert loader.load(None, CREDENTIALS | KEY).warnings == (
        "TWILIO_AUTH_TOKEN is not used: the other pair of credentials is used",
    )


def test_an_incomplete_pair_is_not_used(loader: Loader) -> None:
    environ = CREDENTIALS | {"TWILIO_API_KEY": API_KEY}
    assert used(loader, None, environ) == (ACCOUNT_ID, TOKEN)
    assert loader.load(None, environ).warnings == ("TWILIO_API_KEY is not used: the other pair of credentials is used",)


def test_a_pair_that_is_not_used_is_not_in_the_settings(loader: Loader, by_token: str, by_key: str) -> None:
    account = loader.load(by_key, CREDENTIALS).configuration.accounts[0]
    assert (account.api_key, account.api_key_secret_file, account.auth_token_file) == (None, None, None)
    account = loader.load(by_token, KEY).configuration.accounts[0]
    assert (account.api_key, account.auth_token_file) == (API_KEY, None)


def test_each_variable_may_name_a_file(loader: Loader) -> None:
    paths = {name: loader.write(name, f"{text}\n") for name, text in (CREDENTIALS | KEY).items()}
    files = {f"{name}_FILE": str(path) for name, path in paths.items()}
    assert used(loader, None, {name: file for name, file in files.items() if "KEY" not in name}) == (ACCOUNT_ID, TOKEN)
    assert used(loader, None, {name: file for name, file in files.items() if "KEY" in name}) == (API_KEY, "key-secret")
    account = loader.load(None, files).configuration.accounts[0]
    assert account.api_key_secret_file == str(paths["TWILIO_API_KEY_SECRET"])


def test_an_empty_variable_counts_as_not_set(loader: Loader) -> None:
    empty = {"TWILIO_AUTH_TOKEN_FILE": "", "TWILIO_API_KEY": "", "TWILIO_API_KEY_SECRET": ""}
    assert used(loader, None, CREDENTIALS | empty) == (ACCOUNT_ID, TOKEN)


def test_of_several_accounts_the_first_without_a_secret_uses_the_environment(loader: Loader) -> None:
    loader.write("token", "x")
    given = f"{{name: a, account_id: {OTHER_ACCOUNT_ID}, auth_token_file: token}}"
    text = f"accounts: [{given}, {{name: b, account_id: null}}]"
    loaded = loader.load(text)
    assert isinstance(loaded.secrets["a"], FileSecret)
    assert isinstance(loaded.secrets["b"], EnvironmentSecret)
    assert loaded.configuration.accounts[1].account_id == ACCOUNT_ID


def test_where_each_account_has_a_secret_the_environment_is_not_used(
    loader: Loader, by_token: str, by_key: str
) -> None:
    first, second = (text.removeprefix("accounts: [").removesuffix("]") for text in (by_token, by_key))
    text = f"accounts: [{first.replace('main', 'other')}, {second}]"
    loaded = loader.load(text)
    assert {name: secret.read().reveal() for name, secret in loaded.secrets.items()} == {
        "other": "token-of-the-file",
        "main": "secret-of-the-file",
    }
    assert loaded.warnings == (
        "TWILIO_ACCOUNT_SID is not used: every account has credentials of its own",
        "TWILIO_AUTH_TOKEN is not used: every account has credentials of its own",
    )


ID = {"TWILIO_ACCOUNT_SID": ACCOUNT_ID}


@pytest.mark.parametrize(
    ("environ", "place", "message"),
    [
        (CREDENTIALS | {"TWILIO_ACCOUNT_SID": "AC12"}, "ACCOUNT_SID", "expected AC followed by 32 hexadecimal digits"),
        (KEY | {"TWILIO_API_KEY": ACCOUNT_ID}, "API_KEY", "expected SK followed by 32 hexadecimal digits"),
        (ID | {"TWILIO_AUTH_TOKEN": "  "}, "AUTH_TOKEN", "the value is empty; write the secret into it"),
        (
            ID | {"TWILIO_AUTH_TOKEN": "a\nb"},
            "AUTH_TOKEN",
            "the value has more than one line; leave only the secret in it",
        ),
        (
            ID | {"TWILIO_AUTH_TOKEN": "a\udcff"},
            "AUTH_TOKEN",
            "the value is not UTF-8 text; write the secret as one line of text",
        ),
        (
            CREDENTIALS | {"TWILIO_AUTH_TOKEN_FILE": "x"},
            "AUTH_TOKEN",
            "set together with TWILIO_AUTH_TOKEN_FILE; keep one of them",
        ),
        (
            ID | {"TWILIO_AUTH_TOKEN_FILE": "a\0b"},
            "AUTH_TOKEN_FILE",
            "the text has line breaks or characters that cannot be printed",
        ),
        (ID | {"TWILIO_AUTH_TOKEN_FILE": "/none"}, "AUTH_TOKEN_FILE", UNREADABLE),
        (
            {"TWILIO_API_KEY": API_KEY, "TWILIO_API_KEY_SECRET_FILE": "/none"},
            "API_KEY_SECRET_FILE",
            UNREADABLE,
        ),
        ({"TWILIO_ACCOUNT_SID_FILE": "/none", "TWILIO_AUTH_TOKEN": "x"}, "ACCOUNT_SID_FILE", UNREADABLE),
    ],
)
def test_an_error_in_the_environment_is_reported_once(
    loader: Loader, environ: dict[str, str], place: str, message: str
) -> None:
    assert loader.problems(None, environ) == [f"environment: TWILIO_{place}: {message}"]


def test_an_incomplete_pair_alone_is_an_error(loader: Loader) -> None:
    (reported,) = loader.problems(None, ID)
    assert reported.startswith(
        "environment: accounts[0]: an account id without a secret; set auth_token_file or TWILIO_AUTH_"
    )


def test_the_environment_may_bring_in_an_identity_that_another_account_has(loader: Loader) -> None:
    loader.write("token", "x")
    text = f"accounts:\n- {{name: a, account_id: {ACCOUNT_ID}, auth_token_file: token}}\n- {{name: b}}\n"
    (reported,) = loader.problems(text)
    assert reported.startswith("config.yaml:3: accounts[1].account_id: the same account_id as accounts[0]")
