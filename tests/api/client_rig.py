"""A client with answers that the test prescribes, in virtual time; it records each request, its time and its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field

import httpx

from tests.support.rereading import at_once
from tests.support.virtual import virtual_clock
from watcher.api import BasicCredentials, Client, Gate
from watcher.clock import Clock
from watcher.core.attempt import Attempt
from watcher.core.governor import Governor, Share
from watcher.core.model import SECOND, Micros

BASE_URL = "https://comms.example/v1"
OPERATIONS = "/v1/PushNotifications/Operations"
ONE = "comms_operation_01h9krwprkeee8fzqspvwy6nq8"
USER, SECRET = "AC00000000000000000000000000000000", "a-secret-that-may-not-show"

SHOWN = json.dumps({"id": ONE, "status": "PROCESSING", "stats": {"total": 3}}).encode()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer: its body comes in pieces, the first after `delay` and the rest `pause` apart, and may break off."""

    code: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    pieces: Iterable[bytes] = (SHOWN,)
    delay: float = 0.0
    pause: float = 0.0
    breaks: Exception | None = None


GOOD = Answer()


class Wire(httpx.AsyncBaseTransport):
    """Gives the answers in order, the last one for good; an exception is raised instead of an answer."""

    def __init__(self, answers: Sequence[Answer | Exception], now: Callable[[], Micros]) -> None:
        self._answers = list(answers)
        self._now = now
        self.requests: list[httpx.Request] = []
        self.began: list[Micros] = []
        self.pieces_read = 0
        self.closed = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.began.append(self._now())
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        await asyncio.sleep(answer.delay)
        return httpx.Response(answer.code, headers=answer.headers, stream=_Pieces(self, answer), request=request)


class _Pieces(httpx.AsyncByteStream):
    def __init__(self, wire: Wire, answer: Answer) -> None:
        self._wire = wire
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._answer.pieces:
            self._wire.pieces_read += 1
            yield piece
            await asyncio.sleep(self._answer.pause)
        if self._answer.breaks is not None:
            raise self._answer.breaks

    async def aclose(self) -> None:
        self._wire.closed += 1


@dataclass
class ClientRig:
    """A client and all that is around it."""

    client: Client
    wire: Wire
    gate: Gate
    clock: Clock
    credentials: BasicCredentials
    attempts: list[Attempt]

    @property
    def codes(self) -> list[str]:
        """The label of each attempt, in the order of their ends."""
        return [attempt.code for attempt in self.attempts]


@contextlib.asynccontextmanager
async def client_on(
    *answers: Answer | Exception,
    secret: Callable[[], str] = lambda: SECRET,
    share: Share | None = None,
    base_url: str = BASE_URL,
) -> AsyncIterator[ClientRig]:
    """A client of an account whose upstream sends these answers. A request may take 10 s, as by default."""
    clock = virtual_clock()
    wire = Wire(answers, lambda: clock.now().tick)
    gate = Gate(Governor(share or Share(per_second=100, concurrency=4), clock.now().tick), clock.now, lambda: 0.5)
    credentials = BasicCredentials(USER, secret)
    attempts: list[Attempt] = []
    async with httpx.AsyncClient(transport=wire, timeout=None, verify=False) as http:  # noqa: S113 -- the client has its own
        client = Client(
            http=http,
            base_url=base_url,
            credentials=credentials,
            reread=at_once(credentials),
            gate=gate,
            request_timeout=10 * SECOND,
            now=clock.now,
            on_attempt=attempts.append,
        )
        yield ClientRig(client, wire, gate, clock, credentials, attempts)
