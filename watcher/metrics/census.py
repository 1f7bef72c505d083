"""The collector over snapshots. Gauges show the present, so no code removes a series: it is not collected any more.

The families of operations and of the counters are a reference only. A scrape writes the same bytes from kept text
(`text`, `counter_text`).

A stat or instant that was never received has no series. Counters come from the totals as committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from watcher.core.channels import PUSH, STATES, STATES_HELP, STATES_METRIC, StatKind
from watcher.core.model import SECOND, Instant, Operation
from watcher.core.snapshot import AccountSnapshot
from watcher.metrics.finished import finished_families

PER_OPERATION = ("account", "channel", "operation_id")
PER_CHANNEL = ("account", "channel")

_Labels = tuple[str, ...]

MESSAGES = (STATES_METRIC, STATES_HELP)
STATUS = (
    "twilio_operation_status",
    "1 for the present status of the operation; exactly one series an operation.",
)
INFO = (
    "twilio_operation_info",
    "1, with the labels that the app gave and metrics.labels allows; to be joined.",
)

# `text` pairs its templates and numbers with these families by position. So the order of COUNTS and INSTANTS, here and
# in `CensusCollector.operations`, is also that of the scrape.
COUNTS: Sequence[tuple[str, str, str]] = tuple(
    (field.metric, field.help, f"stats.{field.name}") for field in PUSH.fields if field.kind is not StatKind.STATE
)
INSTANTS: Sequence[tuple[str, str, str]] = (
    (
        "twilio_operation_created_timestamp_seconds",
        "When upstream created the operation, in seconds since 1970.",
        "created_at",
    ),
    (
        "twilio_operation_updated_timestamp_seconds",
        "When upstream last changed the operation, in seconds since 1970.",
        "updated_at",
    ),
    (
        "twilio_operation_progressed_timestamp_seconds",
        "The last poll that changed something, in seconds since 1970.",
        "progressed_at",
    ),
    (
        "twilio_operation_ended_timestamp_seconds",
        "When the operation ended by upstream's clock, in seconds since 1970.",
        "ended_at",
    ),
)
"""Gauges with one series per operation: name, help, and the path of the value in the operation."""


class CensusCollector:
    """Families for prometheus-client from snapshots. Reads nothing else, so it may run in any thread.

    `created`: whether counters carry the time from which they count (`_created`), as in OpenMetrics.
    """

    def __init__(
        self,
        snapshots: Sequence[AccountSnapshot],
        *,
        labels: Sequence[str] = (),
        counter_labels: Sequence[str] = (),
        created: bool = False,
    ) -> None:
        self._snapshots = snapshots
        self._labels = labels
        self._counter_labels = counter_labels
        self._created = created

    def collect(self) -> Iterator[Metric]:
        """Every family once, with all its samples together, as both formats require."""
        yield from self.operations()
        yield from self.finished()
        yield from self.accounts()

    # ── per operation ─────────────────────────────────────────────────────────────────────────────────────────────────

    def operations(self) -> Iterator[Metric]:
        """The reference for `text`, which writes the same families for the scrape."""
        shown = [operation for snapshot in self._snapshots for operation in snapshot.shown]
        yield _gauge(
            *MESSAGES,
            (*PER_OPERATION, "state"),
            (
                ((*_key(operation), state), value)
                for operation in shown
                for state in STATES
                # Compared with None, because 0 is a sample. A count that was never received is not 0.
                if (value := getattr(operation.stats, state)) is not None
            ),
        )
        for name, help_text, path in COUNTS:
            read = attrgetter(path)
            yield _gauge(
                name,
                help_text,
                PER_OPERATION,
                ((_key(operation), count) for operation in shown if (count := read(operation)) is not None),
            )
        for name, help_text, path in INSTANTS:
            read = attrgetter(path)
            yield _gauge(
                name,
                help_text,
                PER_OPERATION,
                ((_key(operation), at / SECOND) for operation in shown if (at := read(operation)) is not None),
            )
        yield _gauge(
            *STATUS,
            (*PER_OPERATION, "status"),
            (((*_key(operation), operation.status.value), 1) for operation in shown),
        )
        yield _gauge(
            *INFO,
            (*PER_OPERATION, *self._labels),
            (
                # Every sample of a family needs all label names. Prometheus treats an empty value as an absent label.
                ((*_key(operation), *(operation.labels.get(name, "") for name in self._labels)), 1)
                for operation in shown
            ),
        )

    # ── counters of the finished ──────────────────────────────────────────────────────────────────────────────────────

    def finished(self) -> Iterator[Metric]:
        """The reference for `counter_text`, which writes the same families for the scrape."""
        yield from finished_families(self._snapshots, self._counter_labels, created=self._created)

    # ── accounts ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def accounts(self) -> Iterator[Metric]:
        """The present state of each account."""
        yield _gauge(
            "twilio_operations",
            "Operations that are tracked or settling, by status.",
            (*PER_CHANNEL, "status"),
            (
                ((snapshot.account, PUSH.name, status), count)
                for snapshot in self._snapshots
                # Until the store was read, a count of 0 would say that nothing is tracked.
                if snapshot.is_loaded
                for status, count in snapshot.statuses.items()
            ),
        )
        for labels, gauges in ((("account",), _ACCOUNT_GAUGES), (PER_CHANNEL, _CHANNEL_GAUGES)):
            for name, help_text, read in gauges:
                yield _gauge(
                    name,
                    help_text,
                    labels,
                    (
                        ((snapshot.account, PUSH.name)[: len(labels)], value)
                        for snapshot in self._snapshots
                        if (value := read(snapshot)) is not None
                    ),
                )
        throttled = CounterMetricFamily(
            "operation_watcher_api_throttled_seconds",
            "How long upstream held the account by 429 and 503, in seconds.",
            labels=("account",),
        )
        for snapshot in self._snapshots:
            created = snapshot.started_at / SECOND if self._created else None
            throttled.add_metric((snapshot.account,), snapshot.throttled / SECOND, created)
        yield throttled
        # One sum without a label, because `metrics.max_operations` limits all accounts together.
        suppressed = sum(snapshot.suppressed for snapshot in self._snapshots)
        yield _gauge(
            "operation_watcher_operations_suppressed",
            "Operations that have no series of their own because of metrics.max_operations.",
            (),
            (((), suppressed),),
        )


# None for a time that is not known gives no sample. A 0 would be read as 1970, and alerts on its age would fire.
def _seconds(instant: Instant | None) -> float | None:
    return None if instant is None else instant / SECOND


_ACCOUNT_GAUGES: Sequence[tuple[str, str, Callable[[AccountSnapshot], float | None]]] = (
    (
        "operation_watcher_account_up",
        "1 while upstream gives usable answers for the account.",
        lambda snapshot: int(snapshot.up),
    ),
    (
        "operation_watcher_account_unauthorized",
        "1 while upstream refuses the account's credentials.",
        lambda snapshot: int(snapshot.unauthorized),
    ),
    (
        "operation_watcher_last_success_timestamp_seconds",
        "The last usable answer, in seconds since 1970; the start, until the first.",
        lambda snapshot: _seconds(snapshot.last_success_at),
    ),
    (
        "operation_watcher_api_limit_requests_per_second",
        "Requests a second that the account's governor allows now.",
        lambda snapshot: snapshot.limit_per_second,
    ),
    (
        "operation_watcher_freshness_seconds",
        "The delay within which a change should be known, in seconds, as configured.",
        lambda snapshot: snapshot.freshness / SECOND,
    ),
    (
        "operation_watcher_clock_skew_seconds",
        "Upstream's clock less ours, by the Date header, in seconds.",
        lambda snapshot: snapshot.skew / SECOND,
    ),
)


_CHANNEL_GAUGES: Sequence[tuple[str, str, Callable[[AccountSnapshot], float | None]]] = (
    (
        "operation_watcher_poll_lag_seconds",
        "How long the most overdue poll is past the promise of freshness, in seconds.",
        lambda snapshot: snapshot.lag / SECOND,
    ),
    (
        "operation_watcher_discovery_last_complete_timestamp_seconds",
        "When discovery last read every page of its lists, in seconds since 1970.",
        lambda snapshot: _seconds(snapshot.discovered_at),
    ),
)


def _key(operation: Operation) -> _Labels:
    return operation.account, PUSH.name, operation.id


def _gauge(
    name: str,
    help_text: str,
    labels: Sequence[str],
    samples: Iterator[tuple[_Labels, float]] | Sequence[tuple[_Labels, float]],
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_text, labels=labels)
    for key, value in samples:
        family.add_metric(key, value)
    return family
