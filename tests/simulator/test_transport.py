"""The API behind httpx without a socket: waits are sleeps, and what breaks is what httpx raises."""

import asyncio
import selectors
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.simulator.caller import ONE, START
from watcher.simulator import SimulatedTransport, Upstream, parse_scenario
from watcher.simulator.timestamps import SECOND

RUNNING = f"operations: [{{id: {ONE}, completed: 60s}}]\n"
PATH = f"/PushNotifications/Operations/{ONE}"


def client_of(upstream: Upstream, clock: Callable[[], int] = lambda: START, **more: Any) -> httpx.AsyncClient:
    account = upstream.accounts[0]
    return httpx.AsyncClient(
        transport=SimulatedTransport(upstream, clock),
        base_url="https://comms.example/v1",
        verify=False,
        auth=(account.account_id, account.auth_token),
        **more,
    )


async def get_with(faults: str, **more: Any) -> httpx.Response:
    upstream = Upstream(parse_scenario(f"{RUNNING}faults: [{faults}]"), START)
    async with client_of(upstream, **more) as client:
        try:
            return await client.get(PATH)
        finally:
            assert upstream._throttle.under_way.total() == 0


async def test_a_good_answer_is_a_response():
    response = await get_with("")
    assert (response.status_code, response.json()["id"]) == (200, ONE)
    assert response.headers["Twilio-Request-Id"].startswith("RQ")


async def test_the_clock_is_read_for_every_request():
    instants = iter([START, START, START + 60 * SECOND, START + 60 * SECOND])
    async with client_of(Upstream(parse_scenario(RUNNING), START), lambda: next(instants)) as client:
        found = [(await client.get(PATH)).json()["status"] for _ in range(2)]
    assert found == ["PROCESSING", "COMPLETED"]


async def test_queries_reach_the_list():
    async with client_of(Upstream(parse_scenario(RUNNING), START)) as client:
        path = "/PushNotifications/Operations"
        empty = await client.get(path, params={"status": "COMPLETED"})
        bad = await client.get(path, params={"startDate": "2024-01-15T09:30:00+xx"})
        full = await client.get(path, params={"startDate": "2024-01-15T09:29:59Z", "pageSize": 1})
    assert (empty.json()["operations"], bad.status_code, len(full.json()["operations"])) == ([], 400, 1)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("{kind: reset}", httpx.ReadError),
        ("{kind: cut}", httpx.RemoteProtocolError),
        ("{kind: silent}", httpx.ReadTimeout),
        ("{kind: slow, wait: 10s}", httpx.ReadTimeout),
        ("{kind: trickle, wait: 10s}", httpx.ReadTimeout),
    ],
)
async def test_what_breaks_is_an_error_of_httpx(fault: str, error: type[Exception]):
    with pytest.raises(error):
        await get_with(fault, timeout=0.01)


async def test_a_slow_answer_arrives_without_a_timeout():
    assert (await get_with("{kind: slow, wait: 10ms}, {kind: trickle, wait: 20ms}")).json()["id"] == ONE


async def test_silence_lasts_until_the_client_gives_up():
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await get_with("{kind: silent}", timeout=None)


async def test_an_endless_body_lasts_while_the_client_reads_it():
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await get_with("{kind: endless}")


async def test_a_redirect_is_not_followed_by_itself():
    response = await get_with("{kind: redirect}")
    assert (response.status_code, response.has_redirect_location) == (307, True)


async def test_requests_are_under_way_until_their_bodies_are_read():
    upstream = Upstream(parse_scenario(f"{RUNNING}latency: 5ms\nlimits: {{max_concurrent: 2}}"), START)
    async with client_of(upstream) as client:
        statuses = [answer.status_code for answer in await asyncio.gather(*(client.get(PATH) for _ in range(3)))]
    assert sorted(statuses) == [200, 200, 429]
    assert list(upstream.ledger.most_concurrent.values()) == [3]


class JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting, jumps over the time that the loop would have waited."""

    jumped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.jumped += timeout or 0
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer as soon as all tasks wait."""

    def __init__(self) -> None:
        self._jumping = JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.jumped


def test_hours_pass_at_once_on_a_jumping_clock():
    async def hours() -> tuple[list[str], float]:
        loop = asyncio.get_running_loop()
        scenario = f"operations: [{{id: {ONE}, completed: 3h}}]\nlatency: 30s"
        upstream = Upstream(parse_scenario(scenario), START)
        async with client_of(upstream, lambda: START + round(loop.time() * SECOND), timeout=60) as client:
            found = []
            for _ in range(4):
                found.append((await client.get(PATH)).json()["status"])
                await asyncio.sleep(3600)
        return found, loop.time()

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        found, seconds = runner.run(hours())
    assert found == ["PROCESSING"] * 3 + ["COMPLETED"]
    assert seconds == pytest.approx(4 * 3600 + 4 * 30)
