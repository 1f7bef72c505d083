"""The client on real connections to the simulated API: what only a socket can do to an answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

import httpx
import msgspec

from tests.api.client_rig import ONE
from tests.api.hammering import connections, listening
from tests.support.processes import free_port
from tests.support.rereading import at_once
from watcher.api import BasicCredentials, Client, Connections, Gate
from watcher.clock import Clock
from watcher.core.attempt import Attempt
from watcher.core.governor import Governor, Share
from watcher.core.model import SECOND
from watcher.core.observation import FailureCause, Page, Seen, Unanswered
from watcher.core.requests import Fetch, Probe
from watcher.simulator import parse_scenario
from watcher.simulator.server import Running, serving


@dataclass
class Connected:
    client: Client
    api: Running
    attempts: list[Attempt]


@contextlib.asynccontextmanager
async def connected(
    *faults: str,
    timeout: float = 5.0,  # noqa: ASYNC109 -- the client's, not ours
    base_url: str | None = None,
) -> AsyncIterator[Connected]:
    """A client of a simulated API with such faults and one operation."""
    text = f"operations: [{{id: {ONE}, created: -5s}}]\nfaults: [{', '.join(faults)}]"
    async with (
        serving(parse_scenario(text)) as api,
        httpx.AsyncClient(timeout=None, trust_env=False, verify=False) as http,  # noqa: S113
    ):
        clock = Clock()
        account = api.upstream.accounts[0]
        attempts: list[Attempt] = []
        client = Client(
            http=http,
            base_url=base_url or api.base_url,
            credentials=(credentials := BasicCredentials(account.account_id, lambda: account.auth_token)),
            reread=at_once(credentials),
            gate=Gate(Governor(Share(per_second=1000), clock.now().tick), clock.now),
            request_timeout=round(timeout * SECOND),
            now=clock.now,
            on_attempt=attempts.append,
        )
        yield Connected(client, api, attempts)


async def test_an_answer_that_breaks_off_is_requested_again():
    async with connected("{kind: cut, times: 1}") as one:
        assert isinstance(await one.client.ask(Fetch(operation_id=ONE)), Seen)
        assert [attempt.code for attempt in one.attempts] == ["garbled", "200"]


async def test_a_refusal_that_breaks_off_is_a_refusal():
    async with connected("{kind: status, status: 429, retry_after: seconds, wait: 20s}", "{kind: cut}") as one:
        observation = await one.client.ask(Fetch(operation_id=ONE))
        assert isinstance(observation, Unanswered)
        assert (observation.cause, observation.retry_after) == (FailureCause.THROTTLED, 20 * SECOND)


async def test_a_connection_that_is_reset_is_made_again():
    async with connected("{kind: reset, times: 1}") as one:
        assert isinstance(await one.client.ask(Fetch(operation_id=ONE)), Seen)
        assert [attempt.code for attempt in one.attempts] == ["connect", "200"]


async def test_silence_and_trickling_end_at_the_timeout_and_the_rest_goes_on():
    async with connected("{kind: silent, times: 1}", "{kind: trickle, wait: 20s, every: 2}", timeout=0.2) as one:
        assert isinstance(await one.client.ask(Fetch(operation_id=ONE)), Seen)
        assert [attempt.code for attempt in one.attempts] == ["timeout", "timeout", "200"]


async def test_huge_and_endless_bodies_are_abandoned_and_the_next_request_is_answered():
    async with connected("{kind: huge, mebibytes: 10, times: 1}", "{kind: endless, endpoint: list, times: 1}") as one:
        assert isinstance(await one.client.ask(Fetch(operation_id=ONE)), Seen)
        assert isinstance(await one.client.ask(Probe()), Page)
        assert [attempt.code for attempt in one.attempts] == ["garbled", "200", "garbled", "200"]


async def test_a_redirect_to_another_path_of_the_same_host_is_not_followed_either():
    async with connected("{kind: redirect, to: /v1/PushNotifications/Operations, endpoint: fetch}") as one:
        observation = await one.client.ask(Fetch(operation_id=ONE))
        assert isinstance(observation, Unanswered)
        assert observation.why.startswith("HTTP 307, request RQ")
        assert one.api.upstream.ledger.count("list") == 0


async def test_a_closed_port_is_a_connection_failure():
    async with connected(base_url=f"http://127.0.0.1:{free_port()}/v1") as one:
        observation = await one.client.ask(Fetch(operation_id=ONE))
        assert isinstance(observation, Unanswered)
        assert (observation.cause, observation.why) == (
            FailureCause.CONNECT,
            "ConnectError: All connection attempts failed",
        )


async def test_a_kept_connection_that_upstream_closed_is_no_garbled_answer():
    """The answer to the first request promises to keep the connection, which is closed when the second one comes."""
    number = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal number
        number += 1
        await reader.readuntil(b"\r\n\r\n")
        # A byte order mark before JSON may be ignored.
        body = b"\xef\xbb\xbf" + msgspec.json.encode({"id": ONE, "status": "PROCESSING", "stats": {"sent": 1}})
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await reader.readuntil(b"\r\n\r\n")

    async with (
        listening(answer) as port,
        httpx.AsyncClient(transport=Connections(partial(connections, 1)), timeout=None) as http,  # noqa: S113
    ):
        clock = Clock()
        attempts: list[Attempt] = []
        client = Client(
            http=http,
            base_url=f"http://127.0.0.1:{port}/v1",
            credentials=(credentials := BasicCredentials("user", lambda: "secret")),
            reread=at_once(credentials),
            gate=Gate(Governor(Share(per_second=1000), clock.now().tick), clock.now),
            request_timeout=5 * SECOND,
            now=clock.now,
            on_attempt=attempts.append,
        )
        assert isinstance(await client.ask(Fetch(operation_id=ONE)), Seen)
        assert isinstance(await client.ask(Fetch(operation_id=ONE)), Seen)
    assert [attempt.code for attempt in attempts] == ["200", "connect", "200"]
    assert number == 2
