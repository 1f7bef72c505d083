"""Every kind of fault has its effect, when and for the requests that it names, and does not change the true state."""

import json
from collections.abc import Callable
from typing import Any, get_args

import pytest

from tests.simulator.caller import ONE, START, Caller, basic, ids, read
from watcher.simulator import Fault, Upstream, built_in
from watcher.simulator.fault_types import CORRUPTION, Kind, UpstreamShape
from watcher.simulator.messages import Cut, Endless, Reset, Silent, Trickle, Whole
from watcher.simulator.timestamps import SECOND, parse_rfc3339
from watcher.simulator.values import Duration

ENDED = f"operations: [{{id: {ONE}, created: 0s, completed: 10s, stats: {{recipients: 10, failed: 4}}}}]\n"
TEN = "population: {in_flight: 10, arrivals_per_second: 0, lifetime: 10m..1h}\n"
KINDS = {name for group in get_args(Kind) for name in (get_args(group) or (group,))}

Check = Callable[[], None]
CHECKS: dict[str, Check] = {}


def shows(kind: str) -> Callable[[Check], Check]:
    def remember(check: Check) -> Check:
        CHECKS[kind] = check
        return check

    return remember


def struck(fault: str, scenario: str = ENDED, *, seconds: float = 20) -> Caller:
    return Caller(f"{scenario}faults: [{fault}]", seconds=seconds)


def fetched(fault: str) -> Any:
    return read(struck(fault).fetch(ONE))


@shows("status")
def test_a_status_replaces_the_answer():
    reply = struck("{kind: status, status: 503, wait: 7s}").list()
    assert read(reply, 503)["errors"][0]["code"] == 20503
    assert reply.header("Retry-After") == "7"
    assert reply.header("Twilio-Request-Id")


@shows("forbidden")
def test_a_forbidden_operation_is_refused_by_its_id_and_on_no_list():
    caller = struck(f"{{kind: forbidden, operation: {ONE}}}", f"{ENDED}population: {{in_flight: 3}}\n")
    assert read(caller.fetch(ONE), 403)["code"] == 70051
    shown = ids(read(caller.list())["operations"])
    assert len(shown) >= 3
    assert ONE not in shown
    assert read(caller.fetch(shown[0]))["id"] == shown[0]
    caller.upstream.set_faults([], caller.now)
    assert ONE in ids(read(caller.list())["operations"])


def test_a_forbidden_operation_may_be_so_for_a_time_and_in_one_account():
    caller = struck(f"{{kind: forbidden, operation: {ONE}, from: 30s, until: 60s}}")
    hidden = {}
    for seconds in (20, 40, 70):
        caller.seconds = seconds
        hidden[seconds] = ONE not in ids(read(caller.list())["operations"])
    assert hidden == {20: False, 40: True, 70: False}
    caller = struck(f"{{kind: forbidden, operation: {ONE}, account: AC9}}")
    assert ids(read(caller.list())["operations"]) == [ONE]


@pytest.mark.parametrize("shape", get_args(UpstreamShape))
def test_each_of_upstreams_shapes_of_an_error_has_its_number(shape: str):
    reply = Caller(f"error_shape: {shape}").fetch(ONE)
    body = read(reply, 404)
    number = 404 if shape == "bare" else 20404
    assert f'"code":{number}' in json.dumps(body, separators=(",", ":"))
    assert "json" in (reply.header("Content-Type") or "")


def test_mixed_shapes_come_in_turn():
    caller = Caller("error_shape: mixed")
    bodies = [reply.body for reply in (caller.fetch(ONE) for _ in range(12))]
    assert len(set(bodies)) == 6
    assert bodies[:6] == bodies[6:]


@shows("unfiltered")
def test_an_unfiltered_list_has_the_whole_account():
    caller = struck("{kind: unfiltered}", TEN)
    everything = ids(read(caller.list())["operations"])
    assert len(everything) == 10
    assert ids(read(caller.list(status="COMPLETED", startDate="2030-01-01T00:00:00Z"))["operations"]) == everything


@shows("redirect")
def test_a_redirect_leads_to_another_host():
    reply = struck('{kind: redirect, to: "https://evil.example/"}').list()
    assert (reply.status, reply.header("Location")) == (307, "https://evil.example/")


@shows("reset")
def test_a_reset_breaks_the_connection():
    assert struck("{kind: reset}").list().delivery == Reset()


@shows("silent")
def test_silence_lasts():
    assert struck("{kind: silent}").list().delivery == Silent()


@shows("endless")
def test_an_endless_body_never_ends():
    assert struck("{kind: endless}").list().delivery == Endless()


