"""From a registration to the counters, and over a restart: the whole daemon on the simulated API."""

from __future__ import annotations

import base64
from pathlib import Path

import httpx

from tests.daemon.running import an_id, names, placed, settings, simulated, started

FINISHED = "twilio_operations_finished_total"
STATUS = "twilio_operation_status"


async def test_a_registered_operation_is_tracked_published_shown_and_counted_also_after_a_restart(tmp_path: Path):
    life = "created: 0s, processing: 300ms, completed: 1200ms, stats: {recipients: 10, failed: 2}"
    async with simulated(life) as api:
        with placed(tmp_path) as place:
            place.configure(settings(place.account(api), metrics={"labels": ["campaign"]}))
            async with started(place) as one:
                assert (await one.get("/-/ready")).status_code == httpx.codes.OK
                assert (await one.get("/-/healthy")).status_code == httpx.codes.OK
                web_only = await one.request("POST", f"{one.web}/api/v1/operations", json=[{"id": an_id(0)}])
                assert web_only.status_code == httpx.codes.METHOD_NOT_ALLOWED
                answer = await one.track(0, labels={"campaign": "spring"})
                assert answer.status_code == httpx.codes.CREATED
                (finished,) = await one.published("operation.finished")
                await one.until_value(1, FINISHED, account="main", outcome="completed")
                samples = await one.samples()
                shown = (await one.get(f"/api/v1/operations/{an_id(0)}")).json()
                again = await one.track(0)
                assert await one.stop() == 0
            events = place.events()
            async with started(place) as two:
                await two.published("daemon.started", 2)
                await two.until_value(1, FINISHED, account="main", outcome="completed")
                assert await two.value("twilio_operation_messages_finished_total", account="main", state="failed") == 2
                assert await two.value(STATUS, account="main", operation_id=an_id(0), status="COMPLETED") == 1
                assert await two.stop() == 0
            assert names(place.events()[len(events) :]) == ["daemon.started", "daemon.stopping", "daemon.stopped"]
    key = {("account", "main"), ("channel", "push"), ("operation_id", an_id(0))}
    assert samples["twilio_operation_messages", frozenset({*key, ("state", "failed")})] == 2
    assert samples["twilio_operation_info", frozenset({*key, ("campaign", "spring")})] == 1
    assert (shown["status"], again.json()["operations"][0]["outcome"]) == ("COMPLETED", "completed")
    assert (finished["outcome"], finished["level"], finished["labels"]) == (
        "completed",
        "warning",
        {"campaign": "spring"},
    )
    assert names(events)[0] == "daemon.started"
    assert names(events)[-2:] == ["daemon.stopping", "daemon.stopped"]
    of_operations = [event for event in events if event["event"].startswith("operation.")]
    assert names(of_operations)[0] == "operation.tracked"
    assert names(of_operations).count("operation.finished") == 1
    assert [event["seq"] for event in of_operations] == list(range(1, len(of_operations) + 1))


async def test_a_tracked_operation_shows_when_how_and_why_it_is_polled_next(tmp_path: Path):
    async with simulated("created: 0s") as api:
        with placed(tmp_path) as place:
            place.configure(settings(place.account(api, operations=[an_id(0)]), polling={"freshness": "5s"}))
            async with started(place) as one:
                await one.until_value(1, STATUS, account="main", operation_id=an_id(0), status="PROCESSING")
                shown = (await one.get(f"/api/v1/operations/{an_id(0)}")).json()
                deleted = await one.request("DELETE", f"{one.admin}/api/v1/operations/{an_id(0)}")
                assert deleted.status_code == httpx.codes.OK
                await one.until_value(None, STATUS, account="main", operation_id=an_id(0), status="PROCESSING")
                assert await one.stop() == 0
    assert shown["next_poll"]["how"]
    assert place.events("operation.tracked")[0]["source"] == "config"
    assert place.events("daemon.stopping")[0]["unfinished"] == 0


