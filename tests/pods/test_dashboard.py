"""The dashboard: what is committed is what is generated, and every query returns data from a real Prometheus."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.monitoring import DEPLOY, PROMETHEUS, prometheus, query
from tests.support.processes import ROOT, answers, environment, until

GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "operation-watcher.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [
    pytest.param(
        target["expr"], "instant" if target.get("instant") else "range", id=f"{panel['title']} {target['refId']}"
    )
    for panel in PANELS
    for target in panel["targets"]
]

# The demo, which also discovers: what it sends, it registers.
DEMO = """
import asyncio
from watcher.demo import demo
asyncio.run(demo(operations=30, settings={"WATCHER_ACCOUNTS__0__DISCOVER": "true"}))
"""


def test_what_is_committed_is_what_is_generated(tmp_path: Path):
    folder = tmp_path / "grafana"
    shutil.copytree(GRAFANA, folder)
    subprocess.run([sys.executable, folder / "generate.py"], check=True)
    assert (folder / "operation-watcher.json").read_text() == (GRAFANA / "operation-watcher.json").read_text()


def test_panels_lie_beside_each_other_and_have_numbers_of_their_own():
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(numbers) == len(set(numbers))


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> Iterator[str]:
    """A Prometheus with our rules that has watched the demo for a while; the id of an operation with failures."""
    folder = tmp_path_factory.mktemp("monitoring")
    for file in DEPLOY.glob("*.yaml"):
        (folder / file.name).write_text(file.read_text().replace("interval: 15s", "interval: 1s"))
    demo = [sys.executable, "-c", DEMO]
    process = subprocess.Popen(demo, env=environment({}), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: answers("http://127.0.0.1:10617/-/ready"), within=30, what="the demo is ready at its usual port")
        with prometheus(folder):
            failing = 'twilio_operation_messages{state="failed"} > 0'
            finished = 'increase(twilio_operation_messages_finished_total{state="failed"}[30s]) > 0'
            until(lambda: query(failing) and query(finished), within=90, what="operations with failures have finished")
            time.sleep(3)
            yield query(f"topk(1, {failing})")[0]["metric"]["operation_id"]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(15)


@pytest.mark.parametrize(("expression", "kind"), QUERIES)
def test_a_query_returns_data(watched: str, expression: str, kind: str):
    for variable, value in {
        "$account": ".*",
        "$operation": watched,
        "$__rate_interval": "30s",
        "$__range": "1m",
    }.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression
    if kind == "instant":
        found = query(expression)
    else:
        now = time.time()
        over: dict[str, str | float] = {"query": expression, "start": now - 30, "end": now, "step": 2}
        answer = httpx.get(f"{PROMETHEUS}/api/v1/query_range", params=over, trust_env=False).json()
        assert answer["status"] == "success", answer
        found = answer["data"]["result"]
    assert found
    values = (
        [float(row["value"][1]) for row in found]
        if kind == "instant"
        else [float(v) for row in found for _, v in row["values"]]
    )
    assert any(value == value for value in values), "a number, and not only NaN"  # noqa: PLR0124 -- NaN is not itself


@pytest.mark.parametrize(
    "variable", [v for v in DASHBOARD["templating"]["list"] if v["type"] == "query"], ids=lambda v: v["name"]
)
def test_a_variable_has_values(watched: str, variable: dict[str, Any]):
    series, label = variable["query"].removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
    assert {row["metric"][label] for row in query(series.replace("$account", ".*"))}
