"""What is measured side by side: the daemon of a source tree, or the plain poller. Each is a process of its own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import httpx

from benchmarks.checkout import ROOT, Source
from benchmarks.daemon.cases import Case, scenario, settings, tracked_ids
from benchmarks.daemon.seen import cpu_seconds, scrape, scrape_unread, tracked
from tests.support.certificates import Authority
from tests.support.processes import Daemon, environment, free_port, until

START_WITHIN_SECONDS = 300


class World:
    """The simulated API of a case, in a process of its own."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.folder = folder
        self.ids = tracked_ids(case)
        self.ca_file: Path | None = None
        file = folder / "scenario.yaml"
        file.write_text(json.dumps(scenario(case, self.ids)))
        tls: list[str] = []
        if case.tls:
            authority = Authority()
            authority.server(folder)
            self.ca_file = authority.save(folder)
            tls = [str(folder / "server.crt"), str(folder / "server.key")]
        command = [sys.executable, "-m", "benchmarks.daemon.upstream", str(file), str(folder), *tls]
        self.process = subprocess.Popen(command, env=environment({}))
        try:
            until(self._has_port, within=START_WITHIN_SECONDS, what="the simulated API answers")
        except BaseException:
            self.stop()
            raise
        port = (folder / "port").read_text()
        self.origin = f"{'https' if case.tls else 'http'}://127.0.0.1:{port}"
        trust = Authority.trusted_from(self.ca_file) if self.ca_file is not None else True
        self._http = httpx.Client(trust_env=False, timeout=60, verify=trust)

    def _has_port(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError("the simulated API has ended")
        return (self.folder / "port").exists()

    def base_url(self, side: str) -> str:
        return f"{self.origin}/{side}/v1"

    def requests(self) -> dict[str, int]:
        """The requests of each side so far."""
        counts: dict[str, int] = self._http.get(f"{self.origin}/_bench/requests").json()
        return counts

    def record(self) -> None:
        self._http.get(f"{self.origin}/_bench/record")

    def keep(self) -> None:
        self._http.get(f"{self.origin}/_bench/keep")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class Side(Protocol):
    """One of the two that are compared."""

    key: str
    name: str

    def start(self) -> None: ...
    def cpu_seconds(self) -> float: ...
    def scrape(self) -> None: ...
    def has_found(self, number: float) -> bool: ...
    def stop(self) -> None: ...

    @property
    def pid(self) -> int: ...


class DaemonSide:
    """`watcher run` of a source tree."""

    def __init__(self, key: str, source: Source, case: Case, world: World) -> None:
        self.key, self.name = key, source.name
        folder = world.folder / key
        folder.mkdir()
        self.daemon = Daemon(
            folder,
            settings(case, world.base_url(key), folder, ids=world.ids, ca_file=world.ca_file),
            {"PYTHONPATH": str(source.root)},
        )

    def start(self) -> None:
        self.daemon.start(ready=False)
        until(
            lambda: self.daemon.is_ready() or self.daemon.has_ended(),
            within=START_WITHIN_SECONDS,
            what=f"the daemon of {self.name} is ready",
        )
        if self.daemon.has_ended():
            raise RuntimeError(f"the daemon of {self.name} has ended: {self.daemon.unexpected_output()}")

    @property
    def pid(self) -> int:
        assert self.daemon.process is not None  # noqa: S101 - started before it is measured
        return self.daemon.process.pid

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.pid)

    def scrape(self) -> None:
        scrape_unread(self.daemon.web)

    def has_found(self, number: float) -> bool:
        return tracked(scrape(self.daemon.web)) >= number

    def stop(self) -> None:
        if self.daemon.process is not None and not self.daemon.has_ended():
            self.daemon.kill()


class PlainSide:
    """The plain poller; it also says how many polls it made, and how many of them in time."""

    def __init__(self, key: str, case: Case, world: World) -> None:
        if case.accounts > 1 or case.tls or case.idle is not None:
            raise ValueError(f"the plain poller polls one account without TLS, not the case {case.name}")
        self.key, self.name = key, "plain poller"
        self._port = free_port()
        self._command = [
            sys.executable,
            "-m",
            "benchmarks.daemon.plain_poller",
            world.base_url(key),
            f"{case.freshness:g}",
            str(self._port),
        ]
        self._process: subprocess.Popen[str] | None = None
        self.polls = (0, 0)

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, env=environment({"PYTHONPATH": str(ROOT)}), stdout=subprocess.PIPE, text=True
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process is not None  # noqa: S101 - it was just started
        for line in self._process.stdout or ():
            made, in_time = line.split()
            self.polls = (int(made), int(in_time))

    @property
    def pid(self) -> int:
        assert self._process is not None  # noqa: S101 - started before it is measured
        return self._process.pid

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.pid)

    def scrape(self) -> None:
        scrape_unread(f"http://127.0.0.1:{self._port}")

    def has_found(self, number: float) -> bool:
        return self.polls[0] >= number

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def both_sides(case: Case, world: World, ours: Source, base: Source | None) -> Iterator[tuple[Side, Side]]:
    """Ours and the base, started one after the other; the plain poller where there is no other commit."""
    pair: tuple[Side, Side] = (
        DaemonSide("ours", ours, case, world),
        PlainSide("base", case, world) if base is None else DaemonSide("base", base, case, world),
    )
    try:
        for side in pair:
            side.start()
        yield pair
    finally:
        for side in pair:
            side.stop()
