"""The API for operations, over real sockets."""

import json
from typing import Any

import httpx
import pytest

from tests.server.serving import (
    AN_ID,
    NOW,
    AppParts,
    a_running_operation,
    a_snapshot,
    an_id,
    client_of,
)
from tests.support.event_ids import foretold
from watcher.core.channels import Stats
from watcher.core.errors import StoreUnusable
from watcher.core.model import SECOND, Failing, Finished, Outcome, Status
from watcher.core.settings import Account
from watcher.core.snapshot import NextPoll
from watcher.server.api.handlers import MAX_BODY
from watcher.store import Change
from watcher.store.memory import MemoryStore

OPERATIONS = "/api/v1/operations"


async def track(parts: AppParts, *ids: str, account: str = "main", labels: dict[str, str] | None = None) -> None:
    entries = [{"id": id_, "account": account, "labels": labels or {}} for id_ in ids]
    await parts.intake.take(json.dumps(entries).encode())


async def change(parts: AppParts, operation_id: str, *events: Any, **changes: Any) -> None:
    (found,) = await parts.store.find(operation_id, "main")
    changed = found.operation.with_(**changes)
    published = tuple((NOW.at, event) for event in events)
    await parts.store.commit("main", [Change(operation=changed, events=published)])


def problem_of(response: httpx.Response) -> Any:
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["title"]
    assert problem["type"]
    return problem


async def test_a_posted_operation_is_tracked_and_listed(admin: httpx.AsyncClient):
    posted = await admin.post(OPERATIONS, json={"id": AN_ID, "labels": {"campaign": "spring"}})
    assert posted.status_code == 201
    assert posted.json() == {"operations": [{"id": AN_ID, "account": "main", "result": "new"}]}
    listed = (await admin.get(OPERATIONS)).json()
    assert listed["next"] is None
    (operation,) = listed["operations"]
    assert (operation["id"], operation["status"], operation["phase"]) == (AN_ID, "UNSEEN", "followed")
    assert operation["labels"] == {"campaign": "spring"}
    assert operation["stats"] == {}
    assert operation["registered_at"] == "2027-01-15T08:00:00.000Z"
    assert operation["created_at"] is None


async def test_posting_again_answers_that_the_operation_is_known(admin: httpx.AsyncClient):
    await admin.post(OPERATIONS, json=[{"id": AN_ID}])
    again = await admin.post(OPERATIONS, json=[{"id": AN_ID}])
    assert again.status_code == 200
    assert again.json()["operations"][0]["result"] == "known"
    assert (await admin.post(OPERATIONS, json=[{"id": AN_ID}, {"id": an_id(1)}])).status_code == 201


async def test_posting_what_has_finished_answers_its_outcome(parts: AppParts, admin: httpx.AsyncClient):
    await track(parts, AN_ID)
    await change(parts, AN_ID, status=Status.COMPLETED, final_at=NOW.at)
    posted = await admin.post(OPERATIONS, json={"id": AN_ID})
    assert posted.status_code == 200
    expected = {"id": AN_ID, "account": "main", "result": "finished", "outcome": "completed"}
    assert posted.json()["operations"] == [expected]


async def test_bad_entries_are_each_named_and_nothing_is_kept(parts: AppParts, admin: httpx.AsyncClient):
    posted = await admin.post(OPERATIONS, json=[{"id": AN_ID}, {"id": f"{AN_ID}/../x"}, {"id": 1}])
    assert posted.status_code == 400
    problem = problem_of(posted)
    assert problem["detail"] == "2 of 3 entries refused, nothing was kept"
    assert [error["index"] for error in problem["errors"]] == [1, 2]
    assert problem["errors"][0]["id"] == f'"{AN_ID}/../x"'
    assert "not an operation id" in problem["errors"][0]["why"]
    assert await parts.store.find(AN_ID) == ()


async def test_an_operation_of_another_account_is_409():
    parts = AppParts("a", "b")
    await track(parts, AN_ID, account="a")
    async with client_of(parts.admin()) as admin:
        posted = await admin.post(OPERATIONS, json={"id": AN_ID, "account": "b"})
    assert posted.status_code == 409
    assert problem_of(posted)["errors"] == [
        {"index": 0, "id": f'"{AN_ID}"', "why": 'tracked under the account "a"'},
    ]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
async def test_only_json_is_accepted(admin: httpx.AsyncClient, content_type: str):
    posted = await admin.post(OPERATIONS, content=b"[]", headers={"Content-Type": content_type})
    assert posted.status_code == 415
    problem_of(posted)


