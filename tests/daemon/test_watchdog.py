from __future__ import annotations

import threading

import pytest

from watcher.daemon.watchdog import DUMP_AFTER_SECONDS, END_AFTER_SECONDS, Watchdog


class World:
    """A clock, a dump and an end that remember."""

    def __init__(self) -> None:
        self.now = 100.0
        self.dumps: list[float] = []
        self.ends: list[int] = []
        self.watchdog = Watchdog(self.ends.append, lambda: self.now, lambda: self.dumps.append(self.now))

    def pass_(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            self.now += 1
            self.watchdog.check()


class Turns:
    """In place of the event that the thread waits on: so much time passes in each turn, then it is to stop."""

    def __init__(self, world: World, seconds: list[float]) -> None:
        self.world = world
        self.seconds = seconds

    def wait(self, _timeout: float) -> bool:
        if not self.seconds:
            return True
        self.world.now += self.seconds.pop(0)
        return False


def test_a_loop_that_runs_is_not_ended():
    world = World()
    for _ in range(200):
        world.watchdog.beat()
        world.pass_(9)
    assert (world.dumps, world.ends) == ([], [])


def test_a_blocked_loop_is_shown_once_and_then_ends_the_process(capfd: pytest.CaptureFixture[str]):
    world = World()
    world.pass_(59)
    assert world.dumps == [100.0 + DUMP_AFTER_SECONDS]
    assert world.ends == []
    world.pass_(1)
    assert world.ends == [70]
    assert "blocked for 10 s" in capfd.readouterr().err


def test_a_loop_that_is_blocked_again_is_shown_again():
    world = World()
    world.pass_(12)
    world.watchdog.beat()
    world.pass_(12)
    assert len(world.dumps) == 2
    assert world.ends == []


@pytest.mark.parametrize("suspended", [11.0, 61.0, 86_400.0])
def test_a_process_that_suspended_as_a_whole_is_no_blocked_loop(suspended: float):
    world = World()
    world.watchdog._stopping = Turns(world, [1.0, suspended, *[1.0] * 8])  # type: ignore[assignment]
    world.watchdog._run()
    assert (world.dumps, world.ends) == ([], [])


def test_a_loop_that_stays_blocked_after_a_suspension_ends_the_process_nevertheless():
    world = World()
    world.watchdog._stopping = Turns(world, [600.0, *[1.0] * 60])  # type: ignore[assignment]
    world.watchdog._run()
    assert len(world.dumps) == 1
    assert world.ends == [70]


def test_a_dump_to_a_blocked_output_does_not_keep_the_process_from_ending():
    world = World()
    never = threading.Event()
    world.watchdog._dump = never.wait  # type: ignore[assignment]
    world.watchdog._stopping = Turns(world, [1.0] * END_AFTER_SECONDS.__trunc__())  # type: ignore[assignment]
    thread = threading.Thread(target=world.watchdog._run, daemon=True)
    thread.start()
    thread.join(20)
    never.set()
    assert world.ends == [70]
