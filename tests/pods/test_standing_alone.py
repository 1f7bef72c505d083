"""The standalone watcher: with discovery, a claim, and a token for registrations from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.containers import Pod, podman
from tests.support.example import HURRIED, SIMULATOR, WEB, failed_upstream, simulator
from tests.support.monitoring import Receiver, monitoring
from tests.support.processes import ACCOUNT_ID, AUTH_TOKEN, answers, until

NAME, ADMIN, TOKEN = "e2e-alone", "http://127.0.0.1:10618", "of-those-who-register"
MADE_BY_HAND = {"twilio": {"auth_token": AUTH_TOKEN}, "operation-watcher": {"token": TOKEN}}


@pytest.fixture(autouse=True)
def no_claim() -> Iterator[None]:
    podman("volume", "rm", "--force", f"{NAME}-claim", check=False)
    yield
    podman("volume", "rm", "--force", f"{NAME}-claim", check=False)


def sent_by_another(**wanted: Any) -> str:
    """Send an operation as a client that does not use a watcher; the id."""
    body = {"recipients": 50, "unaddressable": 0, "lifetime": "3s"} | wanted
    auth = (ACCOUNT_ID, AUTH_TOKEN)
    answer = httpx.post(f"{SIMULATOR}/v1/PushNotifications", json=body, auth=auth, trust_env=False)
    return str(answer.raise_for_status().json()["operationId"])


def alert_of(receiver: Receiver, operation_id: str) -> dict[str, Any]:
    """The only alert about the operation."""
    found = until(lambda: receiver.of("firing", operation_id=operation_id), within=60, what="its alert arrives")
    (alert,) = found
    assert isinstance(alert, dict)
    return alert


def test_unregistered_operations_are_tracked_and_alerted_also_across_a_rollout(tmp_path: Path) -> None:
    pod = Pod(tmp_path, NAME, "standalone", deployment="operation-watcher", secrets=MADE_BY_HAND)
    pod.environment("watcher", {"WATCHER_ACCOUNTS__0__BASE_URL": f"{SIMULATOR}/v1"})
    with simulator(tmp_path, f"{NAME}-simulator"), monitoring(tmp_path / "monitoring", HURRIED) as receiver:
        with pod.running():
            until(lambda: answers(f"{WEB}/-/ready"), within=60, what="it is ready")
            clean, failing = sent_by_another(failed=0), sent_by_another(failed=4)
            alert = alert_of(receiver, failing)
            assert alert["labels"]["alertname"] == "OperationFailed"
            assert alert["annotations"]["campaign"] == "unknown"

            # A registration adds the campaign to the alert, and is refused without the token.
            registered = sent_by_another(failed=4, lifetime="10s")
            entry = {"id": registered, "labels": {"campaign": "from-elsewhere"}}
            register: dict[str, Any] = {"url": f"{ADMIN}/api/v1/operations", "json": entry, "trust_env": False}
            assert httpx.post(**register).status_code == httpx.codes.UNAUTHORIZED
            done = httpx.post(**register, headers={"Authorization": f"Bearer {TOKEN}"})
            assert done.status_code in {httpx.codes.OK, httpx.codes.CREATED}
            assert alert_of(receiver, registered)["annotations"]["campaign"] == "from-elsewhere"

        # Recreate: the next one has the same claim, and what was sent meanwhile is found.
        meanwhile = sent_by_another(failed=4, lifetime="20s")
        until(lambda: failed_upstream(meanwhile), within=30, what="notifications fail while no watcher runs")
        with pod.running():
            alert_of(receiver, meanwhile)
    operations = [one["labels"]["operation_id"] for one in receiver.of("firing", scope="operation")]
    assert sorted(operations) == sorted([failing, registered, meanwhile])
    assert clean not in operations
