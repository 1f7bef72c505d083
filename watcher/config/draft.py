"""The settings that were given, each with its origin, before they are frozen.

The file and then the environment write into one flat table; a later value replaces an earlier one. Settings are then
checked against each other with this table at hand, so that a problem can name where each value was given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from watcher.config.problems import BadValueError, Origin, Problems
from watcher.config.rules import check
from watcher.config.scalars import Scalar, read_scalar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from watcher.config.schema import Kind, Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftEntry:
    """A value and where it was given."""

    value: Any
    origin: Origin


@dataclass(slots=True, kw_only=True)
class Draft:
    """The settings given so far: entries by key path (`accounts[0].name`), and the origin of each account.

    `bad` holds the paths whose value could not be read. That has been reported, and nothing more is reported of them.
    """

    entries: dict[str, DraftEntry] = field(default_factory=dict)
    accounts: list[Origin] = field(default_factory=list)
    bad: set[str] = field(default_factory=set)

    def put(self, path: str, entry: DraftEntry | None) -> None:
        """Set the path to the entry; None marks a bad value."""
        if entry is None:
            self.bad.add(path)
        else:
            self.bad.discard(path)
            self.entries[path] = entry

    def has(self, path: str) -> bool:
        """Whether a value other than null was given at the path, good or bad."""
        return path in self.bad or self.get(path) is not None

    def get(self, path: str, default: Any = None) -> Any:
        """Return the value at the path, or the default if it was not given."""
        entry = self.entries.get(path)
        return default if entry is None else entry.value

    def origin(self, path: str, fallback: Origin) -> Origin:
        """Return where the value at the path was given; if it was not, the path at the fallback."""
        entry = self.entries.get(path)
        return fallback.at(path) if entry is None else entry.origin


@dataclass(frozen=True, slots=True, kw_only=True)
class RawValue:
    """A scalar as given, with its origin."""

    scalar: Scalar
    origin: Origin


def read_one(setting: Setting, given: RawValue, problems: Problems) -> DraftEntry | None:
    """Return the typed and checked value. If it is bad, report a problem and return None."""
    if given.scalar.pattern == "nothing" and setting.is_nullable:
        return DraftEntry(value=None, origin=given.origin)
    return _read(setting.path, setting.kind, given, problems)


def read_list(setting: Setting, items: Iterable[RawValue], origin: Origin, problems: Problems) -> DraftEntry | None:
    """Return the typed and checked list. If an item or the list is bad, report problems and return None."""
    entries = [_read(f"{setting.path}[]", setting.kind, item, problems) for item in items]
    values = tuple(entry.value for entry in entries if entry is not None)
    if len(values) < len(entries):
        return None
    return _check(setting.path, values, origin, problems)


def _read(rule: str, kind: Kind, given: RawValue, problems: Problems) -> DraftEntry | None:
    try:
        value = read_scalar(given.scalar, kind)
    except BadValueError as exc:
        problems.add(given.origin, exc.message, suggestion=exc.suggestion)
        return None
    return _check(rule, value, given.origin, problems)


def _check(rule: str, value: Any, origin: Origin, problems: Problems) -> DraftEntry | None:
    try:
        return DraftEntry(value=check(rule, value), origin=origin)
    except BadValueError as exc:
        problems.add(origin, exc.message, suggestion=exc.suggestion)
        return None
