"""Families of finished operations, from the counters of accounts: every series of every shown combination.

`_created` is the time at which a combination was first tracked. Its numbers count from there, over all restarts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

from watcher.core import totals
from watcher.core.channels import PUSH, STATES_HELP, STATES_METRIC, StatKind
from watcher.core.labelling import Combination, combination_in
from watcher.core.model import SECOND, Outcome, Value
from watcher.core.snapshot import AccountSnapshot
from watcher.core.totals import Key


class Counted(Value, frozen=True, kw_only=True):
    """One combination of an account: the account and its label values, and its numbers by series and own labels."""

    labels: tuple[str, ...]
    created: float | None
    values: Mapping[Key, float]


_Family: TypeAlias = tuple[str, str, str | None, Sequence[Key]]

_FAMILIES: Sequence[_Family] = (
    (
        "twilio_operations_finished",
        "Operations whose stats became final, by outcome.",
        "outcome",
        [(totals.OPERATIONS, outcome.value) for outcome in sorted(Outcome)],
    ),
    (
        f"{STATES_METRIC}_finished",
        f"{STATES_HELP.removesuffix('.')}, once its stats are final.",
        "state",
        sorted(key for key in totals.COUNTED.values() if key[0] == totals.MESSAGES),
    ),
    *(
        (
            f"{field.metric}_finished",
            f"{field.help.removesuffix('.')}, once its stats are final.",
            None,
            [(field.name,)],
        )
        for field in PUSH.fields
        if field.is_counted and field.kind is not StatKind.STATE
    ),
)
"""Counters: name, help, the series' own label, and the keys of its values."""


def finished_families(
    snapshots: Sequence[AccountSnapshot], names: Sequence[str], *, created: bool = False
) -> Sequence[Metric]:
    """The counters by account and counter labels. `counter_text` writes the same bytes for the scrape."""
    return families_of(list(counted_in(snapshots, names, created=created)), names)


def counted_in(
    snapshots: Sequence[AccountSnapshot], names: Sequence[str], *, created: bool = False
) -> Iterator[Counted]:
    """The shown combinations of each account, one by one.

    An account is left out while its counters are not known: a 0 before the true value would look like an increase. It
    is also left out while it still counts under other labels, just after a reload.
    """
    # Counters have their label names sorted, whatever the order in the setting.
    names = tuple(sorted(names))
    for snapshot in snapshots:
        if snapshot.is_loaded and snapshot.counters.names == names:
            yield from _combinations(snapshot, created=created)


def families_of(shown: Sequence[Counted], names: Sequence[str]) -> Sequence[Metric]:
    """The families, each once, with the series of these combinations."""
    label_names = ("account", "channel", *sorted(names))
    return [*(_counter(shown, label_names, family) for family in _FAMILIES), _durations(shown, label_names)]


def _counter(shown: Sequence[Counted], names: Sequence[str], family_of: _Family) -> CounterMetricFamily:
    name, help_text, own, keys = family_of
    family = CounterMetricFamily(name, help_text, labels=(*names, own) if own else names)
    for counted in shown:
        for key in keys:
            # A series that counted nothing is shown at 0: `increase()` of Prometheus needs a sample before the first 1.
            # The rest of the key, if there is any, is the value of the series' own label.
            family.add_metric((*counted.labels, *key[1:]), counted.values.get(key, 0.0), counted.created)
    return family


def _combinations(snapshot: AccountSnapshot, *, created: bool) -> Iterator[Counted]:
    values: dict[Combination, dict[Key, float]] = {combination: {} for combination in snapshot.counters.combinations}
    for key, value in snapshot.totals.items():
        combination = combination_in(key)
        # The key of a total is (series, own labels …, combination …). `Counted.values` has it without the combination.
        # Totals of a combination that is not shown are left out, or a series would appear with its numbers at once.
        if combination in values:
            values[combination][key[: len(key) - len(combination)]] = value
    for combination, state in sorted(snapshot.counters.combinations.items()):
        yield Counted(
            labels=(snapshot.account, PUSH.name, *(part.partition("=")[2] for part in combination)),
            created=state.created_at / SECOND if created else None,
            values=values[combination],
        )


def _durations(shown: Sequence[Counted], names: Sequence[str]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(
        "twilio_operation_duration_seconds",
        "From creation to end by upstream's clock, of completed and canceled operations, in seconds.",
        labels=names,
    )
    for counted in shown:
        # A stored bucket counts only its own range, so that an operation adds to one row. Prometheus cumulates buckets.
        count, cumulated = 0.0, []
        for bound in totals.DURATION_BUCKETS:
            count += counted.values.get((totals.DURATION_BUCKET, str(bound)), 0.0)
            cumulated.append((_bound(bound), count))
        family.add_metric(counted.labels, cumulated, counted.values.get((totals.DURATION_MICROS,), 0.0) / SECOND)
        # By hand: other than for counters, `add_metric` of a histogram has no argument for it.
        if counted.created is not None:
            labels = dict(zip(names, counted.labels, strict=True))
            family.add_sample(f"{family.name}_created", labels, counted.created)
    return family


def _bound(bound: float) -> str:
    return "+Inf" if bound == float("inf") else f"{float(bound)}"
