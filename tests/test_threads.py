"""Threads for work that may block, and the loop that has no default executor."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from watcher import loop
from watcher.loop import RESOLVERS
from watcher.threads import NoThreadError, Threads


@pytest.fixture
def blocked() -> Iterator[threading.Event]:
    """What blocks until it is set."""
    event = threading.Event()
    yield event
    event.set()


def named(name: str) -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith(name))


def soon(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + 5
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()


async def test_threads_are_named_and_created_at_once_and_end_with_their_pool():
    threads = Threads("some work", 3)
    assert named("some work") == ["some work 1", "some work 2", "some work 3"]
    assert await threads.run(lambda: threading.current_thread().name) in named("some work")
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0)
    threads.close()
    assert soon(lambda: not named("some work"))


async def test_a_pool_without_references_ends_too():
    threads = Threads("passing")
    await threads.run(lambda: None)
    del threads
    gc.collect()
    assert soon(lambda: not named("passing"))


async def test_work_under_one_key_is_done_once_and_a_caller_that_gives_up_leaves_it_to_the_others(
    blocked: threading.Event,
):
    done: list[int] = []

    def work() -> int:
        blocked.wait(10)
        done.append(1)
        return len(done)

    threads = Threads("shared", 2)
    sharing = [asyncio.create_task(threads.share("key", work)) for _ in range(3)]
    await asyncio.sleep(0.01)
    assert threads.is_busy("key")
    sharing[0].cancel()
    assert await threads.share("another", lambda: "free") == "free"
    blocked.set()
    assert await asyncio.gather(*sharing[1:]) == [1, 1]
    assert sharing[0].cancelled()
    assert await threads.share("key", work) == 2


async def test_work_beyond_what_may_wait_is_refused(blocked: threading.Event):
    threads = Threads("few", most_waiting=2)
    first = asyncio.create_task(threads.run(lambda: blocked.wait(10)))
    await asyncio.sleep(0)
    assert soon(threads._jobs.empty)
    waiting = [asyncio.create_task(threads.run(lambda: True)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(NoThreadError, match="more than 2 tasks wait for few"):
        await threads.run(lambda: True)
    blocked.set()
    assert await asyncio.gather(first, *waiting) == [True, True, True]


async def test_without_a_thread_the_work_fails_and_the_next_tries_again(monkeypatch: pytest.MonkeyPatch):
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        threads = Threads("none", 2)
        with pytest.raises(NoThreadError, match=r"no thread can be started .* for none"):
            await threads.run(lambda: True)
    assert await threads.run(lambda: True)
    assert named("none") == ["none 1", "none 2"]


def in_our_loop(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    loop.run(main())


def test_the_loop_has_no_default_executor():
    async def main() -> None:
        with pytest.raises(RuntimeError, match="no work runs in the default executor"):
            await asyncio.to_thread(print)

    in_our_loop(main)


def test_names_are_resolved_in_threads_of_their_own():
    assert soon(lambda: not named("name resolution"))  # those of a loop before this one have ended

    async def main() -> None:
        found = await asyncio.get_running_loop().getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
        assert {where[0] for *_, where in found} <= {"127.0.0.1", "::1"}
        host, port = await asyncio.get_running_loop().getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST)
        assert host == "127.0.0.1"
        assert port
        assert len(named("name resolution")) == RESOLVERS

    in_our_loop(main)


def test_a_resolver_that_does_not_answer_delays_no_other_name_and_not_the_end(
    monkeypatch: pytest.MonkeyPatch, blocked: threading.Event
):
    resolved: list[object] = []
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *more: Any) -> Any:
        resolved.append(host)
        return blocked.wait(30) if host == "slow.example" else resolve(host, *more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def main() -> None:
        running = asyncio.get_running_loop()
        for _ in range(3 * RESOLVERS):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await running.getaddrinfo("slow.example", 443)
        assert await running.getaddrinfo("localhost", 80)

    began = time.monotonic()
    in_our_loop(main)
    assert time.monotonic() - began < 5
    assert resolved == ["slow.example", "localhost"]
