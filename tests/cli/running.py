"""What the tests of the commands run against: real listeners in a thread of their own, and `main` in this one."""

import asyncio
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from watcher.__main__ import main

T = TypeVar("T")

ROOT = Path(__file__).parent.parent.parent
ACCOUNT_ID = "AC" + "0" * 32
TOKEN = "simulated-auth-token"
CREDENTIALS = {"TWILIO_ACCOUNT_SID": ACCOUNT_ID, "TWILIO_AUTH_TOKEN": TOKEN}


def an_id(number: int) -> str:
    return f"comms_operation_0{number:025d}"


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    out: str
    err: str


def aside(what: Callable[..., T], *given: object) -> T:
    """What a call returns, made in a thread: an event loop that is run in this one would displace that of the tests."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(what, *given).result()


class Command:
    """Runs commands in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *argv: str) -> Ended:
        self._capsys.readouterr()
        code = aside(main, argv)
        out, err = self._capsys.readouterr()
        return Ended(code, out, err)


@contextmanager
def in_background(make: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """What an asynchronous context gives, its loop running in a thread."""
    begun: Future[tuple[T, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def live() -> None:
        try:
            async with make() as value:
                stop = asyncio.Event()
                begun.set_result((value, asyncio.get_running_loop(), stop))
                await stop.wait()
        except BaseException as exc:
            if not begun.done():
                begun.set_exception(exc)
            raise

    thread = threading.Thread(target=lambda: asyncio.run(live()))
    thread.start()
    value, loop, stop = begun.result(timeout=10)
    try:
        yield value
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=10)


def environment(**more: str) -> dict[str, str]:
    """This process's environment, as the tests left it, for a process of its own."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def process(*argv: str, env: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
    command: Sequence[str] = [sys.executable, "-m", "watcher", *argv]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment(**(env or {})), text=True, stdout=pipe, stderr=pipe)


def on_a_terminal(*argv: str, columns: int = 100) -> tuple[int, str]:
    """The exit code, and everything that was written to a terminal."""
    ours, theirs = pty.openpty()
    env = environment(TERM="xterm-256color", COLUMNS=str(columns), LINES="40")
    command: Sequence[str] = [sys.executable, "-m", "watcher", *argv]
    with subprocess.Popen(command, env=env, stdin=theirs, stdout=theirs, stderr=theirs) as running:
        os.close(theirs)
        written = b""
        try:
            while piece := os.read(ours, 65536):
                written += piece
        except OSError:  # how Linux reports that the other end was closed
            pass
    os.close(ours)
    return running.returncode, written.decode()
