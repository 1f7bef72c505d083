"""The map in the package's docstring is the package: its modules in the order of their layers, and its state table."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from watcher.core.lifecycle.answers import ObservationKind
from watcher.core.lifecycle.rules import TABLE
from watcher.core.model import Phase

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "watcher"
TREE = ast.parse((PACKAGE / "__init__.py").read_text())
MAP = ast.get_docstring(TREE) or ""
BLOCKS = [block for block in MAP.split("\n\n") if block.startswith("    ")]
WHOLE, CORE, STATES = BLOCKS


def names(block: str) -> list[str]:
    return re.findall(r"^(?:    )?(\w+) {2,}\S", block, re.MULTILINE)


def docstring(package: Path) -> str:
    return ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""


ITEM = re.compile(r"^(\w[\w, ]*?) {2,}\S", re.MULTILINE)
LISTED = [path.parent for path in PACKAGE.glob("*/**/__init__.py") if ITEM.search(docstring(path.parent))]
"""Packages whose docstring is a list of their modules."""


def modules(package: Path) -> set[str]:
    """Modules and packages; a folder without a source is what is left of one that is gone."""
    files = {path.stem for path in package.glob("*.py")} - {"__init__"}
    return files | {path.parent.name for path in package.glob("*/__init__.py")}


def layers(contract: str) -> list[set[str]]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    found = next(one["layers"] for one in contracts if one["id"] == contract)
    return [{name.strip() for name in layer.split("|")} for layer in found]


def state_table() -> str:
    rows = [["", *(answer.name.lower() for answer in ObservationKind)]]
    rows += [
        [phase.value, *(TABLE[phase, answer].__name__.strip("_").replace("_", " ") for answer in ObservationKind)]
        for phase in Phase
    ]
    return "\n".join(f"    {first:<12}" + "".join(f"{cell:<15}" for cell in rest).rstrip() for first, *rest in rows)


@pytest.mark.parametrize(("block", "package"), [(WHOLE, PACKAGE), (CORE, PACKAGE / "core")], ids=["watcher", "core"])
def test_the_map_has_every_module_and_no_others(block: str, package: Path):
    assert sorted(names(block)) == sorted(modules(package))


def test_packages_that_list_their_modules_list_all_of_them():
    assert len(LISTED) > 4
    for package in LISTED:
        listed = {name.strip() for item in ITEM.findall(docstring(package)) for name in item.split(",")}
        assert sorted(listed) == sorted(modules(package)), package


@pytest.mark.parametrize(("block", "contract"), [(WHOLE, "layers"), (CORE, "core-layers")], ids=["watcher", "core"])
def test_the_map_goes_through_the_layers_from_top_to_bottom(block: str, contract: str):
    height = {name: number for number, layer in enumerate(layers(contract)) for name in layer}
    drawn = [height[name] for name in names(block)]
    assert drawn == sorted(drawn)


def test_the_state_table_of_the_map_is_the_one_that_rules():
    assert state_table() == STATES


def test_the_map_costs_nothing():
    """No imports: the health check of every container reads this module."""
    assert [type(node).__name__ for node in TREE.body] == ["Expr", "Assign"]
