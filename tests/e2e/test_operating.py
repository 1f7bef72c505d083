"""Made to be operated: reload, standing by, a full disk, retirement under real Prometheis, flat memory."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.test_following import count, ids, scripted
from tests.support.processes import (
    ACCOUNT_ID,
    AUTH_TOKEN,
    account,
    answers,
    daemon_of,
    environment,
    free_port,
    simulating,
    until,
)

QUIET = "population: {in_flight: 0}\n"


def test_a_bad_file_is_refused_on_reload_with_every_reason_and_the_old_one_stays(tmp_path: Path) -> None:
    (one,) = ids(1)
    with simulating(tmp_path, scripted({one: "created: 0s, completed: 10m, stats: {recipients: 9}"})) as simulator:
        settings: dict[str, Any] = {
            "accounts": [account(simulator.base_url, tmp_path, operations=[one])],
            "polling": {"freshness": "1s"},
        }
        with daemon_of(tmp_path, settings) as daemon:
            daemon.start()
            daemon.configure(settings | {"polling": {"freshnes": "1s", "request_timeout": "soon"}})
            answer = httpx.post(f"{daemon.admin}/-/reload", trust_env=False)
            assert answer.status_code == httpx.codes.BAD_REQUEST
            assert answer.headers["content-type"] == "application/problem+json"
            assert "freshnes" in answer.text
            assert "request_timeout" in answer.text
            assert daemon.value("operation_watcher_config_last_reload_successful") == 0
            assert daemon.value("operation_watcher_freshness_seconds", account="main") == 1
            daemon.configure(settings | {"polling": {"freshness": "2s"}})
            assert httpx.post(f"{daemon.admin}/-/reload", trust_env=False).status_code == httpx.codes.OK
            assert daemon.value("operation_watcher_config_last_reload_successful") == 1
            assert daemon.value("operation_watcher_freshness_seconds", account="main") == 2
            daemon.configure(settings | {"polling": {"freshness": "3s"}})
            daemon.signal(signal.SIGHUP)
            until(
                lambda: daemon.value("operation_watcher_freshness_seconds", account="main") == 3,
                within=5,
                what="SIGHUP reloads",
            )
            assert daemon.terminate() == 0
    assert [event["event"] for event in daemon.events() if event["event"].startswith("config.")] == [
        "config.rejected",
        "config.reloaded",
        "config.reloaded",
    ]


def test_a_token_rotated_under_load_costs_no_event_and_no_restart(tmp_path: Path) -> None:
    rng = random.Random(11)
    lives = {
        one: f"created: 0s, completed: {rng.uniform(4, 20):.1f}s, stats: {{recipients: 10, failed: 1}}"
        for one in ids(60, 11)
    }
    with simulating(tmp_path, scripted(lives)) as simulator:
        settings = {
            "accounts": [account(simulator.base_url, tmp_path, max_requests_per_second=30)],
            "polling": {"freshness": "1s", "settle_after": ["1s"]},
        }
        with daemon_of(tmp_path, settings) as daemon:
            daemon.start()
            daemon.track(*lives)
            for number in range(3):
                time.sleep(2)
                token = f"rotated-{number}"
                (tmp_path / "auth_token").write_text(token)
                simulator.put("credentials", {"account_id": ACCOUNT_ID, "auth_token": token})
            until(
                lambda: daemon.value("twilio_operations_finished_total", account="main", outcome="completed") == 60,
                within=60,
                what="all sixty are counted",
            )
            assert daemon.terminate() == 0
    assert not [event for event in daemon.events() if event["event"].startswith("account.")]
    assert len(daemon.events("daemon.started")) == 1
    assert {event["operation_id"] for event in daemon.events("operation.finished")} == lives.keys()


def test_with_stay_the_daemon_stands_by_until_a_broken_configuration_is_corrected(tmp_path: Path) -> None:
    (one,) = ids(1)
    with simulating(tmp_path, scripted({one: "created: 0s, completed: 10m, stats: {recipients: 9}"})) as simulator:
        settings = {"accounts": [account(simulator.base_url, tmp_path, operations=[one])]}
        with daemon_of(tmp_path, settings | {"polling": {"freshnes": "1s"}}) as daemon:
            daemon.start(ready=False)
            assert daemon.process is not None
            assert daemon.process.wait(10) == 2
            assert "freshnes" in daemon.stderr.read_text()
            daemon.start("--stay")
            for path in ("/-/healthy", "/-/ready", "/metrics"):
                assert answers(f"{daemon.web}{path}")
            assert daemon.value("operation_watcher_config_last_reload_successful") == 0
            refused = daemon.track(one)
            assert refused.status_code == httpx.codes.SERVICE_UNAVAILABLE
            daemon.configure(settings)
            until(
                lambda: daemon.value("twilio_operations", account="main", status="PROCESSING") == 1,
                within=15,
                what="the corrected file is in force",
            )
            assert daemon.value("operation_watcher_config_last_reload_successful") == 1
            assert daemon.terminate() == 0
    assert len(daemon.events("config.rejected")) == 1


def test_after_a_stop_the_daemon_lingers_and_a_second_signal_ends_it(tmp_path: Path) -> None:
    with simulating(tmp_path, QUIET) as simulator:
        settings = {"accounts": [account(simulator.base_url, tmp_path)]}
        with daemon_of(tmp_path, settings) as daemon:
            daemon.start("--linger", "60s")
            daemon.signal(signal.SIGTERM)
            time.sleep(1)
            assert daemon.is_ready()
            assert daemon.terminate() == 0


def test_a_second_daemon_on_the_same_store_is_refused_with_the_reason(tmp_path: Path) -> None:
    with simulating(tmp_path, QUIET) as simulator:
        settings = {"accounts": [account(simulator.base_url, tmp_path)]}
        with daemon_of(tmp_path, settings) as first, daemon_of(tmp_path, settings) as second:
            first.start()
            second.start(ready=False)
            assert second.process is not None
            assert second.process.wait(10) == 2
            assert "in use by another watcher" in second.stderr.read_text()
            assert first.terminate() == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own of 16 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_while_the_disk_is_full_polling_goes_on_and_afterwards_all_is_published_and_counted(
    tmp_path: Path, small_disk: Path
) -> None:
    rng = random.Random(12)
    lives = {
        one: f"created: 0s, completed: {rng.uniform(15, 70):.1f}s, stats: {{recipients: 10, failed: 2}}"
        for one in ids(150, 12)
    }
    with simulating(tmp_path, scripted(lives)) as simulator:
        settings = {
            "accounts": [account(simulator.base_url, tmp_path, max_requests_per_second=30)],
            "polling": {"freshness": "1s", "settle_after": ["1s"]},
        }
        with daemon_of(tmp_path, settings) as daemon:
            daemon.env["WATCHER_STORAGE__URL"] = f"sqlite:///{small_disk}/watcher.db"
            daemon.start()
            daemon.track(*lives)
            until(
                lambda: daemon.value("twilio_operations", account="main", status="PROCESSING") == 150,
                within=20,
                what="all are tracked",
            )
            # Without a buffer, since what is in one would fail once more when the file is closed.
            with (small_disk / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
                while True:
                    ballast.write(bytes(4096))
            until(
                lambda: daemon.value("operation_watcher_store_usable") == 0, within=40, what="the full disk is noticed"
            )
            full_at = time.monotonic()
            shown = daemon.samples()
            requests = count(simulator.requests()["counts"], "list") + count(simulator.requests()["counts"], "fetch")
            while time.monotonic() - full_at < 60:
                assert answers(f"{daemon.web}/-/healthy")
                assert daemon.is_ready()
                time.sleep(2)
            later = daemon.samples()
            counts = simulator.requests()["counts"]
            assert count(counts, "list") + count(counts, "fetch") > requests + 20
            ended = {
                key
                for key, value in later.items()
                if key[0] == "twilio_operation_status" and ("status", "COMPLETED") in key[1] and value == 1
            }
            assert len(ended) > 100
            assert later != shown
            (small_disk / "ballast").unlink()
            until(lambda: daemon.value("operation_watcher_store_usable") == 1, within=40, what="the store works again")
            until(
                lambda: daemon.value("twilio_operations_finished_total", account="main", outcome="completed") == 150,
                within=60,
                what="all are counted",
            )
            until(
                lambda: daemon.value("operation_watcher_events_pending") == 0,
                within=20,
                what="all events are published",
            )
            failed = daemon.value("twilio_operation_messages_finished_total", account="main", state="failed")
            assert daemon.terminate() == 0
    assert failed == 300
    assert {event["operation_id"] for event in daemon.events("operation.finished")} == lives.keys()
    assert [event["event"] for event in daemon.events() if event["event"].startswith("store.")] == [
        "store.unusable",
        "store.recovered",
    ]


class Prometheus:
    """A real one that scrapes the daemon every second; it can be stopped and started again."""

    def __init__(self, folder: Path, target: int) -> None:
        self.folder = folder
        folder.mkdir()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        (folder / "prometheus.yaml").write_text(
            "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
            f"scrape_configs: [{{job_name: watcher, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}]\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("prometheus")
        assert program is not None, "prometheus is missing; install Debian's package prometheus"
        self.process = subprocess.Popen(
            [
                program,
                f"--config.file={self.folder}/prometheus.yaml",
                f"--storage.tsdb.path={self.folder}/data",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            stderr=subprocess.DEVNULL,
        )

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, trust_env=False).json()
        return list(answer["data"]["result"])

    def shows(self, expression: str, *values: str) -> bool:
        """Whether exactly these values are there now."""
        return tuple(row["value"][1] for row in self.query(expression)) == values


def start_all(prometheis: list[Prometheus]) -> None:
    for prometheus in prometheis:
        prometheus.start()
    for prometheus in prometheis:
        until(partial(answers, f"{prometheus.url}/-/ready"), within=30, what="Prometheus is ready")


def stop_all(prometheis: list[Prometheus]) -> None:
    for prometheus in prometheis:
        if prometheus.process is not None:
            prometheus.process.terminate()
    for prometheus in prometheis:
        if prometheus.process is not None:
            prometheus.process.wait(20)
            prometheus.process = None


@pytest.mark.parametrize("number", [1, 2])
def test_a_prometheus_that_was_away_still_gets_the_final_stats_and_then_the_series_leave(
    tmp_path: Path, number: int
) -> None:
    (one,) = ids(1)
    life = "created: 0s, completed: 20s, stats: {recipients: 100, failed: 7}"
    with simulating(tmp_path, scripted({one: life})) as simulator:
        settings = {
            "accounts": [account(simulator.base_url, tmp_path, operations=[one])],
            "polling": {"freshness": "1s", "settle_after": ["1s"]},
            "metrics": {"hold": "10s"},
        }
        with daemon_of(tmp_path, settings) as daemon:
            daemon.start()
            prometheis = [Prometheus(tmp_path / f"prometheus{n}", daemon.web_port) for n in range(number)]
            failed = f'twilio_operation_messages{{operation_id="{one}",state="failed"}}'
            sent = f'twilio_operation_messages{{operation_id="{one}",state="sent"}}'
            try:
                start_all(prometheis)
                for prometheus in prometheis:
                    until(partial(prometheus.query, sent), within=10, what="the operation is scraped")
                stop_all(prometheis)
                assert not daemon.events("operation.finished")
                until(lambda: daemon.events("operation.finished"), within=30, what="the operation ends")
                time.sleep(12)
                start_all(prometheis)
                for prometheus in prometheis:
                    until(partial(prometheus.shows, failed, "7"), within=10, what="the final stats arrive")
                for prometheus in prometheis:
                    until(partial(prometheus.shows, failed), within=30, what="the series leave")
            finally:
                stop_all(prometheis)
            assert daemon.terminate() == 0


def test_wait_tracks_operations_to_their_end_and_its_exit_code_says_how_they_ended(tmp_path: Path) -> None:
    lives = {
        one: f"created: 0s, completed: {3 + n}s, stats: {{recipients: 20, failed: {3 if n == 2 else 0}}}"
        for n, one in enumerate(ids(5, 13))
    }
    forever = ids(1, 14)[0]
    with simulating(tmp_path, scripted(lives | {forever: "created: 0s, completed: 1h"})) as simulator:
        env = environment(
            {
                "TWILIO_ACCOUNT_SID": ACCOUNT_ID,
                "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
                "WATCHER_ACCOUNTS__0__BASE_URL": simulator.base_url,
                "WATCHER_POLLING__FRESHNESS": "1s",
            }
        )

        def wait(*arguments: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "watcher", "wait", *arguments]
            return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)

        failed = wait(*lives)
        assert failed.returncode == 1, failed.stderr
        assert all(one[-12:] in failed.stdout for one in lives), failed.stdout
        assert wait(*lives, "--max-failed", "3").returncode == 0
        assert wait(forever, "--timeout", "2s").returncode == 3
        env["WATCHER_ACCOUNTS__0__BASE_URL"] = f"http://127.0.0.1:{free_port()}/v1"
        assert wait(forever).returncode == 4


def test_memory_and_file_stay_flat_while_operations_come_and_go_without_scrapes(tmp_path: Path) -> None:
    number = int(os.environ.get("FLAT_OPERATIONS", "200000"))
    script = Path(__file__).parent / "coming_and_going.py"
    command = [sys.executable, str(script), str(tmp_path / "watcher.db"), str(number)]
    done = subprocess.run(command, env=environment({}), capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second, counted, file_first, file_second = (float(word) for word in done.stdout.split())
    print(f"memory {first:.1f} MiB, then {second:.1f} MiB; file {file_first:.1f} MiB, then {file_second:.1f} MiB")
    assert counted == number
    assert second <= first * 1.1
    assert file_second <= file_first * 1.1


def test_the_health_check_says_by_its_exit_code_whether_the_daemon_is_healthy(tmp_path: Path) -> None:
    with simulating(tmp_path, QUIET) as simulator:
        settings = {"accounts": [account(simulator.base_url, tmp_path)]}
        with daemon_of(tmp_path, settings) as daemon:
            daemon.start()
            env = environment(daemon.env)
            command = [sys.executable, "-m", "watcher", "healthcheck"]
            assert subprocess.run(command, env=env, check=False).returncode == 0
            daemon.kill()
            assert subprocess.run(command, env=env, capture_output=True, check=False).returncode == 1
