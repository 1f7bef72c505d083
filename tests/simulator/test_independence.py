"""The simulator takes nothing from the code that is tested against it."""

import ast
from pathlib import Path

import pytest

import watcher.simulator

MODULES = sorted(Path(watcher.simulator.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_the_truth_comes_from_the_simulator_alone(module: Path):
    imported = [name for node in ast.walk(ast.parse(module.read_text())) for name in names(node)]
    ours = [name for name in imported if name.split(".")[0] == "watcher"]
    assert [name for name in ours if not name.startswith("watcher.simulator")] == []


def names(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=found):
            return [name.name for name in found]
        case ast.ImportFrom(module=str(module), level=0):
            return [module]
        case ast.ImportFrom(level=level) if level > 1:
            return ["watcher"]
        case _:
            return []