@shows("garbage")
def test_a_garbage_body_is_no_json():
    reply = struck("{kind: garbage}").list()
    assert reply.status == 200
    with pytest.raises(ValueError, match=r"codec|JSON|Expecting|Unterminated"):
        json.loads(reply.body)


@shows("empty")
def test_an_empty_body_is_empty():
    reply = struck("{kind: empty}").list()
    assert (reply.status, reply.body) == (200, b"")


@shows("slow")
def test_a_slow_answer_takes_its_time():
    assert struck("{kind: slow, wait: 3s}").list().delay == 3 * SECOND


@shows("trickle")
def test_a_trickle_takes_its_time_too():
    assert struck("{kind: trickle, wait: 3s}").list().delivery == Trickle(3 * SECOND)


@shows("cut")
def test_a_cut_body_lacks_a_part():
    reply = struck("{kind: cut, share: 0.25}").list()
    assert reply.delivery == Cut(len(reply.body) // 4)
    whole = struck("{kind: cut, share: 1}").list()
    assert whole.delivery == Cut(len(whole.body) - 1)


@shows("huge")
def test_a_huge_body_is_true_and_long():
    reply = struck("{kind: huge, mebibytes: 3}").list()
    assert len(reply.body) > 3 << 20
    assert ids(read(reply)["operations"]) == [ONE]


@shows("hint")
def test_a_hint_is_a_retry_after_on_a_good_answer():
    reply = struck("{kind: hint, wait: 9s}").fetch(ONE)
    assert (reply.status, reply.header("Retry-After")) == (200, "9")


@shows("skewed_date")
def test_a_skewed_date_is_off():
    reply = struck("{kind: skewed_date, wait: -1h}", seconds=0).list()
    assert [value for name, value in reply.headers if name == "Date"] == ["Mon, 15 Jan 2024 08:30:00 GMT"]


@shows("no_date")
def test_an_answer_may_have_no_date():
    reply = struck("{kind: no_date}", seconds=0).list()
    assert [value for name, value in reply.headers if name == "Date"] == []


@shows("invisible")
def test_a_new_operation_shows_late():
    caller = struck("{kind: invisible, wait: 5s}", seconds=4.9)
    assert caller.fetch(ONE).status == 404
    assert read(caller.list())["operations"] == []
    caller.seconds = 5
    assert read(caller.fetch(ONE))["id"] == ONE
    assert ids(read(caller.list())["operations"]) == [ONE]


@shows("stale")
def test_a_stale_answer_shows_an_earlier_state():
    caller = struck("{kind: stale, wait: 5s}", seconds=12)
    past = read(caller.fetch(ONE))
    assert (past["status"], past["updatedAt"]) == ("PROCESSING", "2024-01-15T09:30:07Z")
    assert read(caller.list(status="PROCESSING"))["operations"] == [past]
    assert read(caller.list(status="COMPLETED"))["operations"] == []
    caller.seconds = 3
    assert caller.fetch(ONE).status == 404
    assert read(caller.list())["operations"] == []


@shows("short_page")
def test_short_pages_lose_nothing():
    caller = struck("{kind: short_page, share: 0.5, endpoint: list}", TEN)
    pages = caller.walk(pageSize=4)
    assert [len(page) for page in pages] == [2, 2, 2, 2, 1, 1]
    assert len({one for page in pages for one in ids(page)}) == 10


@shows("empty_page")
def test_an_empty_page_has_a_next_one():
    caller = struck("{kind: empty_page, every: 2}", TEN)
    pages = caller.walk(pageSize=4)
    assert [len(page) for page in pages] == [4, 0, 4, 0, 2]
    assert len({one for page in pages for one in ids(page)}) == 10


@shows("repeated_token")
def test_a_repeated_token_leads_nowhere():
    caller = struck("{kind: repeated_token}", TEN)
    first = read(caller.list(pageSize=4))
    token = first["pagination"]["next"]
    again = read(caller.list(pageSize=4, pageToken=token))
    assert (again["pagination"]["next"], again["operations"]) == (token, first["operations"])


@shows("stale_token")
def test_a_stale_token_is_a_bad_request():
    caller = struck("{kind: stale_token}", TEN)
    token = read(caller.list(pageSize=4))["pagination"]["next"]
    assert "no longer valid" in read(caller.list(pageSize=4, pageToken=token), 400)["errors"][0]["message"]


@shows("repeated_rows")
def test_repeated_rows_are_seen_twice():
    pages = struck("{kind: repeated_rows, rows: 1}", TEN).walk(pageSize=4)
    met = [one for page in pages for one in ids(page)]
    assert (len(met), len(set(met))) == (12, 10)
    assert ids(pages[0])[-1] == ids(pages[1])[0]


def test_repeated_rows_leave_at_least_one_that_is_new():
    pages = struck("{kind: repeated_rows, rows: 9}", TEN).walk(pageSize=4)
    assert len({one for page in pages for one in ids(page)}) == 10


@shows("missed_rows")
def test_missed_rows_are_on_no_page():
    pages = struck("{kind: missed_rows, rows: 2}", TEN).walk(pageSize=4)
    assert [len(page) for page in pages] == [4, 4]
    assert len({one for page in pages for one in ids(page)}) == 8


@shows("unknown_status")
def test_a_status_may_be_unknown():
    assert fetched("{kind: unknown_status}")["status"] == "ARCHIVED"
    assert fetched("{kind: unknown_status, word: PAUSED}")["status"] == "PAUSED"


@shows("unknown_fields")
def test_unknown_fields_come_on_top():
    row = fetched("{kind: unknown_fields}")
    assert row["channel"] == "push"
    assert row["stats"]["delivered"] == 3
    assert (row["id"], row["stats"]["failed"]) == (ONE, 4)


@shows("missing")
def test_any_field_may_be_missing():
    fields = {"id", "status", "stats", "createdAt", "updatedAt"}
    for field in fields:
        assert fields - fetched(f"{{kind: missing, field: {field}}}").keys() == {field}


@shows("nulls")
def test_a_field_may_be_null():
    assert fetched("{kind: nulls, field: updatedAt}")["updatedAt"] is None
    assert fetched("{kind: nulls}")["stats"] is None


@shows("odd_stats")
def test_odd_stats_do_not_add_up():
    stats = fetched("{kind: odd_stats}")["stats"]
    assert stats["sent"] > stats["total"]
    assert stats["scheduled"] > 0


@shows("premature")
def test_a_running_operation_may_be_shown_as_ended():
    running = read(struck("{kind: premature}", seconds=5).fetch(ONE))
    assert (running["status"], running["stats"]["queued"] > 0) == ("COMPLETED", True)
    assert read(struck("{kind: premature, word: CANCELED}", seconds=5).fetch(ONE))["status"] == "CANCELED"
    assert fetched("{kind: premature, word: CANCELED}")["status"] == "COMPLETED"


@shows("skewed_time")
def test_times_may_be_off():
    true, ahead = fetched("{kind: unknown_fields}"), fetched("{kind: skewed_time}")
    assert parse_rfc3339(ahead["updatedAt"]) - parse_rfc3339(true["updatedAt"]) == 1800 * SECOND
    assert fetched("{kind: skewed_time, field: createdAt, wait: -30000d}")["createdAt"] == "1970-01-01T00:00:00Z"


@shows("fine_times")
def test_running_operations_may_have_more_exact_times_than_ended_ones():
    assert read(struck("{kind: fine_times}", seconds=5).fetch(ONE))["updatedAt"].endswith(".999Z")
    assert "." not in fetched("{kind: fine_times}")["updatedAt"]


@shows("regressed")
def test_an_end_may_be_taken_back():
    row = fetched("{kind: regressed}")
    assert (row["status"], row["updatedAt"]) == ("PROCESSING", "2024-01-15T09:30:20Z")
    running = read(struck("{kind: regressed}", seconds=5).fetch(ONE))
    assert running == read(Caller(ENDED, seconds=5).fetch(ONE))


@shows("wrong_id")
def test_an_answer_may_be_about_another_operation():
    row = fetched("{kind: wrong_id}")
    assert row["id"] != ONE
    assert row["status"] == "COMPLETED"


@shows("garbage_rows")
def test_some_rows_of_a_page_may_be_garbage():
    rows = read(struck("{kind: garbage_rows, share: 0.3}", TEN).list())["operations"]
    good = [row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]
    assert (len(rows), len(good)) == (10, 7)


def test_each_kind_of_fault_is_shown_by_a_test():
    assert set(CHECKS) == KINDS


def test_garbage_can_be_combined_with_every_other_corruption_of_rows():
    corruption = ", ".join(f"{{kind: {kind}, share: 1}}" for kind in sorted(CORRUPTION))
    for seed in range(20):
        rows = read(struck(f"{{kind: garbage_rows, share: 0.5}}, {corruption}", f"seed: {seed}\n{TEN}").list())
        assert len(rows["operations"]) == 10


def test_a_fault_corrupts_its_share_of_a_page():
    rows = read(struck("{kind: unknown_status, share: 0.4}", TEN).list())["operations"]
    assert [row["status"] for row in rows].count("ARCHIVED") == 4


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_faults_can_be_combined_with_each_other_and_survive_an_empty_list(kind: str):
    status = ", status: 500" if kind == "status" else ""
    every_other = ", ".join(f"{{kind: {other}}}" for other in sorted(KINDS - {kind, "status", "huge"}))
    caller = Caller(f"faults: [{{kind: {kind}{status}}}, {every_other}]")
    assert caller.list().status in range(200, 600)
    assert caller.fetch(ONE).status in range(200, 600)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 401, 403])
