"""A month and a million operations: two accounts of half a million, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.processes import environment

SCRIPT = Path(__file__).parent / "month.py"
OPERATIONS = int(os.environ.get("SOAK_OPERATIONS", "1000000"))
PARTS = 2
LATE_AT_MOST_SECONDS = 120


def live(folder: Path) -> list[dict[str, Any]]:
    """What each process says of its month."""
    running = []
    for part in range(PARTS):
        command = [sys.executable, str(SCRIPT), str(part), str(OPERATIONS // PARTS)]
        with (folder / f"{part}.json").open("wb") as out:
            running.append(subprocess.Popen(command, env=environment({}), stdout=out))
    try:
        assert [process.wait() for process in running] == [0] * PARTS
    finally:
        for process in running:
            process.kill()
    return [json.loads((folder / f"{part}.json").read_text()) for part in range(PARTS)]


def test_a_month_passes_without_loss_without_drift_and_with_flat_memory(tmp_path: Path) -> None:
    months = live(tmp_path)
    for month in months:
        print({key: value for key, value in month.items() if not key.endswith("_by_day")})
        print({key: [round(one, 1) for one in value] for key, value in month.items() if key.endswith("_by_day")})
    assert sum(month["sent"] for month in months) == OPERATIONS
    for month in months:
        assert month["wrong"] == []
        assert month["untold"] == 0
        assert month["ends"] == month["true_ends"]
        assert sum(month["ends"].values()) == month["sent"]
        assert {"throttled", "unreachable", "unauthorized"} <= month["troubles"].keys()
        assert len(month["lag_seconds_by_day"]) >= 29
        assert max(month["lag_seconds_by_day"]) < LATE_AT_MOST_SECONDS
        rss = month["rss_mib_by_day"]
        assert max(rss[19:]) <= max(rss[9:19]) * 1.1
