"""The tree of settings, derived from the frozen types of `watcher.core.settings`.

All code that needs every setting (the file reader, the names in the environment, the test of the manual) walks this
tree. A new field of such a type is therefore a new setting everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo, fields

from watcher.core.settings import Account, Configuration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Kind = type[str] | type[bool] | type[int] | type[float] | type[timedelta]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One value that can be set; `path` is generic, as in `accounts[].name`."""

    path: str
    kind: Kind
    is_list: bool
    is_nullable: bool
    default: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A mapping of settings; a list of such mappings if `is_list`."""

    path: str
    struct: type[msgspec.Struct]
    is_list: bool
    children: Mapping[str, Setting | Section]


def environment_name(path: str) -> str:
    """Return the variable that sets the path: `WATCHER_ACCOUNTS__0__NAME` for `accounts[0].name`."""
    return "WATCHER_" + path.replace("[]", "[0]").replace("[", "__").replace("]", "").replace(".", "__").upper()


def settings(section: Section | None = None) -> Iterator[Setting]:
    """Yield every setting below the section, or all, in the order of the types."""
    for child in (section or SCHEMA).children.values():
        if isinstance(child, Setting):
            yield child
        else:
            yield from settings(child)


def _section(struct: type[msgspec.Struct], path: str, *, is_list: bool = False) -> Section:
    children = {field.name: _child(field, f"{path}.{field.name}".lstrip(".")) for field in fields(struct)}
    return Section(path=path, struct=struct, is_list=is_list, children=children)


def _child(field: FieldInfo, path: str) -> Setting | Section:
    is_list = get_origin(field.type) is tuple
    alternatives = get_args(field.type) or (field.type,)
    kind = alternatives[0]
    if issubclass(kind, msgspec.Struct):
        return _section(kind, f"{path}[]" if is_list else path, is_list=is_list)
    return Setting(path=path, kind=kind, is_list=is_list, is_nullable=NoneType in alternatives, default=field.default)


SCHEMA = _section(Configuration, "")
ACCOUNT = _section(Account, "accounts[]", is_list=True)
