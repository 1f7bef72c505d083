"""What a scrape costs: time, size and delay of the event loop, beside prometheus-client with the same series.

`python -m benchmarks.scrape [--sizes 1000 10000 100000] [--rounds 7]`. Each subject lives in a process of its own, and
they take turns, a scrape each, so that a machine that is now fast and now slow is so for all. Times are CPU time of the
process, the least of all rounds; how many times one takes of another is the median over the rounds. Delays of the event
loop are the worst during a scrape, the median of all rounds, beside those of an idle loop.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import gzip
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.scrape.subjects import Ours, an_operation, by_collector, by_gauges, ours
from watcher.core.model import SECOND, Operation
from watcher.server.http.listener import Listener
from watcher.server.http.scrape import Scrape

RESULT = Path(__file__).parent.parent / "results" / "scrape.json"
SIZES = (1_000, 10_000, 100_000)
ROUNDS = 7
MANY = 10_000
"""Of more than so many operations there are half as many rounds."""
HTTP_ROUNDS = 5
FEW = 1_000
"""`metrics.max_operations` of the case in which most operations are not shown."""
FEW_SHOWN = f"{FEW} shown"

Figures: TypeAlias = dict[str, float]

READ = """
import sys, urllib.request
for line in sys.stdin:
    request = urllib.request.Request(sys.argv[1], headers={"X-Prometheus-Scrape-Timeout-Seconds": "60"})
    with urllib.request.urlopen(request) as answer:
        while answer.read(1 << 20):
            pass
    print("read", flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scrape", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="operations")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", choices=SUBJECTS, help="measure one subject here and print its figures")
    given = parser.parse_args()
    if given.only is not None:
        _say(SUBJECTS[given.only](given.sizes[0]))
        return
    results = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for size in given.sizes:
        subjects = _side_by_side(size, given.rounds if size <= MANY else max(given.rounds // 2, 2))
        print(f"\n{size} operations, {subjects['none moved']['series']:.0f} series\n{_table(subjects)}", flush=True)
        results[str(size)] = {"environment": _environment(), "subjects": subjects}
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(results, indent=2) + "\n")


# ── subjects ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _ours(size: int, *, moved: float = 0.0, encoding: str = "", most: int | None = None) -> Figures:
    async def measure() -> Figures:
        async with ours(_operations(size), size if most is None else most) as subject:
            before = _resident()
            await subject.exposition.render("", encoding)
            kept = _resident() - before
            choosing: list[float] = []

            async def scrape() -> bytes:
                body, _, _ = await subject.exposition.render("", encoding)
                return body

            def prepare() -> None:
                subject.change(moved)
                began = time.process_time()
                subject.loops.snapshots()
                choosing.append(time.process_time() - began)

            figures = await _measure(scrape, _turns(), prepare)
            over_http = await _over_http(subject, lambda: subject.change(moved), encoding)
            return {**figures, "choosing_ms": min(choosing) * 1000, "kept_mib": kept, **over_http}

    return asyncio.run(measure())


def _library(make: Callable[[Sequence[Operation]], Callable[[], bytes]], size: int) -> Figures:
    before = _resident()
    write = make(_operations(size))
    kept = _resident() - before
    figures = asyncio.run(_measure(lambda: asyncio.to_thread(write), _turns(), lambda: None))
    return {**figures, "kept_mib": kept}


def _packed(size: int) -> Figures:
    write = by_gauges(_operations(size))
    packed = lambda: asyncio.to_thread(lambda: gzip.compress(write()))  # noqa: E731 -- as its own listener does
    return asyncio.run(_measure(packed, _turns(), lambda: None))


SUBJECTS: Mapping[str, Callable[[int], Figures]] = {
    "none moved": _ours,
    "a tenth moved": lambda size: _ours(size, moved=0.1),
    "all moved": lambda size: _ours(size, moved=1.0),
    "gauges": lambda size: _library(by_gauges, size),
    "collector": lambda size: _library(by_collector, size),
    "none moved, gzip": lambda size: _ours(size, encoding="gzip"),
    "gauges, gzip": _packed,
    FEW_SHOWN: lambda size: _ours(size, moved=0.1, most=FEW),
}


def _side_by_side(size: int, rounds: int) -> dict[str, Figures]:
    """Every subject's figures, and the ratios."""
    with contextlib.ExitStack() as stack:
        names = [name for name in SUBJECTS if size > FEW or name != FEW_SHOWN]
        processes = {name: stack.enter_context(_subject(name, size)) for name in names}
        for process in processes.values():
            _answer(process)
        took: dict[str, list[float]] = {name: [] for name in names}
        for number in range(rounds):
            print(f"{size} operations: round {number + 1} of {rounds}", file=sys.stderr)
            for name, process in processes.items():
                took[name].append(_ask(process, "scrape")["cpu_ms"])
        subjects = {name: _ask(process, "figures") for name, process in processes.items()}
    return {**subjects, "ratios": _ratios(took)}


def _subject(name: str, size: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.scrape", "--only", name, "--sizes", str(size)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _ask(process: subprocess.Popen[str], what: str) -> Figures:
    if process.stdin is None:
        raise RuntimeError
    process.stdin.write(f"{what}\n")
    process.stdin.flush()
    return _answer(process)


def _answer(process: subprocess.Popen[str]) -> Figures:
    if process.stdout is None:
        raise RuntimeError
    figures: Figures = json.loads(process.stdout.readline())
    return figures


def _say(figures: Figures) -> None:
    print(json.dumps(figures), flush=True)


async def _turns() -> AsyncIterator[Callable[[float], None]]:
    """Yields once for each scrape that is requested on standard input, and receives how many seconds it took."""
    _say({})  # everything is built
    while (await asyncio.to_thread(sys.stdin.readline)).strip() == "scrape":
        yield lambda seconds: _say({"cpu_ms": seconds * 1000})


async def _rounds(count: int) -> AsyncIterator[Callable[[float], None]]:
    """So many turns, one after the other."""
    for _ in range(count):
        yield lambda _: None


def _operations(size: int) -> Sequence[Operation]:
    now = time.time_ns() // 1000 // SECOND * SECOND
    return [an_operation(number, now) for number in range(size)]


# ── measuring ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _measure(
    scrape: Callable[[], Awaitable[bytes]],
    turns: AsyncIterator[Callable[[float], None]],
    prepare: Callable[[], None],
) -> Figures:
    cpu, wall, delays = [], [], []
    body = b""
    async for report in turns:
        async with _delays() as worst:
            prepare()
            await asyncio.sleep(0.05)
            worst()
            began, began_cpu = time.perf_counter(), time.process_time()
            body = await scrape()
            cpu.append(time.process_time() - began_cpu)
            wall.append(time.perf_counter() - began)
            delays.append(worst())
        report(cpu[-1])
    async with _delays() as worst:
        await asyncio.sleep(statistics.median(wall))
        idle = worst()
    text = gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body
    return {
        "cpu_ms": min(cpu) * 1000,
        "wall_ms": min(wall) * 1000,
        "delay_ms": statistics.median(delays) * 1000,
        "idle_delay_ms": idle * 1000,
        "size_bytes": len(body),
        "series": text.count(b"\ntwilio_operation_"),
    }


async def _over_http(subject: Ours, prepare: Callable[[], None], encoding: str) -> Figures:
    """The same through the listener, read by another process."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, headers, token = await subject.exposition.render("", encoding)
        await Scrape(body, headers, arrived=lambda: subject.loops.scraped(token))(scope, receive, send)

    listener = Listener.bind("127.0.0.1:0", app, setting="benchmark")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(listener.serve())
        reader = await asyncio.create_subprocess_exec(
            sys.executable, "-c", READ, listener.url, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

        async def scrape() -> bytes:
            if reader.stdin is None or reader.stdout is None:
                raise RuntimeError
            reader.stdin.write(b"\n")
            await reader.stdout.readline()
            return b""

        await scrape()
        figures = await _measure(scrape, _rounds(HTTP_ROUNDS), prepare)
        reader.kill()
        await reader.wait()
        listener.stop()
    return {"http_wall_ms": figures["wall_ms"], "http_delay_ms": figures["delay_ms"]}


@asynccontextmanager
async def _delays() -> AsyncIterator[Callable[[], float]]:
    """A timer of a millisecond; the callable gives by how much it was late at the worst since the last call."""
    worst = 0.0

    def take() -> float:
        nonlocal worst
        taken, worst = worst, 0.0
        return taken

    async def watch() -> None:
        nonlocal worst
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            worst = max(worst, time.perf_counter() - began - 0.001)

    task = asyncio.create_task(watch())
    try:
        yield take
    finally:
        task.cancel()


def _resident() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


# ── showing ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _ratios(took: Mapping[str, Sequence[float]]) -> Figures:
    """How many times the CPU time of ours the library takes in the same round; the median of all rounds."""
    pairs = [
        (other, mine) for other in ("gauges", "collector") for mine in ("none moved", "a tenth moved", "all moved")
    ]
    pairs.append(("gauges, gzip", "none moved, gzip"))
    return {
        f"{other} / {mine}": statistics.median(
            theirs / ours for theirs, ours in zip(took[other], took[mine], strict=True)
        )
        for other, mine in pairs
    }


COLUMNS = {
    "CPU ms": "cpu_ms",
    "of it choosing": "choosing_ms",
    "wall ms": "wall_ms",
    "loop delayed ms": "delay_ms",
    "over HTTP": "http_delay_ms",
    "idle": "idle_delay_ms",
    "kept MiB": "kept_mib",
}


def _table(subjects: Mapping[str, Figures]) -> str:
    lines = [f"| scrape | MB | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 2) + "|"]
    for name, figures in subjects.items():
        if name != "ratios":
            cells = [f"{figures[key]:.1f}" if key in figures else "" for key in COLUMNS.values()]
            lines.append(f"| {name} | {figures['size_bytes'] / 1e6:.1f} | {' | '.join(cells)} |")
    lines.append("")
    lines += [f"{name}: {ratio:.0f} times" for name, ratio in subjects["ratios"].items()]
    return "\n".join(lines)


def _environment() -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "prometheus_client": version("prometheus-client"),
    }


if __name__ == "__main__":
    main()
