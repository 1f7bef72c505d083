"""A whole daemon inside the test's event loop, with a configuration file, a store, sockets and a pipe of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.processes import account
from watcher.config import load
from watcher.daemon import Daemon
from watcher.logs import LineWriter
from watcher.simulator import parse_scenario
from watcher.simulator.server import Running as Api
from watcher.simulator.server import serving

PUSH = {("channel", "push")}
WITHIN = 10.0
"""Seconds after which a test has failed; a busy machine is no failure."""


def an_id(number: int) -> str:
    return f"comms_operation_0{number:025d}"


@contextlib.asynccontextmanager
async def simulated(*lives: str, more: str = "") -> AsyncIterator[Api]:
    """A simulated API with one operation for each life, under the ids in order."""
    lines = "".join(f"  - {{id: {an_id(number)}, {life}}}\n" for number, life in enumerate(lives))
    async with serving(parse_scenario(f"operations:\n{lines}{more}" if lives else more)) as api:
        yield api


def settings(*accounts: Mapping[str, Any], **sections: Any) -> dict[str, Any]:
    """A configuration that is quick; sections are merged into it."""
    usual: dict[str, Any] = {
        "polling": {"freshness": "500ms", "settle_after": ["500ms"]},
        "web": {"listen": "127.0.0.1:0"},
        "admin": {"listen": "127.0.0.1:0"},
    }
    return (
        {"accounts": list(accounts)} | usual | {name: usual.get(name, {}) | given for name, given in sections.items()}
    )


class Place:
    """A folder with a configuration file, a store, and the reading end of the daemon's standard output."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.file = folder / "watcher.yaml"
        self.environ = {"WATCHER_STORAGE__URL": f"sqlite:///{folder}/watcher.db"} | dict(environ or {})
        self._reading, self.writing = os.pipe()
        os.set_blocking(self._reading, False)
        self._writers: list[LineWriter] = []
        self._unparsed = b""
        self._events: list[dict[str, Any]] = []
        self._is_closed = False
        self.is_read = True
        """Whether the other end of the pipe is read."""

    def writer(self) -> LineWriter:
        """A daemon's standard output."""
        self._writers.append(LineWriter(self.writing))
        return self._writers[-1]

    def configure(self, what: Mapping[str, Any] | str) -> None:
        # Replaced and not written: a daemon that tries again reads at any moment, in a thread.
        new = self.file.with_suffix(".new")
        new.write_text(what if isinstance(what, str) else json.dumps(what))
        new.replace(self.file)

    def account(self, api: Api, **changes: Any) -> dict[str, Any]:
        """An account of the simulated API, its token in a file."""
        return account(api.base_url, self.folder, max_requests_per_second=50) | changes

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """The events that were published so far."""
        if not self._is_closed and self.is_read:
            with contextlib.suppress(BlockingIOError):
                while piece := os.read(self._reading, 65_536):
                    self._unparsed += piece
        *lines, self._unparsed = self._unparsed.split(b"\n")
        self._events += [json.loads(line) for line in lines]
        return [event for event in self._events if name in (None, event["event"])]

    def close(self) -> None:
        """Close the pipe. Events that were read before stay available."""
        self.events()
        self._is_closed = True
        os.close(self._reading)
        # Their threads must not write into whatever gets the number of the descriptor next.
        assert all(writer.drain(WITHIN) for writer in self._writers)
        os.close(self.writing)


@contextlib.contextmanager
def placed(folder: Path, environ: Mapping[str, str] | None = None):
    place = Place(folder, environ)
    try:
        yield place
    finally:
        place.close()


class Running:
    """A daemon that runs."""

    def __init__(self, place: Place, daemon: Daemon, task: asyncio.Task[int]) -> None:
        self.place = place
        self.daemon = daemon
        self.task = task
        self.web = self.admin = ""
        # Without verification no certificates are read, which takes longer than most tests.
        self.client = httpx.AsyncClient(trust_env=False, timeout=WITHIN, verify=False)

    async def until(self, holds: Callable[[], Any]) -> Any:
        """The first true value."""
        async with asyncio.timeout(WITHIN):
            while not (value := holds()):  # noqa: ASYNC110 -- what it waits for has no event
                await asyncio.sleep(0.01)
            return value

    async def published(self, name: str, number: int = 1) -> list[dict[str, Any]]:
        """Wait until `number` events of this name were published."""
        await self.until(lambda: len(self.place.events(name)) >= number)
        return self.place.events(name)

    async def request(self, method: str, url: str, **given: Any) -> httpx.Response:
        return await self.client.request(method, url, **given)

    async def get(self, path: str, **given: Any) -> httpx.Response:
        return await self.request("GET", self.web + path, **given)

    async def post(self, path: str, **given: Any) -> httpx.Response:
        return await self.request("POST", self.admin + path, **given)

    async def track(self, *numbers: int, **more: Any) -> httpx.Response:
        return await self.post("/api/v1/operations", json=[{"id": an_id(number)} | more for number in numbers])

    async def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        text = (await self.get("/metrics")).text
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def value(self, name: str, **labels: str) -> float | None:
        """One sample, also where the series has the channel; None where there is no such series."""
        samples, key = await self.samples(), frozenset(labels.items())
        return samples.get((name, key), samples.get((name, key | PUSH)))

    async def until_value(self, wanted: float | None, name: str, **labels: str) -> None:
        """Wait until a sample has this value; None: until it is not there."""
        async with asyncio.timeout(WITHIN):
            while await self.value(name, **labels) != wanted:  # noqa: ASYNC110 -- as above
                await asyncio.sleep(0.02)

    async def stop(self) -> int:
        """End it cleanly; the exit code."""
        self.daemon.stop()
        return await self.ended()

    async def ended(self) -> int:
        async with asyncio.timeout(WITHIN):
            return await asyncio.shield(self.task)


@contextlib.asynccontextmanager
async def started(place: Place, **given: Any) -> AsyncIterator[Running]:
    """A daemon on the place's configuration, from when it is ready (or has ended) until it has ended."""
    read = given.pop("read", lambda: load(place.file, place.environ))
    daemon = Daemon(read, writer=place.writer(), **given)
    task = asyncio.create_task(daemon.run(), name="daemon")
    running = Running(place, daemon, task)
    ready = asyncio.create_task(daemon.ready.wait())
    await asyncio.wait([task, ready], timeout=WITHIN, return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    if daemon.addresses:
        running.web, running.admin = daemon.addresses["web"][0], daemon.addresses["admin"][0]
    try:
        yield running
    finally:
        place.events()  # a full pipe would hold up the end
        daemon.stop()
        daemon.stop()
        async with asyncio.timeout(WITHIN):
            await asyncio.wait([task])
        await running.client.aclose()


def names(events: Sequence[Mapping[str, Any]]) -> list[str]:
    return [str(event["event"]) for event in events]
