"""A daemon's life on the real store, ended at every write boundary and taken up again.

    python tests/faults/crashing.py FOLDER [PART PARTS] > table.json

The life: operations are registered, relabelled, untracked and tracked again, move, end in every way, are corrected,
counted, published, marked and pruned; real loop, publisher and SQLite, on a jumping clock. A first run counts the
boundaries: before each statement of a write transaction, after its COMMIT, and around the writing of lines. Then, for
each of them, a process lives until there and ends as if killed; the next one takes up what is left and lives to the
end; the outcome is compared with what is true. Besides, each transaction's part of the log is torn, as by a power cut
in COMMIT.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import shutil
import sqlite3
import sys
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tests.faults.boundaries import CRASHED, boundaries, connect
from tests.support.inline import open_inline
from tests.support.rig import ACCOUNT, Rig, loop_settings, running
from tests.support.stored import counted_in, outcome_in
from tests.support.virtual import EPOCH, VirtualLoop, run_virtually
from watcher.core.model import SECOND, Micros, Source
from watcher.core.totals import DURATION_MICROS, OPERATIONS
from watcher.logs import EventLog, LineWriter
from watcher.publishing import EventPublisher
from watcher.simulator import Upstream
from watcher.simulator.ids import make_id
from watcher.simulator.scenario import parse_scenario
from watcher.store import Entry
from watcher.store.sqlite import pruning

KEEP: Micros = 20 * SECOND
RESTARTS_AFTER = 3.0
PRUNED_EVERY = 15
SCRAPED_EVERY = 7
SCRAPED_FROM: Micros = 40 * SECOND
"""Late enough that something was counted before the first scrape."""
ENDED_BEFORE = "comms_operation_7" + "e" * 25
API_KEY = "SK1"
CURSOR: Micros = round(EPOCH * SECOND) - SECOND
STARTED = round(EPOCH * SECOND)
NAMES = ("completed", "canceled", "corrected", "missing", "untracked", "returned", "relabelled", "one", "two", "three")
IDS = dict(zip((*NAMES, "refused"), (make_id(STARTED, random.Random(n)) for n in itertools.count()), strict=False))

SCENARIO = f"""
operations:
  - {{id: {IDS["completed"]}, completed: 12s, stats: {{recipients: 100, failed: 7, unaddressable: 4}}}}
  - {{id: {IDS["canceled"]}, processing: 6s, canceled: 20s, stats: {{recipients: 50, sent: 20, canceled: 30}}}}
  - id: {IDS["corrected"]}
    steps:
      - {{at: 0s, status: PROCESSING, stats: {{total: 10, recipients: 10, queued: 10}}}}
      - {{at: 8s, status: COMPLETED, stats: {{total: 10, recipients: 10, sent: 10}}}}
      - {{at: 11s, status: COMPLETED, stats: {{total: 10, recipients: 10, sent: 7, failed: 3}}}}
  - {{id: {IDS["untracked"]}, completed: 14s, stats: {{recipients: 1000000}}}}
  - {{id: {IDS["returned"]}, completed: 40s, stats: {{recipients: 5}}}}
  - {{id: {IDS["relabelled"]}, completed: 25s, stats: {{recipients: 6}}}}
  - {{id: {IDS["one"]}, completed: 15s, stats: {{recipients: 1}}}}
  - {{id: {IDS["two"]}, completed: 16s, stats: {{recipients: 2}}}}
  - {{id: {IDS["three"]}, completed: 45s, stats: {{recipients: 3}}}}
faults:
  - {{kind: status, status: 400, operation: {IDS["refused"]}, endpoint: fetch}}
