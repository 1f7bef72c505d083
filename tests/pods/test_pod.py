"""From a failed notification to a page: pod, Prometheus, Alertmanager and a receiver, all of them real.

What would take longer than a test can wait is made shorter by the edits at the top, and nothing else is changed:
scrapes, evaluations and the waits of the operations' route are those of the examples wherever times are measured.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from tests.support.containers import Pod, container, pid_of, podman
from tests.support.monitoring import Receiver, monitoring, query
from tests.support.processes import ACCOUNT_ID, answers, until

APP, WEB, SIMULATOR = "http://127.0.0.1:8080", "http://127.0.0.1:10617", "http://127.0.0.1:10619"
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
HEALTH = {
    "prometheus.yaml": [(r"interval: 15s", "interval: 2s")],
    "operation-watcher.rules.yaml": [
        (r"interval: 15s", "interval: 2s"),
        (r"keep_firing_for: \d+m", "keep_firing_for: 5s"),
        (r"(?<= )for: \d+m", "for: 4s"),
    ],
    "alertmanager.yaml": [(r"group_wait: 30s", "group_wait: 1s")],
}


@contextlib.contextmanager
def simulator() -> Iterator[None]:
    with container("e2e-simulator", "simulate", "--scenario", "/scenario/empty.yaml", options=_scenario()):
        until(lambda: answers(f"{SIMULATOR}/_simulator/requests"), within=30, what="the simulated API answers")
        yield


def _scenario() -> list[str]:
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / "e2e-scenario"  # noqa: S108 -- an empty scenario
    folder.mkdir(exist_ok=True)
    (folder / "empty.yaml").write_text("latency: 20ms..80ms\n")
    return ["--volume", f"{folder}:/scenario:ro"]


def send(campaign: str, **wanted: Any) -> str:
    """The app sends, the id."""
    answer = httpx.post(f"{APP}/send", json={"campaign": campaign, **wanted}, trust_env=False, timeout=20)
    assert answer.status_code == httpx.codes.ACCEPTED, answer.text
    return str(answer.json()["operationId"])


def unregistered() -> int:
    """How many ids wait in the app."""
    return int(httpx.get(f"{APP}/unregistered", trust_env=False).json()["unregistered"])


def all_registered() -> bool:
    return unregistered() == 0


def failed_upstream(operation_id: str) -> bool:
    found = httpx.get(f"{SIMULATOR}/_simulator/operations", trust_env=False).json()["operations"]
    return any(one["id"] == operation_id and one["stats"]["failed"] for one in found)


def ready(pod: Pod) -> None:
    until(lambda: answers(f"{APP}/ready") and answers(f"{WEB}/-/ready"), within=60, what=f"{pod.name} is ready")


class Probing:
    """Asks the app's readiness all the time, as a kubelet does, and remembers every no."""

    def __init__(self) -> None:
        self.asked, self.refused = 0, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._probe, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _probe(self) -> None:
        while not self._stop.wait(0.3):
            self.asked += 1
            self.refused += not answers(f"{APP}/ready")


