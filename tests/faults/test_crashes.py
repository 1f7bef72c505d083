"""A crash at each write boundary of the store, enumerated by `crashing.py`; half of them in each of two processes."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import ROOT, See
from tests.support.processes import reports

SCRIPT = Path(__file__).parent / "crashing.py"
MANUAL = (ROOT / "docs" / "crash-safety.md").read_text()
PARTS = 2
PROMISED = "every end is published at least once under one id, in order; counters are exact; nothing is tracked again"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where that is possible: a kill loses nothing written, and waiting for a disk proves nothing."""
    memory = Path("/dev/shm")  # noqa: S108 -- a folder of its own in it
    if not memory.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as name:
        yield Path(name)


def crash_everywhere(folder: Path) -> list[dict[str, Any]]:
    """What `crashing.py` reports, a part of it from each process."""
    for part in range(PARTS):
        (folder / str(part)).mkdir()
    return reports(folder, [[str(SCRIPT), str(folder / str(part)), str(part), str(PARTS)] for part in range(PARTS)])


def works_in_the_manual() -> set[str]:
    """The first column of the table of writes."""
    table = MANUAL.partition("\n|---|")[2].partition("\n\n")[0]
    return set(re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE))


def test_a_crash_at_any_write_loses_nothing_and_counts_nothing_twice(
    folder: Path, promised: Callable[[str, str], See]
) -> None:
    reports = crash_everywhere(folder)
    rows = [row for report in reports for row in report["rows"]]
    (number,) = {report["boundaries"] for report in reports}
    assert {row["boundary"] for row in rows} == set(range(number))
    kinds = Counter(row["name"] for row in rows)
    for kind, times in kinds.items():
        see = promised(f"crash: {kind}", PROMISED)
        wrong = [row for row in rows if row["name"] == kind and row["wrong"]]
        assert wrong == []
        see(f"{times} times; each time as promised")
    assert works_in_the_manual() == {kind.rpartition(":")[0] for kind in kinds}
    assert f"{number} write boundaries" in MANUAL
