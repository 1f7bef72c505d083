"""What was promised and what was seen of each fault: printed at the end, and written to build/faults.{json,md}."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

ROOT = Path(__file__).parent.parent.parent
Row: TypeAlias = dict[str, str]
ROWS: list[Row] = []

See: TypeAlias = Callable[[str], None]


@pytest.fixture
def promised() -> Callable[[str, str], See]:
    """`promised(fault, promise)` opens a row; what it gives is called with what was seen."""

    def open_row(fault: str, promise: str) -> See:
        row = {"fault": fault, "promised": promise, "seen": "not as promised"}
        ROWS.append(row)

        def see(seen: str) -> None:
            row["seen"] = seen

        return see

    return open_row


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print and write the table."""
    if not ROWS:
        return
    folder = ROOT / "build"
    folder.mkdir(exist_ok=True)
    (folder / "faults.json").write_text(json.dumps(ROWS, indent=1, ensure_ascii=False))
    lines = ["| fault | promised | seen |", "|---|---|---|"]
    lines += [f"| {row['fault']} | {row['promised']} | {row['seen']} |" for row in ROWS]
    (folder / "faults.md").write_text("\n".join(lines) + "\n")
    terminalreporter.section(f"{len(ROWS)} faults")
    for row in ROWS:
        terminalreporter.write_line(f"{row['fault']}: {row['seen']}")
