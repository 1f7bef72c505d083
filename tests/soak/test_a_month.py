"""A month and a million operations: two accounts of half a million, each in a process of its own."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.processes import reports

SCRIPT = Path(__file__).parent / "month.py"
OPERATIONS = int(os.environ.get("SOAK_OPERATIONS", "1000000"))
PARTS = 2
LATE_AT_MOST_SECONDS = 120


def test_a_month_passes_without_loss_without_drift_and_with_flat_memory(tmp_path: Path) -> None:
    months = reports(tmp_path, [[str(SCRIPT), str(part), str(OPERATIONS // PARTS)] for part in range(PARTS)])
    for month in months:
        print({key: value for key, value in month.items() if not key.endswith("_by_day")})
        print({key: [round(number, 1) for number in value] for key, value in month.items() if key.endswith("_by_day")})
    assert sum(month["sent"] for month in months) == OPERATIONS
    for month in months:
        assert month["wrong"] == []
        assert month["pending"] == 0
        assert month["ends"] == month["true_ends"]
        assert sum(month["ends"].values()) == month["sent"]
        assert {"throttled", "unreachable", "unauthorized"} <= month["issues"].keys()
        assert len(month["lag_seconds_by_day"]) >= 29
        assert max(month["lag_seconds_by_day"]) < LATE_AT_MOST_SECONDS
        rss = month["rss_mib_by_day"]
        assert max(rss[19:]) <= max(rss[9:19]) * 1.1
