"""What can be seen of a running process from outside: its cost from the kernel, its delays from what it publishes."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

PROBE_EVERY_SECONDS = 0.05
# The prefix is that of now and of earlier versions, which are measured too.
RUNNING = re.compile(
    r'^twilio_(?:push_)?operations\{[^}]*status="(?:UNSEEN|SCHEDULED|PROCESSING)"[^}]*\} (\S+)$', re.MULTILINE
)
POLL_LAG = re.compile(r"^operation_watcher_poll_lag_seconds\{[^}]*\} (\S+)$", re.MULTILINE)
HEADERS = {"Accept": "text/plain", "Accept-Encoding": "gzip", "X-Prometheus-Scrape-Timeout-Seconds": "10"}


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, with the threads that have ended, to the nanosecond.

    The clock's number is what `clock_getcpuclockid` of the C library computes. /proc counts in steps of 10 ms, which
    is more than an idle daemon uses between two scrapes.
    """
    return time.clock_gettime((~pid << 3) | 2)


def rss_mib(pid: int) -> float:
    """Resident memory of a process now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def scrape(web: str) -> str:
    """A scrape whose text is wanted."""
    return httpx.get(f"{web}/metrics", headers=HEADERS, trust_env=False, timeout=60).text


def scrape_unread(web: str) -> None:
    """A scrape as Prometheus makes it; the answer is received whole and thrown away, to cost this process nothing."""
    with httpx.stream("GET", f"{web}/metrics", headers=HEADERS, trust_env=False, timeout=60) as answer:
        answer.raise_for_status()
        for _ in answer.iter_raw():
            pass


def tracked(text: str) -> float:
    """How many operations are tracked that have not ended."""
    return sum(map(float, RUNNING.findall(text)))


def poll_lag(text: str) -> float:
    """Seconds that the latest account is late."""
    return max(map(float, POLL_LAG.findall(text)), default=0.0)


def end_delays(stdout: Path, start: int) -> Sequence[float]:
    """From upstream's end to our publishing it, in seconds, of the ends published after that byte, in order."""
    ends = {"COMPLETED", "CANCELED"}
    with stdout.open("rb") as published:
        published.seek(start)
        moves = [line for line in published if b'"operation.moved"' in line]
    found = [re.search(rb'"to_status":"([A-Z]+)".*"delay_seconds":([0-9.]+)', move) for move in moves]
    return sorted(float(match.group(2)) for match in found if match and match.group(1).decode() in ends)


def finished(stdout: Path, start: int) -> int:
    """How many operations were published as finished after that byte."""
    with stdout.open("rb") as published:
        published.seek(start)
        return sum(b'"operation.finished"' in line for line in published)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value that so large a share does not exceed; NaN of nothing."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else float("nan")


def loop_lags(web: str, seconds: float) -> Sequence[float]:
    """By how much an answer that costs next to nothing came later than usual, requested again and again; in order."""
    taken = []
    with httpx.Client(trust_env=False, timeout=60) as http:
        end = time.monotonic() + seconds
        while (began := time.monotonic()) < end:
            http.get(f"{web}/-/healthy")
            taken.append(time.monotonic() - began)
            time.sleep(max(PROBE_EVERY_SECONDS - taken[-1], 0))
    usual = statistics.median(taken)
    return sorted(max(duration - usual, 0.0) for duration in taken)
