"""A new configuration takes over whole, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.daemon.running import Place, Running, an_id, placed, settings, simulated, started
from tests.support.processes import account
from watcher.config import LoadedConfiguration, load
from watcher.simulator.server import Running as Api

FINISHED = "twilio_operations_finished_total"
STATUS = "twilio_operation_status"
FRESHNESS = "operation_watcher_freshness_seconds"
GOOD_RELOAD = "operation_watcher_config_last_reload_successful"
OTHER_ID = "AC11111111111111111111111111111111"
TWO_ACCOUNTS = (
    "accounts:\n"
    "  - {account_id: AC00000000000000000000000000000000}\n"
    f"  - {{account_id: {OTHER_ID}, auth_token: another-token}}\n"
)


@contextlib.asynccontextmanager
async def one_tracked(folder: Path, more: str = TWO_ACCOUNTS) -> AsyncIterator[tuple[Running, Place, Api]]:
    """A daemon with the account `main` that tracks one operation. Upstream has a second one of another account."""
    lives = ["created: 0s"] + [f"created: 0s, account: {OTHER_ID}"] * (OTHER_ID in more)
    async with simulated(*lives, more=more) as api:
        with placed(folder) as place:
            (folder / "other_token").write_text("another-token")
            place.configure(settings(place.account(api, operations=[an_id(0)])))
            async with started(place) as one:
                await one.until_value(1, STATUS, account="main", operation_id=an_id(0), status="PROCESSING")
                yield one, place, api


def other_account(place: Place, api: Api, **changes: Any) -> dict[str, Any]:
    token = str(place.folder / "other_token")
    return place.account(api, name="other", account_id=OTHER_ID, auth_token_file=token) | changes


async def test_a_good_file_is_in_force_at_once(tmp_path: Path):
    async with one_tracked(tmp_path) as (one, place, api):
        assert await one.value(FRESHNESS, account="main") == 0.5
        main = place.account(api, operations=[an_id(0)])
        place.configure(settings(main, polling={"freshness": "2s"}, metrics={"labels": ["campaign"]}))
        answer = await one.post("/-/reload")
        assert (answer.status_code, answer.json()) == (httpx.codes.OK, {"reloaded": True})
        assert await one.value(FRESHNESS, account="main") == 2
        assert await one.value(GOOD_RELOAD) == 1
        key = {"account": "main", "operation_id": an_id(0)}
        assert await one.value("twilio_operation_info", campaign="", **key) == 1
        (event,) = await one.published("config.reloaded")
        assert event["accounts"] == ["main"]


async def test_counter_labels_that_come_into_force_show_what_is_under_way_at_0_and_go_away_without_loss(tmp_path: Path):
    scrape = {"X-Prometheus-Scrape-Timeout-Seconds": "10"}
    lives = "created: 0s, completed: 100ms", "created: 0s, completed: 4s"
    async with simulated(*lives) as api:
        with placed(tmp_path) as place:
            main = place.account(api, operations=[an_id(0)])
            quick: dict[str, Any] = {"polling": {"settle_after": []}}
            place.configure(settings(main, **quick))
            async with started(place) as one:
                await one.until_value(1, FINISHED, account="main", outcome="completed")
                body = {"id": an_id(1), "labels": {"campaign": "spring"}}
                await one.post("/api/v1/operations", json=body)
                place.configure(settings(main, metrics={"counter_labels": ["campaign"]}, **quick))
                await one.post("/-/reload")
                await one.until_value(0, FINISHED, account="main", campaign="spring", outcome="completed")
                assert await one.value(FINISHED, account="main", campaign="", outcome="completed") == 1
                assert await one.value(FINISHED, account="main", outcome="completed") is None
                await one.get("/metrics", headers=scrape)
                await one.until_value(1, FINISHED, account="main", campaign="spring", outcome="completed")
                place.configure(settings(main, **quick))
                await one.post("/-/reload")
                await one.until_value(2, FINISHED, account="main", outcome="completed")


async def test_an_unexpected_exception_in_a_reload_is_published_with_its_traceback_and_changes_nothing(tmp_path: Path):
    with placed(tmp_path) as place:
        place.configure(settings(account("http://127.0.0.1:1/v1", tmp_path)))
        faults: list[Exception] = []

        def read() -> LoadedConfiguration:
            if faults:
                raise faults[0]
            return load(place.file, place.environ)

        async with started(place, read=read) as one:
            faults.append(RuntimeError("an unexpected fault"))
            answer = await one.post("/-/reload")
            assert answer.status_code == httpx.codes.BAD_REQUEST
            assert "a fault of the watcher (RuntimeError)" in answer.text
            assert "an unexpected fault" not in answer.text
            (event,) = await one.published("reload.failed")
            assert "an unexpected fault" in event["exception"]
            assert await one.value(GOOD_RELOAD) == 0
            faults.clear()
            assert (await one.post("/-/reload")).status_code == httpx.codes.OK


async def test_the_hangup_signal_reloads_too(tmp_path: Path):
    async with one_tracked(tmp_path) as (one, place, api):
        with one.daemon.listening_to_signals():
            place.configure(settings(place.account(api), polling={"freshness": "3s"}))
            signal.raise_signal(signal.SIGHUP)
            await one.published("config.reloaded")
            assert await one.value(FRESHNESS, account="main") == 3
            # An operation that is no longer named is still tracked, until it is untracked.
            assert await one.value(STATUS, account="main", operation_id=an_id(0), status="PROCESSING") == 1


async def test_a_bad_file_is_refused_with_every_reason_and_the_old_one_stays(tmp_path: Path):
    async with one_tracked(tmp_path) as (one, place, _):
        place.configure("polling: {freshnes: 2s}\nmetrics: {hold: soon}\n")
        answer = await one.post("/-/reload")
        assert answer.status_code == httpx.codes.BAD_REQUEST
        reasons = [error["why"] for error in answer.json()["errors"]]
        assert any('polling.freshnes: unknown key; did you mean "freshness"?' in reason for reason in reasons)
        assert any("metrics.hold: expected a duration" in reason for reason in reasons)
        assert (await one.value(GOOD_RELOAD), await one.value(FRESHNESS, account="main")) == (0, 0.5)
        (event,) = await one.published("config.rejected")
        assert (event["level"], event["reasons"]) == ("error", reasons)


async def test_what_cannot_change_while_running_is_refused_by_name(tmp_path: Path):
    async with one_tracked(tmp_path) as (one, place, api):
        del place.environ["WATCHER_STORAGE__URL"]
        place.configure(
            settings(
                place.account(api),
                web={"listen": "127.0.0.1:1"},
                admin={"listen": "127.0.0.1:2"},
                storage={"url": f"sqlite:///{tmp_path}/elsewhere.db"},
            )
        )
        answer = await one.post("/-/reload")
        (reason,) = [error["why"] for error in answer.json()["errors"]]
        assert answer.status_code == httpx.codes.BAD_REQUEST
        for name in ("web.listen", "admin.listen", "storage.url"):
            assert f"{name} cannot change from" in reason
        assert not (tmp_path / "elsewhere.db").exists()
        assert await one.value(GOOD_RELOAD) == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"base_url": "https://127.0.0.1:1/v1", "ca_file": "rubbish.pem"}, "holds no certificates in PEM form"),
        ({"auth_token_file": "/nowhere/token"}, "cannot read /nowhere/token"),
        ({"operations": ["rubbish"]}, "rubbish"),
        ({"account_id": "AC00000000000000000000000000000000"}, "accounts"),
    ],
    ids=["certificates", "secret", "operation", "same account"],
)
async def test_a_bad_second_account_leaves_the_first_running_as_it_was(
    tmp_path: Path, changes: dict[str, Any], reason: str
):
    (tmp_path / "rubbish.pem").write_text("no certificates")
    changes = {name: str(tmp_path / "rubbish.pem") if name == "ca_file" else value for name, value in changes.items()}
    async with one_tracked(tmp_path) as (one, place, api):
        main = place.account(api, max_requests_per_second=7)
        place.configure(settings(main, other_account(place, api, **changes), polling={"freshness": "2s"}))
        answer = await one.post("/-/reload")
        assert answer.status_code == httpx.codes.BAD_REQUEST
        assert reason in answer.text
        before = api.upstream.ledger.count()
        assert await one.value(FRESHNESS, account="main") == 0.5
        assert await one.value("operation_watcher_api_limit_requests_per_second", account="main") == 50
        assert await one.value(FRESHNESS, account="other") is None
        await one.until(lambda: api.upstream.ledger.count() > before)


async def test_a_name_does_not_pass_to_another_account(tmp_path: Path):
    async with one_tracked(tmp_path) as (one, place, api):
        place.configure(settings(other_account(place, api, name="main")))
        answer = await one.post("/-/reload")
        assert answer.status_code == httpx.codes.BAD_REQUEST
        assert "main" in answer.json()["errors"][0]["why"]
        assert await one.value(STATUS, account="main", operation_id=an_id(0), status="PROCESSING") == 1


async def test_a_removed_account_is_neither_polled_nor_shown_and_resumes_when_it_returns(tmp_path: Path):
    async with one_tracked(tmp_path) as (one, place, api):
        main, other = place.account(api), other_account(place, api, operations=[an_id(1)])
        shown = {"operation_id": an_id(1), "status": "PROCESSING"}
        place.configure(settings(main, other))
        assert (await one.post("/-/reload")).status_code == httpx.codes.OK
        await one.until_value(1, STATUS, account="other", **shown)
        place.configure(settings(main))
        assert (await one.post("/-/reload")).status_code == httpx.codes.OK
        assert 'account="other"' not in (await one.get("/metrics")).text
        assert (await one.get(f"/api/v1/operations/{an_id(1)}")).status_code == httpx.codes.NOT_FOUND
        assert (await one.track(1, account="other")).status_code == httpx.codes.BAD_REQUEST
        place.configure(settings(main, other_account(place, api)))
        assert (await one.post("/-/reload")).status_code == httpx.codes.OK
        await one.until_value(1, STATUS, account="other", **shown)
        requests = {"account": "other", "endpoint": "fetch", "code": "429"}
        assert await one.value("operation_watcher_api_requests_total", **requests) == 0
        assert len(place.events("operation.tracked")) == 2


async def test_an_account_whose_settings_changed_goes_on_with_the_new_ones(tmp_path: Path):
    async with one_tracked(tmp_path) as (one, place, api):
        place.configure(settings(place.account(api, max_requests_per_second=7)))
        assert (await one.post("/-/reload")).status_code == httpx.codes.OK
        assert await one.value("operation_watcher_api_limit_requests_per_second", account="main") == 7
        await one.until_value(1, STATUS, account="main", operation_id=an_id(0), status="PROCESSING")
        await one.until_value(1, "operation_watcher_account_up", account="main")


async def test_after_a_change_of_base_url_earlier_answers_do_not_count(tmp_path: Path):
    async with one_tracked(tmp_path) as (one, place, api):
        assert await one.value("operation_watcher_account_up", account="main") == 1
        place.configure(settings(place.account(api, base_url="http://127.0.0.1:1/v1")))
        assert (await one.post("/-/reload")).status_code == httpx.codes.OK
        assert await one.value("operation_watcher_account_up", account="main") == 0


async def test_an_issue_that_a_new_configuration_ends_is_published_as_recovered(tmp_path: Path):
    async with simulated("created: 0s") as api:
        with placed(tmp_path) as place:
            (tmp_path / "stale_token").write_text("a-token-of-long-ago")
            stale = {"auth_token_file": str(tmp_path / "stale_token")}
            place.configure(settings(place.account(api, operations=[an_id(0)], **stale)))
            async with started(place) as one:
                await one.published("account.unauthorized")
                place.configure(settings(place.account(api, operations=[an_id(0)])))
                assert (await one.post("/-/reload")).status_code == httpx.codes.OK
                (event,) = await one.published("account.recovered")
                assert (event["account"], event["trouble"]) == ("main", "unauthorized")
                await one.until_value(0, "operation_watcher_account_unauthorized", account="main")


async def test_a_store_that_cannot_register_the_new_operations_refuses_the_whole_reload(tmp_path: Path):
    async with one_tracked(tmp_path) as (one, place, api):
        store = sqlite3.connect(tmp_path / "watcher.db", isolation_level=None)
        with contextlib.closing(store):
            store.execute("ALTER TABLE operations RENAME TO away")
            place.configure(settings(place.account(api, operations=[an_id(5)]), polling={"freshness": "2s"}))
            answer = await one.post("/-/reload")
            assert answer.status_code == httpx.codes.BAD_REQUEST
            assert "cannot be used" in answer.json()["errors"][0]["why"]
            assert (await one.value(GOOD_RELOAD), await one.value(FRESHNESS, account="main")) == (0, 0.5)
            store.execute("ALTER TABLE away RENAME TO operations")
        assert (await one.post("/-/reload")).status_code == httpx.codes.OK
        assert await one.value(FRESHNESS, account="main") == 2


async def test_simultaneous_reloads_are_done_one_after_the_other(tmp_path: Path):
    async with one_tracked(tmp_path) as (one, place, api):
        place.configure(settings(place.account(api, max_requests_per_second=7)))
        answers = await asyncio.gather(*(one.post("/-/reload") for _ in range(3)))
        assert {answer.status_code for answer in answers} == {httpx.codes.OK}
        await one.published("config.reloaded", 3)


async def test_a_reload_under_way_when_the_stop_comes_leaves_nothing_running(tmp_path: Path):
    async with one_tracked(tmp_path, more="latency: 2s\n") as (one, place, api):
        place.configure(settings(place.account(api, max_requests_per_second=7)))
        with one.daemon.listening_to_signals():
            signal.raise_signal(signal.SIGHUP)
            await asyncio.sleep(0.05)
            one.daemon.stop()
            # On a busy machine the stop may be over before the request arrives.
            with contextlib.suppress(httpx.TransportError):
                late = await one.post("/-/reload")
                assert "the watcher is stopping" in late.text
            assert await one.ended() == 0
    assert place.events()[-1]["event"] == "daemon.stopped"


async def test_the_admin_token_is_required_and_an_emptied_file_keeps_the_old_one_in_force(tmp_path: Path):
    token = tmp_path / "admin_token"
    token.write_text("right\n")
    async with simulated() as api:
        with placed(tmp_path) as place:
            place.configure(settings(place.account(api), admin={"token_file": str(token)}))
            async with started(place) as one:

                async def status(given: str | None) -> int:
                    headers = {} if given is None else {"Authorization": f"Bearer{given}"}
                    return (await one.post("/-/reload", headers=headers)).status_code

                token.write_text("")
                assert [await status(given) for given in (None, "", " wrong", " right")] == [401, 401, 401, 400]
                token.write_text("next")
                assert [await status(given) for given in (" right", " next")] == [401, 200]
                assert (await one.get("/metrics")).status_code == httpx.codes.OK
                assert (await one.request("GET", f"{one.admin}/-/ready")).status_code == httpx.codes.OK
