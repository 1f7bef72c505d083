"""Secrets: how they are held, and where they come from.

A `Secret` never shows its text in a log, a traceback, a pickle or JSON; only `reveal()` returns it. A file is read
again each time, since Kubernetes changes a mounted secret by swapping a symlink; the caller compares the result with
its last one. No error message contains any of the file's content.
"""

from __future__ import annotations

import hmac
import os
import stat
import unicodedata
from dataclasses import dataclass
from typing import Literal, NoReturn, final

from watcher.core.errors import OperatorError

_MOST_BYTES = 64 * 1024
_BYTE_ORDER_MARK = "\ufeff"
_INVISIBLE = frozenset({"Cc", "Cf"})
_HIDDEN = "Secret(hidden)"


class SecretError(OperatorError):
    """A secret cannot be read now; the message says what to do. Callers that hold an older value keep it."""


@final
class Secret:
    """Text that is never shown by accident."""

    # Deliberately no dataclass or Struct: encoders would write its fields.
    __slots__ = ("__text",)

    def __init__(self, text: str) -> None:
        self.__text = text

    def reveal(self) -> str:
        """Return the text. Only for the code that sends it."""
        return self.__text

    def __eq__(self, other: object) -> bool:
        """Compare in constant time."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__text.encode(), other.__text.encode())

    __hash__ = None  # type: ignore[assignment]  # a hash in a log would be a hint

    def __repr__(self) -> str:
        return _HIDDEN

    def __format__(self, _spec: str, /) -> str:
        return _HIDDEN

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, _memo: object, /) -> Secret:
        return self

    def __reduce_ex__(self, _protocol: object, /) -> NoReturn:
        message = "a secret cannot be serialized"
        raise TypeError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSecret:
    """A secret in a file, read again each time."""

    path: str

    def __str__(self) -> str:
        return f"file {self.path}"

    def read(self) -> Secret:
        """Return the present content of the file, less one trailing newline. Raises `SecretError`."""
        try:
            content = content_of(self.path, _MOST_BYTES)
        except OSError as exc:
            reason = (exc.strerror or "unknown error").lower()
            message = f"cannot read {self.path}: {reason}; create the file or make it readable for this user"
            raise SecretError(message) from exc
        return parse_secret(content, where=self.path)

    def is_world_readable(self) -> bool:
        """Whether every user of the machine may read the file; False if that cannot be determined."""
        try:
            return bool(os.stat(self.path).st_mode & stat.S_IROTH)  # noqa: PTH116 - like the open below
        except OSError:
            return False


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentSecret:
    """A secret from the environment, the same for the life of the process."""

    variable: str
    secret: Secret

    def __str__(self) -> str:
        return f"environment variable {self.variable}"

    def read(self) -> Secret:
        """Return the secret."""
        return self.secret

    def is_world_readable(self) -> Literal[False]:
        """Return False: a variable is not a file."""
        return False


SecretSource = FileSecret | EnvironmentSecret


def parse_secret(content: bytes, *, where: str) -> Secret:
    """Return the secret in the content of a file or variable. Raises `SecretError`, naming only its place."""
    if len(content) > _MOST_BYTES:
        raise SecretError(f"{where} is larger than 64 KiB; a secret is one short line")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        # Not `from exc`: that exception carries the content.
        raise SecretError(f"{where} is not UTF-8 text; write the secret as one line of text") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text.strip():
        raise SecretError(f"{where} is empty; write the secret into it")
    if "\n" in text or "\r" in text:
        raise SecretError(f"{where} has more than one line; leave only the secret in it")
    if text.startswith(_BYTE_ORDER_MARK):
        raise SecretError(f"{where} begins with a byte order mark; write it as plain UTF-8 text without one")
    if text != text.strip():
        raise SecretError(f"{where} begins or ends with whitespace; leave only the secret in it")
    if any(unicodedata.category(character) in _INVISIBLE for character in text):
        raise SecretError(f"{where} has control characters in it; write the secret as one line of plain text")
    return Secret(text)


def content_of(path: str, most_bytes: int) -> bytes:
    """Return the content of a regular file, at most `most_bytes` and one byte more. Raises OSError. Never blocks."""
    with open(path, "rb", opener=_open_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(0, "not a regular file")
        return file.read(most_bytes + 1)


def _open_without_waiting(path: str, flags: int) -> int:
    # Opening a pipe that has no writer would block the daemon.
    return os.open(path, flags | os.O_NONBLOCK)
