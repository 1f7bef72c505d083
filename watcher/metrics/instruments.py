"""Metrics of the watcher itself, in a registry of their own.

Every label value that is known beforehand has a series at 0 from the start, so that `rate()` sees the first event.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    enable_created_metrics,
)

from watcher import __version__
from watcher.core.attempt import Attempt
from watcher.core.channels import PUSH
from watcher.core.model import SECOND, Instant, Micros
from watcher.core.requests import Endpoint
from watcher.core.wire import CODES

PREFIX = "operation_watcher_"
REQUEST_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
DELAY_BUCKETS = (1, 2.5, 5, 10, 30, 60, 300, 3600)

KINDS = (
    "created_changed",
    "created_implausible",
    "end_older",
    "failure_status",
    "filter_ignored",
    "forbidden",
    "garbled",
    "id_garbled",
    "instant_garbled",
    "row_garbled",
    "stale_answer",
    "stats_fell",
    "stats_garbled",
    "stats_missing",
    "status_garbled",
    "status_missing",
    "terminal_changed",
    "terminal_regressed",
    "unknown_status",
    "updated_fell",
)
"""All kinds of anomalies, so that each has a series from the start."""


class Instruments:
    """The metrics that parts of the watcher report to. The others are collected from snapshots."""

    def __init__(self) -> None:
        # A switch of the whole process. OpenMetrics carries `_created`; the exposition leaves it out of plain text.
        enable_created_metrics()  # type: ignore[no-untyped-call]
        # Not the global registry: a second daemon in one process (tests) would fail with duplicate time series.
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        build = Gauge(
            PREFIX + "build_info",
            "The version that runs, and the Python it runs on; always 1.",
            ("version", "python"),
            registry=self.registry,
        )
        build.labels(__version__, platform.python_version()).set(1)
        self._requests = Counter(
            PREFIX + "api_requests",
            "Attempts at upstream, by endpoint and what came of them.",
            ("account", "endpoint", "code"),
            registry=self.registry,
        )
        self._durations = Histogram(
            PREFIX + "api_request_duration_seconds",
            "How long attempts at upstream took, in seconds.",
            ("account", "endpoint"),
            buckets=REQUEST_BUCKETS,
            registry=self.registry,
        )
        self._delays = Histogram(
            PREFIX + "detection_delay_seconds",
            "Delay between an upstream change (updatedAt) and its detection, in seconds; first polls are excluded.",
            ("account", "channel"),
            buckets=DELAY_BUCKETS,
            registry=self.registry,
        )
        # Series by account: nearly every answer brings changes, and `labels()` costs more than an observation. It would
        # also create the series again for a change that is reported after its account was closed.
        self._delays_of: dict[str, Histogram] = {}
        self._anomalies = Counter(
            PREFIX + "anomalies",
            "Answers of upstream that did not fit, by kind.",
            ("account", "kind"),
            registry=self.registry,
        )
        self._events_pending = Gauge(
            PREFIX + "events_pending",
            "Events committed but not yet published on standard output.",
            registry=self.registry,
        )
        self._store_usable = Gauge(
            PREFIX + "store_usable", "1 while the store can be read and written.", registry=self.registry
        )
        self._store_errors = Counter(
            PREFIX + "store_errors", "Reads and writes of the store that failed.", registry=self.registry
        )
        self._store_bytes = Gauge(
            PREFIX + "store_bytes", "What the store takes on its disk, in bytes.", registry=self.registry
        )
        self._loop_lag = Gauge(
            PREFIX + "event_loop_lag_seconds",
            "How late the event loop woke up at the worst, lately, in seconds.",
            registry=self.registry,
        )
        self._reload_good = Gauge(
            PREFIX + "config_last_reload_successful",
            "1 while the configuration last read is in force, 0 when it was refused.",
            registry=self.registry,
        )
        self._reload_at = Gauge(
            PREFIX + "config_last_reload_success_timestamp_seconds",
            "When a configuration last came into force, in seconds since 1970.",
            registry=self.registry,
        )
        # A gauge begins at 0. Here that would report a failure before anything has failed.
        self._store_usable.set(1)
        self._reload_good.set(1)

    def open_account(self, account: str) -> None:
        """Create every series of the account at 0."""
        for endpoint in Endpoint:
            self._durations.labels(account, endpoint.value)
            for code in CODES:
                self._requests.labels(account, endpoint.value, code)
        self._delays_of[account] = self._delays.labels(account, PUSH.name)
        for kind in KINDS:
            self._anomalies.labels(account, kind)

    def close_accounts(self, accounts: Sequence[str]) -> None:
        """Remove the series of accounts that are not configured any more."""
        for account in accounts:
            self._delays_of.pop(account, None)
            # Else they would be exported, unchanged, until the daemon ends.
            for metric in (self._requests, self._durations, self._delays, self._anomalies):
                metric.remove_by_labels({"account": account})

    def attempted(self, account: str, attempt: Attempt) -> None:
        """Count an attempt at upstream that has ended."""
        self._requests.labels(account, attempt.endpoint.value, attempt.code).inc()
        # By ticks of a monotonic clock: a wall clock that is set back would give a negative duration.
        took = attempt.timing.answered.tick - attempt.timing.asked.tick
        self._durations.labels(account, attempt.endpoint.value).observe(took / SECOND)

    def anomaly(self, account: str, kind: str) -> None:
        """Count an anomaly in an answer of upstream."""
        self._anomalies.labels(account, kind).inc()

    def detected(self, account: str, delay: Micros) -> None:
        """Observe the delay between a change and its detection. Ignored if the account is not open any more."""
        if (delays := self._delays_of.get(account)) is not None:
            delays.observe(delay / SECOND)

    def store_failed(self) -> None:
        """Count a failed read or write of the store."""
        self._store_errors.inc()
        self._store_usable.set(0)

    def store_works(self) -> None:
        """Report that the store could be written."""
        self._store_usable.set(1)

    def measured(self, *, events_pending: int, store_bytes: int) -> None:
        """Set the number of pending events and the size of the store."""
        self._events_pending.set(events_pending)
        self._store_bytes.set(store_bytes)

    def loop_lagged(self, seconds: float) -> None:
        """Set how late the event loop woke up."""
        self._loop_lag.set(seconds)

    def configured(self, at: Instant) -> None:
        """Report that a configuration is in force since `at`."""
        self._reload_good.set(1)
        self._reload_at.set(at / SECOND)

    def refused_configuration(self) -> None:
        """Report that a configuration was read and refused."""
        self._reload_good.set(0)
