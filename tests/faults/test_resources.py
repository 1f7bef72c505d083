"""No resource starves the rest: connections, threads, signals, files, proxies, name servers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.api.hammering import STUCK_SECONDS, connections, longest_without_an_answer
from tests.faults.surroundings import (
    AS_LIMITED,
    AS_PROCESS_ONE,
    PidsCgroup,
    TunnelProxy,
    UserLimit,
    has_loaded_tls,
    hung_mount,
    pids_cgroup,
    read_head,
    server,
    silent_name_server,
    start,
    threads_of,
    tls_in_front_of,
    wait_for_handler,
)
from tests.faults.test_surroundings import AS_ROOT, Promised, TrackingDaemon, settings, tracking
from tests.support.certificates import Authority, hashed, write_web_file
from tests.support.processes import ACCOUNT_ID, AUTH_TOKEN, environment, until
from watcher.api.connections import Connections
from watcher.daemon.process_context import READERS
from watcher.loop import RESOLVERS
from watcher.simulator.ids import make_id

__all__ = ["tracking"]

ID = make_id(1_790_000_000_000_000, random.Random(1))
STOP_SECONDS = 5.0
UPSTREAM = "upstream.example"


def stopped(tracking: TrackingDaemon, pid: int, *, within: float = STOP_SECONDS) -> float:
    """Seconds until a daemon ended cleanly after SIGTERM."""
    process = tracking.daemon.process
    assert process is not None
    began = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    assert process.wait(within + 15) == 0
    took = time.monotonic() - began
    assert took < within, f"a stop took {took:.1f} s"
    return took


# ── connections, proxies ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("permits", [1, 4])
def test_requests_cancelled_at_any_moment(permits: int, promised: Promised) -> None:
    see = promised(
        f"3,000 requests over {permits} connections, cancelled after 4 to 30 ms", "never stuck for longer than 5 s"
    )

    async def hammer() -> float:
        async with Connections(partial(connections, permits)) as over:
            return await longest_without_an_answer(over, permits=permits, requests=3000)

    longest = asyncio.run(hammer())
    assert longest < STUCK_SECONDS
    see(f"{longest:.1f} s at the longest")


def test_a_proxy_drops_every_tunnel_for_a_while(tracking: TrackingDaemon, promised: Promised) -> None:
    see = promised("a proxy drops the first 4 tunnels", "requests go on within a minute; the reason is published")
    folder, daemon = tracking.folder, tracking.daemon
    authority = Authority()
    authority.server(folder, UPSTREAM)
    with server(tls_in_front_of(tracking.simulator.port, folder)) as tls_port:
        proxy = TunnelProxy(drops=4, port=tls_port)
        with server(proxy.serve) as port:
            changed = settings(folder, tracking.simulator)
            changed["accounts"][0] |= {"base_url": f"https://{UPSTREAM}/v1", "ca_file": str(authority.save(folder))}
            daemon.configure(changed)
            daemon.env |= {"HTTPS_PROXY": f"http://127.0.0.1:{port}", "WATCHER_LOG__LEVEL": "debug"}
            daemon.start()
            began = time.monotonic()
            tracking.track_some()
            tracking.all_ends_well(within=60)
            took = time.monotonic() - began
            assert proxy.dropped == 4
            reasons = {event["reason"] for event in daemon.events("api.attempted") if event["code"] == "connect"}
            assert any("(in the TLS handshake)" in reason for reason in reasons), reasons
            daemon.terminate(10)
    see(f"all published and counted {took:.0f} s after the start; {min(reasons)}")


ODD = "fd00::/64,::1/128,[::1],[::1]:8080,localhost:abc"


def test_loopback_and_odd_entries_of_no_proxy(tracking: TrackingDaemon, promised: Promised) -> None:
    see = promised(
        "HTTP_PROXY and HTTPS_PROXY are set, NO_PROXY has odd entries, upstream is on loopback",
        "`check` and the daemon read them alike; the proxy sees nothing",
    )
    heads: list[bytes] = []

    def listen(connection: socket.socket) -> None:
        heads.append(read_head(connection))

    with server(listen) as port:
        daemon = tracking.daemon
        url = f"http://127.0.0.1:{port}"
        daemon.env |= {"HTTP_PROXY": url, "HTTPS_PROXY": url, "ALL_PROXY": url, "NO_PROXY": ODD, "no_proxy": ODD}
        check = watcher(tracking, "check", *daemon.arguments, env=daemon.env)
        assert check.returncode == 0, check.stderr
        daemon.start()
        tracking.track_some()
        tracking.all_ends_well()
        assert daemon.terminate(10) == 0
    assert heads == []
    see("`check` is content; all published and counted; the proxy got no request")


def watcher(
    tracking: TrackingDaemon, *arguments: str, env: dict[str, str], **more: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*more.pop("before", ()), sys.executable, "-m", "watcher", *arguments],
        env=environment(env),
        cwd=tracking.folder,
        text=True,
        check=False,
        timeout=90,
        **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more),
    )


# ── threads, name servers ─────────────────────────────────────────────────────────────────────────────────────────────


@AS_ROOT
def test_a_name_server_swallows_every_query(tracking: TrackingDaemon, promised: Promised) -> None:
    see = promised(
        "a name server swallows queries; 3 accounts",
        "scrapes take no longer; accounts with an address go on; a stop and `wait --timeout 5s` end in time",
    )
    folder, daemon = tracking.folder, tracking.daemon
    changed = settings(folder, tracking.simulator)
    main = changed["accounts"][0]
    for number in (1, 2, 3):
        name = f"AC{number:032d}"
        elsewhere = {"name": f"far{number}", "account_id": name, "base_url": f"https://far{number}.example/v1"}
        changed["accounts"].append(main | elsewhere)
    daemon.configure(changed)
    with silent_name_server(folder) as before:
        pid = start(daemon, before)
        time.sleep(8)
        slowest = 0.0
        for _ in range(20):
            began = time.monotonic()
            assert httpx.get(f"{daemon.web}/metrics", trust_env=False, timeout=30).status_code == httpx.codes.OK
            slowest = max(slowest, time.monotonic() - began)
        took = stopped(tracking, pid)
        alone = {"TWILIO_ACCOUNT_SID": ACCOUNT_ID, "TWILIO_AUTH_TOKEN": AUTH_TOKEN}
        began = time.monotonic()
        waited = watcher(tracking, "wait", ID, "--timeout", "5s", env=alone, before=before)
        waiting = time.monotonic() - began
    assert waited.returncode in {3, 4}, waited.stderr
    assert slowest < 2
    assert waiting < 9
    see(f"the slowest scrape took {slowest * 1000:.0f} ms, the stop {took:.1f} s, `wait` {waiting:.1f} s")


@pytest.fixture(params=["RLIMIT_NPROC of a user who is not root", "the pids limit of a cgroup"])
def limit(request: pytest.FixtureRequest, tracking: TrackingDaemon) -> Iterator[UserLimit | PidsCgroup]:
    """How the number of threads is limited."""
    if request.param.startswith("RLIMIT"):
        write_for_all(tracking)
        yield UserLimit()
        return
    with pids_cgroup() as cgroup:
        yield cgroup
        tracking.daemon.kill()


@AS_ROOT
def test_no_more_threads_while_it_runs(
    tracking: TrackingDaemon, limit: UserLimit | PidsCgroup, request: pytest.FixtureRequest, promised: Promised
) -> None:
    how = request.node.callspec.params["limit"]
    see = promised(f"no more threads may be started ({how})", "it goes on as before")
    before = AS_LIMITED if isinstance(limit, UserLimit) else limit.before
    if isinstance(limit, PidsCgroup):
        limit.allow(0, 4096)
    pid = start(tracking.daemon, before)
    limit.allow(pid, 1)
    count = threads_of(pid)
    tracking.track_some()
    for _ in range(20):
        assert httpx.get(f"{tracking.daemon.web}/metrics", trust_env=False).status_code == httpx.codes.OK
    took = tracking.all_ends_well()
    assert threads_of(pid) == count
    assert stopped(tracking, pid) < STOP_SECONDS
    see(f"{count} threads from start to end; all published and counted in {took:.0f} s")


@AS_ROOT
def test_no_threads_when_it_starts(
    tracking: TrackingDaemon, limit: UserLimit | PidsCgroup, request: pytest.FixtureRequest, promised: Promised
) -> None:
    how = request.node.callspec.params["limit"]
    see = promised(
        f"no thread may be started at the start ({how})",
        "ends with 2 and says why; with --stay it stands by, scrapes are answered 503, and it starts when it can",
    )
    daemon = tracking.daemon
    start(daemon, limit.before, ready=False)
    assert daemon.process is not None
    assert daemon.process.wait(20) == 2
    assert "no thread can be started" in daemon.stderr.read_text()
    pid = start(daemon, limit.before, "--stay")
    answer = httpx.get(f"{daemon.web}/metrics", trust_env=False)
    assert (answer.status_code, "no thread can be started" in answer.text) == (503, True)
    limit.allow(pid, 4096)
    until(lambda: tracking.value("operation_watcher_store_usable") == 1, within=20, what="the store is taken")
    tracking.track_some()
    took = tracking.all_ends_well()
    assert stopped(tracking, pid) < STOP_SECONDS
    see(f"ended with 2; stood by with 503; all published and counted {took:.0f} s after threads were allowed")


def write_for_all(tracking: TrackingDaemon) -> None:
    """Files that a user who is not root, with its rights on files, may use."""
    tracking.daemon.stdout.touch()
    tracking.daemon.stderr.touch()


# ── signals ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("where", ["anywhere", "as process 1"])
def test_a_signal_at_any_moment_of_the_start(where: str, tracking: TrackingDaemon, promised: Promised) -> None:
    if where == "as process 1" and os.geteuid() != 0:
        pytest.skip("a namespace needs root")
    before = AS_PROCESS_ONE if where == "as process 1" else ()
    see = promised(
        f"SIGHUP and SIGTERM in the first second, {where}", "SIGHUP changes nothing; SIGTERM ends it with 0 in time"
    )
    daemon = tracking.daemon
    longest = 0.0
    for number in range(12):
        pid = start(daemon, before, ready=False)
        wait_for_handler(pid)
        assert not has_loaded_tls(pid)
        os.kill(pid, signal.SIGHUP)
        time.sleep(number * 0.08)
        assert not daemon.has_ended()
        longest = max(longest, stopped(tracking, pid))
    assert "Traceback" not in daemon.stderr.read_text()
    see(f"12 starts: each ended with 0, {longest:.1f} s at the longest")


@AS_ROOT
def test_a_second_signal_as_process_1(tracking: TrackingDaemon, promised: Promised) -> None:
    see = promised("a second SIGTERM as process 1, while the first is blocked", "it ends the process at once")
    daemon = tracking.daemon
    fifo, pid = hanging(tracking, AS_PROCESS_ONE)
    began = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGINT)
    assert daemon.process is not None
    code = daemon.process.wait(5)
    took = time.monotonic() - began
    assert code in {128 + signal.SIGTERM, 128 + signal.SIGINT}
    assert took < 1
    fifo.unlink()
    see(f"ended with {code} after {took * 1000:.0f} ms")


def hanging(tracking: TrackingDaemon, before: tuple[str, ...] = ()) -> tuple[Path, int]:
    """A daemon whose configuration is a pipe that is never written: its start hangs."""
    daemon = tracking.daemon
    fifo = tracking.folder / "configuration"
    os.mkfifo(fifo)
    daemon.arguments = ["--config", str(fifo)]
    pid = start(daemon, before, ready=False)
    wait_for_handler(pid)
    until(lambda: threads_of(pid) > RESOLVERS + READERS, within=20, what="the start has begun")
    time.sleep(1)  # no file of the system shows that a thread waits for the other end of a pipe
    return fifo, pid


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_configuration_is_a_pipe(tracking: TrackingDaemon, promised: Promised) -> None:
    see = promised(
        "--config is a pipe that is never written, at start and at SIGHUP",
        "a start ends with 2, a reload is refused; scraping goes on; a stop waits for neither",
    )
    daemon = tracking.daemon
    text = (tracking.folder / "watcher.yaml").read_text()
    fifo, pid = hanging(tracking)
    took = [stopped(tracking, pid)]
    start(daemon, (), ready=False)
    assert daemon.process is not None
    assert daemon.process.wait(20) == 2
    assert "not read within 10 s" in daemon.stderr.read_text()
    threading.Thread(target=fifo.write_text, args=(text,), daemon=True).start()
    pid = start(daemon, ())
    tracking.track_some()
    daemon.signal(signal.SIGHUP)
    until(lambda: daemon.events("config.rejected"), within=20, what="the reload is refused")
    assert "not read within 10 s" in daemon.events("config.rejected")[0]["reasons"][0]
    tracking.all_ends_well()
    daemon.signal(signal.SIGHUP)
    time.sleep(1)
    took.append(stopped(tracking, pid))
    see(f"ended with 2 at the start; the reload was refused; stops took {took[0]:.1f} and {took[1]:.1f} s")


@AS_ROOT
def test_the_configuration_is_on_a_mount_that_hangs(tracking: TrackingDaemon, promised: Promised) -> None:
    see = promised(
        "the configuration is on a mount that hangs, at start, at SIGHUP and for `check`",
        "a start and `check` end with 2, a reload is refused; scraping goes on; a stop waits for nothing",
    )
    daemon, folder = tracking.daemon, tracking.folder / "mounted"
    folder.mkdir()
    (folder / "watcher.yaml").write_text((tracking.folder / "watcher.yaml").read_text())
    daemon.arguments = ["--config", str(folder / "watcher.yaml")]
    with hung_mount(folder):
        began = time.monotonic()
        checked = watcher(tracking, "check", "--config", str(folder / "watcher.yaml"), env={})
        checking = time.monotonic() - began
        assert (checked.returncode, "not read within 10 s" in checked.stderr) == (2, True)
        start(daemon, (), ready=False)
        assert daemon.process is not None
        assert daemon.process.wait(20) == 2
        assert "not read within 10 s" in daemon.stderr.read_text()
    pid = start(daemon, ())
    tracking.track_some()
    with hung_mount(folder):
        daemon.signal(signal.SIGHUP)
        until(lambda: daemon.events("config.rejected"), within=20, what="the reload is refused")
        assert "not read within 10 s" in daemon.events("config.rejected")[0]["reasons"][0]
        tracking.all_ends_well()
        daemon.signal(signal.SIGHUP)
        time.sleep(1)
        took = stopped(tracking, pid)
    see(f"`check` ended after {checking:.0f} s; the reload was refused; the stop took {took:.1f} s")


@AS_ROOT
def test_a_token_is_on_a_mount_that_hangs_while_it_is_refused(tracking: TrackingDaemon, promised: Promised) -> None:
    see = promised(
        "the token's file is on a mount that hangs, and upstream answers 401 for some seconds",
        "secrets.unread once; scrapes and the other account go on; all ends well once upstream takes the token again",
    )
    folder, daemon = tracking.folder / "mounted", tracking.daemon
    folder.mkdir()
    (folder / "token").write_text(AUTH_TOKEN + "\n")
    changed = settings(tracking.folder, tracking.simulator)
    changed["accounts"][0]["auth_token_file"] = str(folder / "token")
    daemon.configure(changed)
    pid = start(daemon, ())
    tracking.track_some(shortest=12, longest=20)
    with hung_mount(folder):
        tracking.simulator.put("faults", [{"kind": "status", "status": 401, "times": 2}])
        until(lambda: daemon.events("secrets.unread"), within=25, what="that it was not read is said")
        slowest = 0.0
        for _ in range(20):
            began = time.monotonic()
            assert httpx.get(f"{daemon.web}/metrics", trust_env=False, timeout=30).status_code == httpx.codes.OK
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 1
        tracking.all_ends_well(within=150)
        assert len(daemon.events("secrets.unread")) == 1
        took = stopped(tracking, pid)
    see(f"secrets.unread once; the slowest scrape took {slowest * 1000:.0f} ms, the stop {took:.1f} s")


@pytest.mark.parametrize("content", ["", "null", "basic_auth_users: {}"])
def test_the_web_configuration_loses_its_users(content: str, tracking: TrackingDaemon, promised: Promised) -> None:
    see = promised(
        f"web.config_file becomes {content!r} for 5 s", "passwords stay in force until a reload; config.rejected once"
    )
    folder, daemon = tracking.folder, tracking.daemon
    file = write_web_file(folder, basic_auth_users={"alice": hashed("word")})
    daemon.env["WATCHER_WEB__CONFIG_FILE"] = str(file)
    daemon.start()
    assert scraped(tracking) == httpx.codes.UNAUTHORIZED
    file.write_text(content)
    end = time.monotonic() + 5
    while time.monotonic() < end:
        assert scraped(tracking) == httpx.codes.UNAUTHORIZED
        time.sleep(0.2)
    assert len(daemon.events("config.rejected")) == 1
    daemon.signal(signal.SIGHUP)
    until(lambda: scraped(tracking) == httpx.codes.OK, within=10, what="a reload removes the passwords")
    see("401 all the while; 200 after a reload")


def scraped(tracking: TrackingDaemon) -> int:
    return httpx.get(f"{tracking.daemon.web}/metrics", trust_env=False).status_code


# ── commands and small things ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_file_for_keys_of_tls_cannot_be_written(tracking: TrackingDaemon, promised: Promised) -> None:
    see = promised("SSLKEYLOGFILE cannot be written", "ends with 2 and names the variable and the file")
    daemon = tracking.daemon
    changed = settings(tracking.folder, tracking.simulator)
    changed["accounts"][0]["base_url"] = f"https://{UPSTREAM}/v1"
    daemon.configure(changed)
    daemon.env["SSLKEYLOGFILE"] = "/nowhere/keys"
    daemon.start(ready=False)
    assert daemon.process is not None
    assert daemon.process.wait(20) == 2
    output = daemon.stderr.read_text()
    assert "SSLKEYLOGFILE: cannot write /nowhere/keys" in output
    see(output.strip())


def test_output_that_takes_nothing_and_answers_that_never_end(tracking: TrackingDaemon, promised: Promised) -> None:
    sees = [
        promised("list >/dev/full", "a line on standard error, exit code 2"),
        promised("list and healthcheck against a server whose answer comes in drops", "4 and 1, in their time"),
        promised("50 MB of junk for `track -`", "refused with 2 within seconds"),
    ]
    tracking.daemon.start()
    tracking.track_some()
    admin = tracking.daemon.admin
    with Path("/dev/full").open("wb") as full:
        listed = watcher(tracking, "list", "--url", admin, env={}, stdout=full)
    assert (listed.returncode, "Traceback" in listed.stderr) == (2, False)
    sees[0](listed.stderr.strip())

    def trickle(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            connection.sendall(b" ")
            time.sleep(0.1)

    took: dict[str, float] = {}
    with server(trickle) as port:
        for command, code in (("list", 4), ("healthcheck", 1)):
            began = time.monotonic()
            ended = watcher(tracking, command, "--url", f"http://127.0.0.1:{port}", env={})
            took[command] = time.monotonic() - began
            assert ended.returncode == code, ended.stderr
    assert took["list"] < 35
    assert took["healthcheck"] < 9
    sees[1](f"{took['list']:.0f} s and {took['healthcheck']:.0f} s")
    junk = tracking.folder / "junk"
    junk.write_bytes(b"xyzzy rubbish\n" * 3_600_000)
    began = time.monotonic()
    with junk.open() as stdin:
        ended = watcher(tracking, "track", "-", "--url", admin, env={}, stdin=stdin)
    assert ended.returncode == 2
    assert time.monotonic() - began < 5
    sees[2](f"refused after {time.monotonic() - began:.1f} s")


def test_a_socket_of_another_process_and_a_secret_with_a_byte_order_mark(
    tracking: TrackingDaemon, promised: Promised
) -> None:
    sees = [
        promised("a stop whose Unix socket was replaced by another process", "the other socket stays"),
        promised("a secret file with a byte order mark or a blank", "ends with 2 and says so"),
    ]
    folder, daemon = tracking.folder, tracking.daemon
    path = folder / "admin.sock"
    daemon.env["WATCHER_ADMIN__LISTEN"] = f"unix:{path}"
    daemon.start()
    path.unlink()
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as other:
        other.bind(str(path))
        assert daemon.terminate(10) == 0
        assert path.exists()
        path.unlink()
    sees[0]("it stays")
    output = []
    for content in (b"\xef\xbb\xbf" + AUTH_TOKEN.encode(), AUTH_TOKEN.encode() + b" \n"):
        (folder / "auth_token").write_bytes(content)
        check = watcher(tracking, "check", *daemon.arguments, env=daemon.env)
        assert check.returncode == 2
        output.append(check.stderr.strip())
    assert "byte order mark" in output[0]
    assert "begins or ends with whitespace" in output[1]
    assert yaml.safe_load((folder / "watcher.yaml").read_text())
    sees[1]("refused by `check`, with the reason")
