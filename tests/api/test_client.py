"""Which requests the client sends, how often, and how it reads every kind of answer; in virtual time."""

from __future__ import annotations

import asyncio
import base64
import gzip
import random
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import repeat

import httpx
import pytest

from tests.api.client_rig import BASE_URL, GOOD, ONE, OPERATIONS, SECRET, SHOWN, USER, Answer, ClientRig, client_on
from tests.support.rereading import at_once
from tests.support.virtual import run_virtually, virtual_clock
from watcher import __version__
from watcher.api import BasicCredentials, Client, Gate
from watcher.api.body import AT_MOST
from watcher.core.errors import OperatorError
from watcher.core.governor import AttemptResult, Governor, Share
from watcher.core.model import SECOND, Status
from watcher.core.observation import FailureCause, Forbidden, Missing, Observation, Page, Refused, Seen, Unanswered
from watcher.core.requests import Fetch, Sweep
from watcher.core.wire import TOKEN_AT_MOST
from watcher.simulator import SimulatedTransport, Upstream, parse_scenario

MIB = 1024 * 1024
GZIPPED = {"Content-Encoding": "gzip"}


def fetched(*answers: Answer | Exception) -> tuple[Observation, ClientRig]:
    """What a fetch brought back from such answers, and everything around it afterwards."""

    async def main() -> tuple[Observation, ClientRig]:
        async with client_on(*answers) as one:
            answer = await one.client.ask(Fetch(operation_id=ONE))
            assert not isinstance(answer, Page)
            return answer, one

    return run_virtually(main())


def failed(*answers: Answer | Exception) -> tuple[Unanswered, ClientRig]:
    observation, one = fetched(*answers)
    assert isinstance(observation, Unanswered)
    return observation, one


# ── the requests ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_fetch_requests_the_operation_with_our_user_agent_and_credentials():
    _, one = fetched(GOOD)
    (request,) = one.wire.requests
    assert (request.method, str(request.url)) == ("GET", f"{BASE_URL}/PushNotifications/Operations/{ONE}")
    assert dict(request.headers) == {
        "host": "comms.example",
        "accept": "application/json",
        "accept-encoding": "gzip",
        "authorization": "Basic " + base64.b64encode(f"{USER}:{SECRET}".encode()).decode(),
        "user-agent": f"operation-watcher/{__version__}",
    }


@pytest.mark.virtual_time
async def test_a_page_is_requested_with_upstreams_parameters():
    async with client_on(Answer(pieces=[b'{"operations": [' + SHOWN + b', 7], "pagination": {"next": "n"}}'])) as one:
        page = await one.client.ask(Sweep(number=1, status=Status.PROCESSING, start=0, end=SECOND, token="a/b+c=&d"))
    assert isinstance(page, Page)
    assert ([record.id for record in page.records], page.garbled, page.next_token) == ([ONE], 1, "n")
    (request,) = one.wire.requests
    assert request.url.path == OPERATIONS
    assert dict(request.url.params) == {
        "pageSize": "1000",
        "status": "PROCESSING",
        "startDate": "1970-01-01T00:00:00.000Z",
        "endDate": "1970-01-01T00:00:01.000Z",
        "pageToken": "a/b+c=&d",
    }
    assert [(attempt.endpoint, attempt.code) for attempt in one.attempts] == [("list", "200")]


@pytest.mark.virtual_time
@pytest.mark.parametrize("token", ["\U0010ffff" * TOKEN_AT_MOST, "\x00\n?#&%/ " * 10])
async def test_any_page_token_of_upstream_can_be_sent_back(token: str):
    async with client_on(GOOD) as one:
        await one.client.ask(Sweep(number=1, status=None, start=0, end=SECOND, token=token))
    request = one.wire.requests[0]
    assert request.url.params["pageToken"] == token


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    ("operation_id", "path"),
    [
        ("../../Messages", b"..%2F..%2FMessages"),
        ("a?status=x#y", b"a%3Fstatus%3Dx%23y"),
        ("a%2e%2e", b"a%252e%252e"),
        ("a\r\nHost: b", b"a%0D%0AHost%3A%20b"),
        ("ä", b"%C3%A4"),
    ],
)
async def test_any_operation_id_stays_one_segment_of_the_path(operation_id: str, path: bytes):
    async with client_on(Answer(code=404)) as one:
        await one.client.ask(Fetch(operation_id=operation_id))
    request = one.wire.requests[0]
    assert request.url.raw_path == OPERATIONS.encode() + b"/" + path


