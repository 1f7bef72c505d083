"""With --stay, a daemon that cannot start stands by: ready, accepting nothing, until the cause is removed."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.daemon.running import Place, Running, an_id, names, placed, settings, simulated, started
from tests.support.processes import account, free_port

USABLE, RELOADED = "operation_watcher_store_usable", "operation_watcher_config_last_reload_successful"


def listening_at(place: Place, **more: Any) -> dict[str, Any]:
    """A configuration with addresses that a test knows although the daemon has not started."""
    sections = {"web": {"listen": f"127.0.0.1:{free_port()}"}, "admin": {"listen": f"127.0.0.1:{free_port()}"}}
    return settings(account("http://127.0.0.1:1/v1", place.folder), **sections | more)


@contextlib.asynccontextmanager
async def standing_by(place: Place, known: dict[str, Any], retry_seconds: float = 3600) -> AsyncIterator[Running]:
    async with started(place, stay=True, retry_seconds=retry_seconds) as one:
        one.web, one.admin = (f"http://{known[side]['listen']}" for side in ("web", "admin"))
        yield one


async def test_with_a_broken_configuration_the_daemon_is_ready_says_why_and_accepts_nothing(tmp_path: Path):
    with placed(tmp_path) as place:
        known = listening_at(place)
        place.configure(known | {"polling": {"freshnes": "2s"}})
        async with standing_by(place, known) as one:
            for side in (one.web, one.admin):
                assert (await one.request("GET", f"{side}/-/ready")).status_code == httpx.codes.OK
                assert (await one.request("GET", f"{side}/-/healthy")).status_code == httpx.codes.OK
                assert (await one.request("GET", f"{side}/")).status_code == httpx.codes.OK
            assert (await one.value(RELOADED), await one.value(USABLE)) == (0, 1)
            answer = await one.track(0)
            assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
            assert answer.headers["retry-after"]
            assert (await one.get(f"/api/v1/operations/{an_id(0)}")).status_code == httpx.codes.SERVICE_UNAVAILABLE
            deleted = await one.request("DELETE", f"{one.admin}/api/v1/operations/{an_id(0)}")
            assert deleted.status_code == httpx.codes.SERVICE_UNAVAILABLE
            reload = await one.post("/-/reload")
            assert reload.status_code == httpx.codes.BAD_REQUEST
            assert "polling.freshnes: unknown key" in reload.text
            (event,) = await one.published("config.rejected")
            assert event["level"] == "error"
            assert "polling.freshnes: unknown key" in event["reasons"][0]
            assert await one.stop() == 0
    assert names(place.events()) == ["config.rejected", "daemon.stopping", "daemon.stopped"]


async def test_a_repeated_cause_is_published_once_and_a_corrected_file_starts_the_daemon(tmp_path: Path):
    async with simulated("created: 0s") as api:
        with placed(tmp_path) as place:
            known = listening_at(place) | {"accounts": [place.account(api, operations=[an_id(0)])]}
            place.configure(known | {"polling": {"freshnes": "2s"}})
            async with standing_by(place, known, retry_seconds=0.02) as one:
                await one.published("config.rejected")
                await one.until_value(0, RELOADED)
                place.configure(known | {"polling": {"freshness": "soon"}})
                await one.published("config.rejected", 2)
                place.configure(known)
                await one.published("daemon.started")
                assert (await one.get("/-/ready")).status_code == httpx.codes.OK
                assert (await one.value(RELOADED), await one.value(USABLE)) == (1, 1)
                status = {"account": "main", "operation_id": an_id(0), "status": "PROCESSING"}
                await one.until_value(1, "twilio_operation_status", **status)
                assert (await one.track(1)).status_code == httpx.codes.CREATED
                assert await one.stop() == 0
    assert names(place.events())[:3] == ["config.rejected", "config.rejected", "daemon.started"]


@pytest.mark.parametrize("how", ["requested over HTTP", "signalled"])
async def test_a_reload_of_the_corrected_file_starts_the_daemon_at_once(tmp_path: Path, how: str):
    with placed(tmp_path) as place:
        known = listening_at(place)
        place.configure(known | {"polling": {"freshnes": "2s"}})
        async with standing_by(place, known) as one:
            await one.published("config.rejected")
            place.configure(known)
            if how == "signalled":
                with one.daemon.listening_to_signals():
                    signal.raise_signal(signal.SIGHUP)
                    await one.published("daemon.started")
            else:
                assert (await one.post("/-/reload")).status_code == httpx.codes.BAD_REQUEST
                await one.published("daemon.started")


def with_a_store_to_come(place: Place) -> dict[str, Any]:
    """A good configuration with a store in a folder `later` that does not exist yet."""
    place.environ["WATCHER_STORAGE__URL"] = f"sqlite:///{place.folder}/later/watcher.db"
    known = listening_at(place)
    place.configure(known)
    return known


async def test_without_a_store_the_daemon_stands_by_until_there_is_one(tmp_path: Path):
    with placed(tmp_path) as place:
        known = with_a_store_to_come(place)
        async with standing_by(place, known, retry_seconds=0.02) as one:
            (event,) = await one.published("store.unusable")
            assert "the directory does not exist" in event["reason"]
            assert (await one.value(USABLE), await one.value(RELOADED)) == (0, 1)
            assert (await one.get("/-/ready")).status_code == httpx.codes.OK
            (place.folder / "later").mkdir()
            await one.published("daemon.started")
            assert await one.value(USABLE) == 1
    assert names(place.events())[:3] == ["store.unusable", "store.recovered", "daemon.started"]


async def test_a_store_has_recovered_when_it_was_opened_and_not_when_the_configuration_goes_bad(tmp_path: Path):
    with placed(tmp_path) as place:
        known = with_a_store_to_come(place)
        async with standing_by(place, known, retry_seconds=0.02) as one:
            await one.published("store.unusable")
            place.configure(known | {"polling": {"freshnes": "2s"}})
            await one.published("config.rejected")
            assert (await one.value(USABLE), await one.value(RELOADED)) == (0, 0)
            (place.folder / "later").mkdir()
            place.configure(known)
            await one.published("daemon.started")
    expected = ["store.unusable", "config.rejected", "store.recovered", "daemon.started"]
    assert names(place.events())[:4] == expected


async def test_a_store_that_another_daemon_holds_is_waited_for(tmp_path: Path):
    with placed(tmp_path) as place:
        place.configure(settings(account("http://127.0.0.1:1/v1", tmp_path)))
        async with started(place) as first:
            known = listening_at(place)
            place.configure(known)
            async with standing_by(place, known, retry_seconds=0.02) as second:
                (event,) = await second.published("store.unusable")
                assert "in use by another watcher" in event["reason"]
                assert await first.stop() == 0
                await second.published("daemon.started", 2)


async def test_an_address_in_use_does_not_end_the_daemon_either(tmp_path: Path):
    with placed(tmp_path) as place, socket.create_server(("127.0.0.1", 0)) as taken:
        known = listening_at(place, web={"listen": f"127.0.0.1:{taken.getsockname()[1]}"})
        place.configure(known)
        async with standing_by(place, known, retry_seconds=0.02) as one:
            (event,) = await one.published("config.rejected")
            assert "web.listen: cannot listen on" in event["reasons"][0]
            taken.close()
            await one.published("daemon.started")
            assert (await one.get("/-/ready")).status_code == httpx.codes.OK


async def test_if_a_token_is_configured_but_unreadable_every_request_is_rejected(tmp_path: Path):
    with placed(tmp_path) as place:
        (tmp_path / "token").write_text("")
        known = listening_at(place)
        admin = known["admin"] | {"token_file": str(tmp_path / "token")}
        place.configure(known | {"admin": admin, "polling": {"freshnes": "2s"}})
        async with standing_by(place, known) as one:
            for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Bearer x"}):
                answer = await one.request("GET", f"{one.admin}/metrics", headers=headers)
                assert answer.status_code == httpx.codes.UNAUTHORIZED
            assert (await one.request("GET", f"{one.admin}/-/ready")).status_code == httpx.codes.OK
            assert (await one.get("/metrics")).status_code == httpx.codes.OK


async def test_without_stay_the_daemon_ends(tmp_path: Path):
    with placed(tmp_path) as place:
        place.configure("polling: {freshnes: 2s}\n")
        async with started(place) as one:
            assert await one.ended() == 2


async def test_a_stop_before_it_ever_started_is_a_clean_end(tmp_path: Path):
    with placed(tmp_path) as place:
        known = listening_at(place)
        place.configure(known | {"polling": {"freshnes": "2s"}})
        async with standing_by(place, known) as one:
            assert await one.stop() == 0
    assert names(place.events()) == ["config.rejected", "daemon.stopping", "daemon.stopped"]
