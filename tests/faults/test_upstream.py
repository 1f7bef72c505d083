"""Bad upstreams and bad ways to them: the daemon as a user runs it, over real sockets, many faults at a time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tests.faults.conftest import See
from tests.faults.rounds import Seen, play
from tests.faults.upstream_faults import UpstreamFault, faults, giants

AT_ONCE = 22
NAMES = [fault.name for fault in faults(0)]
GIANTS = [fault.name for fault in giants()]


class Elsewhere:
    """Another host, which should get no request; it records those that it gets."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.visits: list[bytes] = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(2)
                self.visits.append(connection.recv(65_536))

    def close(self) -> None:
        self._socket.close()


class Rounds:
    """Each round is played when the first of its faults is requested."""

    def __init__(self, folder: Path, elsewhere: Elsewhere) -> None:
        self._folder = folder
        self.elsewhere = elsewhere
        self.faults = {fault.name: fault for fault in (*faults(elsewhere.port), *giants())}
        self._seen: dict[str, Seen] = {}

    def seen(self, name: str) -> tuple[UpstreamFault, Seen]:
        if name not in self._seen:
            at = GIANTS.index(name) if name in GIANTS else NAMES.index(name) // AT_ONCE
            names = [name] if name in GIANTS else NAMES[at * AT_ONCE : (at + 1) * AT_ONCE]
            folder = self._folder / f"{'giant' if name in GIANTS else 'round'}{at}"
            folder.mkdir(exist_ok=True)
            self._seen |= play(folder, [self.faults[one] for one in names])
        return self.faults[name], self._seen[name]


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rounds]:
    elsewhere = Elsewhere()
    yield Rounds(tmp_path_factory.mktemp("rounds"), elsewhere)
    elsewhere.close()


def test_all_faults_are_distinct_and_enough() -> None:
    names = [*NAMES, *GIANTS]
    assert len(names) == len(set(names)) >= 60


def grouped(names: Sequence[str], group: Callable[[int], str]) -> list[ParameterSet]:
    """With several workers, faults of one round stay together."""
    return [pytest.param(name, marks=pytest.mark.xdist_group(group(at))) for at, name in enumerate(names)]


@pytest.mark.parametrize("name", grouped(NAMES, lambda at: f"round{at // AT_ONCE}"))
def test_whatever_upstream_does_nothing_is_lost(name: str, rounds: Rounds, promised: Callable[[str, str], See]) -> None:
    fault, seen = rounds.seen(name)
    see = promised(fault.name, fault.promised)
    assert seen.wrong == []
    assert rounds.elsewhere.visits == []
    see(seen.words())


@pytest.mark.parametrize("name", grouped(GIANTS, lambda at: f"giant{at}"))
def test_giant_bodies_cost_little_memory(name: str, rounds: Rounds, promised: Callable[[str, str], See]) -> None:
    fault, seen = rounds.seen(name)
    see = promised(fault.name, fault.promised)
    assert seen.wrong == []
    assert seen.memory_mib < 32
    see(f"{seen.memory_mib:.0f} MiB more at the most; {seen.words()}")
