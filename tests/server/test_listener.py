"""Addresses, limits and the end of a listener."""

import asyncio
import contextlib
import errno
import os
import signal
import socket
import stat
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.serving import AppParts, client_of, listening, plain_client, until
from watcher.core.errors import OperatorError
from watcher.server import Listener
from watcher.server.http.protocol import Protocol
from watcher.server.http.sockets import let_go, on_one_port, tcp_sockets
from watcher.server.http.sockets import listening as sockets_listening


async def open_raw(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = url.removeprefix("http://").rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port))


async def answer_to(url: str, request: bytes) -> bytes:
    reader, writer = await open_raw(url)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def refusal(listen: str) -> str:
    with pytest.raises(OperatorError) as caught:
        let_go(sockets_listening(listen, "web.listen"))
    return str(caught.value)


async def test_without_a_host_all_addresses_of_both_families_answer(parts: AppParts):
    async with listening(parts.web(), ":0") as listener, plain_client() as client:
        port = listener.addresses[0].rpartition(":")[2]
        assert tuple(listener.addresses) == (f"http://0.0.0.0:{port}", f"http://[::]:{port}")
        assert listener.url == f"http://localhost:{port}"
        for host in ("127.0.0.1", "[::1]", "localhost"):
            assert (await client.get(f"http://{host}:{port}/-/ready")).status_code == 200


async def test_localhost_is_both_loopback_addresses(parts: AppParts):
    async with listening(parts.web(), "localhost:0") as listener, plain_client() as client:
        port = listener.addresses[0].rpartition(":")[2]
        assert tuple(listener.addresses) == (f"http://127.0.0.1:{port}", f"http://[::1]:{port}")
        for address in listener.addresses:
            assert (await client.get(f"{address}/-/ready")).status_code == 200


async def test_one_address_is_only_that(parts: AppParts):
    async with listening(parts.web(), "[::1]:0") as listener, plain_client() as client:
        (address,) = listener.addresses
        assert address.startswith("http://[::1]:")
        assert (await client.get(f"{address}/-/ready")).status_code == 200


def test_a_port_in_use_is_reported_with_address_and_setting():
    (taken,) = sockets_listening("127.0.0.1:0", "web.listen")
    with closing(taken):
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert refusal(address) == (
            f"web.listen: cannot listen on {address}: address already in use; "
            "stop what listens there, or choose another address"
        )


def test_a_port_in_use_in_one_family_releases_the_other():
    (taken,) = sockets_listening("[::1]:0", "web.listen")
    with closing(taken):
        port = taken.getsockname()[1]
        assert "address already in use" in refusal(f"localhost:{port}")
        let_go(sockets_listening(f"127.0.0.1:{port}", "web.listen"))


@pytest.mark.parametrize(
    ("listen", "why"),
    [
        ("nonsense", "web.listen: expected host:port"),
        ("192.0.2.1:0", "choose an address of this machine"),
        ("no-such-host.invalid:0", "web.listen: cannot listen on no-such-host.invalid:0: "),
        ("unix:/no/such/directory/s", "no such file or directory"),
    ],
)
def test_an_impossible_address_is_reported(listen: str, why: str):
    assert why in refusal(listen)


async def test_a_unix_socket_is_for_user_and_group_and_leaves_with_the_listener(parts: AppParts, tmp_path: Path):
    path = tmp_path / "s"
    async with listening(parts.web(), f"unix:{path}") as listener:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert (tuple(listener.addresses), listener.url) == ((f"unix:{path}",), f"unix:{path}")
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with plain_client(transport=transport, base_url="http://watcher") as client:
            assert (await client.get("/-/ready")).status_code == 200
    assert not path.exists()


def test_a_stale_unix_socket_is_replaced_but_one_in_use_is_not(tmp_path: Path):
    path = tmp_path / "s"
    (left,) = sockets_listening(f"unix:{path}", "admin.listen")
    with closing(left):
        assert "address already in use" in refusal(f"unix:{path}")
    assert path.is_socket()
    let_go(sockets_listening(f"unix:{path}", "admin.listen"))