async def test_a_body_without_a_content_type_is_refused(admin: httpx.AsyncClient):
    assert (await admin.post(OPERATIONS, content=b"[]")).status_code == 415


async def test_json_may_say_its_charset(admin: httpx.AsyncClient):
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert (await admin.post(OPERATIONS, content=b"[]", headers=headers)).status_code == 200


async def test_malformed_json_is_refused_with_the_place(admin: httpx.AsyncClient):
    posted = await admin.post(OPERATIONS, content=b"[}", headers={"Content-Type": "application/json"})
    assert posted.status_code == 400
    assert problem_of(posted)["detail"] == "malformed JSON: invalid character (byte 1)"


async def trickled(size: int) -> Any:
    for _ in range(0, size, 65536):
        yield b" " * 65536


async def test_a_body_that_is_too_large_is_refused_whether_it_says_so_or_not(admin: httpx.AsyncClient):
    headers = {"Content-Type": "application/json"}
    said = await admin.post(OPERATIONS, content=b" " * (MAX_BODY + 1), headers=headers)
    unsaid = await admin.post(OPERATIONS, content=trickled(MAX_BODY + 65536), headers=headers)
    assert [said.status_code, unsaid.status_code] == [413, 413]
    assert problem_of(said) == problem_of(unsaid)
    assert (await admin.get("/-/ready")).status_code == 200


async def test_a_body_of_four_mebibytes_is_accepted(admin: httpx.AsyncClient):
    body = json.dumps({"id": AN_ID}).encode().ljust(MAX_BODY)
    posted = await admin.post(OPERATIONS, content=body, headers={"Content-Type": "application/json"})
    assert posted.status_code == 201


async def test_parameters_in_a_post_are_refused(admin: httpx.AsyncClient):
    posted = await admin.post(f"{OPERATIONS}?account=main", json=[])
    assert posted.status_code == 400
    assert problem_of(posted)["errors"] == [{"why": "unknown parameter; known: none", "parameter": "account"}]


async def test_web_can_change_nothing(web: httpx.AsyncClient):
    posted = await web.post(OPERATIONS, json={"id": AN_ID})
    assert (posted.status_code, posted.headers["allow"]) == (405, "GET, HEAD")
    assert problem_of(posted)["detail"] == "allowed here: GET, HEAD"
    assert (await web.delete(f"{OPERATIONS}/{AN_ID}")).status_code == 405
    assert (await web.post("/-/reload")).status_code == 404


async def test_web_shows_only_the_allowed_labels_and_admin_all(parts: AppParts, web: httpx.AsyncClient):
    await track(parts, AN_ID, labels={"campaign": "spring", "customer": "secret"})
    parts.metric_labels = ("campaign",)
    for path in (OPERATIONS, f"{OPERATIONS}/{AN_ID}", "/"):
        assert "secret" not in (await web.get(path)).text
    assert (await web.get(f"{OPERATIONS}/{AN_ID}")).json()["labels"] == {"campaign": "spring"}
    async with client_of(parts.admin()) as admin:
        assert (await admin.get(OPERATIONS)).json()["operations"][0]["labels"]["customer"] == "secret"


async def test_pages_continue_across_accounts_without_gaps():
    parts = AppParts("b", "a")
    await track(parts, *(an_id(n) for n in range(5)), account="a")
    await track(parts, *(an_id(n) for n in range(5, 8)), account="b")
    seen: list[tuple[str, str]] = []
    sizes: list[int] = []
    async with client_of(parts.web()) as web:
        query: dict[str, Any] = {"limit": 2}
        while True:
            page = (await web.get(OPERATIONS, params=query)).json()
            seen += [(operation["account"], operation["id"]) for operation in page["operations"]]
            sizes.append(len(page["operations"]))
            if page["next"] is None:
                break
            query["after"] = page["next"]
    assert seen == [("a", an_id(n)) for n in range(5)] + [("b", an_id(n)) for n in range(5, 8)]
    assert sizes == [2, 2, 2, 2]


async def test_a_page_has_a_hundred_operations_by_default(parts: AppParts, web: httpx.AsyncClient):
    await track(parts, *(an_id(n) for n in range(250)))
    page = (await web.get(OPERATIONS)).json()
    assert len(page["operations"]) == 100
    assert page["next"] == f"main:{an_id(99)}"
    assert len((await web.get(OPERATIONS, params={"limit": 1000})).json()["operations"]) == 250


