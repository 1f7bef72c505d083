"""TLS, client certificates, basic auth and headers of web, over real connections; and files that change."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.serving import AppParts, listening, until
from tests.support.certificates import Authority, hashed, write_web_file
from watcher.config import read_web_file
from watcher.server import Listener, WebConfig, WebFileWatch
from watcher.server.api.passwords import MOST_WAITING, Passwords, TooManyError, credentials

ALICE, BOB = ("alice", "made-up"), ("bob", "other")
EVERYTHING = ("/", "/metrics", "/api/v1/operations", "/api/v1/operations/x", "/openapi.json", "/nowhere", "/-/other")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def folder(tmp_path: Path, authority: Authority) -> Path:
    authority.server(tmp_path)
    authority.client(tmp_path)
    authority.save(tmp_path)
    return tmp_path


def in_force(path: Path) -> WebConfig:
    return WebConfig(str(path), read_web_file(str(path)))


@asynccontextmanager
async def serving(parts: AppParts, path: Path, **limits: Any) -> AsyncIterator[Listener]:
    config = in_force(path)
    async with listening(parts.web(config), "127.0.0.1:0", config, **limits) as listener:
        yield listener


async def get(listener: Listener, path: str = "/metrics", *, verify: ssl.SSLContext | bool = False, **more: Any) -> Any:
    where = listener.addresses[0]
    async with httpx.AsyncClient(verify=verify, trust_env=False, base_url=where, timeout=30) as client:
        return await client.get(path, **more)


# ── TLS ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_web_speaks_tls(parts: AppParts, folder: Path, authority: Authority):
    async with serving(parts, write_web_file(folder, tls={})) as listener:
        assert listener.addresses[0].startswith("https://127.0.0.1:")
        answer = await get(listener, verify=authority.trusting())
        assert (answer.status_code, answer.text) == (200, "up 1\n")
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await get(listener, verify=ssl.create_default_context())


async def test_a_scrape_over_tls_counts_once_it_was_received(parts: AppParts, folder: Path, authority: Authority):
    parts.exposition = b"x 1\n" * 1_000_000
    async with serving(parts, write_web_file(folder, tls={})) as listener:
        headers = {"X-Prometheus-Scrape-Timeout-Seconds": "10"}
        answer = await get(listener, verify=authority.trusting(), headers=headers)
        assert answer.content == parts.exposition
        await until(lambda: len(parts.scraped) == 1)


async def test_a_scrape_over_tls_that_is_not_received_does_not_count(
    parts: AppParts, folder: Path, authority: Authority
):
    parts.exposition = b"x" * (64 * 1024 * 1024)
    async with serving(parts, write_web_file(folder, tls={}), send=0.3) as listener:
        port = int(listener.addresses[0].rpartition(":")[2])
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=authority.trusting(), server_hostname="localhost"
        )
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n")
        await until(lambda: bool(parts.requested_formats))
        async with asyncio.timeout(5):
            while listener.connections:  # noqa: ASYNC110 -- what it waits for has no event
                await asyncio.sleep(0.01)
        writer.transport.abort()
    assert parts.scraped == []


@pytest.mark.parametrize(
    ("version", "works"), [(ssl.TLSVersion.TLSv1_2, False), (ssl.TLSVersion.TLSv1_3, True)], ids=["1.2", "1.3"]
)
async def test_versions_that_are_too_old_are_refused(
    parts: AppParts, folder: Path, *, authority: Authority, version: ssl.TLSVersion, works: bool
):
    context = authority.trusting()
    context.maximum_version = version
    async with serving(parts, write_web_file(folder, tls={"min_version": "TLS13"})) as listener:
        if works:
            assert (await get(listener, verify=context)).status_code == 200
        else:
            with pytest.raises(httpx.ConnectError):
                await get(listener, verify=context)


async def test_connections_without_a_valid_client_certificate_are_refused(
    parts: AppParts, folder: Path, authority: Authority
):
    tls = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.crt"}
    async with serving(parts, write_web_file(folder, tls=tls)) as listener:
        assert (await get(listener, verify=authority.trusting(folder))).status_code == 200
        with pytest.raises(httpx.TransportError):
            await get(listener, verify=authority.trusting())
        Authority().client(folder)
        with pytest.raises(httpx.TransportError):
            await get(listener, "/-/healthy", verify=authority.trusting(folder))


async def test_an_optional_client_certificate_may_be_missing(parts: AppParts, folder: Path, authority: Authority):
    tls = {"client_auth_type": "VerifyClientCertIfGiven", "client_ca_file": "ca.crt"}
    async with serving(parts, write_web_file(folder, tls=tls)) as listener:
        assert (await get(listener, verify=authority.trusting())).status_code == 200
        Authority().client(folder)
        with pytest.raises(httpx.TransportError):
            await get(listener, verify=authority.trusting(folder))


async def test_only_clients_with_an_allowed_name_are_admitted(parts: AppParts, folder: Path, authority: Authority):
    tls = {
        "client_auth_type": "RequireAndVerifyClientCert",
        "client_ca_file": "ca.crt",
        "client_allowed_sans": ["scraper.test"],
    }
    async with serving(parts, write_web_file(folder, tls=tls)) as listener:
        assert (await get(listener, verify=authority.trusting(folder))).status_code == 200
        authority.client(folder, "other.test")
        with pytest.raises(httpx.TransportError):
            await get(listener, verify=authority.trusting(folder))


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01"])
async def test_a_connection_without_a_tls_handshake_is_closed(parts: AppParts, folder: Path, said: bytes):
    async with serving(parts, write_web_file(folder, tls={}), handshake=0.1) as listener:
        port = int(listener.addresses[0].rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        async with asyncio.timeout(5):
            answer = await reader.read()
        assert b"HTTP" not in answer
        writer.close()
        await until(lambda: listener.connections == 0)


async def test_unfinished_handshakes_are_closed_to_admit_new_connections(
    parts: AppParts, folder: Path, authority: Authority
):
    async with serving(parts, write_web_file(folder, tls={}), connections=20) as listener:
        port = int(listener.addresses[0].rpartition(":")[2])
        slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(60)]
        await until(lambda: 0 < listener.connections <= 20)
        assert (await get(listener, verify=authority.trusting())).status_code == 200
        assert listener.connections <= 20
        for _, writer in slow:
            writer.transport.abort()


async def test_a_stop_does_not_wait_for_a_handshake(parts: AppParts, folder: Path):
    async with asyncio.timeout(5):
        async with serving(parts, write_web_file(folder, tls={})) as listener:
            port = int(listener.addresses[0].rpartition(":")[2])
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            await until(lambda: listener.connections == 1)
        writer.close()


# ── basic auth ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_without_a_password_only_health_and_readiness_are_open(parts: AppParts, folder: Path):
    async with serving(parts, write_web_file(folder, basic_auth_users={ALICE[0]: hashed(ALICE[1])})) as listener:
        for path in EVERYTHING:
            answer = await get(listener, path)
            assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (401, "password"), path
            assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        for path in ("/-/healthy", "/-/ready"):
            assert (await get(listener, path)).status_code == 200
        for path in EVERYTHING:
            assert (await get(listener, path, auth=ALICE)).status_code in {200, 400, 404}


@pytest.mark.parametrize(
    "given",
    [
        "",
        "Basic",
        "Basic !",
        "Basic YWxpY2U=",
        "Bearer made-up",
        "Basic " + base64.b64encode(b"alice:wrong").decode(),
        "Basic " + base64.b64encode(b"unknown:made-up").decode(),
        "Basic " + base64.b64encode(b"alice:").decode(),
        "Basic " + base64.b64encode(b"alice:made-up\0").decode(),
        "Basic " + base64.b64encode(b":").decode(),
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
        "Digest " + base64.b64encode(b"alice:made-up").decode(),
    ],
)
async def test_wrong_and_malformed_credentials_are_refused(parts: AppParts, folder: Path, given: str):
    async with serving(parts, write_web_file(folder, basic_auth_users={ALICE[0]: hashed(ALICE[1])})) as listener:
        assert (await get(listener, headers={"Authorization": given})).status_code == 401


async def test_passwords_and_tls_go_together(parts: AppParts, folder: Path, authority: Authority):
    path = write_web_file(folder, tls={}, basic_auth_users={user: hashed(word) for user, word in (ALICE, BOB)})
    async with serving(parts, path) as listener:
        for user in (ALICE, BOB):
            assert (await get(listener, verify=authority.trusting(), auth=user)).status_code == 200
        assert (await get(listener, verify=authority.trusting(), auth=("alice", "other"))).status_code == 401


async def test_the_openapi_document_describes_the_password(parts: AppParts, folder: Path):
    async with serving(parts, write_web_file(folder, basic_auth_users={ALICE[0]: hashed(ALICE[1])})) as listener:
        document = (await get(listener, "/openapi.json", auth=ALICE)).json()
    assert document["components"]["securitySchemes"] == {"password": {"type": "http", "scheme": "basic"}}
    for path, item in document["paths"].items():
        for operation in item.values():
            assert ("security" in operation) is (path not in {"/-/healthy", "/-/ready"})


async def test_a_password_that_was_right_costs_nothing_the_next_time():
    users = {b"alice": hashed("made-up", cost=8).encode()}
    passwords = Passwords()
    assert await passwords.is_right(users, b"alice", b"made-up")
    began = time.process_time()
    for _ in range(1000):
        assert await passwords.is_right(users, b"alice", b"made-up")
    assert time.process_time() - began < 0.1
    assert not await passwords.is_right(users, b"alice", b"made-uq")


async def test_a_password_that_has_changed_is_checked_again():
    passwords = Passwords()
    assert await passwords.is_right({b"alice": hashed("one").encode()}, b"alice", b"one")
    assert not await passwords.is_right({b"alice": hashed("two").encode()}, b"alice", b"one")
    assert not await passwords.is_right({}, b"alice", b"one")


async def test_an_unknown_user_costs_as_much_as_a_known_one():
    users = {b"alice": hashed("made-up", cost=8).encode()}
    passwords = Passwords()

    async def cost(user: bytes) -> float:
        began = time.process_time()
        assert not await passwords.is_right(users, user, b"wrong")
        return time.process_time() - began

    known = min([await cost(b"alice") for _ in range(3)])
    unknown = min([await cost(b"unknown") for _ in range(3)])
    assert 0.5 < known / unknown < 2


async def test_passwords_longer_than_bcrypt_reads_are_accepted_without_a_crash():
    users = {b"alice": hashed("x" * 72).encode()}
    assert await Passwords().is_right(users, b"alice", b"x" * 100)
    assert not await Passwords().is_right(users, b"alice", b"y" * 5000)


async def test_the_number_of_waiting_checks_is_limited_and_the_loop_goes_on_meanwhile():
    users = {b"alice": hashed("made-up", cost=10).encode()}
    passwords = Passwords()
    assert await passwords.is_right(users, b"alice", b"made-up")
    checks = [asyncio.ensure_future(passwords.is_right(users, b"bob", b"x%d" % n)) for n in range(MOST_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyError):
        await passwords.is_right(users, b"bob", b"one more")
    # A password that was right before does not wait behind them.
    assert await passwords.is_right(users, b"alice", b"made-up")
    turns = 0
    while not all(check.done() for check in checks):
        turns += 1
        await asyncio.sleep(0.001)
    assert turns > 10
    assert not any(await asyncio.gather(*checks))


async def test_a_flood_of_wrong_passwords_is_refused(parts: AppParts, folder: Path):
    path = write_web_file(folder, basic_auth_users={ALICE[0]: hashed(ALICE[1], cost=10)})
    async with serving(parts, path) as listener:
        answers = await asyncio.gather(*(get(listener, auth=("alice", f"{n}")) for n in range(40)))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {401, 503}
    busy = next(answer for answer in answers if answer.status_code == 503)
    assert (busy.json()["type"].rpartition(":")[2], busy.headers["Retry-After"]) == ("busy", "1")


def test_a_password_may_have_colons():
    given = "basic  " + base64.b64encode("ä:b:c".encode()).decode()
    assert credentials(given) == ("ä".encode(), b"b:c")


# ── headers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_headers_are_on_every_answer(parts: AppParts, folder: Path):
    headers = {"Strict-Transport-Security": "max-age=3600", "X-Frame-Options": "sameorigin"}
    path = write_web_file(folder, http_server_config={"headers": headers}, basic_auth_users={"a": hashed("b")})
    async with serving(parts, path) as listener:
        for answer in (await get(listener), await get(listener, "/-/ready"), await get(listener, "/", auth=("a", "b"))):
            assert {name: answer.headers[name] for name in headers} == headers
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


# ── change ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Records:
    """A TLS client that says how what it sends is cut into records."""

    def __init__(self, authority: Authority) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = authority.trusting().wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    async def shake_hands(self, listener: Listener, early: Sequence[bytes] = ()) -> None:
        """Connect; `early` goes with the last word of the handshake."""
        port = int(listener.addresses[0].rpartition(":")[2])
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._writer.write(self._outgoing.read())
                self._incoming.write(await self._reader.read(65_536))
            else:
                break
        self.send(early)

    def send(self, records: Sequence[bytes]) -> None:
        """All in one go."""
        for record in records:
            self._tls.write(record)
        self._writer.write(self._outgoing.read())

    async def read_until(self, end: bytes) -> bytes:
        found = b""
        async with asyncio.timeout(5):
            while not found.endswith(end):
                try:
                    found += self._tls.read(65_536)
                except ssl.SSLWantReadError:
                    self._incoming.write(await self._reader.read(65_536))
        return found

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


def pieces(content: bytes, size: int) -> list[bytes]:
    return [content[at : at + size] for at in range(0, len(content), size)]


@pytest.mark.parametrize("size", [1, 40, 1200, 4096, 5000, 16_000])
async def test_a_request_cut_into_tls_records_of_any_size_is_answered(
    parts: AppParts, folder: Path, authority: Authority, size: int
):
    ready = b"GET /-/ready HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 6000 + b"\r\n\r\n"
    async with serving(parts, write_web_file(folder, tls={})) as listener:
        client = Records(authority)
        await client.shake_hands(listener, early=pieces(ready, size))
        assert (await client.read_until(b"ready\n")).startswith(b"HTTP/1.1 200")
        client.send(pieces(ready * 3, size))
        answers = await client.read_until(b"ready\n")
        while answers.count(b"HTTP/1.1 200") < 3:
            answers += await client.read_until(b"ready\n")
        await client.close()


async def test_a_large_body_in_tls_is_read_in_turns_and_whole(folder: Path, authority: Authority):
    """One piece in a turn of the loop, also where TLS has unpacked more."""
    got: list[int] = []
    turn = 0

    async def take(scope: Any, receive: Any, send: Any) -> None:
        more, size = True, 0
        while more:
            message = await receive()
            size += len(message["body"])
            more = message["more_body"]
            got.append(turn)
        words = b"%d bytes" % size
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(words))]})
        await send({"type": "http.response.body", "body": words})

    config = in_force(write_web_file(folder, tls={}))
    async with listening(take, "127.0.0.1:0", config) as listener:
        client = Records(authority)
        body = b"x" * 200_000
        await client.shake_hands(
            listener, early=pieces(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" + body, 16_000)
        )
        answering = asyncio.create_task(client.read_until(b"200000 bytes"))
        while not answering.done():
            turn += 1
            await asyncio.sleep(0)
        assert b"200 OK" in await answering
        await client.close()
    assert len(set(got)) >= 200_000 // 4096 // 2


class WatchedFile:
    def __init__(self, path: Path) -> None:
        self.config = in_force(path)
        self.rejected: list[Sequence[str]] = []
        self.reloaded: list[str] = []
        self.watch = WebFileWatch(self.config, rejected=self.rejected.append, reloaded=self.reloaded.append)

    async def check_twice(self) -> None:
        """A change is accepted once a second check finds the same."""
        await self.watch.check()
        await self.watch.check()


async def serial(listener: Listener, authority: Authority) -> str:
    port = int(listener.addresses[0].rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=authority.trusting(), server_hostname="localhost")
    certificate = writer.get_extra_info("peercert")
    writer.close()
    await writer.wait_closed()
    return str(certificate["serialNumber"])


async def test_a_new_certificate_is_used_for_the_next_connection(parts: AppParts, folder: Path, authority: Authority):
    watched = WatchedFile(write_web_file(folder, tls={}))
    async with (
        listening(parts.web(watched.config), "127.0.0.1:0", watched.config) as listener,
        httpx.AsyncClient(verify=authority.trusting(), trust_env=False) as kept,
    ):
        await watched.watch.check()
        before = await serial(listener, authority)
        assert (await kept.get(f"{listener.addresses[0]}/-/ready")).status_code == 200
        authority.server(folder)
        await watched.check_twice()
        assert await serial(listener, authority) != before
        assert (await kept.get(f"{listener.addresses[0]}/-/ready")).status_code == 200
    assert (watched.rejected, watched.reloaded) == ([], [str(folder / "web.yml")])


async def test_users_change_and_tls_comes_without_a_restart(parts: AppParts, folder: Path, authority: Authority):
    watched = WatchedFile(write_web_file(folder, basic_auth_users={ALICE[0]: hashed(ALICE[1])}))
    async with listening(parts.web(watched.config), "127.0.0.1:0", watched.config) as listener:
        await watched.watch.check()
        assert (await get(listener, auth=ALICE)).status_code == 200
        write_web_file(folder, tls={}, basic_auth_users={BOB[0]: hashed(BOB[1])})
        await watched.check_twice()
        assert listener.addresses[0].startswith("https:")
        trusting = authority.trusting()
        assert (await get(listener, auth=ALICE, verify=trusting)).status_code == 401
        assert (await get(listener, auth=BOB, verify=trusting)).status_code == 200


async def test_protection_that_vanishes_from_the_file_stays_in_force_until_it_is_removed_by_a_reload(
    parts: AppParts, folder: Path, authority: Authority
):
    file = folder / "web.yml"
    watched = WatchedFile(write_web_file(folder, tls={}, basic_auth_users={ALICE[0]: hashed(ALICE[1])}))
    trusting = authority.trusting()
    async with listening(parts.web(watched.config), "127.0.0.1:0", watched.config) as listener:
        await watched.watch.check()
        for content in ("", "null", "basic_auth_users: {}", "basic_auth_users:"):
            file.write_text(content)
            for _ in range(5):
                await watched.watch.check()
            assert (await get(listener, verify=trusting)).status_code == 401
            assert (await get(listener, verify=trusting, auth=ALICE)).status_code == 200
        assert len(watched.rejected) == 1
        assert all("the listener stays protected until a reload" in reason for reason in watched.rejected[0])
        write_web_file(folder, tls={}, basic_auth_users={BOB[0]: hashed(BOB[1])})
        await watched.check_twice()
        assert (await get(listener, verify=trusting, auth=BOB)).status_code == 200
        file.write_text("")
        watched.config.adopt(str(file), read_web_file(str(file)))
        assert (await get(listener)).status_code == 200
        for _ in range(3):
            await watched.watch.check()
        assert (await get(listener)).status_code == 200


async def test_client_certificates_stay_required_when_the_file_no_longer_requires_them(
    folder: Path, authority: Authority
):
    authority.client(folder)
    required = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": str(folder / "ca.crt")}
    watched = WatchedFile(write_web_file(folder, tls=required))
    await watched.watch.check()
    before = watched.config.tls
    write_web_file(folder, tls={})
    for _ in range(4):
        await watched.watch.check()
    assert watched.config.tls is before
    assert "client certificates are no longer required" in watched.rejected[0][0]


def _bad_file(folder: Path) -> None:
    (folder / "web.yml").write_text("tls: {}")


def _gone_file(folder: Path) -> None:
    (folder / "web.yml").unlink()


def _other_key(folder: Path) -> None:
    Authority().client(folder)
    os.replace(folder / "client.key", folder / "server.key")  # noqa: PTH105


@pytest.mark.parametrize("spoil", [_bad_file, _gone_file, _other_key])
async def test_a_bad_file_leaves_the_old_one_in_force_and_is_reported_once(
    parts: AppParts, folder: Path, authority: Authority, spoil: Callable[[Path], None]
):
    watched = WatchedFile(write_web_file(folder, tls={}, basic_auth_users={ALICE[0]: hashed(ALICE[1])}))
    async with listening(parts.web(watched.config), "127.0.0.1:0", watched.config) as listener:
        await watched.watch.check()
        before = await serial(listener, authority)
        spoil(folder)
        for _ in range(5):
            await watched.watch.check()
        assert len(watched.rejected) == 1
        assert str(folder) in watched.rejected[0][0]
        assert await serial(listener, authority) == before
        assert (await get(listener, verify=authority.trusting())).status_code == 401
        assert (await get(listener, verify=authority.trusting(), auth=ALICE)).status_code == 200
        authority.server(folder)
        write_web_file(folder, tls={}, basic_auth_users={ALICE[0]: hashed(ALICE[1])})
        await watched.check_twice()
        assert watched.reloaded == [str(folder / "web.yml")]
        assert await serial(listener, authority) != before


async def test_a_certificate_and_key_that_change_one_after_the_other_cause_no_error(
    parts: AppParts, folder: Path, authority: Authority
):
    watched = WatchedFile(write_web_file(folder, tls={}))
    await watched.watch.check()
    key = (folder / "server.key").read_bytes()
    authority.server(folder)
    new = (folder / "server.key").read_bytes()
    (folder / "server.key").write_bytes(key)
    await watched.check_twice()
    (folder / "server.key").write_bytes(new)
    await watched.check_twice()
    assert (watched.rejected, watched.reloaded) == ([], [str(folder / "web.yml")])


@pytest.mark.parametrize(
    "half", [b"", b"# users\n", b"tls_server_config: {cert_file: server.crt, key_file: server.key}\n"]
)
async def test_a_half_written_file_opens_no_access(folder: Path, authority: Authority, half: bytes):
    path = write_web_file(folder, tls={}, basic_auth_users={ALICE[0]: hashed(ALICE[1])})
    whole = path.read_bytes()
    watched = WatchedFile(path)
    await watched.watch.check()
    for content in (half, whole + b"\n"):
        path.write_bytes(content)
        await watched.watch.check()
        assert watched.config.tls is not None
        assert list(watched.config.users) == [ALICE[0].encode()]
    await watched.watch.check()
    assert (watched.rejected, watched.reloaded) == ([], [str(path)])


async def test_a_pipe_in_place_of_the_file_blocks_nothing(folder: Path):
    watched = WatchedFile(write_web_file(folder, basic_auth_users={ALICE[0]: hashed(ALICE[1])}))
    await watched.watch.check()
    (folder / "web.yml").unlink()
    os.mkfifo(folder / "web.yml")
    async with asyncio.timeout(5):
        for _ in range(3):
            await watched.watch.check()
    assert watched.rejected == [[f"{folder / 'web.yml'}: cannot be read: not a regular file"]]
    assert watched.config.needs_password


async def test_a_swapped_symlink_is_a_change(folder: Path, tmp_path: Path, authority: Authority):
    for name in ("one", "two"):
        (folder / name).mkdir()
        authority.server(folder / name)
        write_web_file(folder / name, tls={})
    (folder / "data").symlink_to("one")
    watched = WatchedFile(folder / "data" / "web.yml")
    await watched.watch.check()
    before = watched.config.tls
    await watched.watch.check()
    assert watched.config.tls is before
    (folder / "data.new").symlink_to("two")
    os.replace(folder / "data.new", folder / "data")  # noqa: PTH105
    await watched.check_twice()
    assert watched.config.tls is not before
    assert len(watched.reloaded) == 1


async def test_without_a_file_nothing_is_watched():
    config = WebConfig()
    reported: list[object] = []
    await WebFileWatch(config, rejected=reported.append, reloaded=reported.append).check()
    assert reported == []
    assert (config.tls, config.needs_password) == (None, False)


async def test_where_the_file_was_never_valid_every_request_is_refused(parts: AppParts):
    config = WebConfig("/no/such/web.yml")
    async with listening(parts.web(config), "127.0.0.1:0", config) as listener:
        for path in EVERYTHING:
            assert (await get(listener, path, auth=ALICE)).status_code == 401
        assert (await get(listener, "/-/healthy")).status_code == 200
