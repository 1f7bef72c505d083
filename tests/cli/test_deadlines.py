"""Commands end within their time, whatever answers them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import CREDENTIALS, environment
from watcher.cli import admin_client, configured, healthcheck
from watcher.deadline import within


@pytest.fixture
def trickling() -> Iterator[int]:
    """The port of a server whose answer comes in drops and never ends."""
    over = threading.Event()

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not over.wait(0.05):
                try:
                    connection.sendall(b" ")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        yield server.getsockname()[1]
        over.set()
        thread.join()


def test_work_beyond_the_deadline_is_abandoned_and_work_within_it_gives_its_result():
    assert within(5, lambda: 17) == 17
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0)
    forever = threading.Event()
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"not over within 0.01 s"):
        within(0.01, lambda: forever.wait(30))
    assert time.monotonic() - began < 5
    forever.set()


def test_list_ends_although_the_answer_never_does(watcher, trickling: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(admin_client, "TIMEOUT_SECONDS", 0.3)
    ended = watcher("list", "--url", f"http://127.0.0.1:{trickling}")
    assert ended.code == 4
    assert "not over within 0.3 s" in ended.err


def test_healthcheck_ends_although_the_answer_never_does(watcher, trickling: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(healthcheck, "WHOLE_SECONDS", 0.3)
    ended = watcher("healthcheck", "--url", f"http://127.0.0.1:{trickling}")
    assert ended.code == 1
    assert "no answer within 0.3 s" in ended.err


@pytest.mark.parametrize("command", [("check",), ("wait", "comms_operation_01hhhhhhhhhhhhhhhhhhhhhhhh")])
def test_a_configuration_that_is_a_pipe_ends_a_command(
    watcher, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(configured, "READ_SECONDS", 0.05)
    pipe = tmp_path / "watcher.yaml"
    os.mkfifo(pipe)
    ended = watcher(*command, "--config", str(pipe))
    assert ended.code == 2
    assert "the configuration was not read within 0.05 s" in ended.err
    with pipe.open("wb", buffering=0) as other_end:  # the thread that reads it ends
        other_end.write(b"{}")


def test_a_blocked_output_is_reported_in_one_line():
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "watcher", "check"],
            env=environment(**CREDENTIALS),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode == 2
    assert ended.stderr == "watcher check: cannot write to standard output: no space left on device\n"


def test_megabytes_of_junk_for_ids_are_refused_at_once(watcher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    junk = tmp_path / "junk"
    junk.write_text("\ufeff" + "xyzzy rubbish\n" * 400_000)
    with junk.open() as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        began = time.monotonic()
        ended = watcher("track", "-")
    assert time.monotonic() - began < 2
    assert ended.code == 2
    assert 'standard input, line 1: "xyzzy" is not an operation id' in ended.err
    assert "… and 1,000 or more" in ended.err
