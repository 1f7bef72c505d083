"""A real Prometheus with our rules, a real Alertmanager with our example, and a receiver that records."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.processes import ROOT, answers, until

DEPLOY = ROOT / "deploy" / "prometheus"
PROMETHEUS, ALERTMANAGER, RECEIVER_PORT = "http://127.0.0.1:9090", "http://127.0.0.1:9093", 9099
Edits = Mapping[str, Sequence[tuple[str, str]]]


class Receiver:
    """What Alertmanager sends, one entry for each alert in a notification, with the moment."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                at = time.time()
                outer.received += [{**alert, "at": at, "path": self.path} for alert in body["alerts"]]
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- so it is called
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", RECEIVER_PORT), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def of(self, status: str, **labels: str) -> list[dict[str, Any]]:
        """Alerts of this status with these labels."""
        return [
            alert
            for alert in list(self.received)
            if alert["status"] == status and labels.items() <= alert["labels"].items()
        ]

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def query(expression: str) -> list[dict[str, Any]]:
    """An instant query."""
    answer = httpx.get(f"{PROMETHEUS}/api/v1/query", params={"query": expression}, trust_env=False, verify=False).json()
    assert answer["status"] == "success", (expression, answer)
    return list(answer["data"]["result"])


@contextlib.contextmanager
def monitoring(folder: Path, edits: Edits) -> Iterator[Receiver]:
    """All three, with the files of deploy/prometheus after these edits (regular expression, replacement) by file."""
    folder.mkdir()
    for file in DEPLOY.glob("*.yaml"):
        text = file.read_text()
        for pattern, replacement in edits.get(file.name, ()):
            text, number = re.subn(pattern, replacement, text)
            assert number, f"{file.name} has nothing like {pattern}"
        (folder / file.name).write_text(text)
    receiver = Receiver()
    with contextlib.ExitStack() as stack:
        stack.callback(receiver.stop)
        stack.enter_context(alertmanager(folder))
        stack.enter_context(prometheus(folder))
        yield receiver


@contextlib.contextmanager
def prometheus(folder: Path) -> Iterator[None]:
    """With the prometheus.yaml of the folder."""
    arguments = ["--config.file=prometheus.yaml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:9090"]
    with _running(folder, "prometheus", *arguments):
        until(lambda: answers(f"{PROMETHEUS}/-/ready"), within=30, what="Prometheus is ready")
        yield


@contextlib.contextmanager
def alertmanager(folder: Path) -> Iterator[None]:
    """With the alertmanager.yaml of the folder."""
    name = "prometheus-alertmanager" if shutil.which("prometheus-alertmanager") else "alertmanager"
    arguments = ["--config.file=alertmanager.yaml", "--storage.path=alerts", "--cluster.listen-address="]
    with _running(folder, name, *arguments, "--web.listen-address=127.0.0.1:9093"):
        until(lambda: answers(f"{ALERTMANAGER}/-/ready"), within=30, what="Alertmanager is ready")
        yield


@contextlib.contextmanager
def _running(folder: Path, name: str, *arguments: str) -> Iterator[None]:
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"needs {name} on the PATH (Debian: apt-get install prometheus prometheus-alertmanager)")
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([found, *arguments], cwd=folder, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
