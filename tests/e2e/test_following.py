"""The daemon as a user runs it, against the simulated API in another process."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from tests.support.processes import (
    ACCOUNT_ID,
    API_KEY,
    API_KEY_SECRET,
    AUTH_TOKEN,
    account,
    cpu_seconds,
    daemon_of,
    environment,
    simulating,
    until,
)
from watcher.core.model import SECOND
from watcher.simulator.ids import make_id

STATES = ("scheduled", "queued", "sent", "failed", "canceled")


def ids(number: int, seed: int = 0) -> list[str]:
    now = round(time.time() * SECOND)
    return [make_id(now, random.Random(seed * 100_000 + one)) for one in range(number)]


def scripted(lives: dict[str, str], more: str = "") -> str:
    lines = [f"  - {{id: {operation_id}, {life}}}" for operation_id, life in lives.items()]
    return "operations:\n" + "\n".join(lines) + "\n" + more


def test_three_operations_of_a_file_are_tracked_to_their_end(tmp_path: Path) -> None:
    one, two, three = ids(3)
    scenario = scripted(
        {
            one: "created: 0s, processing: 6s, completed: 12s, stats: {recipients: 100, failed: 7, unaddressable: 4}",
            two: "created: 0s, processing: 1s, canceled: 10s, stats: {recipients: 50}",
            three: "created: 0s, processing: 5s, completed: 10s, stats: {recipients: 10}",
        }
    )
    with simulating(tmp_path, scenario) as simulator:
        settings = {
            "accounts": [account(simulator.base_url, tmp_path, operations=[one, two, three])],
            "polling": {"freshness": "1s", "settle_after": ["1s", "2s"]},
        }
        with daemon_of(tmp_path, settings) as daemon:
            daemon.start()
            until(lambda: len(daemon.events("operation.finished")) == 3, within=30, what="three ends are published")
            until(
                lambda: (
                    sum(
                        daemon.value("twilio_operations_finished_total", account="main", outcome=outcome) or 0
                        for outcome in ("completed", "canceled")
                    )
                    == 3
                ),
                within=20,
                what="three operations are counted",
            )
            truth = simulator.truth()
            samples = daemon.samples()
            text = daemon.metrics()
            openmetrics = daemon.metrics("application/openmetrics-text; version=1.0.0")
            moved = {
                operation_id: [
                    (event["from_status"], event["to_status"])
                    for event in daemon.events("operation.moved")
                    if event["operation_id"] == operation_id
                ]
                for operation_id in (one, two, three)
            }
            assert daemon.terminate() == 0
    assert moved[one] == [(None, "SCHEDULED"), ("SCHEDULED", "PROCESSING"), ("PROCESSING", "COMPLETED")]
    assert moved[two][-1] == ("PROCESSING", "CANCELED")
    assert [end["operation_id"] for end in daemon.events("operation.finished") if end["level"] == "warning"] != [three]
    for operation_id in (one, two, three):
        stats = truth[operation_id]["finalStats"]
        key = {("account", "main"), ("channel", "push"), ("operation_id", operation_id)}
        shown = {state: samples["twilio_operation_messages", frozenset({*key, ("state", state)})] for state in STATES}
        assert shown == {state: stats[state] for state in STATES}
        assert samples["twilio_operation_size", frozenset(key)] == stats["total"]
        assert samples["twilio_operation_recipients", frozenset(key)] == stats["recipients"]
        assert samples["twilio_operation_unaddressable_recipients", frozenset(key)] == stats["unaddressable"]
    assert list(text_string_to_metric_families(text))
    assert list(openmetrics_families(openmetrics))
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "credentials",
    [
        {"TWILIO_ACCOUNT_SID": ACCOUNT_ID, "TWILIO_AUTH_TOKEN": AUTH_TOKEN},
        {"TWILIO_API_KEY": API_KEY, "TWILIO_API_KEY_SECRET": API_KEY_SECRET},
    ],
    ids=["auth token", "api key"],
)
def test_credentials_in_the_environment_are_enough(tmp_path: Path, credentials: dict[str, str]) -> None:
    (one,) = ids(1)
    with simulating(tmp_path, scripted({one: "created: 0s, completed: 5m, stats: {recipients: 9}"})) as simulator:
        env = credentials | {"WATCHER_ACCOUNTS__0__BASE_URL": simulator.base_url}
        with daemon_of(tmp_path, None, env) as daemon:
            daemon.start()
            assert daemon.track(one).status_code == httpx.codes.CREATED
            assert daemon.track(one).status_code == httpx.codes.OK
            key = {"account": "default", "operation_id": one}
            until(
                lambda: daemon.value("twilio_operation_status", status="PROCESSING", **key) == 1,
                within=10,
                what="the posted id is polled",
            )


@pytest.mark.parametrize("seed", [1])
def test_no_operation_is_lost_or_counted_twice_when_the_daemon_is_killed_again_and_again(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    lives = {
        operation_id: f"created: 0s, processing: 1s, {'canceled' if number % 20 == 0 else 'completed'}: "
        f"{rng.uniform(5, 60):.1f}s, stats: {{recipients: {rng.randint(1, 500)}, "
        f"failed: {0 if number % 20 == 0 else rng.randint(0, 1)}}}"
        for number, operation_id in enumerate(ids(200, seed))
    }
    with simulating(tmp_path, scripted(lives)) as simulator:
        settings = {
            "accounts": [account(simulator.base_url, tmp_path, max_requests_per_second=80, max_concurrency=8)],
            "polling": {"freshness": "2s", "settle_after": ["1s", "2s"]},
        }
        with daemon_of(tmp_path, settings) as daemon:
            daemon.start()
            assert daemon.track(*lives).status_code == httpx.codes.CREATED
            kills = 0
            while kills < 26:
                time.sleep(rng.uniform(0.05, 2.2))
                daemon.kill()
                kills += 1
                # Now and then it is killed again before it is ready.
                daemon.start(ready=kills % 3 != 0)
            until(daemon.is_ready, within=20, what="the daemon is ready")

            def counted() -> float:
                return sum(
                    daemon.value("twilio_operations_finished_total", account="main", outcome=outcome) or 0
                    for outcome in ("completed", "canceled", "expired", "not_found", "rejected")
                )

            until(lambda: counted() >= 200, within=120, what="all are counted")
            until(
                lambda: daemon.value("operation_watcher_events_pending") == 0,
                within=20,
                what="all events are published",
            )
            samples = daemon.samples()
            truth = simulator.truth()
            assert daemon.terminate() == 0
    finished: dict[str, set[str]] = {}
    for event in daemon.events("operation.finished"):
        finished.setdefault(event["operation_id"], set()).add(event["event_id"])
    assert finished.keys() == lives.keys()
    assert all(len(event_ids) == 1 for event_ids in finished.values())
    final = [operation["finalStats"] for operation in truth.values()]
    for state in ("sent", "failed", "canceled"):
        key = frozenset({("account", "main"), ("channel", "push"), ("state", state)})
        assert samples["twilio_operation_messages_finished_total", key] == sum(stats[state] for stats in final)
    key = frozenset({("account", "main"), ("channel", "push")})
    assert samples["twilio_operation_recipients_finished_total", key] == sum(stats["recipients"] for stats in final)
    outcomes = {
        dict(key)["outcome"]: value
        for (name, key), value in samples.items()
        if name == "twilio_operations_finished_total"
    }
    assert outcomes == {"completed": 190, "canceled": 10, "expired": 0, "not_found": 0, "rejected": 0}


def test_forty_operations_reach_their_end_through_faults_over_real_sockets(tmp_path: Path) -> None:
    rng = random.Random(4)
    lives = {
        operation_id: f"created: 0s, completed: {rng.uniform(3, 30):.1f}s, stats: {{recipients: 20, failed: 1}}"
        for operation_id in ids(40, 2)
    }
    faults = """