async def test_the_list_can_be_narrowed_by_status_and_account():
    parts = AppParts("main", "other")
    await track(parts, an_id(1), an_id(2), an_id(3))
    await track(parts, an_id(4), account="other")
    await change(parts, an_id(2), status=Status.PROCESSING)
    await change(parts, an_id(3), status=Status.COMPLETED)
    async with client_of(parts.web()) as web:

        async def ids(**query: Any) -> list[str]:
            answer = await web.get(OPERATIONS, params=query)
            return [one["id"] for one in answer.json()["operations"]]

        assert await ids(status="PROCESSING") == [an_id(2)]
        assert await ids(status=["PROCESSING", "COMPLETED"]) == [an_id(2), an_id(3)]
        assert await ids(account="other") == [an_id(4)]
        assert await ids(account="other", after=f"main:{an_id(1)}") == [an_id(4)]


async def test_a_removed_account_is_not_shown():
    parts = AppParts("main", "gone")
    await track(parts, AN_ID, account="gone")
    parts.accounts.remove("gone")
    async with client_of(parts.web()) as web:
        assert (await web.get(OPERATIONS)).json()["operations"] == []
        assert (await web.get(f"{OPERATIONS}/{AN_ID}")).status_code == 404


@pytest.mark.parametrize(
    ("query", "parameter", "why"),
    [
        ("limit=0", "limit", 'expected a whole number from 1 to 1000, got "0"'),
        ("limit=1001", "limit", "expected a whole number"),
        ("limit=1.0", "limit", "expected a whole number"),
        ("limit=%D9%A1", "limit", "expected a whole number"),
        ("limit=", "limit", "expected a whole number"),
        ("limit=1&limit=2", "limit", "given more than once"),
        ("status=DONE", "status", "expected one of UNSEEN, SCHEDULED, PROCESSING, COMPLETED, CANCELED, UNKNOWN"),
        ("status=completed", "status", "expected one of"),
        ("account=other", "account", 'unknown account "other"; configured: "main"'),
        ("account=", "account", "expected the name of an account"),
        ("after=abc", "after", 'expected the `next` of an earlier page, got "abc"'),
        (f"after=main:{AN_ID}%0A", "after", "expected the `next`"),
        ("state=DONE", "state", "unknown parameter; known: status, account, limit, after"),
        ("%00=1", "\0", "unknown"),
    ],
)
async def test_a_bad_parameter_is_named(web: httpx.AsyncClient, query: str, parameter: str, why: str):
    answer = await web.get(f"{OPERATIONS}?{query}")
    assert answer.status_code == 400
    (error,) = problem_of(answer)["errors"]
    assert error["parameter"] == parameter
    assert error["why"].startswith(why)


async def test_all_bad_parameters_are_named_at_once(web: httpx.AsyncClient):
    answer = await web.get(f"{OPERATIONS}?limit=x&status=x&x=x")
    assert [error["parameter"] for error in problem_of(answer)["errors"]] == ["limit", "status", "x"]


async def test_stats_are_as_fresh_as_the_snapshot(parts: AppParts, web: httpx.AsyncClient):
    await track(parts, AN_ID, labels={"a": "stored"})
    parts.metric_labels = ("a",)
    parts.snapshots = [a_snapshot(a_running_operation(labels={"a": "older"}))]
    (operation,) = (await web.get(OPERATIONS)).json()["operations"]
    assert operation["stats"]["sent"] == 40
    assert operation["labels"] == {"a": "stored"}


async def test_what_was_committed_after_the_snapshot_is_shown_as_committed(parts: AppParts, web: httpx.AsyncClient):
    await track(parts, AN_ID)
    parts.snapshots = [a_snapshot(a_running_operation())]
    await change(parts, AN_ID, status=Status.COMPLETED, stats=Stats(sent=100), progressed_at=NOW.at)
    (operation,) = (await web.get(OPERATIONS)).json()["operations"]
    assert (operation["status"], operation["outcome"], operation["stats"]) == ("COMPLETED", "completed", {"sent": 100})


async def test_an_operation_is_shown_with_its_history_and_its_next_poll(parts: AppParts, web: httpx.AsyncClient):
    await track(parts, AN_ID)
    stats = Stats(sent=1, failed=2)
    finished = Finished(outcome=Outcome.COMPLETED, stats=stats, duration_seconds=1.5)
    await change(parts, AN_ID, Failing(stats=stats), finished, status=Status.COMPLETED)
    parts.next_polls["main", AN_ID] = NextPoll(due_tick=NOW.tick + 5 * SECOND, how="by id", why="settling")
    operation = (await web.get(f"{OPERATIONS}/{AN_ID}")).json()
    assert operation["history"] == [
        {
            "event": "operation.tracked",
            "event_id": foretold(NOW.at, 1),
            "seq": 1,
            "occurred_at": "2027-01-15T08:00:00.000Z",
            "source": "api",
        },
        {
            "event": "operation.failing",
            "event_id": foretold(NOW.at, 2),
            "seq": 2,
            "occurred_at": "2027-01-15T08:00:00.000Z",
            "stats": {"sent": 1, "failed": 2},
        },
        {
            "event": "operation.finished",
            "event_id": foretold(NOW.at, 3),
            "seq": 3,
            "occurred_at": "2027-01-15T08:00:00.000Z",
            "outcome": "completed",
            "stats": {"sent": 1, "failed": 2},
            "duration_seconds": 1.5,
        },
    ]
    assert operation["next_poll"] == {
        "at": "2027-01-15T08:00:05.000Z",
        "in_seconds": 5.0,
        "how": "by id",
        "why": "settling",
    }