@pytest.mark.virtual_time
async def test_the_host_header_names_a_port_that_is_not_the_usual_one():
    async with client_on(GOOD, base_url="http://[::1]:8080/v1") as one:
        await one.client.ask(Fetch(operation_id=ONE))
    request = one.wire.requests[0]
    assert request.headers["host"] == "[::1]:8080"


# ── each status ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("code", "kind"), [(200, Seen), (400, Refused), (403, Forbidden), (404, Missing)])
def test_an_answer_of_upstream_about_the_operation_needs_one_request(code: int, kind: type[Observation]):
    observation, one = fetched(Answer(code=code))
    assert type(observation) is kind
    expected = (AttemptResult.GOOD, "") if code == 200 else (AttemptResult.DOUBTFUL, f"HTTP {code}")
    assert [(a.code, a.result, a.why) for a in one.attempts] == [(str(code), *expected)]
    assert one.wire.closed == 1


@pytest.mark.parametrize(
    ("code", "label", "cause", "result", "attempts"),
    [
        (401, "401", FailureCause.UNAUTHORIZED, AttemptResult.UNAUTHORIZED, 1),
        (429, "429", FailureCause.THROTTLED, AttemptResult.THROTTLED, 3),
        (500, "5xx", FailureCause.UPSTREAM, AttemptResult.TROUBLED, 3),
        (502, "5xx", FailureCause.UPSTREAM, AttemptResult.TROUBLED, 3),
        (503, "5xx", FailureCause.THROTTLED, AttemptResult.THROTTLED, 3),
        (204, "other", FailureCause.OTHER, AttemptResult.TROUBLED, 3),
        (302, "other", FailureCause.OTHER, AttemptResult.TROUBLED, 3),
        (418, "other", FailureCause.OTHER, AttemptResult.TROUBLED, 3),
    ],
)
def test_a_status_without_a_usable_answer_is_a_failure_and_tried_at_most_three_times(
    code: int, label: str, cause: FailureCause, result: AttemptResult, *, attempts: int
):
    observation, one = failed(Answer(code=code, pieces=[b'{"code": 20500}']))
    assert (observation.cause, observation.why) == (cause, f"HTTP {code}, error 20500")
    assert [(a.endpoint, a.code, a.result, a.why) for a in one.attempts] == [
        ("fetch", label, result, observation.why)
    ] * attempts
    assert len(one.wire.requests) == attempts
    assert one.gate.governor.under_way == 0


def test_a_failure_that_passes_is_retried_with_success():
    observation, one = fetched(Answer(code=500), Answer(code=503), GOOD)
    assert isinstance(observation, Seen)
    assert one.codes == ["5xx", "5xx", "200"]


def test_a_redirect_is_not_followed_so_credentials_go_nowhere_else():
    _, one = failed(Answer(code=302, headers={"Location": "https://elsewhere.example/steal"}))
    assert {request.url.host for request in one.wire.requests} == {"comms.example"}


@pytest.mark.parametrize(
    ("error", "label", "cause", "why"),
    [
        (
            httpx.ConnectError("[Errno 111] refused"),
            "connect",
            FailureCause.CONNECT,
            "ConnectError: [Errno 111] refused",
        ),
        (httpx.ReadError(""), "connect", FailureCause.CONNECT, "ReadError"),
        (httpx.RemoteProtocolError("x" * 300), "garbled", FailureCause.GARBLED, "RemoteProtocolError: " + "x" * 200),
        (httpx.ProxyError("407 Proxy"), "other", FailureCause.OTHER, "ProxyError: 407 Proxy"),
        (httpx.ReadTimeout("slow"), "timeout", FailureCause.TIMEOUT, "no answer within 10 s"),
        (OSError("broken"), "other", FailureCause.OTHER, "OSError: broken"),
    ],
)
def test_what_goes_wrong_on_the_way_is_named(error: Exception, label: str, cause: FailureCause, why: str):
    observation, one = failed(error)
    assert (observation.cause, observation.why, observation.retry_after) == (cause, why, None)
    assert one.codes == [label] * 3