@pytest.mark.parametrize("shape", ["errors", "classic", "html", "empty"])
def test_errors_come_in_four_shapes(status: int, shape: str):
    reply = struck(f"{{kind: status, status: {status}, shape: {shape}}}").fetch(ONE)
    assert reply.status == status
    assert reply.header("Retry-After") is None
    match shape:
        case "errors":
            assert {"code", "message", "infoUrl", "context"} == json.loads(reply.body)["errors"][0].keys()
        case "classic":
            assert json.loads(reply.body)["status"] == status
        case "html":
            assert (reply.header("Content-Type"), reply.body[:6]) == ("text/html", b"<html>")
        case _:
            assert reply.body == b""


def test_a_denial_is_in_the_classic_shape_by_default():
    assert read(struck("{kind: status, status: 401}").list(), 401)["code"] == 20003


def statuses(caller: Caller, number: int) -> list[int]:
    return [caller.list().status for _ in range(number)]


def test_a_fault_strikes_each_nth_request():
    assert statuses(struck("{kind: status, status: 500, every: 3}"), 7) == [200, 200, 500, 200, 200, 500, 200]


def test_a_fault_strikes_a_limited_number_of_times():
    assert statuses(struck("{kind: status, status: 500, times: 2}"), 4) == [500, 500, 200, 200]


