"""Bad surroundings: disk, locks, descriptors, standard output, clock, signals, hostile scrapers and posts."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.conftest import See
from tests.support.processes import (
    Daemon,
    Simulator,
    account,
    answers,
    cpu_seconds,
    daemon_of,
    environment,
    simulating,
    until,
)
from watcher.core.model import SECOND
from watcher.simulator.ids import make_id

Promised = Callable[[str, str], See]
LAUNCH = Path(__file__).parent / "launch.py"
NUMBER = 12
VISITS = 400
PER_SECOND = 20
GOES_ON = "polling and scraping go on; afterwards everything is published once and counted exactly"
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


class TrackingDaemon:
    """A daemon that tracks operations which end in the next seconds."""

    def __init__(self, folder: Path, simulator: Simulator, daemon: Daemon) -> None:
        self.folder = folder
        self.simulator = simulator
        self.daemon = daemon
        self.ids: list[str] = []
        self.began = time.monotonic()

    def track_some(self, *, shortest: float = 3, longest: float = 9) -> None:
        """More operations, upstream and here."""
        rng = random.Random(len(self.ids))
        new = [self._send(rng.uniform(shortest, longest)) for _ in range(NUMBER)]
        answer = self.daemon.track(*new)
        assert answer.status_code == httpx.codes.CREATED, answer.text
        self.ids += new

    def _send(self, lifetime: float) -> str:
        answer = httpx.post(
            f"{self.simulator.base_url}/PushNotifications",
            json={"recipients": 10, "failed": 1, "lifetime": f"{lifetime:.1f}s"},
            auth=("AC00000000000000000000000000000000", "simulated-auth-token"),
            trust_env=False,
        )
        return str(answer.raise_for_status().json()["operationId"])

    def value(self, series: str) -> float:
        """One sample by name and labels as they are in the text: parsing everything while waiting costs too much."""
        time.sleep(0.25)
        lines = self.daemon.metrics().splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{series} ")), -1.0)

    def counted(self) -> float:
        return self.value('twilio_operations_finished_total{account="main",channel="push",outcome="completed"}')

    def all_ends_well(self, *, within: float = 90, is_published: bool = True) -> float:
        """Wait until everything is counted once, as it was, and published; the seconds until it was counted."""
        began = time.monotonic()
        until(lambda: self.counted() >= len(self.ids), within=within, what="everything is counted")
        took = time.monotonic() - began
        if is_published:
            # The gauge is measured every few seconds: on a slow disk it may still show 0 of before the ends.
            until(lambda: len(self.ends()) >= len(self.ids), within=40, what="every end is published")
            until(
                lambda: self.value("operation_watcher_events_pending") == 0, within=40, what="everything is published"
            )
        failed = self.daemon.value("twilio_operation_messages_finished_total", account="main", state="failed")
        assert (self.counted(), failed) == (len(self.ids), len(self.ids))
        assert self.is_well()
        assert self.requests_per_second() < PER_SECOND + 1
        assert "Traceback" not in self.daemon.unexpected_output()
        if is_published:
            ends = self.ends()
            assert sorted(ends) == sorted(self.ids)
        return took

    def requests_per_second(self) -> float:
        """Requests to upstream since the first, two seconds allowed for the first few."""
        sent = sum(entry["endpoint"] in ("fetch", "list") for entry in self.simulator.requests()["last"])
        return sent / (time.monotonic() - self.began + 2)

    def ends(self) -> list[str]:
        """The operations whose end was published. An end that was published again counts once."""
        return [
            one for one, _ in {(e["operation_id"], e["event_id"]) for e in self.daemon.events("operation.finished")}
        ]

    def is_well(self) -> bool:
        return answers(f"{self.daemon.web}/-/healthy") and answers(f"{self.daemon.web}/-/ready")

    def stay_well(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.is_well()
            time.sleep(0.5)

    @property
    def pid(self) -> int:
        assert self.daemon.process is not None
        return self.daemon.process.pid


@pytest.fixture
def tracking(tmp_path: Path) -> Iterator[TrackingDaemon]:
    with (
        simulating(tmp_path, "latency: 1ms..5ms") as simulator,
        daemon_of(tmp_path, settings(tmp_path, simulator)) as one,
    ):
        yield TrackingDaemon(tmp_path, simulator, one)


def settings(folder: Path, simulator: Simulator, **changes: Any) -> dict[str, Any]:
    return {
        "accounts": [account(simulator.base_url, folder, max_requests_per_second=PER_SECOND, **changes)],
        "polling": {"freshness": "1s", "settle_after": ["1s"], "request_timeout": "2s"},
    }


def launch(tracking: TrackingDaemon, fault: str, *, ready: bool = True) -> None:
    """Start the daemon by the script that bends its surroundings."""
    daemon = tracking.daemon
    with daemon.stdout.open("ab") as out, daemon.stderr.open("ab") as err:
        daemon.process = subprocess.Popen(
            [sys.executable, str(LAUNCH), fault, str(tracking.folder / "watcher.yaml")],
            env=environment(daemon.env),
            cwd=tracking.folder,
            stdout=out,
            stderr=err,
        )
    if ready:
        until(daemon.is_ready, within=30, what="the daemon is ready")


# ── the disk and the store ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def disk(tracking: TrackingDaemon) -> Iterator[Path]:
    """A small disk of its own, which holds the store."""
    folder = tracking.folder / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=True)
    tracking.daemon.env["WATCHER_STORAGE__URL"] = f"sqlite:///{folder}/watcher.db"
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def unusable_then_usable(tracking: TrackingDaemon, undo: Callable[[], object], *, is_published: bool = True) -> str:
    daemon = tracking.daemon
    until(lambda: tracking.value("operation_watcher_store_usable") == 0, within=40, what="the store is called unusable")
    tracking.stay_well(8)
    undo()
    tracking.all_ends_well()
    until(lambda: tracking.value("operation_watcher_store_usable") == 1, within=60, what="the store is usable again")
    events = [event["event"] for event in daemon.events() if event["event"].startswith("store.")]
    # Events of the daemon itself are not kept for a standard output that takes nothing.
    assert events == ["store.unusable", "store.recovered"][not is_published :]
    return f"healthy and ready all the while; {' and '.join(events)} once; all published and counted"


@AS_ROOT
def test_the_disk_is_full(tracking: TrackingDaemon, disk: Path, promised: Promised) -> None:
    see = promised("the disk is full", GOES_ON)
    tracking.daemon.start()
    tracking.track_some()
    with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))
    see(unusable_then_usable(tracking, (disk / "ballast").unlink))


@AS_ROOT
def test_the_disk_is_read_only(tracking: TrackingDaemon, disk: Path, promised: Promised) -> None:
    see = promised(
        "the disk is read-only", "ends with 2 and says so; with --stay it stands by until the cause is removed"
    )
    daemon = tracking.daemon
    daemon.start()
    tracking.track_some()
    assert daemon.terminate(10) == 0
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    daemon.start(ready=False)
    assert daemon.process is not None
    assert daemon.process.wait(20) == 2
    assert "read-only" in daemon.stderr.read_text()
    daemon.start("--stay")
    assert daemon.value("operation_watcher_store_usable") == 0
    tracking.stay_well(4)
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    took = tracking.all_ends_well()
    see(f"ended with 2; stood by, and {took:.0f} s after the cause was removed all was published and counted")


def test_no_file_may_grow(tracking: TrackingDaemon, promised: Promised) -> None:
    see = promised("no file may grow, neither store nor standard output", GOES_ON)
    tracking.daemon.start()
    tracking.track_some()
    resource.prlimit(tracking.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)

    def undo() -> None:
        resource.prlimit(tracking.pid, resource.RLIMIT_FSIZE, unlimited)

    see(unusable_then_usable(tracking, undo, is_published=False))


def test_the_directory_of_the_store_does_not_exist(tracking: TrackingDaemon, promised: Promised) -> None:
    see = promised(
        "the store cannot be made", "ends with 2 and says why; with --stay it stands by until the cause is removed"
    )
    daemon = tracking.daemon
    missing = tracking.folder / "missing"
    daemon.env["WATCHER_STORAGE__URL"] = f"sqlite:///{missing}/watcher.db"
    daemon.start(ready=False)
    assert daemon.process is not None
    assert daemon.process.wait(20) == 2
    assert "does not exist" in daemon.stderr.read_text()
    daemon.start("--stay")
    assert daemon.value("operation_watcher_store_usable") == 0
    missing.mkdir()
    until(lambda: tracking.value("operation_watcher_store_usable") == 1, within=20, what="the store is taken")
    tracking.track_some()
    tracking.all_ends_well()
    see("ended with 2 naming the directory; stood by, and took the store within seconds")


def test_the_disk_is_slow(tracking: TrackingDaemon, promised: Promised) -> None:
    see = promised(
        "each write takes three seconds", "no scrape waits for the disk; everything is published once, counted exactly"
    )
    launch(tracking, "disk=3")
    tracking.track_some()
    slowest = 0.0
    end = time.monotonic() + 10
    while time.monotonic() < end:
        began = time.monotonic()
        tracking.daemon.metrics()
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.1)
    tracking.all_ends_well()
    assert slowest < 3
    see(f"the slowest scrape took {slowest * 1000:.0f} ms; all published and counted")


def test_the_database_is_locked(tracking: TrackingDaemon, promised: Promised) -> None:
    see = promised("another program locks the database", GOES_ON)
    tracking.daemon.start()
    tracking.track_some()
    other = sqlite3.connect(tracking.folder / "watcher.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    see(unusable_then_usable(tracking, lambda: other.execute("ROLLBACK")))
    other.close()


def test_a_damaged_file_is_refused(tracking: TrackingDaemon, promised: Promised) -> None:
    see = promised("the database is damaged", "ends with 2 and says what to do; nothing is overwritten")
    file = tracking.folder / "watcher.db"
    file.write_bytes(random.Random(1).randbytes(50_000))
    before = file.read_bytes()
    tracking.daemon.start(ready=False)
    assert tracking.daemon.process is not None
    assert tracking.daemon.process.wait(20) == 2
    assert "damaged" in tracking.daemon.stderr.read_text()
    assert file.read_bytes() == before
    see("ended with 2; the file is as it was")


# ── descriptors, standard output ──────────────────────────────────────────────────────────────────────────────────────


def test_file_descriptors_are_at_the_limit(tracking: TrackingDaemon, promised: Promised) -> None:
    see = promised(
        "file descriptors run out", "no crash, no hot loop; afterwards everything is published once, counted exactly"
    )
    tracking.daemon.start()
    tracking.track_some()
    open_now = sum(1 for _ in Path(f"/proc/{tracking.pid}/fd").iterdir())
    soft, hard = resource.prlimit(tracking.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(tracking.pid, resource.RLIMIT_NOFILE, (open_now + 3, hard))
    hogs = [socket.create_connection(("127.0.0.1", tracking.daemon.web_port)) for _ in range(30)]
    before = cpu_seconds(tracking.pid)
    time.sleep(8)
    used = cpu_seconds(tracking.pid) - before
    assert not tracking.daemon.has_ended()
    for hog in hogs:
        hog.close()
    resource.prlimit(tracking.pid, resource.RLIMIT_NOFILE, (soft, hard))
    tracking.all_ends_well()
    assert used < 4
    see(f"{used:.1f} s of CPU in 8 s; alive, and all published and counted afterwards")


def test_standard_output_is_blocked(tracking: TrackingDaemon, promised: Promised) -> None:
    see = promised("standard output is a pipe that is not read", f"events wait; {GOES_ON}")
    daemon = tracking.daemon
    reading, writing = os.pipe()
    with daemon.stderr.open("ab") as err:
        daemon.process = subprocess.Popen(
            [sys.executable, "-m", "watcher", "run", *daemon.arguments],
            env=environment(daemon.env),
            cwd=tracking.folder,
            stdout=writing,
            stderr=err,
        )
    until(daemon.is_ready, within=30, what="the daemon is ready")
    # What the pipe holds already stays in it, because it is not read.
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b" " * 1000 + b"\n")
    os.set_blocking(writing, True)
    os.close(writing)
    tracking.track_some()
    tracking.all_ends_well(is_published=False)
    assert (daemon.value("operation_watcher_events_pending") or 0) >= NUMBER
    pump = threading.Thread(target=pour_into, args=(reading, daemon.stdout), daemon=True)
    pump.start()
    tracking.all_ends_well()
    see("counted while blocked; published when the pipe was read")


def pour_into(descriptor: int, file: Path) -> None:
    with file.open("ab", buffering=0) as out:
        while data := os.read(descriptor, 65_536):
            out.write(data)


@pytest.mark.parametrize("kind", ["closed", "a pipe whose reader is gone", "on a full disk"])
def test_standard_output_is_broken(kind: str, tracking: TrackingDaemon, promised: Promised) -> None:
    see = promised(f"standard output is {kind}", "events wait and are published by the next process; polling goes on")
    daemon = tracking.daemon
    command = [sys.executable, "-m", "watcher", "run", *daemon.arguments]
    reading, writing = os.pipe()
    shell = {"closed": 'exec "$@" >&-', "on a full disk": 'exec "$@" >/dev/full'}.get(kind, 'exec "$@"')
    with daemon.stderr.open("ab") as err:
        daemon.process = subprocess.Popen(
            ["sh", "-c", shell, "sh", *command],
            env=environment(daemon.env),
            cwd=tracking.folder,
            stdout=writing,
            stderr=err,
        )
    os.close(writing)
    os.close(reading)
    until(daemon.is_ready, within=30, what="the daemon is ready")
    tracking.track_some()
    before = cpu_seconds(tracking.pid)
    tracking.all_ends_well(is_published=False)
    used = cpu_seconds(tracking.pid) - before
    assert (daemon.value("operation_watcher_events_pending") or 0) >= NUMBER
    assert daemon.terminate(10) == 0
    daemon.start()
    tracking.all_ends_well()
    replayed = [event["replayed"] for event in daemon.events("operation.finished")]
    assert replayed == [True] * NUMBER
    see(f"all counted ({used:.1f} s of CPU); the next process published every end, as replayed")


# ── clock and signals ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_wall_clock_jumps(tracking: TrackingDaemon, promised: Promised) -> None:
    hour, day = 3600, 86_400
    jumps = {
        "an hour forwards": hour,
        "an hour back": 0,
        "a day forwards": day,
        "a day back": 0,
        "eight days forwards": 8 * day,
        "eight days back": 0,
        "an hour into the past": -hour,
        "eight days into the past": -8 * day,
    }
    file = tracking.folder / "clock"
    file.write_text("0")
    launch(tracking, f"clock={file}")
    sees = [
        promised(f"the clock jumps {how}", "published once; nothing expires, is lost, or is counted twice")
        for how in jumps
    ]
    for number, (see, ahead) in enumerate(zip(sees, jumps.values(), strict=True), 1):
        tracking.track_some(shortest=1.5, longest=4)
        time.sleep(0.7)
        # Replaced and not written, for it is read at any moment.
        (tracking.folder / "clock.new").write_text(str(ahead))
        (tracking.folder / "clock.new").rename(file)
        took = tracking.all_ends_well()
        assert len(tracking.daemon.events("daemon.clock_jumped")) == number
        expired = tracking.daemon.value("twilio_operations_finished_total", account="main", outcome="expired")
        assert expired == 0
        see(f"all published and counted {took:.0f} s later")


def test_the_process_is_stopped_and_continued(tracking: TrackingDaemon, promised: Promised) -> None:
    see = promised("SIGSTOP for 13 s, then SIGCONT", "what happened meanwhile is found; not taken for a blocked loop")
    tracking.daemon.start()
    tracking.track_some()
    tracking.daemon.signal(signal.SIGSTOP)
    time.sleep(13)
    tracking.daemon.signal(signal.SIGCONT)
    took = tracking.all_ends_well()
    assert "blocked" not in tracking.daemon.stderr.read_text()
    see(f"all published and counted {took:.0f} s later; no stack was dumped")


def test_a_name_does_not_resolve(tracking: TrackingDaemon, promised: Promised) -> None:
    see = promised("the name of upstream does not resolve", f"account.unreachable once; {GOES_ON}")
    daemon = tracking.daemon
    bad = settings(tracking.folder, tracking.simulator)
    bad["accounts"][0] |= {"base_url": "http://no-such-host.invalid/v1", "allow_http": True}
    daemon.configure(bad)
    daemon.start()
    tracking.track_some()
    until(lambda: daemon.events("account.unreachable"), within=60, what="the account is called unreachable")
    took = time.monotonic() - tracking.began
    tracking.stay_well(3)
    tried = sum(
        value for (name, _), value in daemon.samples().items() if name == "operation_watcher_api_requests_total"
    )
    daemon.configure(settings(tracking.folder, tracking.simulator))
    daemon.signal(signal.SIGHUP)
    tracking.all_ends_well()
    events = [event["event"] for event in daemon.events() if event["event"].startswith("account.")]
    assert events[0] == "account.unreachable"
    assert events.count("account.unreachable") == 1
    see(f"{tried:.0f} tries in {took + 3:.0f} s; {', '.join(events)}; all published and counted after a reload")


def test_a_blocked_event_loop_ends_the_process(tracking: TrackingDaemon, promised: Promised) -> None:
    see = promised("the event loop is blocked", "stacks are dumped after 10 s, the process ends with 70 after 60 s")
    launch(tracking, "blocked", ready=False)
    began = time.monotonic()
    assert tracking.daemon.process is not None
    until(lambda: "blocked for" in tracking.daemon.stderr.read_text(), within=60, what="the stacks are dumped")
    dumped = time.monotonic() - began
    assert tracking.daemon.process.wait(75) == 70
    ended = time.monotonic() - began
    assert "handle_async_request" in tracking.daemon.stderr.read_text()
    see(f"dumped after {dumped:.0f} s, ended with 70 after {ended:.0f} s")


# ── hostile visitors ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_scrapers_that_read_slowly_or_send_half_a_request(tracking: TrackingDaemon, promised: Promised) -> None:
    see = promised("100 scrapers that do not read, 100 that send half a request", "others are scraped at once")
    tracking.daemon.start()
    tracking.track_some()
    whole = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Prometheus-Scrape-Timeout-Seconds: 5\r\n\r\n"
    slow = [connection(tracking.daemon.web_port, whole) for _ in range(100)]
    half = [connection(tracking.daemon.web_port, whole[:30]) for _ in range(100)]
    slowest = 0.0
    for _ in range(20):
        began = time.monotonic()
        tracking.daemon.metrics()
        slowest = max(slowest, time.monotonic() - began)
    took = tracking.all_ends_well()
    for one in (*slow, *half):
        one.close()
    assert slowest < 5
    see(f"the slowest of 20 scrapes took {slowest * 1000:.0f} ms; all published and counted in {took:.0f} s")


def connection(port: int, says: bytes) -> socket.socket:
    one = socket.create_connection(("127.0.0.1", port))
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    one.sendall(says)
    return one


def test_thousands_of_requests(tracking: TrackingDaemon, promised: Promised) -> None:
    see = promised(f"{VISITS} requests as fast as they come", GOES_ON)
    tracking.daemon.start()
    tracking.track_some()
    began = time.monotonic()
    with httpx.Client(trust_env=False, base_url=tracking.daemon.web) as client:
        for number in range(VISITS):
            path = ("/metrics", "/", "/api/v1/operations", "/nowhere")[number % 4]
            assert client.get(path).status_code < httpx.codes.INTERNAL_SERVER_ERROR
    rate = VISITS / (time.monotonic() - began)
    tracking.all_ends_well()
    see(f"{rate:.0f} a second were answered, none with 5xx; all published and counted")


ID = make_id(1_790_000_000 * SECOND, random.Random(1))
ONE = json.dumps({"id": ID})
POSTS: dict[str, tuple[dict[str, str], bytes, int]] = {
    "a body over 4 MiB": ({}, b" " * (5 << 20), 413),
    "JSON 10,000 deep": ({}, b"[" * 10_000 + b"]" * 10_000, 400),
    "an entry 10,000 deep": ({}, b'{"id": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400),
    "10,001 entries": ({}, ("[" + ",".join([ONE] * 10_001) + "]").encode(), 400),
    "a number of 4,000 digits": ({}, b'{"id": ' + b"9" * 4000 + b"}", 400),
    "NaN": ({}, b'{"id": NaN}', 400),
    "bytes that are no UTF-8": ({}, b'{"id": "\xff"}', 400),
    "a lone surrogate": ({}, b'{"id": "\\ud800"}', 400),
    "an id that climbs directories": ({}, b'{"id": "comms_operation_../../../etc/passwd000000"}', 400),
    "labels with NUL": ({}, b'{"id": "' + ID.encode() + b'", "labels": {"a": "\\u0000"}}', 400),
    "a thousand labels": (
        {},
        json.dumps({"id": ID, "labels": {f"l{n}": "x" for n in range(1000)}}).encode(),
        400,
    ),
    "a form instead of JSON": ({"Content-Type": "text/plain"}, ONE.encode(), 415),
    "a Host of elsewhere (DNS rebinding)": ({"Host": "attacker.example"}, ONE.encode(), 421),
    "a page of elsewhere": ({"Origin": "https://attacker.example"}, ONE.encode(), 403),
}


def test_hostile_posts(tracking: TrackingDaemon, promised: Promised) -> None:
    tracking.daemon.start()
    sees = {name: promised(f"POST: {name}", "refused with a clear problem; nothing is kept") for name in POSTS}
    with httpx.Client(trust_env=False, base_url=tracking.daemon.admin) as client:
        for name, (headers, body, code) in POSTS.items():
            answer = client.post(
                "/api/v1/operations", content=body, headers={"Content-Type": "application/json"} | headers
            )
            assert answer.status_code == code, (name, answer.text[:300])
            assert answer.headers["content-type"] == "application/problem+json"
            assert len(answer.content) < 200_000
            sees[name](f"{answer.status_code}: {answer.json().get('detail') or answer.json()['title']}"[:150])
        assert client.get("/api/v1/operations").json()["operations"] == []
    tracking.track_some()
    tracking.all_ends_well()
    assert "Traceback" not in tracking.daemon.stderr.read_text() + tracking.daemon.stdout.read_text()


def test_the_port_is_taken(tracking: TrackingDaemon, promised: Promised) -> None:
    see = promised("the port of metrics is taken", "ends with 2 and says so")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        tracking.daemon.env["WATCHER_WEB__LISTEN"] = f"127.0.0.1:{taken.getsockname()[1]}"
        tracking.daemon.start(ready=False)
        assert tracking.daemon.process is not None
        assert tracking.daemon.process.wait(20) == 2
    see(tracking.daemon.stderr.read_text().strip()[:120])
