"""The daemon in surroundings that no switch of a machine makes: `launch.py FAULT CONFIG`.

clock=FILE      the wall clock is ahead by the seconds in the file
disk=SECONDS    each transaction takes this time
blocked         the first request to upstream never lets go of the event loop
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from watcher import loop
from watcher.clock import Clock
from watcher.config import LoadedConfiguration, load
from watcher.daemon.daemon import Daemon


class Blocking(httpx.AsyncBaseTransport):
    """Blocks the event loop for ever."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        time.sleep(3600)  # noqa: ASYNC251 -- that is the fault
        raise AssertionError


class Slow(sqlite3.Connection):
    """A disk that takes its time."""

    seconds = 0.0

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            time.sleep(self.seconds)
        return super().execute(sql, *values)


real_connect = sqlite3.connect


def connect(*args: Any, **options: Any) -> sqlite3.Connection:
    return real_connect(*args, factory=Slow, **options)


async def run(fault: str, config: Path) -> int:
    def read() -> LoadedConfiguration:
        return load(config, os.environ)

    kind, _, value = fault.partition("=")
    clock = transport = None
    if kind == "clock":
        clock = Clock(wall=lambda: time.time() + float(Path(value).read_text()))
    elif kind == "disk":
        Slow.seconds = float(value)
        sqlite3.connect = connect  # type: ignore[assignment]
    else:
        transport = Blocking()
    daemon = Daemon(read, clock=clock, transport=transport)
    with daemon.listening_to_signals():
        return await daemon.run()


if __name__ == "__main__":
    sys.exit(loop.run(run(sys.argv[1], Path(sys.argv[2]))))