def test_a_fault_strikes_with_its_probability():
    found = statuses(struck("{kind: status, status: 500, probability: 0.3}"), 1_000)
    assert found.count(500) == pytest.approx(300, abs=60)
    assert statuses(struck("{kind: status, status: 500, probability: 0}"), 50) == [200] * 50


def test_a_fault_strikes_between_two_instants():
    caller = struck("{kind: status, status: 500, from: 10s, until: 20s}")
    found = []
    for seconds in (9.9, 10, 19.9, 20):
        caller.seconds = seconds
        found += statuses(caller, 1)
    assert found == [200, 500, 500, 200]


def test_a_fault_strikes_one_endpoint_or_one_operation():
    caller = struck(f"{{kind: status, status: 500, operation: {ONE}}}", "operations: [{id: other}]\n")
    assert (caller.list().status, caller.fetch("other").status, caller.fetch(ONE).status) == (200, 200, 500)
    caller = struck("{kind: status, status: 500, endpoint: send}")
    assert (caller.list().status, caller.fetch(ONE).status, caller.send().status) == (200, 200, 500)


def test_a_fault_strikes_one_account():
    caller = Caller(
        "accounts: [{account_id: A, api_key: null}, {account_id: B, auth_token: b, api_key: null}]\n"
        "faults: [{kind: empty, account: B}]"
    )
    assert caller.list().body
    caller.authorization = basic("B", "b")
    assert not caller.list().body


def test_faults_can_be_changed_while_it_runs_and_count_from_then():
    caller = struck("{kind: status, status: 500}", seconds=100)
    caller.upstream.set_faults([Fault(kind="status", status=503, until=Duration(5 * SECOND))], caller.now)
    assert caller.list().status == 503
    caller.seconds += 5
    assert caller.list().status == 200


def test_faults_leave_the_truth_as_it_was():
    caller = struck("{kind: odd_stats}, {kind: regressed}, {kind: wrong_id}, {kind: stale}")
    caller.fetch(ONE)
    caller.upstream.set_faults([], caller.now)
    reply = caller.fetch(ONE)
    assert read(reply) == read(Caller(ENDED, seconds=20).fetch(ONE))
    assert reply.delivery == Whole()


def test_the_ledger_counts_broken_answers_by_their_fault():
    for kind in ("reset", "cut", "silent", "endless"):
        caller = struck(f"{{kind: {kind}}}")
        caller.list()
        assert caller.upstream.ledger.counts == {("list", kind): 1}


def test_the_nasty_scenario_shows_good_and_bad():
    caller = Caller()
    caller.upstream = Upstream(built_in("nasty"), START)
    found = []
    for number in range(2_000):
        caller.seconds = number / 4
        found.append(caller.list(pageSize=20).status)
    assert found.count(200) > 1_600
    assert {429, 500, 502, 503, 504, 307} <= set(found)
