"""Without credentials only the probes are answered, for every path and method. Probes work behind TLS and passwords."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.server.serving import AN_ID, AppParts, listening
from tests.support.certificates import Authority, hashed, write_web_file
from watcher.__main__ import main
from watcher.config import read_web_file
from watcher.server import Listener, WebConfig
from watcher.server.api.app_context import Side
from watcher.server.api.endpoints import endpoints_of
from watcher.server.api.guard import OPEN_PATHS

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
ROUTES = sorted({one.path.replace("{id}", AN_ID) for one in endpoints_of(Side.ADMIN)} - OPEN_PATHS)
# Nearly the paths of probes: access control and router must agree that they are not.
CUNNING = (
    *("/openapi.json", "/nowhere", "/-/", "/-/healthy/", "//-/healthy", "/-/healthy/../../metrics", "/-/Healthy"),
    *(
        "/metrics/../-/healthy/../../metrics",
        "/-/healthy;/metrics",
        "/-/healthy%00",
        "/-/healthy%2f",
        "/metrics?/-/ready",
    ),
    *("/-/healthy%2f..%2f..%2fmetrics", "/./-/ready", "/api/v1/operations//-/ready", "/-/ready%20", "*"),
)
PASSWORD, TOKEN = ("alice", "made-up"), "made-up-token"


@asynccontextmanager
async def locked(side: str, parts: AppParts, folder: Path, *, tls: bool = False) -> AsyncIterator[Listener]:
    if side == "admin":
        async with listening(parts.admin(token=lambda: TOKEN)) as listener:
            yield listener
        return
    if tls:
        Authority().server(folder)
    path = write_web_file(folder, tls={} if tls else None, basic_auth_users={PASSWORD[0]: hashed(PASSWORD[1])})
    config = WebConfig(str(path), read_web_file(str(path)))
    async with listening(parts.web(config), config=config) as listener:
        yield listener


async def status_of(listener: Listener, method: str, target: str, *headers: str) -> int:
    """What a request is answered that goes out exactly as it is written here."""
    _, _, port = listener.addresses[0].rpartition(":")
    # As the kubelet does it: any certificate is good, and no name is sent.
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    secured = unverified if listener.addresses[0].startswith("https:") else None
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port), ssl=secured)
    lines = [f"{method} {target} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: close", *headers, "", ""]
    writer.write("\r\n".join(lines).encode())
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize("side", ["web", "admin"])
async def test_only_the_probes_are_answered_without_the_credentials(parts: AppParts, tmp_path: Path, side: str):
    targets: Sequence[str] = (*ROUTES, *CUNNING)
    async with locked(side, parts, tmp_path) as listener:
        for target in targets:
            for method in METHODS:
                assert await status_of(listener, method, target) == 401, (method, target)
        assert parts.woken == []
        assert parts.requested_formats == []
        for target in sorted(OPEN_PATHS):
            assert await status_of(listener, "GET", target) == 200
            assert await status_of(listener, "HEAD", target) == 200
            assert await status_of(listener, "POST", target) == 405


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
async def test_the_kubelet_probes_behind_tls_and_passwords(parts: AppParts, tmp_path: Path, path: str, *, tls: bool):
    async with locked("web", parts, tmp_path, tls=tls) as listener:
        assert await status_of(listener, "GET", path, "User-Agent: kube-probe/1.35", "Accept: */*") == 200
        parts.overdue = ["main"]
        expected = 200 if path == "/-/ready" else 503
        assert await status_of(listener, "GET", path, "User-Agent: kube-probe/1.35", "Accept: */*") == expected


@pytest.mark.parametrize("side", ["web", "admin"])
async def test_the_health_check_needs_no_key(parts: AppParts, tmp_path: Path, side: str):
    async with locked(side, parts, tmp_path, tls=True) as listener:
        command = ["healthcheck", "--url", listener.addresses[0]]
        assert await asyncio.to_thread(main, command) == 0
        parts.overdue = ["main"]
        assert await asyncio.to_thread(main, command) == 1
