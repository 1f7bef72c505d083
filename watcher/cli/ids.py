"""Ids from the command line and from standard input, all checked before the first request."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

from watcher.cli.exits import Exit, FailedError
from watcher.core.model import is_operation_id
from watcher.core.printable import shortened

STANDARD_INPUT = "-"
_MOST_NAMED = 10
_MOST_COUNTED = 1000
_BYTE_ORDER_MARK = "\ufeff"
_WANTED = "expected comms_operation_, one of 0-7, then 25 to 34 of a-z (without i, l, o, u) and 0-9"


def read_ids(arguments: Sequence[str]) -> list[str]:
    """Return the ids in order, without repeats; `-` is replaced by the ids on standard input, separated by whitespace.

    Raises FailedError, which names the texts that are not ids. An empty list is an error too: it is rarely intended.
    """
    ids: dict[str, None] = {}
    bad: list[str] = []
    more = 0
    for place, text in _given(arguments):
        if is_operation_id(text):
            ids[text] = None
        elif len(bad) < _MOST_NAMED:
            bad.append(f'{place}: "{shortened(text)}" is not an operation id')
        else:
            more += 1
            if more == _MOST_COUNTED:
                break  # probably not a list of ids at all, so the rest is not read
    if bad:
        rest = [f"… and {more:,}{' or' * (more == _MOST_COUNTED)} more"] if more else []
        raise FailedError(Exit.USAGE, "\n".join([*bad, *rest, _WANTED]))
    if not ids:
        raise FailedError(Exit.USAGE, "no ids were given on standard input")
    return list(ids)


def _given(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    for argument in arguments:
        if argument == STANDARD_INPUT:
            yield from _lines(sys.stdin)
        else:
            yield "argument", argument


def _lines(stream: TextIO) -> Iterator[tuple[str, str]]:
    try:
        for number, line in enumerate(stream, start=1):
            whole = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
            yield from ((f"standard input, line {number}", text) for text in whole.split())
    except UnicodeDecodeError as exc:
        raise FailedError(Exit.USAGE, "standard input is not UTF-8 text; give ids separated by whitespace") from exc
