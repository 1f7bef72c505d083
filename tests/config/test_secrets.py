from __future__ import annotations

import copy
import os
import pickle
import traceback
from pathlib import Path

import msgspec
import pytest

from tests.config.factories import ACCOUNT_ID, TOKEN, Loader
from watcher.config import EnvironmentSecret, FileSecret, Secret, SecretError, describe, warnings_of
from watcher.core.errors import OperatorError

SECRET = Secret(TOKEN)


def file_with(directory: Path, content: bytes) -> FileSecret:
    path = directory / "secret"
    path.write_bytes(content)
    return FileSecret(path=str(path))


def test_a_secret_is_revealed_on_request_alone() -> None:
    assert SECRET.reveal() == TOKEN
    shown = [repr(SECRET), str(SECRET), f"{SECRET}", f"{SECRET:>40}", f"{SECRET!r}", "%s" % SECRET, repr([SECRET])]  # noqa: UP031 - each way to show it
    assert not any(TOKEN in text for text in shown)


@pytest.mark.parametrize("encode", [pickle.dumps, msgspec.json.encode, msgspec.msgpack.encode, msgspec.to_builtins])
def test_a_secret_cannot_be_serialized(encode) -> None:
    with pytest.raises(TypeError) as caught:
        encode(SECRET)
    assert TOKEN not in str(caught.value)


def test_a_source_with_a_secret_does_not_show_it_either() -> None:
    source = EnvironmentSecret(variable="TWILIO_AUTH_TOKEN", secret=SECRET)
    assert TOKEN not in f"{source!r} {source}"
    assert str(source) == "environment variable TWILIO_AUTH_TOKEN"
    with pytest.raises(TypeError):
        msgspec.json.encode(source)


def test_a_secret_is_itself_when_copied() -> None:
    assert copy.copy(SECRET) is SECRET
    assert copy.deepcopy({"secret": SECRET})["secret"] is SECRET


def test_secrets_are_compared_by_what_they_are() -> None:
    assert Secret("ä") == Secret("ä")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    with pytest.raises(TypeError):
        hash(SECRET)


@pytest.mark.parametrize("content", [b"token", b"token\n", b"token\r\n"])
def test_one_trailing_newline_is_dropped(tmp_path: Path, content: bytes) -> None:
    assert file_with(tmp_path, content).read() == Secret("token")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"  \t \n", "is empty"),
        (b"hidden\n\n", "has more than one line"),
        (b"hidden\nhidden", "has more than one line"),
        (b"hidden\rhidden", "has more than one line"),
        (b"hid\x00den", "has control characters in it"),
        (b"hid\tden", "has control characters in it"),
        ("hid\x85den".encode(), "has control characters in it"),
        (b"\xef\xbb\xbfhidden\n", "begins with a byte order mark"),
        (b" hidden\n", "begins or ends with whitespace"),
        (b"hidden \r\n", "begins or ends with whitespace"),
        ("hid\u200bden".encode(), "has control characters in it"),
        (b"hidden\xff", "is not UTF-8 text"),
        (b"h" * 65_537, "is larger than 64 KiB"),
    ],
)
def test_a_file_that_holds_no_secret_says_what_to_do_and_not_what_it_holds(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    source = file_with(tmp_path, content)
    with pytest.raises(SecretError) as caught:
        source.read()
    assert str(caught.value).startswith(f"{source.path} {reason}; ")
    assert "hid" not in "".join(traceback.format_exception(caught.value)).replace(str(source.path), "").replace(
        "(hidden)", ""
    )
    assert isinstance(caught.value, OperatorError)


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="no such file or directory; create the file"):
        FileSecret(path=str(tmp_path / "none")).read()
    with pytest.raises(SecretError, match="is a directory"):
        FileSecret(path=str(tmp_path)).read()


def test_a_pipe_is_refused_as_a_secret_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SecretError, match="not a regular file"):
        FileSecret(path=str(tmp_path / "pipe")).read()


def test_a_file_is_read_again_each_time(tmp_path: Path) -> None:
    source = file_with(tmp_path, b"first")
    before = source.read()
    assert source.read() == before
    assert file_with(tmp_path, b"other").read() != before


def test_a_symlink_that_is_swapped_shows_the_new_secret(tmp_path: Path) -> None:
    # As Kubernetes does it: token -> ..data/token, ..data -> a directory, replaced by rename.
    for version in ("first", "second"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "token").write_text(version)
    (tmp_path / "..data").symlink_to("first")
    (tmp_path / "token").symlink_to("..data/token")
    source = FileSecret(path=str(tmp_path / "token"))
    assert source.read().reveal() == "first"
    (tmp_path / "..new").symlink_to("second")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert source.read().reveal() == "second"


def test_a_file_that_all_users_can_read_is_detected(tmp_path: Path) -> None:
    source = file_with(tmp_path, b"x")
    Path(source.path).chmod(0o600)
    assert not source.is_world_readable()
    Path(source.path).chmod(0o644)
    assert source.is_world_readable()
    assert not FileSecret(path=str(tmp_path / "none")).is_world_readable()
    assert not EnvironmentSecret(variable="X", secret=SECRET).is_world_readable()


def test_nothing_that_is_loaded_or_said_shows_a_secret(loader: Loader) -> None:
    loader.write("token", f"{TOKEN}\n")
    loader.write("admin", "admin-secret-91c2\n")
    text = f"accounts: [{{name: main, account_id: {ACCOUNT_ID}, auth_token_file: token}}]\nadmin: {{token_file: admin}}"
    for loaded in (loader.load(text, {}), loader.load(text, {"TWILIO_AUTH_TOKEN": TOKEN})):
        shown = (
            repr(loaded)
            + "".join(describe(loaded) + warnings_of(loaded))
            + msgspec.json.encode(loaded.configuration).decode()
        )
        assert TOKEN not in shown
        assert "admin-secret-91c2" not in shown