async def test_an_operation_that_is_not_polled_again_has_no_next_poll(parts: AppParts, web: httpx.AsyncClient):
    await track(parts, AN_ID)
    assert (await web.get(f"{OPERATIONS}/{AN_ID}")).json()["next_poll"] is None


async def test_an_unknown_operation_is_404(admin: httpx.AsyncClient):
    for method in ("GET", "HEAD", "DELETE"):
        assert (await admin.request(method, f"{OPERATIONS}/{AN_ID}")).status_code == 404
    assert problem_of(await admin.get(f"{OPERATIONS}/{AN_ID}"))["detail"] == f"{AN_ID} is not tracked"


@pytest.mark.parametrize("bad", [f"{AN_ID}%2F..%2Fx", f"{AN_ID}/../x", "x", f"{AN_ID}%0A", "%00", "%FF", "x" * 500])
async def test_a_malformed_id_is_refused_by_name(admin: httpx.AsyncClient, bad: str):
    url = httpx.URL(str(admin.base_url)).copy_with(raw_path=f"{OPERATIONS}/{bad}".encode())
    for method in ("GET", "DELETE"):
        answer = await admin.request(method, url)
        assert answer.status_code == 400
        detail = problem_of(answer)["detail"]
        assert detail.startswith('"')
        assert "is not an operation id" in detail
        assert len(detail) < 250


async def test_no_id_at_all_is_404(admin: httpx.AsyncClient):
    assert (await admin.get(f"{OPERATIONS}/")).status_code == 404


async def test_an_operation_of_several_accounts_must_be_named_with_one():
    parts = AppParts("a", "b")
    await parts.intake.from_configuration([Account(name=name, operations=(AN_ID,)) for name in ("a", "b")])
    async with client_of(parts.admin()) as admin:
        answer = await admin.get(f"{OPERATIONS}/{AN_ID}")
        assert answer.status_code == 409
        assert problem_of(answer)["detail"].endswith("name one: a, b")
        assert (await admin.get(f"{OPERATIONS}/{AN_ID}?account=b")).json()["account"] == "b"
        assert (await admin.delete(f"{OPERATIONS}/{AN_ID}")).status_code == 409
        assert (await admin.delete(f"{OPERATIONS}/{AN_ID}?account=b")).json() == {"id": AN_ID, "account": "b"}
        assert (await admin.get(f"{OPERATIONS}/{AN_ID}")).json()["account"] == "a"


async def test_a_deleted_operation_is_gone_until_it_is_posted_again(parts: AppParts, admin: httpx.AsyncClient):
    await track(parts, AN_ID)
    parts.woken.clear()
    deleted = await admin.delete(f"{OPERATIONS}/{AN_ID}")
    assert (deleted.status_code, deleted.json()) == (200, {"id": AN_ID, "account": "main"})
    assert parts.woken == ["main"]
    assert (await admin.get(f"{OPERATIONS}/{AN_ID}")).status_code == 404
    assert (await admin.get(OPERATIONS)).json()["operations"] == []
    assert (await admin.delete(f"{OPERATIONS}/{AN_ID}")).status_code == 404
    assert (await admin.post(OPERATIONS, json={"id": AN_ID})).status_code == 201


async def test_while_the_store_is_unusable_clients_get_503_and_retry_after():
    class Full(MemoryStore):
        async def register(self, *_: Any, **__: Any) -> Any:
            raise StoreUnusable("disk full at /var/lib/watcher.db")

        async def page(self, **_: Any) -> Any:
            raise StoreUnusable("disk full")

    parts = AppParts(store=Full())
    async with client_of(parts.admin()) as admin:
        for answer in (await admin.post(OPERATIONS, json={"id": AN_ID}), await admin.get(OPERATIONS)):
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert problem_of(answer)["type"].endswith(":store-unusable")
            assert "/var/lib" not in answer.text
    assert parts.failures == []
    assert parts.woken == []
