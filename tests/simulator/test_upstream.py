"""Which requests are allowed, and the answers without faults."""

import json
import re

import pytest

from tests.simulator.caller import ONE, OPERATIONS, START, Caller, basic, ids, read
from watcher.simulator import Account, Limits, Request
from watcher.simulator.timestamps import SECOND
from watcher.simulator.values import Durations

RUNNING = f"operations: [{{id: {ONE}, created: 0s, completed: 60s, stats: {{recipients: 6}}}}]\n"
TWO_ACCOUNTS = f"""
accounts:
  - {{account_id: AC1, auth_token: one, api_key: SK1, api_key_secret: first}}
  - {{account_id: AC2, auth_token: two, api_key: SK2, api_key_secret: second}}
operations:
  - {{id: {ONE}, account: AC2}}
"""


def test_a_fetch_answers_one_operation():
    assert read(Caller(RUNNING, seconds=30).fetch(ONE)) == {
        "id": ONE,
        "status": "PROCESSING",
        "stats": {
            "total": 6,
            "recipients": 6,
            "queued": 3,
            "sent": 3,
            "scheduled": 0,
            "unaddressable": 0,
            "failed": 0,
            "canceled": 0,
        },
        "createdAt": "2024-01-15T09:30:00Z",
        "updatedAt": "2024-01-15T09:30:30Z",
    }


@pytest.mark.parametrize(("user", "password"), [("AC2", "two"), ("SK2", "second")])
def test_both_pairs_of_credentials_open_the_account(user: str, password: str):
    caller = Caller(TWO_ACCOUNTS)
    caller.authorization = basic(user, password)
    assert read(caller.fetch(ONE))["id"] == ONE
    assert ids(read(caller.list())["operations"]) == [ONE]


def test_the_operation_of_another_account_is_not_found():
    caller = Caller(TWO_ACCOUNTS)
    assert read(caller.fetch(ONE), 404)["errors"][0]["code"] == 20404
    assert read(caller.list())["operations"] == []


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Basic", "Basic !!!", "Bearer x", basic("AC1", "wrong"), basic("AC1", "second"), basic("SK1", "one")],
)
def test_without_credentials_the_gateway_answers(authorization: str | None):
    caller = Caller(TWO_ACCOUNTS)
    caller.authorization = authorization
    reply = caller.list()
    assert read(reply, 401) == {
        "code": 20003,
        "message": "Authenticate",
        "more_info": "https://www.twilio.com/docs/errors/20003",
        "status": 401,
    }
    assert reply.header("www-authenticate") == 'Basic realm="Twilio API"'


def test_an_account_may_be_forbidden():
    caller = Caller("accounts: [{forbidden: true}]")
    assert read(caller.list(), 403)["code"] == 70051


def test_a_rotated_secret_opens_and_the_old_one_does_not():
    caller = Caller(TWO_ACCOUNTS)
    caller.upstream.set_accounts([Account(account_id="AC1", auth_token="new", api_key=None)])
    assert caller.list().status == 401
    caller.authorization = basic("AC1", "new")
    assert caller.list().status == 200
    caller.authorization = basic("AC2", "two")
    assert caller.list().status == 200


def test_a_secret_of_an_unknown_account_is_refused():
    with pytest.raises(ValueError, match="unknown accounts: AC9"):
        Caller(TWO_ACCOUNTS).upstream.set_accounts([Account(account_id="AC9")])


def test_an_unknown_id_is_not_found_and_a_malformed_one_is_bad():
    caller = Caller()
    assert caller.fetch(ONE).status == 404
    assert caller.fetch("comms_operation_short").status == 400
    assert caller.fetch(f"{ONE}/../x").status == 400


def test_a_percent_encoded_id_is_the_same_id():
    assert read(Caller(RUNNING).request("GET", f"{OPERATIONS}/{ONE.replace('_', '%5F')}"))["id"] == ONE


