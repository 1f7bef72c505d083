"""The problems of a configuration, worded for the operator.

A problem names the place (file, line and key path, or the environment variable), the fact, and for a misspelt word a
suggestion. Problems are collected and reported together, so that one run shows all of them. No message contains a
secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, NoReturn

from watcher.core.errors import OperatorError
from watcher.core.printable import SHOWN_AT_MOST, printable
from watcher.core.settings import Configuration

if TYPE_CHECKING:
    from collections.abc import Iterable

ENVIRONMENT = "environment"
_MOST_PROBLEMS = 100


class BadValueError(ValueError):
    """A single value is bad; the caller, which knows its place, makes a `Problem` of it."""

    def __init__(self, message: str, *, suggestion: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.suggestion = suggestion


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a value was given: a line of a file, or an environment variable."""

    file: str
    line: int | None = None
    path: str = ""

    def at(self, path: str) -> Origin:
        """Return the same place under another key path."""
        return Origin(file=self.file, line=self.line, path=path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake of a configuration; `str()` is the line for the operator."""

    file: str
    line: int | None
    path: str
    message: str
    suggestion: str | None = None

    def __str__(self) -> str:
        """Return place, fact and suggestion: `c.yaml:12: polling.freshnes: unknown key; did you mean "freshness"?`."""
        place = printable(self.file) if self.line is None else f"{printable(self.file)}:{self.line}"
        hint = f'; did you mean "{self.suggestion}"?' if self.suggestion else ""
        return ": ".join(part for part in (place, self.path, self.message) if part) + hint


class ConfigurationError(OperatorError):
    """The configuration cannot be used. It carries every problem that was found, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        self.readable = Configuration()
        """The part that could be read, the rest at its defaults. `run --stay` takes from it where to listen."""
        super().__init__("\n".join(map(str, self.problems)))


class Problems:
    """The problems found so far."""

    def __init__(self) -> None:
        self._found: list[Problem] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, origin: Origin, message: str, *, suggestion: str | None = None) -> None:
        """Add a problem.

        Raises `ConfigurationError` at the hundredth: a hostile or entirely wrong file must not take unbounded work.
        """
        self._found.append(
            Problem(file=origin.file, line=origin.line, path=origin.path, message=message, suggestion=suggestion)
        )
        if len(self._found) == _MOST_PROBLEMS:
            self.give_up(Origin(file=origin.file), f"has {_MOST_PROBLEMS} problems and perhaps more")

    def give_up(self, origin: Origin, message: str) -> NoReturn:
        """Add a last problem and stop checking. Raises `ConfigurationError`."""
        self._found.append(Problem(file=origin.file, line=origin.line, path=origin.path, message=message))
        raise self._error()

    def raise_if_any(self) -> None:
        """Raise `ConfigurationError` with all problems: those of each file by line, then those of the environment."""
        if self._found:
            raise self._error()

    def _error(self) -> ConfigurationError:
        files = list(dict.fromkeys(it.file for it in self._found if it.file != ENVIRONMENT))
        place = {file: number for number, file in enumerate([*files, ENVIRONMENT])}
        return ConfigurationError(sorted(self._found, key=lambda it: (place[it.file], it.line or 0)))


def suggest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word most similar to the given one, or None if none is similar."""
    if len(word) > SHOWN_AT_MOST:  # the comparison is quadratic
        return None
    by_folded = {each.casefold(): each for each in known}
    near = get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[near[0]] if near else None