def test_a_file_in_the_place_of_a_unix_socket_stays(tmp_path: Path):
    path = tmp_path / "s"
    path.write_text("precious")
    assert "address already in use" in refusal(f"unix:{path}")
    assert path.read_text() == "precious"


async def test_a_bound_listener_that_was_never_served_can_be_closed(parts: AppParts):
    listener = Listener.bind("127.0.0.1:0", parts.web(), setting="web.listen")
    address = listener.addresses[0].removeprefix("http://")
    listener.close()
    let_go(sockets_listening(address, "web.listen"))


async def test_a_listener_stopped_before_it_serves_ends_at_once(parts: AppParts):
    listener = Listener.bind("127.0.0.1:0", parts.web(), setting="web.listen")
    listener.stop()
    async with asyncio.timeout(2):
        await listener.serve()


async def test_signals_stay_with_the_daemon(parts: AppParts):
    before = signal.getsignal(signal.SIGTERM)
    async with client_of(parts.web()) as client:
        await client.get("/-/ready")
        assert signal.getsignal(signal.SIGTERM) is before


async def test_a_stop_waits_for_an_answer_under_way(parts: AppParts):
    requested, answer = asyncio.Event(), asyncio.Event()

    async def slow(*_: Any) -> Any:
        requested.set()
        await answer.wait()
        return b"whole\n", {}, None

    parts.metrics = slow
    async with plain_client() as client:
        async with listening(parts.web()) as listener:
            request = asyncio.create_task(client.get(f"{listener.addresses[0]}/metrics"))
            await requested.wait()
            listener.stop()
            answer.set()
        assert (await request).content == b"whole\n"


async def test_a_stop_does_not_wait_for_what_never_ends(parts: AppParts):
    requested = asyncio.Event()

    async def endless(*_: Any) -> Any:
        requested.set()
        await asyncio.Event().wait()

    parts.metrics = endless
    async with plain_client() as client:
        async with asyncio.timeout(2), listening(parts.web(), grace=0) as listener:
            _, writer = await open_raw(listener.addresses[0])
            writer.write(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
            request = asyncio.create_task(client.get(f"{listener.addresses[0]}/metrics"))
            await requested.wait()
        with pytest.raises((httpx.HTTPError, AssertionError)):
            assert (await request).status_code == 200
    writer.close()


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab"])
async def test_a_request_that_does_not_become_complete_is_disconnected(parts: AppParts, begun: bytes):
    async with listening(parts.admin(), request=0.05) as listener:
        reader, writer = await open_raw(listener.addresses[0])
        writer.write(begun)
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                await reader.read()
        writer.close()
    assert parts.failures == []


async def test_a_body_that_breaks_off_is_no_failure_of_the_daemon(parts: AppParts):
    head = b"POST /api/v1/operations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    async with listening(parts.admin()) as listener:
        _, writer = await open_raw(listener.addresses[0])
        writer.write(head + b"Content-Length: 9\r\n\r\n[")
        await until(lambda: bool(listener.connections))
        writer.close()
        await writer.wait_closed()
        await until(lambda: not listener.connections)
    assert parts.failures == []


async def test_a_client_that_does_not_read_its_answer_is_disconnected(parts: AppParts):
    parts.exposition = b"x" * (64 * 1024 * 1024)
    async with listening(parts.web(), send=0.05) as listener:
        _, writer = await open_raw(listener.addresses[0])
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: bool(listener.connections))
        await until(lambda: not listener.connections)
        writer.transport.abort()


async def test_several_requests_go_over_one_connection(parts: AppParts):
    async with listening(parts.web()) as listener:
        requested = b"GET /-/ready HTTP/1.1\r\nHost: x\r\n\r\n" * 2
        last = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answer = await answer_to(listener.addresses[0], requested + last)
    assert (answer.count(b"HTTP/1.1 200"), answer.count(b"ready\n"), answer.count(b"healthy\n")) == (3, 2, 1)