def test_a_failure_becomes_one_page_and_a_clean_operation_none(tmp_path: Path) -> None:
    first, second = Pod(tmp_path, "e2e-first", "native"), Pod(tmp_path, "e2e-second", "classic")
    for pod in (first, second):
        pod.configure(QUICK)
        pod.environment("app", {"SEND_EVERY": "0"})
    second.environment("app", {"LISTEN": SECOND_APP})
    second.environment("watcher", {"WATCHER_WEB__LISTEN": SECOND_WEB})
    with simulator(), first.running(), monitoring(tmp_path / "monitoring", OPERATIONS) as receiver, Probing() as app:
        ready(first)
        for number in range(100):
            send("background", recipients=100 + number, failed=0, unaddressable=0, lifetime="10m")
        clean = send("clean-one", recipients=500, failed=0, unaddressable=0, lifetime="5s")
        total = send("all-failed", recipients=300, failed=300, unaddressable=0, lifetime="1s")
        partly = send("some-failed", recipients=200, failed=6, unaddressable=0, lifetime="15s")
        until(all_registered, within=30, what="all is registered")

        # In the middle: killed as the kernel does, with the operation under way.
        os.kill(pid_of(first.watcher), signal.SIGKILL)
        until(lambda: failed_upstream(partly), within=30, what="notifications fail")
        failed_at = time.time()
        (alert,) = until(
            lambda: receiver.of("firing", operation_id=partly), within=60, what="the failure is told within 60 s"
        )
        told_after = alert["at"] - failed_at
        assert alert["labels"]["alertname"] == "OperationFailed"
        assert partly in alert["annotations"]["summary"]
        assert alert["annotations"]["campaign"] == "some-failed"
        assert alert["path"] == "/desk"
        (alert,) = until(lambda: receiver.of("firing", operation_id=total), within=60, what="the page arrives")
        assert alert["labels"]["alertname"] == "OperationFailureShare"
        assert alert["annotations"]["campaign"] == "all-failed"
        assert alert["path"] == "/pager"

        # A rollout: the next pod follows the same ones, the watcher is killed once more, then the first pod goes.
        with second.running():
            until(lambda: answers(f"http://{SECOND_WEB}/-/ready"), within=60, what="the second pod is ready")
            track = ["track", "--url", "unix:/run/watcher/admin.sock", partly, total, "--label", "campaign=some-failed"]
            podman("exec", second.watcher, "watcher", *track)
            os.kill(pid_of(first.watcher), signal.SIGKILL)
            used = measured(pid_of(first.watcher), seconds=20)
            ratio = 'ALERTS{alertname="AccountFailureRatio",alertstate="firing"}'
            until(lambda: query(f"last_over_time({ratio}[5m])"), within=60, what="the account's alert fires too")
            probes = (app.asked, app.refused)
            first.down()
            until(
                lambda: len({one["labels"]["operation_id"] for one in _of_operations(receiver, "resolved")}) == 2,
                within=240,
                what="both are told as resolved after their series have left",
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
        f"told {told_after:.0f} s after the failure, resolved after {resolved_after:.0f} s; "
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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own of 3 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


class Trouble:
    """A pod in trouble: what breaks, one after the other, and how long the alert took to arrive."""

    def __init__(self, pod: Pod, receiver: Receiver) -> None:
        self.pod, self.receiver = pod, receiver
        self.took: dict[str, float] = {}

    def token(self) -> None:
        """Changed upstream, and then in the secret, as the kubelet would."""
        change = {"account_id": ACCOUNT_ID, "auth_token": "the-next-token"}
        httpx.put(f"{SIMULATOR}/_simulator/credentials", json=change, trust_env=False).raise_for_status()
        self.arrives("AccountUnauthorized")
        (self.pod.secret / "auth_token").write_text("the-next-token\n")
        is_now("operation_watcher_account_up", 1)

    def disk(self, folder: Path) -> None:
        """Full: what the app registers waits in the app, and is taken afterwards."""
        with (folder / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(4096))
        # The first ones may still find room in the database's own pages.
        while unregistered() < 5:
            send("while-full", recipients=10, failed=0, unaddressable=0, lifetime="1h")
            time.sleep(0.1)
        self.arrives("WatcherStoreUnusable")
        (folder / "ballast").unlink()
        until(all_registered, within=60, what="what waited in the app is taken")
        is_now("operation_watcher_store_usable", 1)

    def configuration(self) -> None:
        """Bad at a reload, and then at a start."""
        file = self.pod.configuration / "config.yaml"
        good = file.read_text()
        file.write_text("polling: {freshnes: 1s}\n")
        podman("kill", "--signal", "HUP", self.pod.watcher)
        self.arrives("WatcherConfigRejected")
        os.kill(pid_of(self.pod.watcher), signal.SIGKILL)
        until(stands, within=30, what="it stands by, and says so")
        file.write_text(good)
        is_now("operation_watcher_config_last_reload_successful", 1)

    def upstream(self, running: contextlib.ExitStack) -> None:
        """Gone."""
        running.close()
        self.arrives("AccountUnreachable")
        assert stands()

    def watcher(self) -> None:
        """Gone itself."""
        podman("stop", "--time", "10", self.pod.watcher)
        self.arrives("WatcherDown")

    def arrives(self, name: str) -> None:
        began = time.monotonic()
        until(lambda: self.receiver.of("firing", alertname=name), within=90, what=f"{name} arrives")
        self.took[name] = time.monotonic() - began


def stands() -> bool:
    return answers(f"{WEB}/-/healthy") and answers(f"{WEB}/-/ready")


def is_now(metric: str, value: int) -> None:
    until(lambda: [row["value"][1] for row in query(metric)] == [str(value)], within=60, what=f"{metric} is {value}")


def test_whatever_breaks_the_app_stays_ready_and_the_right_alert_arrives(tmp_path: Path, small_disk: Path) -> None:
    pod = Pod(tmp_path, "e2e-health")
    pod.keep_data_in(small_disk)
    pod.environment("app", {"SEND_EVERY": "0"})
    pod.configure(QUICK | {"polling": {"freshness": "1s"}})
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(contextlib.ExitStack())
        upstream.enter_context(simulator())
        stack.enter_context(pod.running())
        receiver = stack.enter_context(monitoring(tmp_path / "monitoring", HEALTH))
        ready(pod)
        app = stack.enter_context(Probing())
        send("long", recipients=10, failed=0, unaddressable=0, lifetime="1h")
        is_now("operation_watcher_account_up", 1)
        trouble = Trouble(pod, receiver)
        trouble.token()
        trouble.disk(small_disk)
        trouble.configuration()
        trouble.upstream(upstream)
        trouble.watcher()
        probes = (app.asked, app.refused)
    print(", ".join(f"{name} {seconds:.0f} s" for name, seconds in trouble.took.items()))
    assert probes[0] > 50
    assert probes[1] == 0
    # The right ones, and no others.
    assert {one["labels"]["alertname"] for one in receiver.of("firing")} == trouble.took.keys()