latency: 5ms..50ms
faults:
  - {kind: status, status: 429, probability: 0.06, retry_after: seconds, wait: 1s}
  - {kind: status, status: 500, probability: 0.06}
  - {kind: status, status: 503, probability: 0.05, retry_after: seconds, wait: 1s}
  - {kind: cut, probability: 0.05}
  - {kind: garbage, probability: 0.05}
  - {kind: silent, probability: 0.03}
"""
    with simulating(tmp_path, scripted(lives, faults)) as simulator:
        settings = {
            "accounts": [account(simulator.base_url, tmp_path, max_requests_per_second=40)],
            "polling": {"freshness": "3s", "settle_after": ["1s", "2s"], "request_timeout": "1s"},
        }
        with daemon_of(tmp_path, settings) as daemon:
            daemon.start()
            daemon.track(*lives)
            until(
                lambda: len(daemon.events("operation.finished")) == 40,
                within=90,
                what="forty ends in spite of the faults",
            )
            until(
                lambda: daemon.value("twilio_operations_finished_total", account="main", outcome="completed") == 40,
                within=120,
                what="all forty are counted",
            )
            requests = simulator.requests()
            failed = daemon.value("twilio_operation_messages_finished_total", account="main", state="failed")
            assert daemon.terminate() == 0
    assert failed == 40
    assert requests["duringHold"] == 0
    assert requests["mostConcurrent"][ACCOUNT_ID] <= 4


def test_a_refused_token_is_one_event_and_the_right_one_in_the_file_brings_it_back(tmp_path: Path) -> None:
    (one,) = ids(1)
    secret = "a-token-that-may-never-show"
    with simulating(tmp_path, scripted({one: "created: 0s, completed: 10m, stats: {recipients: 9}"})) as simulator:
        (tmp_path / "auth_token").write_text(secret)
        settings = {
            "accounts": [account(simulator.base_url, tmp_path, operations=[one])],
            "polling": {"freshness": "1s"},
            "log": {"level": "debug"},
        }
        with daemon_of(tmp_path, settings) as daemon:
            daemon.start()
            until(
                lambda: daemon.value("operation_watcher_account_unauthorized", account="main") == 1,
                within=10,
                what="the refusal is known",
            )
            pages = [
                httpx.get(f"{base}{path}", trust_env=False).text
                for base in (daemon.web, daemon.admin)
                for path in ("/", "/metrics", "/api/v1/operations", f"/api/v1/operations/{one}", "/openapi.json")
            ]
            assert daemon.process is not None
            ps = subprocess.run(["ps", "axeww"], capture_output=True, text=True, check=True).stdout
            checked = subprocess.run(
                [sys.executable, "-m", "watcher", "check", *daemon.arguments],
                env=environment(daemon.env),
                capture_output=True,
                text=True,
                check=False,
            )
            simulator.put("credentials", {"account_id": ACCOUNT_ID, "auth_token": secret + "-next"})
            (tmp_path / "auth_token").write_text(secret + "-next")
            until(
                lambda: daemon.value("operation_watcher_account_up", account="main") == 1,
                within=35,
                what="the right token brings it back",
            )
            requests = simulator.requests()
            assert daemon.terminate() == 0
    assert checked.returncode == 0
    output = daemon.stdout.read_text() + daemon.stderr.read_text()
    assert [e["event"] for e in daemon.events() if e["event"].startswith("account.")] == [
        "account.unauthorized",
        "account.recovered",
    ]
    for text in (output, ps, checked.stdout, checked.stderr, *pages):
        assert secret not in text
    refused = [entry for entry in requests["last"] if entry["outcome"] == "401"]
    assert 1 <= len(refused) <= 2


def test_a_finished_id_registered_again_is_neither_polled_nor_counted(tmp_path: Path) -> None:
    (one,) = ids(1)
    with simulating(tmp_path, scripted({one: "created: 0s, completed: 2s, stats: {recipients: 9}"})) as simulator:
        settings = {
            "accounts": [account(simulator.base_url, tmp_path, operations=[one])],
            "polling": {"freshness": "500ms", "settle_after": ["1s"]},
        }
        with daemon_of(tmp_path, settings) as daemon:
            daemon.start()

            def counted() -> float | None:
                return daemon.value("twilio_operations_finished_total", account="main", outcome="completed")

            until(lambda: counted() == 1, within=20, what="the end is counted")
            fetched = simulator.requests()["counts"]
            again = daemon.track(one)
            assert again.status_code == httpx.codes.OK
            assert again.json()["operations"][0]["outcome"] == "completed"
            assert daemon.terminate() == 0
            daemon.start()
            daemon.track(one)
            until(lambda: len(daemon.events("daemon.started")) == 2, within=10, what="the second start is published")
            time.sleep(2)
            assert counted() == 1
            assert count(simulator.requests()["counts"], "fetch") == count(fetched, "fetch")
            assert daemon.terminate() == 0
    assert len(daemon.events("operation.finished")) == 1


def count(counts: Any, endpoint: str) -> int:
    return sum(counts.get(endpoint, {}).values())


def test_the_app_stays_ready_while_upstream_is_down_and_a_stop_under_load_is_quick(tmp_path: Path) -> None:
    lives = dict.fromkeys(ids(300, 3), "created: 0s, completed: 1h, stats: {recipients: 9}")
    with simulating(tmp_path, scripted(lives, "latency: 100ms..300ms")) as simulator:
        settings = {
            "accounts": [account(simulator.base_url, tmp_path, max_requests_per_second=50, max_concurrency=8)],
            "polling": {"freshness": "2s"},
        }
        with daemon_of(tmp_path, settings) as daemon:
            daemon.start()
            daemon.track(*lives)
            until(
                lambda: (daemon.value("twilio_operations", account="main", status="PROCESSING") or 0) > 50,
                within=20,
                what="operations are tracked",
            )
            began = time.monotonic()
            assert daemon.terminate() == 0
            assert time.monotonic() - began < 5
            known = {event["operation_id"] for event in daemon.events("operation.moved")}
            simulator.stop()
            daemon.start()
            until(lambda: daemon.events("account.unreachable"), within=40, what="the outage is published")
            assert daemon.is_ready()
            assert answers_healthy(daemon.web)
            shown = {
                dict(labels)["operation_id"]
                for (name, labels), _ in daemon.samples().items()
                if name == "twilio_operation_status" and ("status", "PROCESSING") in labels
            }
            assert shown == known


def answers_healthy(web: str) -> bool:
    return httpx.get(f"{web}/-/healthy", trust_env=False).status_code == httpx.codes.OK


def test_it_starts_quickly_and_stays_small(tmp_path: Path) -> None:
    lives = dict.fromkeys(ids(1000, 5), "created: 0s, completed: 1h, stats: {recipients: 9}")
    with simulating(tmp_path, scripted(lives)) as simulator:
        settings = {"accounts": [account(simulator.base_url, tmp_path, max_requests_per_second=100)]}
        with daemon_of(tmp_path, settings) as daemon:
            daemon.start()
            daemon.terminate()
            daemon.start()
            assert daemon.process is not None
            started = cpu_seconds(daemon.process.pid) / cpu_of_importing_its_libraries()
            time.sleep(2)
            idle = rss_mib(daemon.process)
            daemon.track(*lives)
            until(
                lambda: daemon.value("twilio_operations", account="main", status="PROCESSING") == 1000,
                within=40,
                what="a thousand are tracked",
            )
            for _ in range(5):
                daemon.metrics()
            busy = rss_mib(daemon.process)
            assert daemon.terminate() == 0
    print(f"start to ready {started:.2f} times its libraries, idle {idle:.1f} MiB, 1,000 tracked {busy:.1f} MiB")
    assert started < 2.5
    assert idle < 64
    assert busy < 80


def cpu_of_importing_its_libraries() -> float:
    """CPU seconds that Python takes, on this machine and now, to import the libraries that the daemon needs."""
    script = "import httpx, msgspec, prometheus_client, starlette.applications, structlog, tenacity, uvicorn, yaml"
    before = os.times()
    subprocess.run([sys.executable, "-c", script], check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def rss_mib(process: subprocess.Popen[bytes] | None) -> float:
    assert process is not None
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def test_the_demo_moves_within_seconds_and_ends_on_an_interrupt(tmp_path: Path) -> None:
    out = tmp_path / "demo.txt"
    with out.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "watcher", "demo"],
            env=environment({}),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            until(lambda: "operation.moved" in out.read_text(), within=10, what="operations move")
            addresses = [word for word in out.read_text().split() if word.startswith("http://")][-4:]
            for address in addresses[:3]:
                assert httpx.get(address, trust_env=False, timeout=5).status_code == httpx.codes.OK
            began = time.monotonic()
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(5) == 0
            assert time.monotonic() - began < 3
        finally:
            process.kill()