async def test_series_leave_after_a_scrape_that_carried_the_final_stats(tmp_path: Path):
    async with simulated("created: 0s, completed: 100ms, stats: {recipients: 10}") as api:
        with placed(tmp_path) as place:
            quick = {"metrics": {"hold": "200ms"}, "polling": {"settle_after": []}}
            place.configure(settings(place.account(api, operations=[an_id(0)]), **quick))
            async with started(place) as one:
                await one.until_value(1, FINISHED, account="main", outcome="completed")
                key = {"account": "main", "operation_id": an_id(0), "status": "COMPLETED"}
                assert await one.value(STATUS, **key) == 1
                await one.get("/metrics", headers={"X-Prometheus-Scrape-Timeout-Seconds": "10"})
                await one.until_value(None, STATUS, **key)
                assert await one.value(FINISHED, account="main", outcome="completed") == 1


async def test_two_accounts_are_polled_side_by_side_each_with_its_own_credentials(tmp_path: Path):
    more = (
        "accounts:\n"
        "  - {account_id: AC00000000000000000000000000000000}\n"
        "  - {account_id: AC11111111111111111111111111111111, auth_token: another-token}\n"
    )
    lives = ("created: 0s", "created: 0s, account: AC11111111111111111111111111111111")
    async with simulated(*lives, more=more) as api:
        with placed(tmp_path) as place:
            (tmp_path / "other_token").write_text("another-token")
            other = place.account(
                api,
                name="other",
                account_id="AC11111111111111111111111111111111",
                auth_token_file=str(tmp_path / "other_token"),
                operations=[an_id(1)],
            )
            place.configure(settings(place.account(api, operations=[an_id(0)]), other))
            async with started(place) as one:
                for account, number in (("main", 0), ("other", 1)):
                    key = {"account": account, "operation_id": an_id(number)}
                    await one.until_value(1, STATUS, status="PROCESSING", **key)
                    assert await one.value("operation_watcher_account_up", account=account) == 1
                assert (await one.track(0, account="other")).status_code == httpx.codes.CONFLICT
                assert (await one.track(5)).status_code == httpx.codes.BAD_REQUEST
    assert place.events("daemon.started")[0]["accounts"] == ["main", "other"]


async def test_a_refused_token_is_one_event_and_no_line_ever_holds_it(tmp_path: Path):
    async with simulated("created: 0s") as api:
        with placed(tmp_path) as place:
            secret = "a-token-that-must-not-show"
            (tmp_path / "auth_token").write_text(secret)
            place.configure(settings(place.account(api, operations=[an_id(0)]), log={"level": "debug"}))
            async with started(place) as one:
                (event,) = await one.published("account.unauthorized")
                await one.until_value(1, "operation_watcher_account_unauthorized", account="main")
                pages = [(await one.get(path)).text for path in ("/", "/metrics", "/api/v1/operations")]
            assert event["reason"].startswith("HTTP 401, error 20003")
            assert len(place.events("account.unauthorized")) == 1
            for text in (*pages, str(place.events())):
                for word in (secret, base64.b64encode(f"{'AC' + '0' * 32}:{secret}".encode()).decode()):
                    assert word not in text


async def test_unreadable_answers_are_counted_and_each_attempt_is_logged_at_level_debug(tmp_path: Path):
    async with simulated("created: 0s", more="faults: [{kind: garbage, times: 3}]\n") as api:
        with placed(tmp_path) as place:
            place.configure(settings(place.account(api, operations=[an_id(0)]), log={"level": "debug"}))
            async with started(place) as one:
                attempts = await one.published("api.attempted", 4)
                assert await one.value("operation_watcher_anomalies_total", account="main", kind="garbled") == 1
    assert [(attempt["level"], attempt["code"]) for attempt in attempts[:4]] == [("debug", "garbled")] * 3 + [
        ("debug", "200")
    ]
