"""The core's hands are empty: beyond what import-linter forbids, it imports from a short list and calls no clock.

import-linter sees imports; `datetime.now()` needs none that a core of instants could do without.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

CORE = Path(__file__).parent.parent / "watcher" / "core"
MODULES = sorted(CORE.rglob("*.py"))

ALLOWED_IMPORTS = {
    "__future__",
    "abc",
    "bisect",
    "collections",
    "dataclasses",
    "datetime",
    "email",
    "enum",
    "fractions",
    "functools",
    "hashlib",
    "heapq",
    "itertools",
    "math",
    "msgspec",
    "operator",
    "re",
    "statistics",
    "types",
    "typing",
    "urllib",
    "watcher",
}
BANNED_CALLS = {"now", "utcnow", "today", "open", "print", "input", "exec", "eval", "__import__"}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(CORE)))
def test_the_core_imports_nothing_that_does(module: Path):
    assert set(imported_roots(module)) <= ALLOWED_IMPORTS


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(CORE)))
def test_the_core_reads_no_clock_and_touches_no_file(module: Path):
    assert [call for call in called_names(module) if call[1] in BANNED_CALLS] == []


def test_there_is_a_core_to_check():
    assert MODULES


def imported_roots(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "watcher" if node.level else (node.module or "").partition(".")[0]


def called_names(module: Path) -> Iterator[tuple[int, str]]:
    """Line and last name of each call: (12, "now") for `datetime.now(UTC)`."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Name(id=name) | ast.Attribute(attr=name):
                    yield node.lineno, name
