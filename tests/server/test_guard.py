"""Which requests the admin listener accepts."""

from pathlib import Path

import httpx
import pytest

from tests.server.serving import AN_ID, AppParts, client_of, listening, plain_client
from watcher.server.api.guard import is_allowed_host, is_same_origin

OPERATIONS = "/api/v1/operations"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:10618", "[::1]", "[::1]:80"])
async def test_loopback_names_are_answered(admin: httpx.AsyncClient, host: str):
    assert (await admin.get("/-/ready", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "localhost:x", "", "127.0.0.2", "a@localhost"],
)
async def test_other_names_are_misdirected(admin: httpx.AsyncClient, host: str):
    answer = await admin.post(OPERATIONS, json={"id": AN_ID}, headers={"Host": host})
    assert answer.status_code == 421
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("host", "allowed", "is_allowed"),
    [
        ("watcher.example", ["watcher.example"], True),
        ("Watcher.example:80", ["watcher.EXAMPLE"], True),
        ("watcher.example:80", ["watcher.example:80"], True),
        ("watcher.example:81", ["watcher.example:80"], False),
        ("[fd00::1]:80", ["[fd00::1]"], True),
        ("other.example", ["watcher.example"], False),
    ],
)
def test_allowed_hosts_are_answered_with_or_without_their_port(host: str, allowed: list[str], is_allowed: bool):  # noqa: FBT001
    assert is_allowed_host(host, allowed) is is_allowed


async def test_the_allowed_hosts_are_read_at_each_request(parts: AppParts):
    allowed: list[str] = []
    async with client_of(parts.admin(allowed_hosts=lambda: allowed)) as admin:
        headers = {"Host": "watcher.example"}
        assert (await admin.get("/", headers=headers)).status_code == 421
        allowed.append("watcher.example")
        assert (await admin.get("/", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_pages_from_elsewhere_are_forbidden(parts: AppParts, admin: httpx.AsyncClient, headers: dict[str, str]):
    for answer in (
        await admin.post(OPERATIONS, json={"id": AN_ID}, headers=headers),
        await admin.get("/", headers=headers),
    ):
        assert answer.status_code == 403
    assert parts.woken == []


async def test_its_own_page_is_not_from_elsewhere(admin: httpx.AsyncClient):
    own = str(admin.base_url).rstrip("/")
    headers = {"Origin": own, "Sec-Fetch-Site": "same-origin"}
    assert (await admin.post(OPERATIONS, json={"id": AN_ID}, headers=headers)).status_code == 201


@pytest.mark.parametrize(
    ("origin", "scheme", "host", "is_same"),
    [
        ("http://localhost", "http", "localhost", True),
        ("http://localhost:80", "http", "LOCALHOST", True),
        ("https://localhost", "https", "localhost:443", True),
        ("http://localhost", "http", "localhost:10618", False),
        ("http://[::1]:1", "http", "[::1]:1", True),
        ("null", "http", "null", False),
        ("http://localhost:1/x", "http", "localhost:1", False),
    ],
)
def test_an_origin_is_the_same_when_host_and_port_are(origin: str, scheme: str, host: str, is_same: bool):  # noqa: FBT001
    assert is_same_origin(origin, scheme, host) is is_same


async def test_a_form_cannot_reload(admin: httpx.AsyncClient):
    assert (await admin.post("/-/reload", data={"a": "b"})).status_code == 415
    assert (await admin.post("/-/reload", json={})).status_code == 200


async def test_web_accepts_any_host(web: httpx.AsyncClient):
    assert (await web.get("/", headers={"Host": "evil.example", "Origin": "null"})).status_code == 200


async def test_with_a_token_everything_but_health_needs_it(parts: AppParts):
    tokens = ["täst"]
    async with client_of(parts.admin(token=lambda: tokens[0])) as admin:
        for path in ("/-/healthy", "/-/ready"):
            assert (await admin.get(path)).status_code == 200
        for path in ("/", "/metrics", "/openapi.json", OPERATIONS, "/nothing"):
            refused = await admin.get(path)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith("Bearer")
        for wrong in ("Bearer x", "Basic täst", "täst", "Bearer täst x"):
            headers = [(b"Authorization", wrong.encode())]
            assert (await admin.get("/", headers=headers)).status_code == 401
        right = [(b"Authorization", "bearer täst".encode())]
        assert (await admin.get("/", headers=right)).status_code == 200
        tokens[0] = "other"
        assert (await admin.get("/", headers=right)).status_code == 401


async def test_over_a_unix_socket_any_host_is_accepted(parts: AppParts, tmp_path: Path):
    path = tmp_path / "admin.sock"
    async with (
        listening(parts.admin(is_unix=True), f"unix:{path}"),
        plain_client(transport=httpx.AsyncHTTPTransport(uds=str(path)), base_url="http://any.example") as admin,
    ):
        assert (await admin.post(OPERATIONS, json={"id": AN_ID})).status_code == 201
        assert (await admin.get("/", headers={"Origin": "http://evil.example"})).status_code == 403
