"""How the daemon ends: cleanly without pending events, with an error when a part dies, at once if it may not start."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from tests.daemon.running import an_id, names, placed, settings, simulated, started
from tests.support.processes import account, environment
from watcher.clock import Clock
from watcher.config import load
from watcher.daemon import run


async def test_a_stop_leaves_no_event_pending(tmp_path: Path):
    async with simulated() as api:
        with placed(tmp_path) as place:
            place.configure(settings(place.account(api)))
            async with started(place) as one:
                await one.track(*range(100))
                await one.until_value(100, "twilio_operations", account="main", status="UNSEEN")
                assert await one.stop() == 0
            with contextlib.closing(sqlite3.connect(tmp_path / "watcher.db")) as store:
                ((pending_events,),) = store.execute(
                    "SELECT count(*) FROM events WHERE position > (SELECT max(up_to) FROM told)"
                )
    assert pending_events == 0
    assert len(place.events("operation.tracked")) == 100
    assert names(place.events())[-2:] == ["daemon.stopping", "daemon.stopped"]
    assert [event["unfinished"] for event in place.events()[-2:]] == [100, 100]


async def test_a_blocked_output_stops_neither_polling_nor_the_end_and_its_events_are_published_later(tmp_path: Path):
    async with simulated("created: 0s") as api:
        with placed(tmp_path) as place:
            place.configure(settings(place.account(api)))
            async with started(place) as one:
                place.is_read = False
                assert (await one.track(*range(500))).status_code == httpx.codes.CREATED
                key = {"account": "main", "operation_id": an_id(0)}
                await one.until_value(1, "twilio_operation_status", status="PROCESSING", **key)
                before = asyncio.get_running_loop().time()
                assert await one.stop() == 0
                assert asyncio.get_running_loop().time() - before < 5
        with placed(tmp_path) as place:
            async with started(place) as again:
                await again.published("operation.moved")
                assert await again.stop() == 0
    assert {event["operation_id"] for event in place.events("operation.tracked")} == {an_id(n) for n in range(500)}
    assert all(event["replayed"] for event in place.events("operation.tracked"))


async def test_lingering_ends_at_a_second_stop(tmp_path: Path):
    async with simulated() as api:
        with placed(tmp_path) as place:
            place.configure(settings(place.account(api)))
            async with started(place, linger=timedelta(hours=1)) as one:
                one.daemon.stop()
                assert (await one.track(0)).status_code == httpx.codes.CREATED
                assert place.events("daemon.stopping") == []
                assert await one.stop() == 0


async def test_lingering_ends_by_itself(tmp_path: Path):
    async with simulated() as api:
        with placed(tmp_path) as place:
            place.configure(settings(place.account(api)))
            async with started(place, linger=timedelta(milliseconds=200)) as one:
                one.daemon.stop()
                assert (await one.get("/-/ready")).status_code == httpx.codes.OK
                assert await one.ended() == 0


class Dying(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        message = "a fault of ours"
        raise RuntimeError(message)


async def test_a_root_task_that_dies_ends_the_daemon_with_an_error(tmp_path: Path):
    with placed(tmp_path) as place:
        place.configure(settings(account("http://127.0.0.1:1/v1", tmp_path)))
        async with started(place, transport=Dying()) as one:
            assert await one.ended() == 70
    (died,) = place.events("daemon.died")
    assert died["level"] == "critical"
    assert "RuntimeError: a fault of ours" in died["exception"]


async def test_a_store_that_another_daemon_holds_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with placed(tmp_path) as place:
        place.configure(settings(account("http://127.0.0.1:1/v1", tmp_path)))
        async with started(place) as first:
            async with started(place) as second:
                assert await second.ended() == 2
            err = capsys.readouterr().err
            assert err.startswith(f"watcher: the store {tmp_path}/watcher.db is in use by another watcher")
            assert f"(pid {os.getpid()}); stop that one, or give this one another storage.url" in err
            assert (await first.get("/-/ready")).status_code == httpx.codes.OK


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        (
            {"web": {"listen": "127.0.0.1:0", "config_file": "web.yml"}},
            "web.yml:1: basic_auth_users: expected a mapping",
        ),
        ({"polling": {"freshness": "soon"}}, "polling.freshness: expected a duration"),
        ({"storage": {"url": "sqlite:////nowhere/watcher.db"}}, "/nowhere: the directory does not exist"),
    ],
)
async def test_a_cause_that_prevents_the_start_is_reported_as_an_error_of_the_operator(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object], word: str
):
    with placed(tmp_path) as place:
        (tmp_path / "web.yml").write_text("basic_auth_users: alice\n")
        if "web" in changes:
            changes = {"web": {"listen": "127.0.0.1:0", "config_file": str(tmp_path / "web.yml")}}
        if "storage" in changes:
            del place.environ["WATCHER_STORAGE__URL"]
        place.configure(settings(account("http://127.0.0.1:1/v1", tmp_path), **changes))
        async with started(place) as one:
            assert await one.ended() == 2
            assert one.daemon.addresses == {}
    assert word in capsys.readouterr().err
    assert place.events() == []


async def test_an_address_in_use_is_reported_with_its_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with placed(tmp_path) as place:
        place.configure(settings(account("http://127.0.0.1:1/v1", tmp_path)))
        async with started(place) as one:
            port = one.admin.rpartition(":")[2]
            other = settings(account("http://127.0.0.1:1/v1", tmp_path), admin={"listen": f"127.0.0.1:{port}"})
            place.environ["WATCHER_STORAGE__URL"] = f"sqlite:///{tmp_path}/other.db"
            place.configure(other)
            async with started(place) as second:
                assert await second.ended() == 2
    assert f"admin.listen: cannot listen on 127.0.0.1:{port}: address already in use" in capsys.readouterr().err


async def test_a_clock_that_was_set_is_published(tmp_path: Path):
    jump = [0.0]
    with placed(tmp_path) as place:
        place.configure(settings(account("http://127.0.0.1:1/v1", tmp_path)))
        async with started(place, clock=Clock(wall=lambda: 1_790_000_000 + jump[0])) as one:
            jump[0] = 3600
            (event,) = await one.published("daemon.clock_jumped")
            assert (event["level"], event["seconds"]) == ("warning", pytest.approx(3600, abs=30))
            assert (await one.get("/-/healthy")).status_code == httpx.codes.OK


async def test_an_exception_in_a_request_is_published_and_ends_nothing(tmp_path: Path):
    async with simulated() as api:
        with placed(tmp_path) as place:
            place.configure(settings(place.account(api)))
            async with started(place) as one:
                # An error of the store that the disk did not cause is a programming error.
                with contextlib.closing(sqlite3.connect(tmp_path / "watcher.db", isolation_level=None)) as store:
                    store.execute(
                        "CREATE TRIGGER broken BEFORE INSERT ON operations BEGIN SELECT RAISE(ABORT, 'broken'); END"
                    )
                assert (await one.track(0)).status_code == httpx.codes.INTERNAL_SERVER_ERROR
                (event,) = await one.published("request.failed")
                assert (event["level"], "IntegrityError: broken" in event["exception"]) == ("error", True)
                assert (await one.get("/-/ready")).status_code == httpx.codes.OK


async def test_the_first_signal_stops_the_daemon_and_its_events_were_written_to_standard_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    with placed(tmp_path) as place:
        place.configure(settings(account("http://127.0.0.1:1/v1", tmp_path)))
        running = asyncio.create_task(run(lambda: load(place.file, place.environ)))
        out = ""
        async with asyncio.timeout(10):
            while '"daemon.started"' not in out:
                await asyncio.sleep(0.01)
                out += capfd.readouterr().out
        signal.raise_signal(signal.SIGTERM)
        assert await running == 0
    assert '"daemon.stopped"' in out + capfd.readouterr().out


def test_a_second_signal_ends_the_daemon_at_once(tmp_path: Path):
    with placed(tmp_path) as place:
        place.configure(settings(account("http://127.0.0.1:1/v1", tmp_path)))
        command = [sys.executable, "-m", "watcher", "run", "--config", str(place.file)]
        with subprocess.Popen(command, env=environment(place.environ), stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert b'"daemon.started"' in process.stdout.readline()
            os.kill(process.pid, signal.SIGTERM)
            os.kill(process.pid, signal.SIGINT)
            assert process.wait(10) in {-signal.SIGTERM, -signal.SIGINT}