# ── bodies ────────────────────────────────────────────────────────────────────────────────────────────────────────────

CUT = httpx.RemoteProtocolError("peer closed connection without sending complete message body")


def test_a_good_answer_that_breaks_off_is_garbled():
    observation, one = failed(Answer(pieces=[SHOWN[:20]], breaks=CUT))
    assert observation.cause is FailureCause.GARBLED
    assert observation.why.startswith("RemoteProtocolError: peer closed connection")
    assert one.codes == ["garbled"] * 3
    assert one.wire.closed == 3


@pytest.mark.parametrize(
    "breaking", [Answer(code=429, breaks=CUT), Answer(code=429, pause=1.0, pieces=repeat(b" "))], ids=["cut", "trickle"]
)
def test_a_refusal_that_breaks_off_is_a_refusal_all_the_same(breaking: Answer):
    breaking.headers["Retry-After"] = "7"
    observation, one = failed(breaking)
    assert (observation.cause, observation.retry_after) == (FailureCause.THROTTLED, 7 * SECOND)
    assert one.codes == ["429"]


def test_a_packed_answer_is_unpacked():
    observation, _ = fetched(Answer(headers=GZIPPED, pieces=[gzip.compress(SHOWN)[:15], gzip.compress(SHOWN)[15:]]))
    assert isinstance(observation, Seen)
    assert observation.record.stats is not None
    assert observation.record.stats.total == 3


@pytest.mark.parametrize(
    ("headers", "pieces", "why"),
    [
        (GZIPPED, [gzip.compress(SHOWN)[:-9]], "the compressed body ends too early"),
        (GZIPPED, [SHOWN], "the body cannot be decompressed as its encoding says"),
        (GZIPPED, [gzip.compress(SHOWN), b"more"], "the compressed body continues after its end"),
        ({"Content-Encoding": "br"}, [b"\x0b"], "the body is compressed as 'br', which was not requested"),
    ],
)
def test_a_body_that_cannot_be_unpacked_is_garbled(headers: dict[str, str], pieces: list[bytes], why: str):
    observation, _ = failed(Answer(headers=headers, pieces=pieces))
    assert (observation.cause, observation.why) == (FailureCause.GARBLED, why)


def test_an_empty_body_that_is_said_to_be_packed_is_empty():
    observation, _ = fetched(Answer(code=404, headers=GZIPPED, pieces=[]))
    assert isinstance(observation, Missing)


def bomb(mebibytes: int) -> bytes:
    """A number of MiB of blanks, compressed."""
    pack = zlib.compressobj(9, wbits=31)
    return b"".join(pack.compress(b" " * MIB) for _ in range(mebibytes)) + pack.flush()


@pytest.mark.parametrize(
    ("headers", "piece"), [({}, b" " * MIB), (GZIPPED, bomb(64))], ids=["10 MiB", "unpacks to 64 MiB"]
)
def test_a_body_beyond_bounds_is_not_read_to_its_end_nor_kept(headers: dict[str, str], piece: bytes):
    tracemalloc.start()
    try:
        observation, one = failed(Answer(headers=headers, pieces=[piece] * 10))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (observation.cause, observation.why) == (FailureCause.GARBLED, f"the body is larger than {AT_MOST} bytes")
    assert one.wire.pieces_read <= 3 * 9
    assert one.wire.closed == 3
    assert peak < 3 * AT_MOST


def endless_gzip() -> Iterator[bytes]:
    pack = zlib.compressobj(9, wbits=31)
    while True:
        yield pack.compress(b" " * MIB) + pack.flush(zlib.Z_SYNC_FLUSH)


