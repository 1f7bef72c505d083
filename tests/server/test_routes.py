"""What is common to all routes: health, reload, methods, headers, errors."""

from typing import Any

import httpx
import pytest

from tests.server.serving import AppParts, client_of

SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


async def test_healthy_while_no_loop_is_overdue(parts: AppParts, web: httpx.AsyncClient):
    assert (await web.get("/-/healthy")).status_code == 200
    parts.overdue = ("account main",)
    unhealthy = await web.get("/-/healthy")
    assert unhealthy.status_code == 503
    assert unhealthy.json()["detail"] == "no progress in time: account main"
    assert unhealthy.json()["errors"] == [{"why": "account main is overdue"}]


async def test_ready_whatever_the_loops_do(parts: AppParts, web: httpx.AsyncClient):
    parts.overdue = ("account main",)
    ready = await web.get("/-/ready")
    assert (ready.status_code, ready.text) == (200, "ready\n")


async def test_a_reload_answers_when_the_configuration_is_in_force(admin: httpx.AsyncClient):
    reloaded = await admin.post("/-/reload")
    assert (reloaded.status_code, reloaded.json()) == (200, {"reloaded": True})


async def test_a_bad_configuration_is_refused_with_every_reason(parts: AppParts, admin: httpx.AsyncClient):
    parts.reasons = ["config.yaml:1: a: unknown key", "config.yaml:2: b: unknown key"]
    refused = await admin.post("/-/reload")
    assert refused.status_code == 400
    assert [error["why"] for error in refused.json()["errors"]] == parts.reasons
    assert refused.json()["type"] == "urn:operation-watcher:problem:reload-refused"


async def test_admin_answers_all_that_web_answers(web: httpx.AsyncClient, admin: httpx.AsyncClient):
    paths = (await web.get("/openapi.json")).json()["paths"]
    for path in (path for path in paths if "{" not in path):
        assert (await admin.get(path)).status_code == (await web.get(path)).status_code == 200


async def test_head_answers_like_get_without_a_body(web: httpx.AsyncClient):
    for path in ("/", "/metrics", "/-/healthy", "/-/ready", "/api/v1/operations", "/openapi.json"):
        head, get = await web.head(path), await web.get(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == get.headers["content-type"]
        assert head.headers["content-length"] == get.headers["content-length"]


@pytest.mark.parametrize("path", ["/nothing", "/metrics/", "/api/v1", "/%2e%2e/metrics"])
async def test_an_unknown_path_is_a_problem(web: httpx.AsyncClient, path: str):
    answer = await web.get(path)
    assert answer.status_code == 404
    assert answer.json() == {"type": "about:blank", "title": "Not Found", "status": 404}


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE", "DELETE", "QUERY"])
async def test_a_method_that_is_not_there_says_which_are(admin: httpx.AsyncClient, method: str):
    answer = await admin.request(method, "/api/v1/operations")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_every_answer_carries_the_security_headers(parts: AppParts, admin: httpx.AsyncClient):
    answers = [await admin.get(path) for path in ("/", "/metrics", "/api/v1/operations", "/nothing")]
    answers += [await admin.post("/metrics"), await admin.get("/", headers={"Host": "elsewhere"})]
    for answer in answers:
        assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert "server" not in answer.headers


async def test_an_unexpected_exception_is_500_without_details_and_is_reported_to_the_daemon(parts: AppParts):
    async def broken(*_: Any) -> Any:
        raise ValueError("secret detail")

    parts.reload = broken
    async with client_of(parts.admin()) as admin:
        answer = await admin.post("/-/reload")
        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "secret" not in answer.text
        assert (await admin.get("/-/ready")).status_code == 200
    assert [str(failure) for failure in parts.failures] == ["secret detail"]


async def test_an_exception_before_the_routes_is_500_too(parts: AppParts):
    def broken() -> str:
        raise ValueError("unreadable token")

    async with client_of(parts.admin(token=broken)) as admin:
        answer = await admin.get("/")
    assert answer.status_code == 500
    assert answer.json()["detail"] == "this is a fault of the watcher; see its log"
    assert [str(failure) for failure in parts.failures] == ["unreadable token"]
