"""Reads a YAML file strictly: every key and value keeps its line, and anything unusual is a problem, not a guess.

PyYAML only composes the tree of nodes. No Python object is constructed from it, so a tag cannot create one. The number
of values and the depth are bounded, since aliases let a small file describe a huge one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import yaml

from watcher.config.draft import Draft, DraftEntry, RawValue, read_list, read_one
from watcher.config.problems import Origin, Problems, suggest
from watcher.config.rules import is_private
from watcher.config.scalars import TAGGED, Scalar
from watcher.config.schema import SCHEMA, Section, Setting, settings
from watcher.config.secrets import content_of
from watcher.core.printable import shortened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MOST_BYTES = 1024 * 1024
_MOST_VALUES = 100_000
_MOST_DEPTH = 20
_CORE_TAG = "tag:yaml.org,2002:"
_PATTERNS = {
    "str": "text",
    "int": "number",
    "float": "number",
    "bool": "boolean",
    "null": "nothing",
    "timestamp": "date",
}
_INLINE_SECRETS = {"auth_token": "auth_token_file", "api_key_secret": "api_key_secret_file", "token": "token_file"}


def read_document(path: Path, draft: Draft, problems: Problems) -> None:
    """Fill the draft from the file; report problems."""
    root = compose(path, problems)
    if root is not None:
        _Reader(str(path), draft, problems).read(root)
    for key, entry in draft.entries.items():
        if key.endswith("_file") and entry.value is not None:
            # As with Prometheus: a relative path is resolved against the directory of the configuration file.
            draft.put(key, DraftEntry(value=str(path.parent / entry.value), origin=entry.origin))


def compose(path: Path, problems: Problems, *, waits: bool = True) -> yaml.Node | None:
    """Return the root of the tree of nodes; None for an empty file. Raises `ConfigurationError` if it cannot be read.

    `waits`: a pipe may be read too; the call then waits until data is written to it.
    """
    origin = Origin(file=str(path))
    root = _compose(_text(path, origin, problems, waits=waits), origin, problems)
    return None if root is None or what(root) == "nothing" else root


def what(node: yaml.Node) -> str:
    """Return what the node is, as in `a mapping` or `text`."""
    match node:
        case yaml.MappingNode():
            return "a mapping"
        case yaml.SequenceNode():
            return "a list"
        case _:
            pattern = pattern_of(node)
            return pattern if pattern in {"nothing", "text"} else f"a {pattern}"


def pattern_of(node: yaml.Node) -> str:
    """Return the type that YAML gives the scalar, in words."""
    return _PATTERNS.get(node.tag.removeprefix(_CORE_TAG), TAGGED)


def _text(path: Path, origin: Origin, problems: Problems, *, waits: bool) -> str:
    try:
        content = _whatever_comes(path) if waits else content_of(str(path), _MOST_BYTES)
    except OSError as exc:
        problems.give_up(origin, f"cannot be read: {(exc.strerror or 'unknown error').lower()}")
    except ValueError:
        problems.give_up(origin, "cannot be read: not a valid file name")
    if len(content) > _MOST_BYTES:
        problems.give_up(origin, "is larger than 1 MiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        problems.give_up(Origin(file=origin.file, line=line), "is not UTF-8 text")


def _whatever_comes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MOST_BYTES + 1)


class _Loader(yaml.SafeLoader):
    """Composes nodes up to a depth that cannot exhaust the stack."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self._depth >= _MOST_DEPTH:
            mark = None if parent is None else parent.start_mark
            raise yaml.MarkedYAMLError(problem="too deeply nested", problem_mark=mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def _compose(text: str, origin: Origin, problems: Problems) -> yaml.Node | None:
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_node()
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        problems.give_up(Origin(file=origin.file, line=line), "has a character that YAML does not allow")
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        place = Origin(file=origin.file, line=None if mark is None else mark.line + 1)
        problems.give_up(place, f"is not valid YAML: {_reason(exc)}")
    except (ValueError, OverflowError):
        # PyYAML converts escapes and versions to numbers without checking that the character or version exists.
        place = Origin(file=origin.file, line=None if loader is None else loader.line + 1)
        problems.give_up(place, "is not valid YAML: a character or version that does not exist")


def _reason(exc: yaml.MarkedYAMLError) -> str:
    if "'\\t'" in (exc.problem or ""):
        return "a tab where YAML wants spaces"
    # Quoted words come from the file and may be a secret, so they are removed.
    parts = (re.sub(r" '(?!<)[^']{2,}'", "", part) for part in (exc.context, exc.problem) if part)
    return ", ".join(parts)


class _Reader:
    """Walks the nodes along the tree of settings."""

    def __init__(self, file: str, draft: Draft, problems: Problems) -> None:
        self._file = file
        self._draft = draft
        self._problems = problems
        self._left = _MOST_VALUES

    def read(self, root: yaml.Node) -> None:
        """Fill the draft from the root of the file."""
        self._section(SCHEMA, root, "")

    def _section(self, section: Section, node: yaml.Node, path: str) -> None:
        if not isinstance(node, yaml.MappingNode):
            self._reject(
                node, path, f"expected a mapping with keys such as {next(iter(section.children))}, got {what(node)}"
            )
            return
        for name, value in self._pairs(section, node, path):
            child = section.children[name]
            child_path = _join(path, name)
            if isinstance(child, Setting):
                self._setting(child, value, child_path)
            elif child.is_list:
                self._sections(child, value, child_path)
            else:
                self._section(child, value, child_path)

    def _sections(self, section: Section, node: yaml.Node, path: str) -> None:
        if not isinstance(node, yaml.SequenceNode):
            self._reject(node, path, f"expected a list, got {what(node)}")
            return
        for index, item in enumerate(node.value):
            item_path = f"{path}[{index}]"
            self._draft.accounts.append(self._origin(item, item_path))
            self._section(section, item, item_path)

    def _setting(self, setting: Setting, node: yaml.Node, path: str) -> None:
        if setting.is_list:
            self._list(setting, node, path)
        elif isinstance(node, yaml.ScalarNode):
            self._draft.put(path, read_one(setting, self._written(setting, node, path), self._problems))
        else:
            self._reject(node, path, f"expected a single value, got {what(node)}")

    def _list(self, setting: Setting, node: yaml.Node, path: str) -> None:
        if not isinstance(node, yaml.SequenceNode):
            remedy = "; write [] for an empty list" if what(node) == "nothing" else ""
            self._reject(node, path, f"expected a list, got {what(node)}{remedy}")
            return
        origin = self._origin(node, path)
        items = [self._item(setting, item, f"{path}[{index}]") for index, item in enumerate(node.value)]
        written = [item for item in items if item is not None]
        entry = read_list(setting, written, origin, self._problems)
        self._draft.put(path, entry if len(written) == len(items) else None)

    def _item(self, setting: Setting, node: yaml.Node, path: str) -> RawValue | None:
        if isinstance(node, yaml.ScalarNode):
            return self._written(setting, node, path)
        self._reject(node, path, f"expected a single value, got {what(node)}")
        return None

    def _pairs(self, section: Section, node: yaml.MappingNode, path: str) -> Iterator[tuple[str, yaml.Node]]:
        lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._reject(key, path, f"expected the name of a setting, got {what(key)}")
                continue
            origin = self._origin(key, _join(path, shortened(key.value)))
            if key.value not in section.children:
                self._unknown(section, key, origin)
            elif key.value in lines:
                self._problems.add(origin, f"given twice, first in line {lines[key.value]}")
            else:
                lines[key.value] = key.start_mark.line + 1
                yield key.value, value

    def _unknown(self, section: Section, key: yaml.ScalarNode, origin: Origin) -> None:
        if key.tag == f"{_CORE_TAG}merge":
            self._problems.add(origin, "merge keys are not supported; write the settings out")
        elif key.value in _INLINE_SECRETS:
            file_key = _INLINE_SECRETS[key.value]
            self._problems.add(origin, f"unknown key; a secret is never written here, name its file with {file_key}")
        else:
            self._problems.add(origin, "unknown key", suggestion=_suggestion(section, key.value))

    def _written(self, setting: Setting, node: yaml.ScalarNode, path: str) -> RawValue:
        scalar = Scalar(text=node.value, pattern=pattern_of(node), is_private=is_private(setting.path))
        return RawValue(scalar=scalar, origin=self._origin(node, path))

    def _reject(self, node: yaml.Node, path: str, message: str) -> None:
        self._problems.add(self._origin(node, path), message)
        self._draft.put(path, None)

    def _origin(self, node: yaml.Node, path: str) -> Origin:
        origin = Origin(file=self._file, line=node.start_mark.line + 1, path=path)
        self._left -= 1
        if not self._left:
            self._problems.give_up(origin, f"more than {_MOST_VALUES:,} values, counting each alias")
        return origin


def _suggestion(section: Section, name: str) -> str | None:
    elsewhere = [setting.path for setting in settings() if setting.path.endswith(f".{name}")]
    return suggest(name, section.children) or next(iter(elsewhere), None)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