@pytest.mark.parametrize(
    ("headers", "endless"),
    [({}, lambda: repeat(b" " * 65_536)), (GZIPPED, endless_gzip)],
    ids=["plain", "packed"],
)
def test_an_endless_body_is_left_at_the_bound(headers: dict[str, str], endless):
    observation, one = failed(*(Answer(headers=headers, pieces=endless()) for _ in range(3)))
    assert observation.why == f"the body is larger than {AT_MOST} bytes"
    assert one.wire.pieces_read <= 3 * (AT_MOST // 65_536 + 1)


# ── time ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "slow",
    [Answer(delay=3600), Answer(pieces=repeat(b" "), pause=0.5), Answer(pieces=[SHOWN[:5], SHOWN[5:]], pause=11)],
    ids=["silent", "trickles for ever", "stalls"],
)
def test_an_attempt_takes_no_longer_than_the_request_timeout(slow: Answer):
    observation, one = failed(slow)
    assert (observation.cause, observation.why) == (FailureCause.TIMEOUT, "no answer within 10 s")
    assert one.codes == ["timeout"] * 3
    assert [a.timing.answered.tick - a.timing.asked.tick for a in one.attempts] == [10 * SECOND] * 3


def test_a_slow_answer_within_the_timeout_is_an_answer():
    observation, one = fetched(Answer(delay=9.9))
    assert isinstance(observation, Seen)
    assert observation.timing.answered.tick - observation.timing.asked.tick == 9_900_000
    assert len(one.attempts) == 1


def test_the_next_attempt_waits_for_the_longer_of_back_off_and_hold():
    _, one = fetched(Answer(code=429, headers={"Retry-After": "3"}), GOOD)
    first, second = one.wire.began
    # Half of a tenth later than requested: jitter is 0.5 here.
    assert second - first == pytest.approx(3.15 * SECOND, abs=1000)


@pytest.mark.virtual_time
async def test_a_long_retry_after_ends_the_request_and_the_hold_stays_for_the_next():
    async with client_on(Answer(code=429, headers={"Retry-After": "60"}), GOOD) as one:
        observation = await one.client.ask(Fetch(operation_id=ONE))
        assert isinstance(observation, Unanswered)
        assert observation.retry_after == 60 * SECOND
        assert len(one.wire.requests) == 1
        assert one.gate.hold() == 63 * SECOND
        await one.client.ask(Fetch(operation_id=ONE))
        assert one.wire.began[1] - one.wire.began[0] >= 60 * SECOND
        assert one.gate.hold() == 0


@pytest.mark.virtual_time
async def test_no_attempt_begins_during_a_hold_and_never_more_than_allowed_are_under_way():
    lives = "\n".join(f"  - {{id: comms_operation_0{n:025d}, created: -5s}}" for n in range(60))
    scenario = parse_scenario(
        f"operations:\n{lives}\nlatency: 10ms..2s\nfaults:\n"
        "  - {kind: status, status: 429, probability: 0.2, retry_after: seconds, wait: 2s}\n"
        "  - {kind: status, status: 503, probability: 0.1, retry_after: date, wait: 3s}\n"
        "  - {kind: reset, probability: 0.1}\n"
    )
    clock = virtual_clock()
    upstream = Upstream(scenario, clock.now().at)
    account = scenario.accounts[0]
    gate = Gate(Governor(Share(per_second=50, concurrency=4), clock.now().tick), clock.now, random.Random(3).random)
    async with httpx.AsyncClient(transport=SimulatedTransport(upstream, lambda: clock.now().at), verify=False) as http:
        client = Client(
            http=http,
            base_url=BASE_URL,
            credentials=(credentials := BasicCredentials(account.account_id, lambda: account.auth_token)),
            reread=at_once(credentials),
            gate=gate,
            request_timeout=10 * SECOND,
            now=clock.now,
            on_attempt=lambda _: None,
        )
        answers = await asyncio.gather(
            *(client.ask(Fetch(operation_id=f"comms_operation_0{n:025d}")) for n in range(60))
        )
    assert {type(answer) for answer in answers} <= {Seen, Unanswered}
    assert gate.governor.under_way == 0
    assert upstream.ledger.count("fetch", "429") > 5
    assert upstream.ledger.during_hold == 0
    assert upstream.ledger.most_concurrent["AC00000000000000000000000000000000"] == 4


@pytest.mark.virtual_time
async def test_an_attempt_that_is_cancelled_gives_its_permit_back_and_is_not_reported():
    async with client_on(Answer(delay=5), share=Share(per_second=100, concurrency=1)) as one:
        task = asyncio.create_task(one.client.ask(Fetch(operation_id=ONE)))
        waiting = asyncio.create_task(one.client.ask(Fetch(operation_id=ONE)))
        await asyncio.sleep(1)
        assert one.gate.governor.under_way == 1
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(1)
        assert (task.cancelled(), one.attempts) == (True, [])
        assert isinstance(await waiting, Seen)
        assert one.gate.governor.under_way == 0


