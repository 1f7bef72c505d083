"""What was promised and what was seen of each fault: printed at the end, and written to build/faults.{json,md}."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

ROOT = Path(__file__).parent.parent.parent
KEY = "fault"
Row: TypeAlias = dict[str, str]

See: TypeAlias = Callable[[str], None]


@pytest.fixture
def promised(request: pytest.FixtureRequest) -> Callable[[str, str], See]:
    """`promised(fault, promise)` opens a row; what it gives is called with what was seen."""

    def open_row(fault: str, promise: str) -> See:
        row = {"fault": fault, "promised": promise, "seen": "not as promised"}
        # Reports carry it to the process that prints, also from workers.
        request.node.user_properties.append((KEY, row))

        def see(seen: str) -> None:
            row["seen"] = seen

        return see

    return open_row


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print and write the table."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    found = [
        value
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for key, value in report.user_properties
        if key == KEY
    ]
    rows = [row for row in found if isinstance(row, dict)]
    if not rows:
        return
    folder = ROOT / "build"
    folder.mkdir(exist_ok=True)
    (folder / "faults.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False))
    lines = ["| fault | promised | seen |", "|---|---|---|"]
    lines += [f"| {row['fault']} | {row['promised']} | {row['seen']} |" for row in rows]
    (folder / "faults.md").write_text("\n".join(lines) + "\n")
    terminalreporter.section(f"{len({row['fault'] for row in rows})} faults")
    for row in rows:
        terminalreporter.write_line(f"{row['fault']}: {row['seen']}")
