"""The list endpoint: filters, pages, tokens."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulator.caller import START, Caller, Row, ids, read
from watcher.simulator.timestamps import rfc3339

MANY = """
population:
  in_flight: 137
  arrivals_per_second: 0
  lifetime: 10m..1h
  share_scheduled: 0.3
  scheduled_for: 10m..1h
"""
SECOND = 1_000_000


@pytest.mark.parametrize("order", ["true", "false"])
@pytest.mark.parametrize("page_size", [1, 10, 137, 1000])
def test_a_walk_meets_every_row_once_when_nothing_moves(order: str, page_size: int):
    caller = Caller(f"{MANY}paging: {{newest_first: {order}}}")
    pages = caller.walk(pageSize=page_size)
    rows = [row for page in pages for row in page]
    assert sorted(ids(rows)) == sorted(life.id for life in caller.upstream.world.lives())
    assert [len(page) for page in pages[:-1]] == [page_size] * (len(pages) - 1)
    created = [row["createdAt"] for row in rows]
    assert created == sorted(created, reverse=order == "true")


STATUSES = st.sampled_from(["", "SCHEDULED", "PROCESSING"])


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(0, 4000), st.integers(1, 4000), STATUSES)
def test_a_walk_meets_exactly_what_its_filters_say(page_size: int, earliest: int, length: int, status: str):
    caller = Caller(MANY)
    after, before = START - earliest * SECOND, START + (length - earliest) * SECOND
    query: Row = {"startDate": rfc3339(after), "endDate": rfc3339(before), "pageSize": page_size}
    if status:
        query["status"] = status
    everything = [row for page in Caller(MANY).walk(pageSize=1000) for row in page]
    created = {life.id: life.created_at for life in caller.upstream.world.lives()}
    wanted = [
        row["id"]
        for row in everything
        if after < created[row["id"]] < before and (not status or row["status"] == status)
    ]
    assert [one for page in caller.walk(**query) for one in ids(page)] == wanted


def test_pages_have_fifty_rows_by_default():
    assert len(read(Caller(MANY).list())["operations"]) == 50


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"pageSize": "0"}, "pageSize"),
        ({"pageSize": "1001"}, "pageSize"),
        ({"pageSize": "ten"}, "pageSize"),
        ({"pageSize": "\u00b2"}, "pageSize"),
        ({"startDate": "yesterday"}, "startDate is not an RFC 3339 timestamp"),
        ({"startDate": "2024-01-15"}, "startDate is not an RFC 3339 timestamp"),
        ({"endDate": "2024-01-15T09:30:00"}, "endDate is not an RFC 3339 timestamp"),
        ({"startDate": "2024-01-15T09:30:00Z", "endDate": "2024-01-15T09:30:00Z"}, "endDate must be after startDate"),
        ({"status": "FAILED"}, "unknown status 'FAILED'"),
        ({"pageToken": "nonsense"}, "invalid pageToken"),
        ({"pageToken": "\u00e4"}, "invalid pageToken"),
    ],
)
def test_a_bad_query_is_a_bad_request(query: dict[str, str], said: str):
    error = read(Caller(MANY).list(**query), 400)["errors"][0]
    assert said in error["message"]


def test_a_status_is_compared_without_its_case():
    lower = read(Caller(MANY).list(status="scheduled"))["operations"]
    assert lower
    assert lower == read(Caller(MANY).list(status="SCHEDULED"))["operations"]


@pytest.mark.parametrize("change", [{"pageSize": 20}, {"status": "PROCESSING"}, {"startDate": "2000-01-01T00:00:00Z"}])
def test_a_token_belongs_to_its_filters(change: dict[str, object]):
    caller = Caller(MANY)
    token = read(caller.list(pageSize=10))["pagination"]["next"]
    assert read(caller.list(pageSize=10, pageToken=token))["operations"]
    assert (
        "other filters"
        in read(caller.list(**{"pageSize": 10, "pageToken": token, **change}), 400)["errors"][0]["message"]
    )


def test_the_token_of_a_page_leads_to_it_again():
    caller = Caller(MANY)
    second = read(caller.list(pageSize=10, pageToken=read(caller.list(pageSize=10))["pagination"]["next"]))
    again = read(caller.list(pageSize=10, pageToken=second["pagination"]["self"]))
    assert again["operations"] == second["operations"]


def test_the_first_page_has_a_token_of_its_own_too():
    caller = Caller(MANY)
    first = read(caller.list(pageSize=10))
    again = read(caller.list(pageSize=10, pageToken=first["pagination"]["self"]))
    assert again["operations"] == first["operations"]


@pytest.mark.parametrize(("end", "shown"), [("null", {"next": None}), ("empty", {"next": ""}), ("absent", {})])
def test_the_end_of_a_list_is_shown_in_three_ways(end: str, shown: dict[str, object]):
    pagination = read(Caller(f'paging: {{end: "{end}"}}').list())["pagination"]
    del pagination["self"]
    assert pagination == shown


def test_a_row_that_ends_between_two_pages_leaves_the_running_list():
    caller = Caller(
        "operations: [{id: a, created: 2s, completed: 60s}, {id: b, created: 1s, completed: 4s}]", seconds=3
    )
    pages = caller.walk(pageSize=1, status="PROCESSING", seconds_per_page=1)
    assert [ids(page) for page in pages] == [["a"], []]
    assert ids(read(caller.list(status="COMPLETED"))["operations"]) == ["b"]


def test_a_page_of_a_thousand_has_all_its_rows():
    caller = Caller("population: {in_flight: 1500, lifetime: 10m..1h}")
    first, second = caller.walk(pageSize=1000)
    assert (len(first), len(second)) == (1000, 500)


@pytest.mark.parametrize("size", [1, 7, 10])
def test_tokens_have_upstreams_form(size: int):
    caller, token, tokens = Caller(MANY), None, []
    for _ in range(30):
        given: dict[str, str] = {} if token is None else {"pageToken": token}
        token = read(caller.list(pageSize=size, **given))["pagination"]["next"]
        if token is None:
            break
        tokens.append(token)
    assert tokens
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{35,83}", one) for one in tokens)
    assert len({one[8:16] for one in tokens}) == len(tokens)


def test_an_unknown_query_parameter_is_ignored_and_the_whole_account_comes_back():
    caller = Caller(MANY)
    one = read(caller.list())["operations"][0]["id"]
    assert len(read(caller.list(operation_id=one))["operations"]) == len(read(caller.list())["operations"]) > 1


def test_preview_serves_the_same_paths():
    caller = Caller(MANY)
    shown = read(caller.list(pageSize=3))["operations"]
    reply = caller.request("GET", "/preview/PushNotifications/Operations", pageSize=3)
    assert read(reply)["operations"] == shown
    assert read(caller.request("GET", f"/preview/PushNotifications/Operations/{shown[0]['id']}")) == shown[0]
    read(caller.request("GET", "/v2/PushNotifications/Operations"), 404)
