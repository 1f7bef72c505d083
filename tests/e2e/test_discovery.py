"""Discovery with real processes: an account is watched without the app's help, through a kill and a pause."""

from __future__ import annotations

import time
from pathlib import Path

import httpx

from tests.support.processes import ACCOUNT_ID, AUTH_TOKEN, Daemon, Simulator, account, daemon_of, simulating, until

OUTCOMES = ("completed", "canceled", "expired", "not_found", "rejected")


def send(simulator: Simulator, number: int, lifetime: str) -> set[str]:
    """What the app does, which knows nothing of the watcher."""
    with httpx.Client(auth=(ACCOUNT_ID, AUTH_TOKEN), trust_env=False) as app:
        body = {"recipients": 3, "failed": 1, "lifetime": lifetime}
        url = f"{simulator.base_url}/PushNotifications"
        return {app.post(url, json=body).raise_for_status().json()["operationId"] for _ in range(number)}


def counted(daemon: Daemon) -> float:
    """How many operations are in the finished counters."""
    return sum(daemon.value("twilio_operations_finished_total", account="main", outcome=one) or 0 for one in OUTCOMES)


def settings(simulator: Simulator, folder: Path) -> dict[str, object]:
    return {
        "accounts": [account(simulator.base_url, folder, discover=True)],
        "polling": {"freshness": "2s", "settle_after": ["1s"]},
    }


def test_all_are_found_and_counted_once_through_a_kill_and_a_minute_away(tmp_path: Path) -> None:
    with (
        simulating(tmp_path, "population: {in_flight: 0}\n") as simulator,
        daemon_of(tmp_path, settings(simulator, tmp_path)) as daemon,
    ):
        daemon.start()
        until(
            lambda: daemon.value("operation_watcher_discovery_last_complete_timestamp_seconds", account="main"),
            within=20,
            what="the first round is complete",
        )
        sent = send(simulator, 500, "30s")
        until(
            lambda: (
                (daemon.value("twilio_operations", account="main", status="PROCESSING") or 0) + counted(daemon) >= 450
            ),
            within=10,
            what="nearly all are found while the last are still fresh",
        )
        until(
            lambda: {event["operation_id"] for event in daemon.events("operation.tracked")} == sent,
            within=5,
            what="all are found",
        )
        daemon.kill()
        sent |= send(simulator, 100, "5s")
        time.sleep(60)
        daemon.start()
        until(lambda: counted(daemon) == 600, within=60, what="all six hundred are counted")
        assert daemon.terminate() == 0
        daemon.start()
        until(
            lambda: daemon.value("operation_watcher_discovery_last_complete_timestamp_seconds", account="main"),
            within=20,
            what="the third start has read its lists",
        )
        time.sleep(5)
        assert counted(daemon) == 600
        failed = daemon.value("twilio_operation_messages_finished_total", account="main", state="failed")
        assert daemon.terminate() == 0
    ends: dict[str, set[str]] = {}
    for event in daemon.events("operation.finished"):
        ends.setdefault(event["operation_id"], set()).add(event["event_id"])
    assert ends.keys() == sent
    assert all(len(event_ids) == 1 for event_ids in ends.values())
    assert failed == 600


def test_an_empty_store_leaves_alone_what_had_ended_before(tmp_path: Path) -> None:
    lives = "\n".join(
        f"  - {{created: -{10 + number % 3000}s, completed: -{1 + number % 9}s, stats: {{recipients: 2}}}}"
        for number in range(5000)
    )
    with (
        simulating(tmp_path, f"operations:\n{lives}\n") as simulator,
        daemon_of(tmp_path, settings(simulator, tmp_path)) as daemon,
    ):
        daemon.start()
        until(
            lambda: daemon.value("operation_watcher_discovery_last_complete_timestamp_seconds", account="main"),
            within=30,
            what="the first round is complete",
        )
        time.sleep(10)
        assert counted(daemon) == 0
        (fresh,) = send(simulator, 1, "2s")
        until(lambda: counted(daemon) == 1, within=20, what="what comes later is counted")
        assert daemon.terminate() == 0
    assert {event["operation_id"] for event in daemon.events() if "operation_id" in event} == {fresh}
