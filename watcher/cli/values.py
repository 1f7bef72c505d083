"""What options take, read as the configuration reads it."""

from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import timedelta

from watcher.config import TcpAddress, parse_listen
from watcher.config.problems import BadValueError
from watcher.config.scalars import Scalar, read_scalar
from watcher.core.printable import shortened

_MOST = 10**12


def duration(text: str) -> timedelta:
    """The wait in `30s` or `15m`."""
    try:
        wait = read_scalar(Scalar(text=text), timedelta)
    except BadValueError as exc:
        raise ArgumentTypeError(exc.message) from exc
    assert isinstance(wait, timedelta)  # noqa: S101 -- what the reader was asked for
    # More than a century is nobody's wait, and more than event loops can count.
    return min(wait, timedelta(days=36_500))


def count(text: str) -> int:
    """A whole number from 0."""
    return _whole(text, at_least=0)


def positive(text: str) -> int:
    """A whole number from 1."""
    return _whole(text, at_least=1)


def label(text: str) -> tuple[str, str]:
    """Key and value in `KEY=VALUE`; whether they are allowed is for the daemon to say."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ArgumentTypeError(f'expected KEY=VALUE, got "{shortened(text)}"')
    return key, value


def address(text: str) -> TcpAddress:
    """A host, or none, and a port."""
    try:
        parsed = parse_listen(text)
    except BadValueError as exc:
        raise ArgumentTypeError(exc.message) from exc
    if not isinstance(parsed, TcpAddress):
        raise ArgumentTypeError("expected host:port; a Unix socket is not served here")
    return parsed


def _whole(text: str, *, at_least: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < len(str(_MOST)) and int(text) >= at_least):
        raise ArgumentTypeError(f'expected a whole number from {at_least}, got "{shortened(text)}"')
    return int(text)
