"""The API behind a real socket, with its control endpoints, alone and inside a running loop."""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.simulator.caller import ONE
from watcher.simulator import parse_scenario
from watcher.simulator.server import Running, serve, serving, virtual_clock

SCENARIO = f"""
operations:
  - {{id: {ONE}, created: -20s, completed: -10s, stats: {{recipients: 10, failed: 4}}}}
  - {{id: running}}
"""
PATH = f"/PushNotifications/Operations/{ONE}"


class Served:
    def __init__(self, running: Running, client: httpx.AsyncClient):
        self.running = running
        self.client = client

    async def fetch(self) -> httpx.Response:
        return await self.client.get(PATH)

    async def put(self, what: str, value: Any) -> httpx.Response:
        return await self.client.put(self.running.control_url + what, json=value)

    async def view(self, what: str) -> Any:
        return (await self.client.get(self.running.control_url + what)).json()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(parse_scenario(SCENARIO)) as running:
        account = running.upstream.accounts[0]
        auth = (account.account_id, account.auth_token)
        async with httpx.AsyncClient(base_url=running.base_url, auth=auth, timeout=2, verify=False) as client:
            yield Served(running, client)


async def test_the_api_answers_over_a_socket(served: Served):
    assert (await served.fetch()).json()["stats"]["failed"] == 4
    listed = await served.client.get("/PushNotifications/Operations", params={"status": "COMPLETED"})
    assert [row["id"] for row in listed.json()["operations"]] == [ONE]
    sent = await served.client.post("/PushNotifications", json={"recipients": 3})
    assert sent.status_code == 202
    assert (await served.client.get(PATH, auth=("x", "y"))).status_code == 401


async def test_a_large_page_arrives_whole(served: Served):
    for _ in range(1_000):
        served.running.upstream.world.send(served.running.upstream.accounts[0].account_id, served.running.clock())
    page = await served.client.get("/PushNotifications/Operations", params={"pageSize": 1000})
    assert len(page.json()["operations"]) == 1_000
    assert len(page.content) > 200_000


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"kind": "reset"}, httpx.ReadError),
        ({"kind": "cut"}, httpx.RemoteProtocolError),
        ({"kind": "silent"}, httpx.ReadTimeout),
        ({"kind": "slow", "wait": "30s"}, httpx.ReadTimeout),
        ({"kind": "trickle", "wait": "60s"}, httpx.ReadTimeout),
    ],
)
async def test_a_connection_fault_really_breaks_the_connection(
    served: Served, fault: dict[str, Any], error: type[Exception]
):
    assert (await served.put("faults", [fault])).status_code == 200
    with pytest.raises(error):
        await served.client.get(PATH, timeout=0.1)
    assert (await served.put("faults", [])).status_code == 200
    assert (await served.fetch()).status_code == 200
    await no_request_is_under_way(served)


async def test_an_endless_body_ends_only_when_the_client_disconnects(served: Served):
    await served.put("faults", [{"kind": "endless"}])
    received = 0
    async with served.client.stream("GET", PATH) as response:
        assert "Content-Length" not in response.headers
        async for piece in response.aiter_bytes():
            received += len(piece)
            if received > 300_000:
                break
    await no_request_is_under_way(served)
    assert (await served.view("requests"))["counts"] == {"fetch": {"endless": 1}}


async def test_a_trickling_answer_arrives_in_the_end(served: Served):
    await served.put("faults", [{"kind": "trickle", "wait": "40ms"}, {"kind": "slow", "wait": "5ms"}])
    assert (await served.fetch()).json()["id"] == ONE


async def test_a_huge_body_arrives_whole(served: Served):
    await served.put("faults", [{"kind": "huge", "mebibytes": 2}])
    response = await served.fetch()
    assert len(response.content) > 2 << 20
    assert response.json()["id"] == ONE


async def test_the_true_state_can_be_read(served: Served):
    await served.put("faults", [{"kind": "odd_stats"}])
    truth = await served.view("operations")
    by_id = {one["id"]: one for one in truth["operations"]}
    ended, running = by_id[ONE], by_id["running"]
    assert (ended["status"], ended["finalStats"]["failed"], ended["finalStats"]["sent"]) == ("COMPLETED", 4, 6)
    assert ended["endsSeconds"] - ended["createdSeconds"] == pytest.approx(10)
    assert ended["accountId"] == "AC00000000000000000000000000000000"
    assert (running["status"], running["finalStats"], running["endsSeconds"]) == ("PROCESSING", None, None)
    some = await served.view("operations?status=processing")
    assert [one["id"] for one in some["operations"]] == ["running"]
    assert (await served.view("operations?account=AC9"))["operations"] == []


async def test_requests_can_be_read(served: Served):
    await served.fetch()
    await served.client.get("/PushNotifications/Operations", params={"pageSize": 0})
    found = await served.view("requests?last=1")
    assert found["counts"] == {"fetch": {"200": 1}, "list": {"400": 1}}
    assert found["mostConcurrent"] == {"AC00000000000000000000000000000000": 1}
    assert found["duringHold"] == 0
    assert [(entry["endpoint"], entry["outcome"]) for entry in found["last"]] == [("list", "400")]
    assert (await served.view("requests"))["last"] == []


