"""Readers of option values; they accept the same spellings as the configuration."""

from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import timedelta

from watcher.config import TcpAddress, parse_listen
from watcher.config.problems import BadValueError
from watcher.config.scalars import Scalar, read_scalar
from watcher.core.printable import shortened

_MOST = 10**12


def duration(text: str) -> timedelta:
    """Return the duration of a text such as `30s` or `15m`."""
    try:
        wait = read_scalar(Scalar(text=text), timedelta)
    except BadValueError as exc:
        raise ArgumentTypeError(exc.message) from exc
    assert isinstance(wait, timedelta)  # noqa: S101 -- what the reader was asked for
    # An event loop cannot wait for centuries, so longer durations are cut to one.
    return min(wait, timedelta(days=36_500))


def count(text: str) -> int:
    """Return a whole number, 0 or more."""
    return _whole(text, at_least=0)


def positive(text: str) -> int:
    """Return a whole number, 1 or more."""
    return _whole(text, at_least=1)


def label(text: str) -> tuple[str, str]:
    """Return key and value of `KEY=VALUE`. The daemon decides whether they are allowed."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ArgumentTypeError(f'expected KEY=VALUE, got "{shortened(text)}"')
    return key, value


def address(text: str) -> TcpAddress:
    """Return the TCP address of `host:port` or `:port`."""
    try:
        parsed = parse_listen(text)
    except BadValueError as exc:
        raise ArgumentTypeError(exc.message) from exc
    if not isinstance(parsed, TcpAddress):
        raise ArgumentTypeError("expected host:port; a Unix socket is not supported here")
    return parsed


def _whole(text: str, *, at_least: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < len(str(_MOST)) and int(text) >= at_least):
        raise ArgumentTypeError(f'expected a whole number from {at_least}, got "{shortened(text)}"')
    return int(text)