@pytest.mark.parametrize(
    "request_",
    [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX: \0\r\n\r\n"],
    ids=["nonsense", "no host", "a malformed header"],
)
async def test_bytes_that_are_no_http_are_answered_with_a_problem(
    parts: AppParts, request_: bytes, capfd: pytest.CaptureFixture[str]
):
    async with listening(parts.web()) as listener:
        answer = await answer_to(listener.addresses[0], request_)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in head
    assert b"nosniff" in head
    assert b'"invalid http request received"' in body
    assert capfd.readouterr() == ("", "")


async def test_nonsense_after_the_answer_began_only_closes(parts: AppParts):
    body = b"POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with listening(parts.web()) as listener:
        reader, writer = await open_raw(listener.addresses[0])
        writer.write(body)
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 405")
        writer.write(b"no chunk\r\n\r\n")
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_at_the_connection_limit_the_longest_idle_connection_is_closed(parts: AppParts):
    async with listening(parts.web(), connections=4) as listener, plain_client() as client:
        assert (await client.get(f"{listener.addresses[0]}/-/ready")).status_code == 200
        idle = [await open_raw(listener.addresses[0]) for _ in range(5)]
        reader, _ = idle[0]
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        assert listener.connections == 3
        # The connection that was served before is still the client's.
        assert (await client.get(f"{listener.addresses[0]}/-/ready")).status_code == 200
        for _, writer in idle:
            writer.transport.abort()


async def test_where_all_connections_are_busy_new_ones_are_refused(parts: AppParts):
    answer = asyncio.Event()
    requested: list[None] = []

    async def slow(*_: Any) -> Any:
        requested.append(None)
        await answer.wait()
        return b"whole\n", {}, None

    parts.metrics = slow
    async with listening(parts.web(), connections=3) as listener, plain_client() as client:
        busy = [asyncio.create_task(client.get(f"{listener.addresses[0]}/metrics")) for _ in range(2)]
        await until(lambda: len(requested) == 2)
        assert (await client.get(f"{listener.addresses[0]}/-/ready")).status_code == 503
        answer.set()
        assert [one.content for one in await asyncio.gather(*busy)] == [b"whole\n"] * 2
        assert (await client.get(f"{listener.addresses[0]}/-/ready")).status_code == 200


async def test_five_hundred_slow_connections_do_not_prevent_a_scrape(parts: AppParts):
    async with listening(parts.web(), connections=100) as listener, plain_client() as client:
        slow = [await open_raw(listener.addresses[0]) for _ in range(500)]
        for _, writer in slow:
            writer.write(b"GET / HT")
        assert (await client.get(f"{listener.addresses[0]}/metrics")).status_code == 200
        assert listener.connections < 100
        for _, writer in slow:
            writer.transport.abort()


@pytest.mark.parametrize("is_late", [False, True], ids=["at once", "behind another"])
async def test_a_head_that_is_too_large_is_refused_also_when_it_comes_whole(parts: AppParts, is_late: bool):  # noqa: FBT001
    large = b"GET /-/ready HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"y" * 20_000 + b"\r\n\r\n"
    before = b"GET /-/ready HTTP/1.1\r\nHost: x\r\n\r\n" if is_late else b""
    async with listening(parts.web()) as listener:
        answer = await answer_to(listener.addresses[0], before + large)
    assert answer.count(b"HTTP/1.1 200") == int(is_late)
    assert answer.count(b"HTTP/1.1 431 ") == 1
    assert b"urn:operation-watcher:problem:head" in answer


async def test_a_long_path_counts_too(parts: AppParts):
    async with listening(parts.web()) as listener:
        request = b"GET /" + b"x" * 10_000 + b"?" + b"y" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
        assert (await answer_to(listener.addresses[0], request)).startswith(b"HTTP/1.1 431 ")


SLOW: Mapping[str, bytes] = {
    "nothing": b"",
    "half a line": b"GET /metr",
    "headers for ever": b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    "a body for ever": b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n",
    "crumbs of a body": b"POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"1\r\nx\r\n" * 10_000,
    "an answer that is not read": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("begun", SLOW.values(), ids=SLOW)
async def test_a_hundred_slow_connections_do_not_delay_a_scrape(parts: AppParts, begun: bytes):
    async def scrape() -> float:
        began = time.perf_counter()
        assert (await client.get(url)).status_code == 200
        return time.perf_counter() - began

    async def trickle() -> None:
        while True:
            for _, writer in slow:
                writer.write(b"x" if begun else b"")
            await asyncio.sleep(0.5)

    async with listening(parts.web()) as listener, plain_client() as client:
        url = f"{listener.addresses[0]}/metrics"
        await scrape()
        # Other tests run beside this one, so the slower ones say nothing.
        alone = sorted([await scrape() for _ in range(20)])[5]
        slow = [await open_raw(listener.addresses[0]) for _ in range(100)]
        for _, writer in slow:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(begun)
        trickling = asyncio.create_task(trickle())
        beside = sorted([await scrape() for _ in range(20)])[5]
        trickling.cancel()
        for _, writer in slow:
            writer.transport.abort()
    assert beside - alone < 0.1


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0"])
async def test_an_answer_never_waits_for_the_client_to_confirm_its_head(parts: AppParts, listen: str):
    async with listening(parts.web(), listen) as listener:
        _, writer = await open_raw(listener.addresses[0])
        await until(lambda: listener.connections == 1)
        (connection,) = listener._server.server_state.connections
        assert isinstance(connection, Protocol)
        sock = connection.transport.get_extra_info("socket")
        # Otherwise the system holds the body back until the head is confirmed, which takes clients 40 ms.
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        writer.close()


def test_a_family_that_the_machine_does_not_have_is_left_out():
    nowhere, here = (socket.AF_INET, "192.0.2.1"), (socket.AF_INET, "127.0.0.1")
    for places in ([nowhere, here], [here, nowhere]):
        (sock,) = tcp_sockets(places, 0)
        let_go([sock])
    with pytest.raises(OSError, match="Cannot assign"):
        tcp_sockets([nowhere, nowhere], 0)


@pytest.mark.parametrize("taken", [0, 3])
def test_a_port_that_is_free_in_one_family_only_is_replaced_by_another(taken: int):
    answers: list[Any] = [*[OSError(errno.EADDRINUSE, "taken")] * taken, []]

    def listen() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    assert on_one_port(listen) == []
    assert answers == []


@pytest.mark.parametrize(("error", "tries"), [(errno.EADDRINUSE, 20), (errno.EACCES, 1)])
def test_a_port_is_chosen_a_limited_number_of_times(error: int, tries: int):
    tried: list[int] = []

    def listen() -> Any:
        tried.append(error)
        raise OSError(error, "never")

    with pytest.raises(OSError, match="never"):
        on_one_port(listen)
    assert len(tried) == tries


def test_both_families_share_one_port_even_if_the_system_chose_it():
    sockets = sockets_listening(":0", "web.listen")
    try:
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
        assert {sock.family for sock in sockets} == {socket.AF_INET, socket.AF_INET6}
    finally:
        let_go(sockets)


def test_a_port_that_needs_privileges_is_reported():
    was = os.geteuid()
    if was == 0:
        # Root may listen anywhere.
        os.seteuid(65534)
    try:
        assert "choose a port above 1023" in refusal("127.0.0.1:80")
    finally:
        os.seteuid(was)


def test_a_stop_leaves_the_socket_that_another_process_made_at_the_same_path(tmp_path: Path):
    path = tmp_path / "admin.sock"
    ours = sockets_listening(f"unix:{path}", "admin.listen")
    path.unlink()
    theirs = sockets_listening(f"unix:{path}", "admin.listen")
    let_go(ours)
    assert path.exists()
    let_go(theirs)
    assert not path.exists()
