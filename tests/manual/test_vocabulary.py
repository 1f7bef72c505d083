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
ROOT = PACKAGE.parent
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

NEVER = re.compile(
    r"\b(?:nobody|somebody|whoever|untold|unheard|ears|hears?|heard|tours?|rosters?|fleets?|desks?|bury|buried|weighing|"
    r"tellers?|telling|told|looked at|greeters?|greetings?|farewells?|withdraws?|withdrawn|outrun|spoiling)\b",
    re.IGNORECASE,
)
"""The same in sentences, as far as they have no common meaning that a text may need."""

STORED = re.compile(r"\b(?:FROM|INTO|UPDATE|TABLE) told\b|told_at|<= :told|\"told\"|\\btold|\|told\|")
"""Tables and columns keep the names under which released files hold them."""


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


def texts() -> Iterator[Path]:
    """Everything that people read, but the page that explains the words and this one."""
    apart = {ROOT / "docs" / "glossary.md", Path(__file__)}
    for pattern in (
        "*.md",
        "*.yaml",
        "docs/**/*.md",
        "deploy/**/*.*",
        "{}/**/*.py",
        "watcher/**/*.html",
        "watcher/**/*.js",
    ):
        folders = ("watcher", "tests", "benchmarks") if "{}" in pattern else ("",)
        for folder in folders:
            yield from (path for path in sorted(ROOT.glob(pattern.format(folder))) if path not in apart)


def test_no_text_contains_a_private_word():
    found = {
        f"{path.relative_to(ROOT)}:{number}": line.strip()
        for path in texts()
        if path.suffix in {".md", ".yaml", ".py", ".html", ".js", ".json", ".css"}
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if NEVER.search(STORED.sub("", line))
    }
    assert found == {}