def test_what_a_scenario_names_is_found_even_if_its_id_is_malformed():
    assert read(Caller("operations: [{id: printed-example}]").fetch("printed-example"))["id"] == "printed-example"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"{OPERATIONS}/{ONE}/Errors", 404),
        ("GET", "/v1/PushNotifications", 404),
        ("GET", f"{OPERATIONS}/", 404),
        ("GET", "/", 404),
        ("POST", OPERATIONS, 405),
        ("DELETE", f"{OPERATIONS}/{ONE}", 405),
    ],
)
def test_undocumented_paths_do_not_exist(method: str, path: str, status: int):
    assert Caller(RUNNING).request(method, path).status == status


def test_answers_carry_their_date_and_a_request_id():
    caller = Caller("clock: {offset: 0}", seconds=5)
    one, other = caller.list(), caller.list()
    assert one.header("date") == "Mon, 15 Jan 2024 09:30:05 GMT"
    assert re.fullmatch("RQ[0-9a-f]{32}", one.header("Twilio-Request-Id") or "")
    assert one.header("Twilio-Request-Id") != other.header("Twilio-Request-Id")


def test_answers_take_as_long_as_the_latency_says():
    delays = {Caller(f"{{seed: {seed}, latency: 20ms..80ms}}").list().delay for seed in range(50)}
    assert len(delays) > 40
    assert min(delays) >= 20_000
    assert max(delays) <= 80_000


def test_a_record_is_gone_seven_days_after_its_creation():
    caller = Caller(RUNNING, seconds=7 * 86_400 - 1)
    assert read(caller.fetch(ONE))["status"] == "COMPLETED"
    caller.seconds += 1
    assert caller.fetch(ONE).status == 404
    assert read(caller.list())["operations"] == []


def test_a_send_makes_an_operation():
    caller = Caller()
    answer = read(caller.send(to=["a", "b"]), 202)
    made = answer["operationId"]
    assert answer["operationLocation"].endswith(f"/v1/PushNotifications/Operations/{made}")
    assert ids(read(caller.list())["operations"]) == [made]
    assert read(caller.fetch(made))["status"] == "PROCESSING"


def test_a_send_may_script_its_outcome():
    caller = Caller()
    made = read(caller.send(recipients=10, unaddressable=2, failed=3, lifetime="10s", scheduled="5s"), 202)[
        "operationId"
    ]
    shown = []
    for seconds in (4, 6, 15):
        caller.seconds = seconds
        shown.append(read(caller.fetch(made)))
    assert [one["status"] for one in shown] == ["SCHEDULED", "PROCESSING", "COMPLETED"]
    assert {key: value for key, value in shown[-1]["stats"].items() if value} == {
        "total": 8,
        "recipients": 10,
        "unaddressable": 2,
        "sent": 5,
        "failed": 3,
    }


def test_a_send_may_be_canceled():
    caller = Caller()
    made = read(caller.send(recipients=10, lifetime="10s", canceled_at=0.5), 202)["operationId"]
    caller.seconds = 5
    shown = read(caller.fetch(made))
    assert (shown["status"], shown["stats"]["sent"], shown["stats"]["canceled"]) == ("CANCELED", 5, 5)


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'{"recipients": "x"}', b'{"failed": -1}', b'{"canceled_at": 2}', b'{"lifetime": "0s"}', b"\xff"],
)
def test_a_send_of_nonsense_is_a_bad_request(body: bytes):
    caller = Caller()
    assert caller.request("POST", "/v1/PushNotifications", body=body).status == 400
    assert list(caller.upstream.world.lives()) == []


def test_a_send_without_a_body_is_drawn_from_the_population():
    caller = Caller("population: {recipients: 77}")
    made = read(caller.request("POST", "/v1/PushNotifications"), 202)["operationId"]
    assert read(caller.fetch(made))["stats"]["recipients"] == 77


def begin(caller: Caller, times: int = 1):
    ask = Request(method="GET", path=OPERATIONS, headers={"authorization": caller.authorization or ""})
    return [caller.upstream.began(ask, caller.now) for _ in range(times)]


