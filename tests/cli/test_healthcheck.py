import asyncio
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.cli.running import ROOT, Command, in_background
from tests.server.serving import AppParts, listening
from watcher.cli.exits import Exit
from watcher.cli.healthcheck import Target, UnhealthyError, ask

CERTIFICATE = Path(__file__).parent / "localhost.pem"  # with its key; made for another name, which does not matter
HEALTHY = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhealthy\n"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answering(answer: bytes) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            assert request.startswith(b"GET /-/healthy HTTP/1.1\r\n")
            writer.write(answer)
            await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    return handle


@asynccontextmanager
async def serving(handle: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port at which every connection is handled so."""
    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


def certified(*, asks_back: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    if asks_back:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(CERTIFICATE)
    return context


def test_a_healthy_daemon_is_0(watcher: Command, parts: AppParts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with in_background(lambda: listening(parts.web())) as listener:
        address = listener.addresses[0].removeprefix("http://")
        file = tmp_path / "c.yaml"
        file.write_text(f"web: {{listen: '{address}'}}\n")
        by_url = watcher("healthcheck", "--url", listener.addresses[0])
        by_path = watcher("healthcheck", "--url", f"{listener.addresses[0]}/-/ready")
        by_file = watcher("healthcheck", "--config", str(file))
        monkeypatch.setenv("WATCHER_WEB__LISTEN", f":{address.rpartition(':')[2]}")
        by_environment = watcher("healthcheck")
    for ended in (by_url, by_path, by_file, by_environment):
        assert (ended.code, ended.out, ended.err) == (Exit.GOOD, "healthy\n", "")


def test_the_health_check_works_over_a_unix_socket(watcher: Command, parts: AppParts, tmp_path: Path):
    url = f"unix:{tmp_path}/admin.sock"
    with in_background(lambda: listening(parts.admin(is_unix=True), url)):
        assert watcher("healthcheck", "--url", url).code == Exit.GOOD
    gone = watcher("healthcheck", "--url", url)
    assert (gone.code, gone.err) == (
        Exit.ENDED_BADLY,
        f"watcher healthcheck: cannot reach {tmp_path}/admin.sock: no such file or directory\n",
    )


def test_an_overdue_loop_is_1_and_named(watcher: Command, parts: AppParts):
    parts.overdue = ["main"]
    with in_background(lambda: listening(parts.web())) as listener:
        ended = watcher("healthcheck", "--url", listener.addresses[0])
    place = listener.addresses[0].removeprefix("http://")
    assert ended.code == Exit.ENDED_BADLY
    assert ended.err == f"watcher healthcheck: {place} answers 503: no progress in time: main\n"


@pytest.mark.parametrize("config_file", ["", "web.yml"])
def test_tls_is_found_out(watcher: Command, monkeypatch: pytest.MonkeyPatch, config_file: str):
    monkeypatch.setenv("WATCHER_WEB__CONFIG_FILE", config_file)
    with in_background(partial(serving, answering(HEALTHY), certified())) as port:
        monkeypatch.setenv("WATCHER_WEB__LISTEN", f":{port}")
        ended = watcher("healthcheck")
    assert (ended.code, ended.err) == (Exit.GOOD, "")


def test_a_config_file_without_tls_is_found_out(watcher: Command, parts: AppParts, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WATCHER_WEB__CONFIG_FILE", "web.yml")
    with in_background(lambda: listening(parts.web())) as listener:
        monkeypatch.setenv("WATCHER_WEB__LISTEN", listener.addresses[0].removeprefix("http://"))
        ended = watcher("healthcheck")
    assert (ended.code, ended.err) == (Exit.GOOD, "")


def test_a_url_says_whether_it_is_tls(watcher: Command):
    with in_background(partial(serving, answering(HEALTHY), certified())) as port:
        assert watcher("healthcheck", "--url", f"https://127.0.0.1:{port}").code == Exit.GOOD
        assert watcher("healthcheck", "--url", f"http://127.0.0.1:{port}").code == Exit.ENDED_BADLY


def test_a_client_certificate_cannot_be_shown(watcher: Command):
    with in_background(partial(serving, answering(HEALTHY), certified(asks_back=True))) as port:
        ended = watcher("healthcheck", "--url", f"https://127.0.0.1:{port}")
    assert ended.code == Exit.ENDED_BADLY
    assert "if web requires a client certificate, use admin: --url http://localhost:10618" in ended.err


@pytest.mark.parametrize("listen", [":1", "0.0.0.0:1", "[::]:1", "[::1]:1", "127.0.0.1:1"])
def test_an_unreachable_daemon_is_1_in_one_line(watcher: Command, monkeypatch: pytest.MonkeyPatch, listen: str):
    monkeypatch.setenv("WATCHER_WEB__LISTEN", listen)
    ended = watcher("healthcheck")
    assert (ended.code, ended.out) == (Exit.ENDED_BADLY, "")
    assert ended.err.startswith("watcher healthcheck: cannot reach ")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("host", ["a..b", "x" * 70])
def test_an_invalid_host_name_is_1(watcher: Command, monkeypatch: pytest.MonkeyPatch, host: str):
    monkeypatch.setenv("WATCHER_WEB__LISTEN", f"{host}:1")
    for arguments in ((), ("--url", f"http://{host}:1")):
        ended = watcher("healthcheck", *arguments)
        assert ended.code == Exit.ENDED_BADLY
        assert ended.err == f"watcher healthcheck: cannot reach {host}:1: not a valid host name\n"


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/2 200\r\n"])
def test_a_server_that_does_not_speak_http_is_1(watcher: Command, answer: bytes):
    with in_background(partial(serving, answering(answer))) as port:
        ended = watcher("healthcheck", "--url", f"http://127.0.0.1:{port}")
    assert (ended.code, ended.err) == (
        Exit.ENDED_BADLY,
        f"watcher healthcheck: no HTTP from 127.0.0.1:{port}\n",
    )


def test_a_frozen_daemon_is_not_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as frozen:  # the system accepts, but no process answers
        port = frozen.getsockname()[1]
        with pytest.raises(UnhealthyError, match=f"no answer from 127.0.0.1:{port} within 0.1 s"):
            ask(Target([("127.0.0.1", port)], tls=(False, True)), timeout_seconds=0.1)


def test_a_port_that_the_system_chose_is_not_guessed(watcher: Command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WATCHER_WEB__LISTEN", "127.0.0.1:0")
    ended = watcher("healthcheck")
    assert ended.code == Exit.ENDED_BADLY
    assert "use --url to say where the daemon is" in ended.err


@pytest.mark.parametrize("url", ["x", "http://", "http://x:0", "http://x:70000", "unix:x", "ftp://x", "http://a b"])
def test_a_bad_url_is_reported(watcher: Command, url: str):
    ended = watcher("healthcheck", "--url", url)
    assert ended.code == Exit.USAGE
    assert "--url: expected http://host:port, https://host:port or unix:/path" in ended.err


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_it_is_quick_and_small():
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from watcher.__main__ import main; code = main(sys.argv[1:])\n"
        "import pathlib, time\n"
        "(peak,) = [line.split()[1] for line in pathlib.Path('/proc/self/status').open() if 'VmHWM' in line]\n"
        "print(code, time.process_time(), peak)\n"
    )
    with in_background(partial(serving, answering(HEALTHY), certified())) as port:
        started = [sys.executable, "-I", "-S", "-c", script, "healthcheck", "--url", f"https://127.0.0.1:{port}"]
        ended = subprocess.run(started, check=True, capture_output=True, text=True)
    code, seconds, peak_kib = ended.stdout.splitlines()[-1].split()
    # Time that it computed, as other tests run beside it.
    assert (code, float(seconds) < 0.15, int(peak_kib) < 20 * 1024) == ("0", True, True), ended.stdout
