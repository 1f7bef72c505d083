"""From a failed notification to a page: pod, Prometheus, Alertmanager and a receiver, all of them real.

What would take longer than a test can wait is made shorter by the edits at the top, and nothing else is changed:
scrapes, evaluations and the waits of the operations' route are those of the examples wherever times are measured.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

from tests.support.containers import Pod, pid_of, podman
from tests.support.example import Probing, all_registered, failed_upstream, ready, send, simulator
from tests.support.monitoring import Receiver, monitoring, query
from tests.support.processes import until

SECOND_APP, SECOND_WEB = "127.0.0.1:8081", "127.0.0.1:10627"
QUICK = {
    "polling": {"settle_after": ["2s", "5s"]},
    # 10 minutes in the example; the rules' window for accounts goes with it.
    "metrics": {"labels": ["campaign"], "hold": "20s"},
}
OPERATIONS = {
    "prometheus.yaml": [(r"\"localhost:10617\"", f'"localhost:10617", "{SECOND_WEB}"')],
    "operation-watcher.rules.yaml": [(r"keep_firing_for: 3m", "keep_firing_for: 30s"), (r"\[10m\]", "[30s]")],
}


def two_pods(folder: Path) -> tuple[Pod, Pod]:
    """Two of a rollout, a native sidecar and a classic one, side by side on one network."""
    first, second = Pod(folder, "e2e-first"), Pod(folder, "e2e-second", "example/classic")
    for pod in (first, second):
        pod.configure(QUICK)
        pod.environment("app", {"SEND_EVERY": "0"})
    second.environment("app", {"LISTEN": SECOND_APP})
    second.environment("watcher", {"WATCHER_WEB__LISTEN": SECOND_WEB})
    return first, second


def test_a_failure_becomes_one_page_and_a_clean_operation_no_page(tmp_path: Path) -> None:
    first, second = two_pods(tmp_path)
    with contextlib.ExitStack() as stack:
        stack.enter_context(simulator(tmp_path, "e2e-first-simulator"))
        for pod in (first, second):
            stack.enter_context(pod.running())
        receiver = stack.enter_context(monitoring(tmp_path / "monitoring", OPERATIONS))
        app = stack.enter_context(Probing())
        ready(first)
        for number in range(100):
            send("background", recipients=100 + number, failed=0, unaddressable=0, lifetime="10m")
        clean = send("clean-one", recipients=500, failed=0, unaddressable=0, lifetime="5s")
        total = send("all-failed", recipients=300, failed=300, unaddressable=0, lifetime="1s")
        # Long enough to be shown still when the second pod shows it too.
        partly = send("some-failed", recipients=200, failed=6, unaddressable=0, lifetime="50s")
        until(all_registered, within=30, what="all is registered")

        # In the middle: killed as the kernel does, with the operation under way.
        os.kill(pid_of(first.watcher), signal.SIGKILL)
        until(lambda: failed_upstream(partly), within=30, what="notifications fail")
        failed_at = time.time()
        (alert,) = until(
            lambda: receiver.of("firing", operation_id=partly), within=60, what="the alert arrives within 60 s"
        )
        alerted_after = alert["at"] - failed_at
        assert alert["labels"]["alertname"] == "OperationFailed"
        assert partly in alert["annotations"]["summary"]
        assert alert["annotations"]["campaign"] == "some-failed"
        assert alert["path"] == "/on-call"
        (alert,) = until(lambda: receiver.of("firing", operation_id=total), within=60, what="the page arrives")
        assert alert["labels"]["alertname"] == "OperationFailureShare"
        assert alert["annotations"]["campaign"] == "all-failed"
        assert alert["path"] == "/pager"

        # A rollout: the next pod tracks the same operations, the watcher is killed once more, then the first pod goes.
        track = ["track", "--url", "unix:/run/watcher/admin.sock", partly, total, "--label", "campaign=some-failed"]
        podman("exec", second.watcher, "watcher", *track)
        shown = f'twilio_operation_size{{operation_id="{partly}"}}'
        until(lambda: len(query(shown)) == 2, within=45, what="both pods show it")
        os.kill(pid_of(first.watcher), signal.SIGKILL)
        used = measured(pid_of(first.watcher), seconds=20)
        ratio = 'ALERTS{alertname="AccountFailureRatio",alertstate="firing"}'
        until(lambda: query(f"last_over_time({ratio}[5m])"), within=60, what="the account's alert fires too")
        probes = (app.requested, app.refused)
        first.down()
        until(
            lambda: len({one["labels"]["operation_id"] for one in _of_operations(receiver, "resolved")}) == 2,
            within=240,
            what="both alerts are resolved after their series have left",
        )
        resolved_after = time.time() - failed_at
    firing = sorted(one["labels"]["alertname"] for one in _of_operations(receiver, "firing"))
    assert firing == ["OperationFailed", "OperationFailureShare"]
    assert len(_of_operations(receiver, "resolved")) == 2
    assert not receiver.of("firing", operation_id=clean)
    # What the operation says itself the account does not repeat.
    assert not receiver.of("firing", alertname="AccountFailureRatio")
    assert probes[0] > 100
    assert probes[1] == 0
    print(
        f"alert {alerted_after:.0f} s after the failure, resolved after {resolved_after:.0f} s; "
        f"at 100 operations in flight the sidecar takes {used[0]:.0f} MiB and {used[1]:.1f} % of a core"
    )
    # What the manifests ask for: 64Mi and 20m.
    assert used[0] < 64
    assert used[1] < 5


def _of_operations(receiver: Receiver, status: str) -> list[dict[str, Any]]:
    return [one for one in receiver.of(status) if one["labels"].get("scope") == "operation"]


def measured(pid: int, seconds: float) -> tuple[float, float]:
    """Resident memory in MiB, and the share of a core in percent over some time."""

    def ticks() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    # What the start takes is no part of it.
    time.sleep(5)
    before = ticks()
    time.sleep(seconds)
    spent = (ticks() - before) / os.sysconf("SC_CLK_TCK")
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    rss = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    return rss / 1024, 100 * spent / seconds
