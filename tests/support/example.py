"""The simulated API and the example app in containers, as end-to-end tests of pods use them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import httpx

from tests.support.containers import Pod, container
from tests.support.monitoring import query
from tests.support.processes import answers, until

APP, WEB, SIMULATOR = "http://127.0.0.1:8080", "http://127.0.0.1:10617", "http://127.0.0.1:10619"
# Edits for tests in which no time is measured against a promise: all that waits waits seconds.
HURRIED = {
    "prometheus.yaml": [(r"interval: 15s", "interval: 2s")],
    "operation-watcher.rules.yaml": [
        (r"interval: 15s", "interval: 2s"),
        (r"keep_firing_for: \d+m", "keep_firing_for: 5s"),
        # Prometheus takes 5 s to find its targets when it starts, and until then every one of them is absent.
        (r"(absent\(.*\n +)for: 5m", r"\1for: 30s"),
        (r"(?<= )for: \d+m", "for: 4s"),
    ],
    "alertmanager.yaml": [(r"group_wait: 30s", "group_wait: 1s"), (r"group_wait: 5s", "group_wait: 1s")],
}


@contextlib.contextmanager
def simulator(folder: Path, name: str) -> Iterator[None]:
    """`watcher simulate` where nothing happens but what is sent."""
    scenario = folder / f"{name}-scenario"
    scenario.mkdir()
    (scenario / "empty.yaml").write_text("latency: 20ms..80ms\n")
    options = ["--volume", f"{scenario}:/scenario:ro"]
    with container(name, "simulate", "--scenario", "/scenario/empty.yaml", options=options):
        until(lambda: answers(f"{SIMULATOR}/_simulator/requests"), within=30, what="the simulated API answers")
        yield


def failed_upstream(operation_id: str) -> bool:
    """Whether any of its notifications has failed, by the simulation's own truth."""
    found = httpx.get(f"{SIMULATOR}/_simulator/operations", trust_env=False, verify=False).json()["operations"]
    return any(one["id"] == operation_id and one["stats"]["failed"] for one in found)


def send(campaign: str, **wanted: Any) -> str:
    """The app sends; the id."""
    answer = httpx.post(f"{APP}/send", json={"campaign": campaign, **wanted}, trust_env=False, verify=False, timeout=20)
    assert answer.status_code == httpx.codes.ACCEPTED, answer.text
    return str(answer.json()["operationId"])


def unregistered() -> int:
    """How many ids wait in the app."""
    return int(httpx.get(f"{APP}/unregistered", trust_env=False, verify=False).json()["unregistered"])


def all_registered() -> bool:
    return unregistered() == 0


def ready(pod: Pod) -> None:
    """Wait until app and watcher are."""
    until(lambda: answers(f"{APP}/ready") and answers(f"{WEB}/-/ready"), within=60, what=f"{pod.name} is ready")


def is_ready() -> bool:
    """Whether the watcher answers that it is healthy and ready."""
    return answers(f"{WEB}/-/healthy") and answers(f"{WEB}/-/ready")


def is_now(metric: str, value: int) -> None:
    """Wait until Prometheus has this value."""
    until(lambda: [row["value"][1] for row in query(metric)] == [str(value)], within=60, what=f"{metric} is {value}")


class Probing:
    """Requests the app's readiness all the time, as a kubelet does, and counts every refusal."""

    def __init__(self) -> None:
        self.requested, self.refused = 0, 0
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
            self.requested += 1
            self.refused += not answers(f"{APP}/ready")