# ── secrets ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def authorization(secret: str) -> str:
    return "Basic " + base64.b64encode(f"{USER}:{secret}".encode()).decode()


@pytest.mark.virtual_time
async def test_a_secret_that_was_replaced_is_tried_at_once_and_nothing_was_wrong_with_the_account():
    secrets = ["old", "new"]
    async with client_on(Answer(code=401), GOOD, secret=lambda: secrets.pop(0) if len(secrets) > 1 else "new") as one:
        observation = await one.client.ask(Fetch(operation_id=ONE))
        assert isinstance(observation, Seen)
        assert [request.headers["authorization"] for request in one.wire.requests] == [
            authorization("old"),
            authorization("new"),
        ]
        assert [(a.code, a.result) for a in one.attempts] == [
            ("401", AttemptResult.ABANDONED),
            ("200", AttemptResult.GOOD),
        ]
        assert one.gate.hold() == 0


@pytest.mark.virtual_time
async def test_all_requests_under_way_with_the_old_secret_are_sent_again_with_the_new():
    current = ["old"]
    async with client_on(*[Answer(code=401, delay=1)] * 3, GOOD, secret=lambda: current[0]) as one:
        tasks = [asyncio.create_task(one.client.ask(Fetch(operation_id=ONE))) for _ in range(3)]
        await asyncio.sleep(0.5)
        current[0] = "new"
        assert all(isinstance(answer, Seen) for answer in await asyncio.gather(*tasks))
        # The three are sent again in any order.
        assert Counter(a.result for a in one.attempts) == {AttemptResult.ABANDONED: 3, AttemptResult.GOOD: 3}


@pytest.mark.virtual_time
async def test_a_new_secret_that_is_refused_too_is_a_failure_of_the_account():
    current = ["old"]
    async with client_on(Answer(code=401), secret=lambda: current[0]) as one:
        current[0] = "wrong as well"
        observation = await one.client.ask(Fetch(operation_id=ONE))
        assert isinstance(observation, Unanswered)
        assert [a.result for a in one.attempts] == [AttemptResult.ABANDONED, AttemptResult.UNAUTHORIZED]
        assert one.gate.hold() == 30 * SECOND


@pytest.mark.virtual_time
async def test_a_secret_that_cannot_be_read_leaves_the_old_one_in_force():
    secrets = [SECRET]

    def read() -> str:
        if not secrets:
            message = "cannot read /run/secrets/auth_token"
            raise OperatorError(message)
        return secrets.pop()

    async with client_on(Answer(code=401), secret=read) as one:
        before = one.credentials.header
        assert isinstance(await one.client.ask(Fetch(operation_id=ONE)), Unanswered)
        assert one.credentials.header == before
        assert [a.result for a in one.attempts] == [AttemptResult.UNAUTHORIZED]


@pytest.mark.virtual_time
async def test_no_text_about_a_failure_contains_the_secret():
    parts = []
    answers: list[Answer | Exception] = [
        Answer(code=401, pieces=[b'{"code": 20003, "message": "' + SECRET.encode() + b'"}']),
        Answer(code=500, pieces=[SECRET.encode()], headers={"Twilio-Request-Id": "RQ1"}),
        Answer(pieces=[SECRET.encode()]),
        httpx.ConnectError("refused"),
    ]
    for answer in answers:
        async with client_on(answer) as one:
            observation = await one.client.ask(Fetch(operation_id=ONE))
            parts += [repr(observation), repr(one.attempts), repr(one.credentials), str(vars(one.client))]
    said = "\n".join(parts)
    assert f"Credentials('{USER}')" in said
    assert "request RQ1" in said
    assert SECRET not in said
    assert base64.b64encode(SECRET.encode()).decode()[4:-4] not in said


def test_credentials_say_whether_the_secret_changed():
    current = ["one"]
    credentials = BasicCredentials(USER, lambda: current[0])
    assert not credentials.refresh()
    current[0] = "two"
    assert credentials.refresh()
    assert credentials.header == authorization("two")
    assert repr(credentials) == f"Credentials('{USER}')"
