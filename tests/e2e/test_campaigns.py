"""Counters by campaign, as a real Prometheus sees the demo: each begins at 0, and `increase()` is what finished."""

from __future__ import annotations

import contextlib
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.processes import answers, environment, free_port, until
from watcher.demo import CAMPAIGNS
from watcher.simulator.ids import make_id

SCRAPED_EVERY = 1.0
OBSERVED_SECONDS = 75.0
"""Long enough that what `increase()` adds for less than a scrape at the end is well below 5 %."""

SURE_SECONDS = 3.0
"""An operation shows at most this long after it became final: the next write, and the next scrape."""

FINISHED = "twilio_operations_finished_total"
LOST = "rejected-at-once"


class Prometheus:
    """On a port of its own, scraping one target."""

    def __init__(self, folder: Path, target: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        folder.mkdir()
        (folder / "prometheus.yaml").write_text(
            f"global: {{scrape_interval: {SCRAPED_EVERY:.0f}s}}\n"
            f"scrape_configs: [{{job_name: demo, static_configs: [{{targets: ['{target}']}}]}}]\n"
        )
        program = shutil.which("prometheus")
        if program is None:
            pytest.fail("needs prometheus on the PATH (Debian: apt-get install prometheus)")
        arguments = [f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data"]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [program, *arguments, f"--web.listen-address={self.url.removeprefix('http://')}"],
                stdout=log,
                stderr=log,
            )

    def query(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        parameters = {"query": expression} | ({} if at is None else {"time": str(at)})
        answer = httpx.get(f"{self.url}/api/v1/query", params=parameters, trust_env=False).json()
        assert answer["status"] == "success", answer
        return list(answer["data"]["result"])


DEMO = "import asyncio, json, sys; from watcher.demo import demo; asyncio.run(demo(**json.loads(sys.argv[1])))"


@contextlib.contextmanager
def watched_demo(folder: Path) -> Iterator[tuple[Prometheus, dict[str, str]]]:
    """A demo, and a Prometheus that was there before it; the demo's addresses by what they are."""
    web = f"127.0.0.1:{free_port()}"
    prometheus = Prometheus(folder / "prometheus", web)
    out = folder / "demo.txt"
    settings = {"WATCHER_WEB__LISTEN": web, "WATCHER_ADMIN__LISTEN": f"127.0.0.1:{free_port()}"}
    try:
        until(lambda: answers(f"{prometheus.url}/-/ready"), within=30, what="Prometheus is ready")
        with out.open("wb") as file:
            given = json.dumps({"operations": 30, "settings": settings})
            demo = subprocess.Popen([sys.executable, "-c", DEMO, given], env=environment({}), stdout=file, stderr=file)
        try:
            until(lambda: "simulated API" in out.read_text(), within=30, what="the demo runs")
            yield prometheus, dict(re.findall(r"^  (\w.*?) +(http://\S+)$", out.read_text(), re.MULTILINE))
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait(20)
    finally:
        prometheus.process.terminate()
        prometheus.process.wait(20)


def reject_at_once(addresses: dict[str, str]) -> None:
    """An operation that the API refuses to show, the only one of its campaign."""
    one = make_id(time.time_ns() // 1000, random.Random())
    faults = [{"kind": "status", "status": 400, "endpoint": "fetch", "operation": one}]
    control = addresses["simulated API"].replace("/v1", "/_simulator/faults")
    httpx.put(control, json=faults, trust_env=False).raise_for_status()
    body = {"id": one, "labels": {"campaign": LOST}}
    httpx.post(addresses["admin API"], json=body, trust_env=False).raise_for_status()


def finals_of(addresses: dict[str, str]) -> dict[str, list[float]]:
    """By campaign, when its operations became final."""
    found: dict[str, list[float]] = {}
    after = None
    while True:
        parameters = {"limit": 500} | ({} if after is None else {"after": after})
        page = httpx.get(addresses["admin API"], params=parameters, trust_env=False).raise_for_status().json()
        for one in page["operations"]:
            if one["final_at"]:
                at = datetime.fromisoformat(one["final_at"]).timestamp()
                found.setdefault(one["labels"]["campaign"], []).append(at)
        after = page["next"]
        if not after:
            return found


def test_each_campaign_begins_at_0_and_increase_equals_the_finished_operations(tmp_path: Path) -> None:
    with watched_demo(tmp_path) as (prometheus, addresses):
        until(lambda: prometheus.query(f"{FINISHED}{{campaign!=''}}"), within=30, what="campaigns are scraped")
        reject_at_once(addresses)
        time.sleep(OBSERVED_SECONDS)
        finals = finals_of(addresses)
        assert finals.keys() == {*CAMPAIGNS, LOST}
        for campaign, final_at in finals.items():
            series = prometheus.query(f"{FINISHED}{{campaign='{campaign}'}}[5m]")
            assert {one["values"][0][1] for one in series} == {"0"}, campaign
            scrapes = [at for at, _ in series[0]["values"]]
            # A scrape at which it is sure which operations it counts.
            at = next(at for at in reversed(scrapes) if not any(at - SURE_SECONDS < one <= at for one in final_at))
            finished = sum(one <= at for one in final_at)
            values = [[float(value) for scrape, value in one["values"] if scrape <= at] for one in series]
            assert all(value == sorted(value) for value in values)
            assert sum(value[-1] - value[0] for value in values) == finished, campaign
            (increase,) = prometheus.query(f"sum(increase({FINISHED}{{campaign='{campaign}'}}[5m]))", at)
            assert float(increase["value"][1]) == pytest.approx(finished, rel=0.05), campaign
        assert len(finals[LOST]) == 1
        (rejected,) = prometheus.query(f"increase({FINISHED}{{campaign='{LOST}',outcome='rejected'}}[5m])")
        assert float(rejected["value"][1]) == pytest.approx(1, rel=0.05)
