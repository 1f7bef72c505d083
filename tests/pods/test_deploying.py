"""docs/deploy.md, step by step: from nothing to a firing alert."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import time
from pathlib import Path

from tests.support.containers import IMAGE, podman, program
from tests.support.processes import ROOT

PAGE = ROOT / "docs" / "deploy.md"


def steps() -> list[str]:
    section = PAGE.read_text().partition("## From nothing to a firing alert\n")[2].partition("\n## ")[0]
    return [block.replace("\n   ", "\n").strip() for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL)]


def test_the_steps_of_the_guide_reach_a_firing_alert_in_less_than_ten_minutes(tmp_path: Path):
    # `podman` is whatever runs containers here; the image is there already, built by the same `make image`.
    podman("rm", "--force", "--ignore", "simulator", "watcher")
    shim = tmp_path / "podman"
    # Whatever it calls finds the real one again.
    shim.write_text(f'#!/bin/sh\nPATH={shlex.quote(os.environ["PATH"])}\nexec {shlex.join(program())} "$@"\n')
    shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
    # Variables that a make above was given are not for the make of the steps.
    env = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS"}}
    env |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "IMAGE_BUILD": "true"}
    script = "set -euo pipefail\n" + "\n".join(steps()).replace("operation-watcher:dev", IMAGE)
    assert len(steps()) == 6
    began = time.monotonic()
    try:
        done = subprocess.run(
            ["bash", "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, timeout=240, check=False
        )
    finally:
        podman("rm", "--force", "--ignore", "simulator", "watcher", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    # Which of the two comes first depends on how much of the operation the first scrape saw.
    expected = (
        r"^FIRING (/pager OperationFailureShare|/on-call OperationFailed) .*comms_operation_\w+.* \[spring-sale\]$"
    )
    assert re.search(expected, done.stdout, re.MULTILINE), done.stdout
    print(f"after {time.monotonic() - began:.0f} s: {done.stdout.strip().splitlines()[-3:]}")