async def test_credentials_can_be_rotated_one_by_one(served: Served):
    account_id = "AC00000000000000000000000000000000"
    changed = await served.put("credentials", {"account_id": account_id, "auth_token": "rotated"})
    assert changed.status_code == 200
    assert (await served.fetch()).status_code == 401
    assert (await served.client.get(PATH, auth=(account_id, "rotated"))).status_code == 200
    key = served.running.upstream.accounts[0]
    assert (await served.client.get(PATH, auth=(key.api_key or "", key.api_key_secret or ""))).status_code == 200


async def test_limits_can_be_changed(served: Served):
    assert (await served.put("limits", {"requests_per_second": 1})).status_code == 200
    assert [(await served.fetch()).status_code for _ in range(2)] == [200, 429]


@pytest.mark.parametrize(
    ("what", "value", "said"),
    [
        ("faults", [{"kind": "sulking"}], "Invalid enum value 'sulking' - at `$[0].kind`"),
        ("faults", {"kind": "slow"}, "Expected `array`, got `object`"),
        ("limits", {"retries": 1}, "unknown field `retries`"),
        ("credentials", {"account_id": "AC9"}, "no account is called 'AC9'"),
        ("credentials", ["AC9"], "no account is called None"),
    ],
)
async def test_an_error_in_a_control_request_is_reported_and_changes_nothing(
    served: Served, what: str, value: Any, said: str
):
    response = await served.put(what, value)
    assert (response.status_code, said in response.json()["error"]) == (400, True)
    assert (await served.fetch()).status_code == 200


async def test_a_control_request_must_be_json(served: Served):
    response = await served.client.put(served.running.control_url + "limits", content=b"{")
    assert (response.status_code, response.json()["error"][:8]) == (400, "not JSON")


async def test_there_are_no_other_control_routes(served: Served):
    assert (await served.put("weather", [])).status_code == 404
    assert (await served.client.get(served.running.control_url + "requests?last=x")).status_code == 400


async def test_control_requests_are_not_counted(served: Served):
    await served.view("operations")
    assert (await served.view("requests"))["counts"] == {}


@pytest.mark.parametrize("kind", ["silent", "slow", "trickle", "endless"])
async def test_a_stop_ends_answers_that_never_end(kind: str):
    wait = "" if kind in ("silent", "endless") else ", wait: 60s"
    async with asyncio.timeout(2):
        async with serving(parse_scenario(f"faults: [{{kind: {kind}{wait}}}]")) as running:
            waiting = asyncio.create_task(outcome(running.base_url + PATH))
            while not running.upstream.ledger.count():  # noqa: ASYNC110 - what is waited for knows no asyncio
                await asyncio.sleep(0.001)
        assert await waiting == "broken"


async def test_signals_stay_with_the_owner_of_the_loop():
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    async with serving(parse_scenario("")):
        assert [signal.getsignal(number) for number in numbers] == before


async def test_an_address_in_use_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        async with serving(parse_scenario(""), port=taken.getsockname()[1]):
            pytest.fail("the address was taken")


async def test_the_simulator_serves_until_it_is_stopped():
    stop = asyncio.Event()
    started: list[Running] = []

    def ready(running: Running) -> None:
        started.append(running)
        stop.set()

    await serve(parse_scenario(""), "0.0.0.0", 0, ready=ready, stop=stop)
    assert started[0].base_url.startswith("http://127.0.0.1:")
    assert started[0].base_url.endswith("/v1")


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
async def test_the_simulator_serves_on_ipv6_too():
    try:
        async with serving(parse_scenario(""), "::1") as running:
            assert running.base_url.startswith("http://[::1]:")
            assert await outcome(running.base_url) == "401"
    except OSError:
        pytest.skip("no IPv6 loopback here")


def test_the_virtual_clock_runs_at_the_configured_speed():
    clock = virtual_clock(parse_scenario("clock: {speed: 1000000, offset: 1h}").clock)
    real = virtual_clock(parse_scenario("").clock)
    assert clock() - real() > 3_000_000_000
    begin = clock()
    while clock() == begin:
        pass
    assert clock() > begin


ALONE = (sys.executable, "-m", "watcher", "simulate", "--listen", "127.0.0.1:0")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_as_a_program_the_simulator_ends_at_a_signal(number: signal.Signals):
    process = await asyncio.create_subprocess_exec(*ALONE, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    base_url = (await process.stdout.readline()).decode().split()[-1]
    assert await outcome(base_url) == "401"
    process.send_signal(number)
    await process.stdout.read()
    assert await process.wait() == 0


async def outcome(url: str) -> str:
    async with httpx.AsyncClient(timeout=5, verify=False) as client:
        with contextlib.suppress(httpx.TransportError):
            return str((await client.get(url)).status_code)
    return "broken"


async def no_request_is_under_way(served: Served) -> None:
    async with asyncio.timeout(2):
        while served.running.upstream._throttle.under_way.total():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.005)
