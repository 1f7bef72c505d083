"""A crash at each write boundary of the store, enumerated by `crashing.py`; half of them in each of two processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.faults.conftest import ROOT, See
from tests.support.processes import environment

SCRIPT = Path(__file__).parent / "crashing.py"
PARTS = 2
PROMISED = "every end is told at least once under one id, in order; counters are exact; nothing is followed again"


def test_a_crash_at_any_write_loses_nothing_and_counts_nothing_twice(
    tmp_path: Path, promised: Callable[[str, str], See]
) -> None:
    running = []
    for part in range(PARTS):
        folder = tmp_path / str(part)
        folder.mkdir()
        command = [sys.executable, str(SCRIPT), str(folder), str(part), str(PARTS)]
        running.append(subprocess.Popen(command, env=environment({}), stdout=subprocess.PIPE, text=True))
    reports = [json.loads(process.communicate()[0]) for process in running]
    rows = [row for report in reports for row in report["rows"]]
    boundaries = {report["boundaries"] for report in reports}
    assert len(boundaries) == 1
    assert {row["boundary"] for row in rows} == set(range(boundaries.pop()))
    kinds = Counter(row["name"] for row in rows)
    manual = (ROOT / "docs" / "crash-safety.md").read_text()
    for kind, number in kinds.items():
        see = promised(f"crash: {kind}", PROMISED)
        wrong = [row for row in rows if row["name"] == kind and row["wrong"]]
        assert wrong == []
        assert f"| {kind.rpartition(':')[0]} |" in manual
        see(f"{number} times; each time as promised")
