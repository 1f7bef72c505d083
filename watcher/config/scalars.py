"""Converts one written value to its type: text, boolean, number or duration.

YAML guesses types from the spelling (`yes` is a boolean, `010` is eight, `1:30` is ninety). Here the setting decides
the type, and a value of another type is an error that says how to correct it. A value that may be a credential is
never shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from watcher.config.problems import BadValueError
from watcher.core.printable import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from watcher.config.schema import Kind

TAGGED = "tagged value"

_MOST_TEXT = 4096
_MOST_DIGITS = 15
_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_DURATION = re.compile(r"([0-9]+)(ms|s|m|h|d)")
_WHOLE = re.compile(r"[+-]?(0|[1-9][0-9_]*)")
_DECIMAL = re.compile(r"[+-]?([0-9][0-9_]*(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_OCTAL = re.compile(r"[+-]?0[0-9_]")
_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_TRUTH_OF_ENVIRONMENT = {"1": True, "0": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """A value as written. `pattern` is the type that YAML gave it; None in the environment, where all is text."""

    text: str
    pattern: str | None = None
    is_private: bool = False

    def __str__(self) -> str:
        """Return its type and text, as in `the number 123`; only the type if it may be a credential."""
        kind = self.pattern or "text"
        if kind == "nothing":
            return kind
        if self.is_private and (kind != "number" or len(self.text) > _MOST_DIGITS):
            return kind if kind == "text" else f"a {kind}"
        shown = shortened(self.text)
        return f'the text "{shown}"' if kind == "text" else f"the {kind} {shown}"

    def is_one_of(self, *pattern: str) -> bool:
        """Whether it may be read as one of these types."""
        return self.pattern is None or self.pattern in pattern


def read_scalar(given: Scalar, kind: Kind) -> Any:
    """Return the value as the type of the setting. Raises `BadValueError`."""
    return _READERS[kind](given)


def format_duration(wait: timedelta) -> str:
    """Return the duration in the largest unit that divides it; days only from two days on."""
    for name, unit in reversed(_UNITS.items()):
        if wait and not wait % unit and (name, wait) != ("d", unit):
            return f"{wait // unit}{name}"
    return f"{wait.total_seconds():g}s"


def _text(given: Scalar) -> str:
    if not given.is_one_of("text"):
        remedy = {"nothing": "", TAGGED: "; leave out the tag"}.get(given.pattern or "", "; put it in quotes")
        raise BadValueError(f"expected text, got {given}{remedy}")
    if len(given.text) > _MOST_TEXT:
        raise BadValueError(f"the text is longer than {_MOST_TEXT} characters")
    if not given.text:
        raise BadValueError("the text is empty")
    if not given.text.isprintable():
        raise BadValueError("the text has line breaks or characters that cannot be printed")
    return given.text


def _truth(given: Scalar) -> bool:
    known = _TRUTH | _TRUTH_OF_ENVIRONMENT if given.pattern is None else _TRUTH
    value = known.get(given.text.lower()) if given.is_one_of("boolean") else None
    if value is None:
        remedy = "; leave out the quotes" if given.pattern == "text" and given.text.lower() in _TRUTH else ""
        raise BadValueError(f"expected true or false, got {given}{remedy}")
    return value


def _whole(given: Scalar) -> int:
    wanted = "expected a whole number"
    if not given.is_one_of("number") or (given.pattern is None and not _DECIMAL.fullmatch(given.text)):
        raise _not_a_number(given, wanted)
    if not _WHOLE.fullmatch(given.text) or len(given.text) > _MOST_DIGITS:
        raise BadValueError(f"{wanted} in plain decimal digits, got {given}")
    return int(given.text.replace("_", ""))


def _number(given: Scalar) -> float:
    wanted = "expected a number"
    if not given.is_one_of("number") or (given.pattern is None and not _DECIMAL.fullmatch(given.text)):
        raise _not_a_number(given, wanted)
    if not _DECIMAL.fullmatch(given.text) or _OCTAL.match(given.text):
        raise BadValueError(f"{wanted} in plain decimal digits, got {given}")
    return float(given.text.replace("_", ""))


def _not_a_number(given: Scalar, wanted: str) -> BadValueError:
    remedy = "; leave out the quotes" if given.pattern == "text" and _DECIMAL.fullmatch(given.text) else ""
    return BadValueError(f"{wanted}, got {given}{remedy}")


def _duration(given: Scalar) -> timedelta:
    match = _DURATION.fullmatch(given.text) if given.is_one_of("text") else None
    if match is None:
        is_bare = re.fullmatch(r"[0-9.]+", given.text) is not None
        remedy = ", which has no unit" if is_bare else ""
        raise BadValueError(f"expected a duration such as 500ms, 30s, 15m, 24h or 7d, got {given}{remedy}")
    digits, unit = match[1].lstrip("0") or "0", match[2]
    if len(digits) > _MOST_DIGITS:
        return timedelta.max
    try:
        return int(digits) * _UNITS[unit]
    except OverflowError:
        return timedelta.max  # larger than any bound, so the rule reports it


_READERS: Mapping[Kind, Callable[[Scalar], Any]] = {
    str: _text,
    bool: _truth,
    int: _whole,
    float: _number,
    timedelta: _duration,
}