def test_requests_above_the_concurrency_are_refused_until_one_ends():
    caller = Caller("limits: {max_concurrent: 2, retry_after_for: 3s}")
    visits = begin(caller, 3)
    refused = caller.list()
    assert read(refused, 429)["errors"][0]["code"] == 20429
    assert refused.header("Retry-After") == "3"
    caller.upstream.ended(visits.pop())
    assert caller.list().status == 200
    assert caller.upstream.ledger.most_concurrent == {"AC00000000000000000000000000000000": 3}


def test_requests_with_wrong_credentials_do_not_count_towards_the_concurrency():
    caller = Caller("limits: {max_concurrent: 1}")
    known, caller.authorization = caller.authorization, "Basic unknown"
    for visit in begin(caller, 5):
        caller.upstream.ended(visit)
    caller.authorization = known
    begin(caller)
    assert caller.list().status == 200


def test_more_than_the_rate_is_refused_until_time_has_passed():
    caller = Caller("limits: {requests_per_second: 4}")
    assert [caller.list().status for _ in range(6)] == [200] * 4 + [429] * 2
    caller.seconds += 0.25
    assert [caller.list().status for _ in range(2)] == [200, 429]
    caller.seconds += 60
    assert [caller.list().status for _ in range(6)] == [200] * 4 + [429] * 2


def test_the_rate_is_counted_in_the_clients_seconds():
    caller = Caller("limits: {requests_per_second: 1}\nclock: {speed: 60}")
    assert [caller.list().status for _ in range(2)] == [200, 429]
    caller.seconds += 59
    assert caller.list().status == 429
    caller.seconds += 1
    assert caller.list().status == 200


@pytest.mark.parametrize(
    ("form", "shown"),
    [("none", None), ("seconds", "3"), ("date", "Mon, 15 Jan 2024 09:30:03 GMT"), ("garbage", "in a while")],
)
def test_the_wait_is_sent_in_several_forms(form: str, shown: str | None):
    caller = Caller(f"limits: {{max_concurrent: 1, retry_after: {form}, retry_after_for: 3s}}")
    begin(caller, 2)
    assert caller.list().header("Retry-After") == shown


def test_limits_can_be_changed_while_it_runs():
    caller = Caller()
    begin(caller, 2)
    caller.upstream.set_limits(Limits(max_concurrent=1, retry_after_for=Durations.parse("2s")))
    assert caller.list().status == 429


def test_the_ledger_marks_requests_during_a_hold():
    caller = Caller("limits: {requests_per_second: 1, retry_after_for: 10s}\nlatency: 100ms")
    statuses = []
    for seconds in (0, 0.05, 0.1, 5, 10.2):
        caller.seconds = seconds
        statuses.append(caller.list().status)
    # The client learns of the hold 100 ms after the refusal at 0.05. Requests before that are no violation.
    assert statuses == [200, 429, 429, 200, 200]
    assert [entry.during_hold for entry in caller.upstream.ledger.entries] == [False, False, False, True, False]
    assert caller.upstream.ledger.during_hold == 1


def test_the_ledger_counts_and_records_requests():
    caller = Caller(RUNNING)
    caller.list()
    caller.seconds = 2
    caller.fetch(ONE)
    caller.fetch("nonsense")
    ledger = caller.upstream.ledger
    assert ledger.counts == {("list", "200"): 1, ("fetch", "200"): 1, ("fetch", "400"): 1}
    assert (ledger.count(), ledger.count("fetch"), ledger.count(outcome="200")) == (3, 2, 2)
    assert ledger.instants() == [START, START + 2 * SECOND, START + 2 * SECOND]
    assert ledger.instants("list") == [START]
    assert [entry.operation_id for entry in ledger.entries] == [None, ONE, "nonsense"]


def test_bodies_are_json():
    reply = Caller(RUNNING).fetch(ONE)
    assert reply.header("content-type") == "application/json"
    assert json.loads(reply.body)["id"] == ONE
