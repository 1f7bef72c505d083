"""One name means one thing, and names are the field's: see docs/glossary.md."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import watcher

PACKAGE = Path(watcher.__file__).parent
APART = (PACKAGE / "simulator", PACKAGE / "cli")
"""The simulator and the commands have types of their own: the one imports nothing, the others decode answers."""

PRIVATE_WORDS = frozenset(
    [
        "agenda",
        "asks",
        "bury",
        "complaint",
        "departures",
        "desk",
        "ears",
        "fleet",
        "follower",
        "greeter",
        "heard",
        "hears",
        "look",
        "looks",
        "next_look",
        "nobody",
        "outrun",
        "passed_over",
        "picture",
        "remarks",
        "roster",
        "somebody",
        "spoiling",
        "standings",
        "station",
        "stones",
        "taken_in",
        "teller",
        "telling",
        "told",
        "tour",
        "tours",
        "untold",
        "weighing",
        "whoever",
        "withdraw",
    ]
)
"""Words that only this project understood; each has a common one (docs/glossary.md)."""


def modules() -> Iterator[Path]:
    yield from sorted(PACKAGE.rglob("*.py"))


def words_of(name: str) -> set[str]:
    """A name as its words, and as a whole: `next_look` is `next`, `look` and `next_look`."""
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_").split("_")
    return {*parts, "_".join(parts)}


def test_a_class_name_occurs_once():
    places = defaultdict(list)
    for path in modules():
        if not any(path.is_relative_to(apart) for apart in APART):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(str(path.relative_to(PACKAGE)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_no_name_contains_a_private_word():
    found = defaultdict(set)
    for path in modules():
        where = str(path.relative_to(PACKAGE))
        for word in words_of(path.stem) & PRIVATE_WORDS:
            found[where].add(word)
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
            if token.type == tokenize.NAME and words_of(token.string) & PRIVATE_WORDS:
                found[where].add(token.string)
    assert dict(found) == {}
