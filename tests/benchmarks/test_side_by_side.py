"""The benchmark that compares two commits: in small it runs whole, and its arithmetic is right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.checkout import checked_out, working_tree
from benchmarks.daemon.__main__ import table
from benchmarks.daemon.cases import chosen, every_case, scenario, tracked_ids
from benchmarks.daemon.floor import floor_seconds
from benchmarks.daemon.measure import Reading, spread
from benchmarks.daemon.seen import cpu_seconds, tracked
from benchmarks.daemon.upstream import LENGTH
from tests.support.processes import ROOT, environment
from watcher.simulator.scenario import Scenario, convert


def reading(at: float, ours: float, base: float) -> Reading:
    return Reading(at=at, cpu={"ours": ours, "base": base}, requests={}, simulator_cpu=0.0)


def test_a_ratio_is_stated_with_its_spread_over_the_rounds():
    rounds = [reading(0, 0, 0), reading(30, 1, 1), reading(60, 3, 2), reading(90, 6, 6)]
    found = spread(rounds, "cpu")
    assert (found.least, found.median, found.most, found.total) == (0.75, 1.0, 2.0, 1.0)


def test_a_group_of_cases_is_named_by_what_they_have_in_common():
    cases = every_case()
    assert [case.name for case in chosen("idle,10000", cases)] == ["idle-0", "idle-1", "idle-20", "10000"]
    assert chosen("", cases) == cases
    with pytest.raises(ValueError, match="no case is called 'idel'"):
        chosen("idel", cases)


def test_every_case_is_a_scenario_with_two_hours_of_history():
    for case in every_case():
        read = convert(scenario(case, tracked_ids(case)), Scenario)
        assert read.population.history == 7200 * 1_000_000
        assert len(read.accounts) == case.accounts
        assert len(read.operations) == (case.idle or 0)


def test_both_sides_are_compiled_copies(tmp_path):
    with working_tree() as ours, checked_out("HEAD") as base:
        for source in (ours, base):
            assert source.root != ROOT
            assert list((source.root / "watcher" / "__pycache__").glob("__init__.*.pyc"))
    assert not ours.root.exists()
    assert not base.root.exists()


def test_a_commit_that_does_not_exist_is_an_error():
    with pytest.raises(ValueError, match="not a commit of this repository: nothing-of-that-name"):  # noqa: SIM117
        with checked_out("nothing-of-that-name"):
            raise AssertionError


def test_cpu_time_of_another_process_is_read_to_the_microsecond():
    with subprocess.Popen(
        [sys.executable, "-c", "print('up', flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        used = cpu_seconds(process.pid)
        process.communicate(b"\n")
    assert 0 < used < 10
    assert used * 100 != round(used * 100)


def test_the_floor_decodes_lists_and_single_operations(tmp_path):
    row = '{"id": "a", "status": "PROCESSING", "stats": {"total": 1}, "createdAt": "x", "updatedAt": "y"}'
    bodies = [f'{{"operations":[{row}],"pagination":{{"next":null}}}}'.encode(), row.encode()]
    file = tmp_path / "ours.bodies"
    file.write_bytes(b"".join(LENGTH.pack(len(body)) + body for body in bodies))
    assert (floor_seconds(file) or 0) > 0
    assert floor_seconds(tmp_path / "nothing") is None


def test_tracked_operations_are_counted_under_the_names_of_both_versions():
    for name in ("twilio_push_operations", "twilio_operations"):
        lines = [f'{name}{{account="a",status="{status}"}} 2' for status in ("UNSEEN", "PROCESSING", "COMPLETED")]
        assert tracked("\n".join(lines)) == 4


def test_a_small_run_against_the_last_commit_prints_ratios(tmp_path):
    file = tmp_path / "figures.json"
    options = [
        "--against",
        "HEAD",
        "--cases",
        "idle-1,accounts-1",
        "--interval",
        "1",
        "--warm-up",
        "0",
        "--rounds",
        "4",  # rounds of 2 s: an operation is polled every 5 s
    ]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "daemon", *options, "--save", str(file)],
        cwd=ROOT,
        env=environment({}),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(Path(file).read_text())
    assert [case["case"] for case in figures] == ["idle-1", "accounts-1"]
    assert figures[1]["ours"]["requests_per_second"] > 0
    for case in figures:
        ratio = case["cpu_ratio"]
        assert 0 < ratio["least"] <= ratio["median"] <= ratio["most"]
        for side in ("ours", "base"):
            assert case[side]["cpu_percent"] > 0
            assert case[side]["rss_mib"] > 20
    assert table(figures) in done.stdout
