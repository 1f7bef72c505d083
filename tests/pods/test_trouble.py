"""Faults affect the watcher alone: the app's container stays ready, and the right alert arrives."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.containers import Pod, pid_of, podman
from tests.support.example import (
    HURRIED,
    SIMULATOR,
    Probing,
    all_registered,
    is_now,
    is_ready,
    ready,
    send,
    simulator,
    unregistered,
)
from tests.support.monitoring import Receiver, monitoring
from tests.support.processes import ACCOUNT_ID, until

SETTINGS = {"polling": {"freshness": "1s"}, "metrics": {"labels": ["campaign"], "hold": "20s"}}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own of 3 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


class BrokenPod:
    """A pod with one fault after the other, and the seconds until each alert arrived."""

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
        until(is_ready, within=30, what="it is on standby and ready")
        file.write_text(good)
        is_now("operation_watcher_config_last_reload_successful", 1)

    def upstream(self, running: contextlib.ExitStack) -> None:
        """Gone."""
        running.close()
        self.arrives("AccountUnreachable")
        assert is_ready()

    def watcher(self) -> None:
        """Gone itself."""
        podman("stop", "--time", "10", self.pod.watcher)
        self.arrives("WatcherDown")

    def arrives(self, name: str) -> None:
        began = time.monotonic()
        until(lambda: self.receiver.of("firing", alertname=name), within=90, what=f"{name} arrives")
        self.took[name] = time.monotonic() - began


def test_whatever_breaks_the_app_stays_ready_and_the_right_alert_arrives(tmp_path: Path, small_disk: Path) -> None:
    pod = Pod(tmp_path, "e2e-health")
    pod.keep_data_in(small_disk)
    pod.environment("app", {"SEND_EVERY": "0"})
    pod.configure(SETTINGS)
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(contextlib.ExitStack())
        upstream.enter_context(simulator(tmp_path, "e2e-health-simulator"))
        stack.enter_context(pod.running())
        receiver = stack.enter_context(monitoring(tmp_path / "monitoring", HURRIED))
        ready(pod)
        app = stack.enter_context(Probing())
        send("long", recipients=10, failed=0, unaddressable=0, lifetime="1h")
        is_now("operation_watcher_account_up", 1)
        broken = BrokenPod(pod, receiver)
        broken.token()
        broken.disk(small_disk)
        broken.configuration()
        broken.upstream(upstream)
        broken.watcher()
        probes = (app.requested, app.refused)
    print(", ".join(f"{name} {seconds:.0f} s" for name, seconds in broken.took.items()))
    assert probes[0] > 50
    assert probes[1] == 0
    # The right ones, and no others.
    assert {one["labels"]["alertname"] for one in receiver.of("firing")} == broken.took.keys()
