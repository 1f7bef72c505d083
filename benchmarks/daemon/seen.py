"""What can be seen of a running process from outside: its cost from the kernel, its delays from what it tells."""

from __future__ import annotations

import os
import re
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from tests.support.processes import Daemon, Simulator

TICKS = os.sysconf("SC_CLK_TCK")
PROBE_EVERY_SECONDS = 0.05
UNFINISHED = ("UNSEEN", "SCHEDULED", "PROCESSING")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mib(pid: int) -> float:
    """Resident memory of a process now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def requests_of(simulator: Simulator) -> int:
    """All requests that the simulated API was asked so far."""
    counts = httpx.get(f"{simulator.control_url}/requests", trust_env=False, timeout=30).json()["counts"]
    return sum(sum(outcomes.values()) for outcomes in counts.values())


def scrape(daemon: Daemon) -> str:
    """A scrape as Prometheus makes it: unpacked here, packed on its way."""
    headers = {"Accept": "text/plain", "Accept-Encoding": "gzip", "X-Prometheus-Scrape-Timeout-Seconds": "10"}
    return httpx.get(f"{daemon.web}/metrics", headers=headers, trust_env=False, timeout=60).text


def sample(text: str, series: str) -> float:
    """One sample of a scrape by its name with labels, as it is written; 0 where there is none."""
    found = re.search(rf"^{re.escape(series)} (\S+)$", text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def following(text: str) -> float:
    """How many operations are followed that have not ended."""
    return sum(sample(text, f'twilio_push_operations{{account="main",status="{status}"}}') for status in UNFINISHED)


def end_delays(daemon: Daemon, start: int) -> Sequence[float]:
    """From upstream's end to our telling it, in seconds, of the ends that were told after that byte, in order."""
    ends = {"COMPLETED", "CANCELED"}
    with daemon.stdout.open("rb") as told:
        told.seek(start)
        moves = [line for line in told if b'"operation.moved"' in line]
    found = [re.search(rb'"to_status":"([A-Z]+)".*"delay_seconds":([0-9.]+)', move) for move in moves]
    return sorted(float(match.group(2)) for match in found if match and match.group(1).decode() in ends)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value that so large a share does not exceed; NaN of nothing."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else float("nan")


def loop_lags(daemon: Daemon, seconds: float) -> Sequence[float]:
    """By how much an answer that costs next to nothing came later than usual, asked again and again; in order."""
    taken = []
    with httpx.Client(trust_env=False, timeout=60) as http:
        end = time.monotonic() + seconds
        while (began := time.monotonic()) < end:
            http.get(f"{daemon.web}/-/healthy")
            taken.append(time.monotonic() - began)
            time.sleep(max(PROBE_EVERY_SECONDS - taken[-1], 0))
    usual = statistics.median(taken)
    return sorted(max(one - usual, 0.0) for one in taken)