"""
OUTCOMES = {"completed": 7, "canceled": 1, "not_found": 1, "rejected": 1, "expired": 0}

Act = tuple[float, str, tuple[str, ...], dict[str, str]]
ACTS: Sequence[Act] = (
    (0.5, "track", ("completed", "canceled", "corrected", "missing", "untracked"), {"campaign": "spring"}),
    (1.0, "track", ("returned", "relabelled"), {}),
    (1.5, "track", ("refused", "one", "two", "three"), {}),
    (4.0, "untrack", ("untracked",), {}),
    (4.5, "untrack", ("returned",), {}),
    (5.0, "track", ("relabelled",), {"campaign": "late"}),
    (6.0, "track", ("returned",), {"campaign": "again"}),
)
"""What the app does. It repeats the requests that were not answered, and no others."""


class Life:
    """One process, from its start to its end or crash. `folder` holds what outlives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = os.open(folder / "stdout.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.journal = os.open(folder / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.loop: VirtualLoop | None = None

    def note(self, what: str) -> None:
        """For the next process; a time and what happened."""
        assert self.loop is not None
        os.write(self.journal, f"{self.loop.time()} {what}\n".encode())

    def noted(self) -> list[tuple[float, str]]:
        lines = (self.folder / "journal").read_text().splitlines()
        return [(float(line.split()[0]), line.split()[1]) for line in lines]

    async def live(self) -> dict[str, Any]:
        """Wait until everything is counted, published, marked and pruned; the counters."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        noted = self.noted()
        if noted:
            loop._jumping.time = noted[-1][0] + RESTARTS_AFTER
        self.note("started")
        store = await open_inline(self.folder / "watcher.db")
        await store.bind({ACCOUNT: "AC0"})
        scenario = parse_scenario(SCENARIO)
        upstream = Upstream(scenario, STARTED)
        settings = loop_settings(freshness=2.0, settle_after=(5.0, 15.0), grace=10.0, counter_labels=("campaign",))
        async with running(scenario, store=store, upstream=upstream, settings=settings) as rig:
            publisher = EventPublisher(store, EventLog(LineWriter()), self.publish, lambda: rig.clock.now().at)
            await publisher.prepare()
            publishing = asyncio.create_task(publisher.run())
            answered = {what for _, what in noted}
            for number, (at, what, names, labels) in enumerate(ACTS):
                if f"act{number}" in answered:
                    continue
                await asyncio.sleep(max(0.0, at - (rig.clock.now().at - STARTED) / SECOND))
                await self.act(rig, what, names, labels)
                self.note(f"act{number}")
                publisher.wake()
            await rig.until(lambda: rig.watch.snapshot((), suppressed=0).is_loaded, within=60)
            while rig.watch.unfinished or await store.pending_events(0, 1):
                await asyncio.sleep(1)
                publisher.wake()
                now = rig.clock.now().at
                if round(loop.time()) % SCRAPED_EVERY == 0 and now >= STARTED + SCRAPED_FROM:
                    self.scrape(rig)
                if round(loop.time()) % PRUNED_EVERY == 0:
                    await store.prune(now, keep_since=now - KEEP, limit=7)
            publisher.stop()
            await publishing
            now = rig.clock.now().at
            while await store.prune(now, keep_since=now, limit=500):
                pass
            await store.note_discovery_began(ACCOUNT, CURSOR)
            await store.insert_tombstones(ACCOUNT, {ENDED_BEFORE: CURSOR}, now)
            await store.adopt_key(ACCOUNT, API_KEY)
            await store.commit(ACCOUNT, (), cursor=CURSOR)
            shown = (await store.counters(ACCOUNT)).combinations
            await store.retire_combinations(ACCOUNT, [*shown], tracked_before=now)
            loaded = await store.load(ACCOUNT, final_since=now)
            totals = {"/".join(key): value for key, value in (await counted_in(store, ACCOUNT)).items()}
            tombstones = {name: await outcome_in(store, ACCOUNT, operation_id) for name, operation_id in IDS.items()}
            again = await store.register([Entry(account=ACCOUNT, id=IDS["one"], source=Source.API)], now)
            found = await store.register([Entry(account=ACCOUNT, id=ENDED_BEFORE, source=Source.DISCOVERY)], now)
        await store.close()
        return {
            "totals": totals,
            "outcomes": tombstones,
            "again": again[0].result,
            "ended_before": found[0].result,
            "discovery": [loaded.discovery.cursor, loaded.discovery.began_at],
            "api_key": loaded.api_key,
        }

    def scrape(self, rig: Rig) -> None:
        """A completed scrape. What is written of it outlives the process, as it does in Prometheus."""
        snapshot = rig.watch.snapshot((), suppressed=0)
        for combination in snapshot.counters.combinations:
            name = (OPERATIONS, "completed", *combination)
            with (self.folder / "scrapes").open("a") as out:
                out.write(f"{combination[0]} {snapshot.totals.get(name, 0):g}\n")
        rig.watch.scraped(snapshot)

    async def act(self, rig: Rig, what: str, names: Sequence[str], labels: dict[str, str]) -> None:
        if what == "track":
            await rig.track([IDS[name] for name in names], labels)
        else:
            await rig.untrack(IDS[names[0]])

    async def publish(self, lines: Sequence[bytes]) -> None:
        """Standard output, whose writes are boundaries too; half a line of a killed process is ignored."""
        if (self.folder / "stdout.jsonl").stat().st_size and not self.ends_whole():
            os.write(self.out, b"\n")
        for line in lines:
            boundaries.meet("stdout: before a line")
            os.write(self.out, line[: len(line) // 2])
            boundaries.meet("stdout: in the middle of a line")
            os.write(self.out, line[len(line) // 2 :])
        boundaries.meet("stdout: after the lines, before they are marked")

    def ends_whole(self) -> bool:
        return (self.folder / "stdout.jsonl").read_bytes().endswith(b"\n")


def run_life(folder: Path, crash_at: int | None) -> int:
    """A process of its own that lives in the folder; its exit code."""
    child = os.fork()
    if child == 0:
        _live_and_exit(folder, crash_at)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _live_and_exit(folder: Path, crash_at: int | None) -> NoReturn:
    code = 1
    try:
        # The same chance each time, so that boundary 17 is the same one in every life.
        random.seed(6)
        # So small a file has nothing to spare; it gives back whatever is free.
        pruning._SPARE, pruning._SPARE_PAGES = 0.0, 0
        life = Life(folder)
        sqlite3.connect = connect  # type: ignore[assignment]
        boundaries.crash_at = crash_at
        boundaries.died = lambda: _died(life)
        result = run_virtually(life.live())
        (folder / "result.json").write_text(json.dumps(result))
        (folder / "boundaries.json").write_text(json.dumps(boundaries.passed))
        code = 0
    except BaseException:  # noqa: BLE001 -- the parent shows it
        (folder / "error.txt").write_text(traceback.format_exc())
    os._exit(code)


def _died(life: Life) -> None:
    life.note("died")
    log = life.folder / "watcher.db-wal"
    (life.folder / "log_size").write_text(str(log.stat().st_size if log.exists() else 0))


REMEMBERED: Mapping[str, Any] = {
    "discovery": [CURSOR, CURSOR],
    "ended_before": "passed_over",
    "api_key": API_KEY,
    "again": "finished",
}
"""What the store says at the end, besides counters and outcomes."""


def findings(folder: Path, reference: dict[str, Any]) -> list[str]:
    """What is not as promised, in words; none when all is well."""
    if (folder / "error.txt").exists():
        return [(folder / "error.txt").read_text()[-1500:]]
    result = json.loads((folder / "result.json").read_text())
    found = []
    totals, expected = result["totals"], reference["totals"]
    for key in sorted(totals.keys() | expected.keys()):
        slack = 10.0 * SECOND if key.startswith(DURATION_MICROS) else 0.0
        if abs(totals.get(key, 0) - expected.get(key, 0)) > slack:
            found.append(f"counter {key}: {totals.get(key)} instead of {expected.get(key)}")
    for outcome, number in OUTCOMES.items():
        counted = sum(value for key, value in totals.items() if key.startswith(f"{OPERATIONS}/{outcome}"))
        if counted != number:
            found.append(f"{counted:g} operations {outcome} instead of {number}")
    if result["outcomes"] != reference["outcomes"]:
        found.append(f"outcomes remembered: {result['outcomes']}")
    for name, expected_value in REMEMBERED.items():
        if result[name] != expected_value:
            found.append(f"{name} is {result[name]} instead of {expected_value}")
    return found + wrong_events(folder) + scraped_wrongly(folder)


def scraped_wrongly(folder: Path) -> list[str]:
    """What is wrong with the counters that were scraped: each begins at 0 and never falls."""
    values: dict[str, list[float]] = {}
    for line in (folder / "scrapes").read_text().splitlines():
        combination, _, value = line.rpartition(" ")
        values.setdefault(combination, []).append(float(value))
    found = [f"{one} began at {those[0]:g}" for one, those in values.items() if those[0] and one != "campaign="]
    return found + [f"{one} fell: {those}" for one, those in values.items() if those != sorted(those)]


def wrong_events(folder: Path) -> list[str]:
    """What is wrong with the events on standard output."""
    published: dict[str, dict[str, Any]] = {}
    found = []
    newest: Counter[str] = Counter()
    numbers: dict[tuple[str, int], str] = {}
    for line in (folder / "stdout.jsonl").read_bytes().split(b"\n"):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        one = event["operation_id"]
        bare = {key: value for key, value in event.items() if key not in ("timestamp", "replayed")}
        if published.setdefault(event["event_id"], bare) != bare:
            found.append(f"two events with the id {event['event_id']}: {bare} and {published[event['event_id']]}")
        elif numbers.setdefault((one, event["seq"]), event["event_id"]) != event["event_id"]:
            found.append(f"{one}: event {event['seq']} was published under two ids")
        elif event["seq"] > newest[one] + 1:
            found.append(f"{one}: event {event['seq']} was published before event {newest[one] + 1}")
        newest[one] = max(newest[one], event["seq"])
    for name, operation_id in IDS.items():
        ends = [
            e for e in published.values() if e["operation_id"] == operation_id and e["event"] == "operation.finished"
        ]
        wanted = 0 if name == "untracked" else 1
        if len(ends) != wanted:
            found.append(f"{name}: {len(ends)} ends published instead of {wanted}")
    return found


class Proof:
    """The whole of it, in a folder; `rows` says how it went."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, Any]] = []
        self.reference: dict[str, Any] = {}
        self.names: list[str] = []

    def fresh(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        return folder

    def rehearse(self) -> None:
        """The run without a crash: it is right, and it counts the boundaries."""
        folder = self.fresh("rehearsal")
        code = run_life(folder, None)
        if code:
            raise SystemExit((folder / "error.txt").read_text())
        self.reference = json.loads((folder / "result.json").read_text())
        self.names = json.loads((folder / "boundaries.json").read_text())
        wrong = findings(folder, self.reference)
        if wrong:
            raise SystemExit("\n".join(wrong))

    def crash_at(self, number: int, second: int | None) -> None:
        """Crash at a boundary, and perhaps once more after the restart; then live on and compare."""
        folder = self.fresh(f"at{number}")
        code = run_life(folder, number)
        tears = self._tears(folder, number)
        if second is not None and code == CRASHED:
            code = run_life(folder, second)
        if code == CRASHED:
            code = run_life(folder, None)
        self._enter(folder, self.names[number], number, "" if second is None else f"again at {second}")
        for tear in tears:
            run_life(tear, None)
            self._enter(tear, self.names[number].rpartition(":")[0] + ": power cut in COMMIT", number, tear.name)

    def _tears(self, folder: Path, number: int) -> list[Path]:
        """Copies of what a crash just after COMMIT left, with the transaction's part of the log torn."""
        if not self.names[number].endswith("after COMMIT") or not (folder / "log_size").exists():
            return []
        after = int((folder / "log_size").read_text())
        (before_folder,) = [self.fresh(f"before{number}")]
        run_life(before_folder, number - 1)
        before = int((before_folder / "log_size").read_text())
        shutil.rmtree(before_folder)
        if after <= before:
            return []
        torn = []
        for at, fill in ((before, b""), ((before + after) // 2, b""), (after - 1, b""), ((before + after) // 2, b"\0")):
            copy = self.folder / f"torn{number}-{at}{'-zeros' if fill else ''}"
            shutil.copytree(folder, copy)
            with (copy / "watcher.db-wal").open("r+b") as log:
                log.truncate(at)
                log.seek(at)
                log.write(fill * (after - at))
            torn.append(copy)
        return torn

    def _enter(self, folder: Path, name: str, number: int, more: str) -> None:
        wrong = findings(folder, self.reference)
        for one in wrong:
            print(f"{name} ({number} {more}): {one}", file=sys.stderr, flush=True)
        self.rows.append({"boundary": number, "name": name, "more": more, "wrong": wrong})
        shutil.rmtree(folder)


def main() -> None:
    proof = Proof(Path(sys.argv[1]))
    proof.rehearse()
    rng = random.Random(6)
    chosen = range(len(proof.names))
    if len(sys.argv) > 2:  # one of several parts
        chosen = chosen[int(sys.argv[2]) :: int(sys.argv[3])]
    for number in chosen:
        proof.crash_at(number, None if number % 5 else rng.randrange(len(proof.names)))
    json.dump({"boundaries": len(proof.names), "rows": proof.rows}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
