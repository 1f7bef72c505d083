"""The image as it is built: small, read-only, without root, healthy, and quick to stop."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.containers import IMAGE, container, inspect, pid_of, podman
from tests.support.processes import ACCOUNT_ID, ROOT, answers, until

WEB = "http://127.0.0.1:10617"
SETTINGS = ["--env", f"TWILIO_ACCOUNT_SID={ACCOUNT_ID}", "--env", "TWILIO_AUTH_TOKEN=t", "--volume", "e2e-state:/data"]
# The API is nowhere; that is no reason to be unhealthy.
NOWHERE = ["--env", "WATCHER_ACCOUNTS__0__BASE_URL=http://127.0.0.1:1/v1"]


@pytest.fixture(autouse=True)
def no_state():
    podman("volume", "rm", "--force", "e2e-state", check=False)
    yield
    podman("volume", "rm", "--force", "e2e-state", check=False)


def test_it_runs_read_only_without_root_is_healthy_and_stops_quickly():
    with container("e2e-image", options=[*SETTINGS, *NOWHERE]) as name:
        began = time.monotonic()
        until(lambda: answers(f"{WEB}/-/ready"), within=30, what="it is ready")
        ready = time.monotonic() - began
        status = Path(f"/proc/{pid_of(name)}/status").read_text()
        assert "\nUid:\t65532\t65532\t65532\t65532\n" in status
        assert "\nCapEff:\t0000000000000000\n" in status
        assert len(podman("top", name, "pid").stdout.split()) == 2, "one process"
        assert podman("healthcheck", "run", name).returncode == 0
        # A process that is stopped is not healthy.
        os.kill(pid_of(name), signal.SIGSTOP)
        assert podman("healthcheck", "run", name, check=False).returncode == 1
        os.kill(pid_of(name), signal.SIGCONT)
        began = time.monotonic()
        podman("stop", "--time", "20", name)
        stopped = time.monotonic() - began
        assert inspect(name, "{{.State.ExitCode}}") == "0"
    print(f"ready after {ready:.1f} s, stopped after {stopped:.1f} s")
    assert stopped < 5


def test_it_says_what_it_is_and_holds_no_tools_to_build():
    labels = json.loads(inspect(IMAGE, "{{json .Config.Labels}}"))
    for key in ("title", "description", "version", "licenses", "base.name"):
        assert labels[f"org.opencontainers.image.{key}"]
    assert inspect(IMAGE, "{{.Config.User}}") == "65532:65532"
    assert "python" in podman("run", "--rm", "--entrypoint", "python", IMAGE, "--version").stdout.lower()
    # What was installed is the lock's, to the version, and the product itself.
    assert inside("import shutil; print(*filter(None, map(shutil.which, ('cc', 'gcc', 'make'))))") == set()
    found = inside("import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()))")
    installed = {one.lower().replace("_", "-") for one in found}
    assert len(installed) > 10
    assert {one for one in installed if not one.startswith("operation-watcher==")} <= locked()


def inside(script: str) -> set[str]:
    """The words that Python in the image prints."""
    run = ["run", "--rm", "--network", "host", "--entrypoint", "/opt/watcher/bin/python", IMAGE, "-I", "-c", script]
    return set(podman(*run).stdout.split())


def locked() -> set[str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return {line.split()[0] for line in lines if "==" in line and not line.startswith(" ")}


def test_it_adds_little_to_its_base():
    size = int(inspect(IMAGE, "{{.Size}}"))
    layers = [layer["size"] for layer in json.loads(podman("history", "--format", "json", IMAGE).stdout)]
    # The newest first: the layers above the first that contains more than the watcher are ours.
    ours = sum(itertools.takewhile(lambda layer: layer < 60e6, layers))
    print(f"image {size / 1e6:.0f} MB, {ours / 1e6:.0f} MB above its base")
    assert 0 < ours < 40e6
