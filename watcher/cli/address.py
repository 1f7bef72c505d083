"""Finds where web listens without the configuration loader: a health check must be small and quick.

The environment wins. In a file only `web` is read, line by line, and only in its usual spellings: a mapping indented
below the key or in braces on its line, with plain or quoted values. At anything else the scanner does not guess. It
gives up, and PyYAML reads the file. A broken or missing file means the defaults, since a daemon that stays in spite of
a bad configuration is healthy all the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

DEFAULT_LISTEN = ":10617"
LISTEN = "WATCHER_WEB__LISTEN"
CONFIG_FILE = "WATCHER_WEB__CONFIG_FILE"

_MOST_CHARACTERS = 1024 * 1024
# How every line must begin so that `web:` at the beginning of a line is the key and not part of a text.
_SURE = re.compile(r"[a-z_]+:([ ]|$)|-[ ]|---[ ]*$|#|[ ]|$")
_QUOTED = r"""(?:"(?P<double>[^"\\]*)"|'(?P<single>[^']*)')"""
_TEXT = r"[A-Za-z0-9_/.~][A-Za-z0-9_/.:~-]*"
_TEXT_OR_PORT = rf"{_TEXT}|:[0-9]+"  # in braces a text must not begin with a colon
_KEY = r"(?P<key>listen|config_file):[ ]+"
_COMMENT = r"[ ]*([ ]#.*)?"
_LINE = re.compile(rf"(?P<indent>[ ]+){_KEY}(?:{_QUOTED}|(?P<plain>{_TEXT_OR_PORT})){_COMMENT}")
_PAIR = re.compile(rf"[ ]*{_KEY}(?:{_QUOTED}|(?P<plain>{_TEXT}))[ ]*")
_BRACES = re.compile(rf"[ ]*\{{(?P<pairs>.*)\}}{_COMMENT}")
_NOTHING = frozenset({"null", "Null", "NULL", "~", ""})


class UnsureError(Exception):
    """The scanner found a spelling that it does not read."""


def find_web(config: str | None, environ: Mapping[str, str]) -> tuple[str, bool]:
    """Return where web listens, and whether it has a `config_file` and so perhaps TLS."""
    listen, config_file = environ.get(LISTEN), environ.get(CONFIG_FILE)
    path = config or environ.get("WATCHER_CONFIG")
    if path and (listen is None or config_file is None):
        in_file = _of_file(path)
        listen = in_file.get("listen") if listen is None else listen
        config_file = in_file.get("config_file") if config_file is None else config_file
    return listen or DEFAULT_LISTEN, bool(config_file)


def scan(text: str) -> dict[str, str]:
    """Return `listen` and `config_file` of `web`, if they are given. Raises UnsureError."""
    found: dict[str, str] | None = None
    indent: str | None = None
    inside = begun = False
    for line in (line.removesuffix("\r") for line in text.split("\n")):
        if not _SURE.match(line) or not (line.isprintable() or line.isascii()):
            raise UnsureError
        if line.lstrip(" ")[:1] in {"", "#"}:
            continue
        if line[0] != " ":
            inside = False
        elif not begun:
            raise UnsureError  # the root may be indented, so an indented line may be a key of the root
        begun = True
        if inside and found is not None:
            match = _LINE.fullmatch(line)
            if match is None or indent not in {None, match["indent"]}:
                raise UnsureError
            indent = match["indent"]
            _enter(found, match)
        elif line.startswith("web:"):
            if found is not None:
                raise UnsureError
            found = {}
            inside = not _in_braces(line.removeprefix("web:"), found)
    return found or {}


def _in_braces(rest: str, found: dict[str, str]) -> bool:
    """Enter the pairs in braces after `web:`. Return whether there were braces."""
    if re.fullmatch(_COMMENT, rest):
        return False
    match = _BRACES.fullmatch(rest)
    if match is None:
        raise UnsureError
    for pair in match["pairs"].split(",") if match["pairs"].strip() else ():
        given = _PAIR.fullmatch(pair)
        if given is None:
            raise UnsureError
        _enter(found, given)
    return True


def _enter(found: dict[str, str], match: re.Match[str]) -> None:
    if match["key"] in found:
        raise UnsureError
    plain = match["plain"]
    quoted = match["double"] if match["double"] is not None else match["single"]
    found[match["key"]] = quoted if quoted is not None else "" if plain in _NOTHING else plain


def _of_file(path: str) -> Mapping[str, str]:
    try:
        with open(path, encoding="utf-8", opener=_open_without_waiting) as file:
            text = file.read(_MOST_CHARACTERS)
    except (OSError, ValueError):
        return {}
    if "web" not in text:
        return {}
    try:
        return scan(text)
    except UnsureError:
        return _parsed(text)


def _open_without_waiting(path: str, flags: int) -> int:
    # Opening a pipe that has no writer would block the health check.
    return os.open(path, flags | os.O_NONBLOCK)


def _parsed(text: str) -> Mapping[str, str]:
    import yaml

    try:
        whole = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, OverflowError, AttributeError, RecursionError):
        # PyYAML raises the other types for dates, numbers and characters that do not exist.
        return {}
    web = whole.get("web") if isinstance(whole, dict) else None
    if not isinstance(web, dict):
        return {}
    return {name: value for name in ("listen", "config_file") if isinstance(value := web.get(name), str)}
