"""Write operation-watcher.json, the Grafana dashboard.

The dashboard is reviewed here, as rows of panels with their queries; the JSON is what Grafana imports. What holds in
all queries: an operation may be shown by several processes, so its gauges are
`max by (account, channel, operation_id)`; counters and numbers of a process are summed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FILE = HERE / "operation-watcher.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
OF = 'account=~"$account"'
ONE = 'account=~"$account",operation_id="$operation"'
BY_OPERATION = "by (account, channel, operation_id)"
ON_OPERATION = "on (account, channel, operation_id)"
RUNNING = f'max {BY_OPERATION} (twilio_operation_status{{{OF},status=~"UNSEEN|SCHEDULED|PROCESSING|UNKNOWN"}})'
# Two pods of a rollout may know different campaigns, and a join needs one.
CAMPAIGN = f"topk {BY_OPERATION} (1, max by (account, channel, operation_id, campaign) (twilio_operation_info{{{OF}}}))"

Json = dict[str, Any]


def latest(metric: str, matchers: str = OF) -> str:
    """An operation's gauge, whichever processes show it."""
    return f"max {BY_OPERATION} ({metric}{{{matchers}}})"


def notifications(states: str) -> str:
    """An operation's notifications in these states."""
    each = f'twilio_operation_messages{{{OF},state=~"{states}"}}'
    return f"sum {BY_OPERATION} (max by (account, channel, operation_id, state) ({each}))"


def increase(metric: str, matchers: str = OF) -> str:
    """What an account's counter grew by in the range that is shown."""
    return f"sum by (account) (increase({metric}{{{matchers}}}[$__range]))"


def rate(metric: str, by: str, matchers: str = OF) -> str:
    """How fast a counter grows."""
    return f"sum by ({by}) (rate({metric}{{{matchers}}}[$__rate_interval]))"


def quantile(share: float, metric: str) -> str:
    """Of a histogram, by account."""
    return f"histogram_quantile({share}, {rate(metric + '_bucket', 'account, le')})"


def running(expression: str) -> str:
    """Only of operations that have not ended."""
    return f"{expression} and on (account, channel, operation_id) {RUNNING}"


def with_campaign(expression: str) -> str:
    """With the campaign as a label."""
    return f"({expression}) * on (account, channel, operation_id) group_left (campaign) {CAMPAIGN}"


def target(expression: str, legend: str = "", **more: Any) -> Json:
    """One query."""
    return {"datasource": SOURCE, "expr": expression, "legendFormat": legend or "__auto", **more}


def panel(kind: str, title: str, targets: Sequence[Json], *, width: int, height: int = 7, **more: Any) -> Json:
    """One panel; `unit`, `description`, `defaults`, `options` and `transformations` go where Grafana has them."""
    defaults = {"unit": more.pop("unit", "short"), **more.pop("defaults", {})}
    lettered = [{"refId": chr(ord("A") + number), **each} for number, each in enumerate(targets)]
    return {
        "type": kind,
        "title": title,
        "datasource": SOURCE,
        "targets": lettered,
        "gridPos": {"w": width, "h": height},
        "fieldConfig": {"defaults": defaults, "overrides": more.pop("overrides", [])},
        **more,
    }


def graph(title: str, *targets: Json, width: int = 8, **more: Any) -> Json:
    """Lines over time."""
    return panel("timeseries", title, targets, width=width, **more)


def stat(title: str, expression: str, legend: str = "{{account}}", *, width: int = 4, **more: Any) -> Json:
    """A number for each account."""
    return panel("stat", title, [target(expression, legend, instant=True)], width=width, height=5, **more)


def yes_or_no(title: str, expression: str, legend: str, **more: Any) -> Json:
    """Green at 1, red at 0."""
    steps = [{"color": "red", "value": None}, {"color": "green", "value": 1}]
    words = {"0": {"text": "no"}, "1": {"text": "yes"}}
    mappings = [{"type": "value", "options": words}]
    return stat(
        title,
        expression,
        legend,
        defaults={"thresholds": {"mode": "absolute", "steps": steps}, "mappings": mappings},
        **more,
    )


def alarming(at: float) -> Json:
    """Red from there on."""
    steps = [{"color": "green", "value": None}, {"color": "red", "value": at}]
    return {"thresholds": {"mode": "absolute", "steps": steps}}


def table(title: str, columns: Sequence[tuple[str, str]], *, sort_by: str, bar: str = "", **more: Any) -> Json:
    """One row for each operation, one query for each column."""
    targets = [target(expression, instant=True, format="table") for _, expression in columns]
    names = {f"Value #{chr(ord('A') + number)}": name for number, (name, _) in enumerate(columns)}
    bars = [
        {
            "matcher": {"id": "byName", "options": bar},
            "properties": [
                {"id": "unit", "value": "percentunit"},
                {"id": "min", "value": 0},
                {"id": "max", "value": 1},
                {"id": "custom.cellOptions", "value": {"type": "gauge", "mode": "basic"}},
            ],
        }
    ]
    return panel(
        "table",
        title,
        targets,
        width=WIDTH,
        height=9,
        overrides=bars if bar else [],
        transformations=[
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": names}},
        ],
        options={"sortBy": [{"displayName": sort_by, "desc": True}]},
        **more,
    )


FAILED = latest("twilio_operation_messages", f'{OF},state="failed"')
UNADDRESSABLE = latest("twilio_operation_unaddressable_recipients")
FAILED_ONES, SENT_OR_FAILED = f'{OF},state="failed"', f'{OF},state=~"sent|failed"'
FINISHED = "twilio_operation_messages_finished_total"
ALERTS = 'ALERTS{alertname=~"(Operation|Account|Watcher).+",alertstate="firing"}'

ROWS: Sequence[tuple[str, Sequence[Json]]] = (
    (
        "Overview by account",
        (
            stat(
                "Under way",
                f'sum by (account) (twilio_operations{{{OF},status=~"UNSEEN|SCHEDULED|PROCESSING|UNKNOWN"}})',
                description="Operations that are followed and have not ended.",
            ),
            stat("Finished", increase("twilio_operations_finished_total"), description="In the time shown."),
            stat(
                "Failed notifications",
                f"{increase(FINISHED, FAILED_ONES)} / {increase(FINISHED, SENT_OR_FAILED)}",
                unit="percentunit",
                defaults=alarming(0.1),
                description="Share of the notifications of operations that finished in the time shown.",
            ),
            stat(
                "Unaddressable recipients",
                f"{increase('twilio_operation_unaddressable_recipients_finished_total')}"
                f" / {increase('twilio_operation_recipients_finished_total')}",
                unit="percentunit",
                defaults=alarming(0.1),
                description="Share of the recipients of operations that finished in the time shown.",
            ),
            yes_or_no("Account reached", f"min by (account) (operation_watcher_account_up{{{OF}}})", "{{account}}"),
            stat("Alerts", f"count by (severity) ({ALERTS})", "{{severity}}", description="Firing, of our rules."),
            graph("Operations by status", target(f"sum by (status) (twilio_operations{{{OF}}})", "{{status}}")),
            graph(
                "Finished operations",
                target(rate("twilio_operations_finished_total", "account, outcome"), "{{account}} {{outcome}}"),
                unit="ops",
            ),
            graph(
                "Finished notifications", target(rate(FINISHED, "account, state"), "{{account}} {{state}}"), unit="cps"
            ),
            graph(
                "From creation to end",
                target(quantile(0.5, "twilio_operation_duration_seconds"), "{{account}} half"),
                target(quantile(0.95, "twilio_operation_duration_seconds"), "{{account}} 95 %"),
                width=WIDTH,
                unit="s",
            ),
        ),
    ),
    (
        "Operations in flight",
        (
            table(
                "In flight",
                (
                    (
                        "Progress",
                        with_campaign(
                            running(
                                f"{notifications('sent|failed|canceled')}"
                                f" / {ON_OPERATION} ({latest('twilio_operation_size')} > 0)"
                            )
                        ),
                    ),
                    ("Size", with_campaign(running(latest("twilio_operation_size")))),
                    ("Failed", with_campaign(running(FAILED))),
                    ("Unaddressable", with_campaign(running(UNADDRESSABLE))),
                ),
                sort_by="Failed",
                bar="Progress",
            ),
            graph(
                "Without progress for",
                target(
                    f"time() - ({running(latest('twilio_operation_progressed_timestamp_seconds'))})",
                    "{{operation_id}}",
                ),
                width=12,
                unit="s",
                description="Time since the last poll that changed something.",
            ),
            graph(
                "Age",
                target(
                    f"time() - ({running(latest('twilio_operation_created_timestamp_seconds'))})",
                    "{{operation_id}}",
                ),
                width=12,
                unit="s",
                description="Upstream keeps a record for 7 days.",
            ),
        ),
    ),
    (
        "Failures and unaddressables",
        (
            table(
                "Operations with failures",
                (
                    ("Failed", with_campaign(f"{FAILED} > 0")),
                    (
                        "Share",
                        with_campaign(f"({FAILED} > 0) / {ON_OPERATION} ({latest('twilio_operation_size')} > 0)"),
                    ),
                ),
                sort_by="Failed",
                bar="Share",
            ),
            table(
                "Operations with recipients that have no device",
                (
                    ("Unaddressable", with_campaign(f"{UNADDRESSABLE} > 0")),
                    (
                        "Share",
                        with_campaign(
                            f"({UNADDRESSABLE} > 0) / {ON_OPERATION} ({latest('twilio_operation_recipients')} > 0)"
                        ),
                    ),
                ),
                sort_by="Unaddressable",
                bar="Share",
            ),
        ),
    ),
    (
        "One operation",
        (
            graph(
                "Notifications of $operation",
                target(f"max by (state) (twilio_operation_messages{{{ONE}}})", "{{state}}"),
                target(f"max(twilio_operation_size{{{ONE}}})", "size"),
                width=12,
            ),
            panel(
                "state-timeline",
                "Status of $operation",
                [target(f"max by (status) (twilio_operation_status{{{ONE}}})", "{{status}}")],
                width=12,
            ),
            stat("Recipients", f"max(twilio_operation_recipients{{{ONE}}})", "recipients", width=6),
            stat(
                "Unaddressable",
                f"max(twilio_operation_unaddressable_recipients{{{ONE}}})",
                "unaddressable",
                width=6,
            ),
            stat(
                "Created",
                f"1000 * max(twilio_operation_created_timestamp_seconds{{{ONE}}})",
                "created",
                width=6,
                unit="dateTimeAsIso",
            ),
            stat(
                "Updated by upstream",
                f"1000 * max(twilio_operation_updated_timestamp_seconds{{{ONE}}})",
                "updated",
                width=6,
                unit="dateTimeAsIso",
            ),
        ),
    ),
    (
        "The watcher itself",
        (
            yes_or_no("Scraped", 'min by (job) (up{job="operation-watcher"})', "{{job}}"),
            yes_or_no("Store usable", "min by (job) (operation_watcher_store_usable)", "{{job}}"),
            yes_or_no(
                "Configuration taken", "min by (job) (operation_watcher_config_last_reload_successful)", "{{job}}"
            ),
            yes_or_no(
                "Credentials taken",
                f"1 - max by (account) (operation_watcher_account_unauthorized{{{OF}}})",
                "{{account}}",
            ),
            stat(
                "Not shown",
                "sum by (job) (operation_watcher_operations_suppressed)",
                "{{job}}",
                defaults=alarming(1),
                description="Operations above metrics.max_operations.",
            ),
            stat("Version", "count by (version) (operation_watcher_build_info)", "{{version}}"),
            graph(
                "Requests",
                target(
                    f"{rate('operation_watcher_api_requests_total', 'account, endpoint, code')} > 0",
                    "{{account}} {{endpoint}} {{code}}",
                ),
                target(
                    f"sum by (account) (operation_watcher_api_limit_requests_per_second{{{OF}}})", "{{account}} allowed"
                ),
                unit="reqps",
            ),
            graph(
                "Answers take, 95 %",
                target(
                    "histogram_quantile(0.95, "
                    + rate("operation_watcher_api_request_duration_seconds_bucket", "account, endpoint, le")
                    + ")",
                    "{{account}} {{endpoint}}",
                ),
                unit="s",
            ),
            graph(
                "Held back by upstream",
                target(rate("operation_watcher_api_throttled_seconds_total", "account"), "{{account}}"),
                unit="percentunit",
                description="Share of the time.",
            ),
            graph(
                "Late by",
                target(f"max by (account) (operation_watcher_poll_lag_seconds{{{OF}}})", "{{account}}"),
                target(f"max by (account) (operation_watcher_freshness_seconds{{{OF}}})", "{{account}} promised"),
                unit="s",
                description="Past the poll that polling.freshness promised.",
            ),
            graph(
                "Changes known after, 95 %",
                target(quantile(0.95, "operation_watcher_detection_delay_seconds"), "{{account}}"),
                unit="s",
            ),
            graph(
                "Last good answer",
                target(
                    f"time() - max by (account) (operation_watcher_last_success_timestamp_seconds{{{OF}}})",
                    "{{account}}",
                ),
                unit="s",
            ),
            graph(
                "Last discovery",
                target(
                    f"time() - max by (account) (operation_watcher_discovery_last_complete_timestamp_seconds{{{OF}}})",
                    "{{account}}",
                ),
                unit="s",
                description="Since every page of the account's lists was last read. Empty without discovery.",
            ),
            graph(
                "Odd answers",
                target(rate("operation_watcher_anomalies_total", "account, kind"), "{{account}} {{kind}}"),
            ),
            graph(
                "Clock against upstream's",
                target(f"max by (account) (operation_watcher_clock_skew_seconds{{{OF}}})", "{{account}}"),
                unit="s",
            ),
            graph(
                "Pending events",
                target("max by (job, instance) (operation_watcher_events_pending)", "{{instance}}"),
            ),
            graph(
                "Store", target("max by (job, instance) (operation_watcher_store_bytes)", "{{instance}}"), unit="bytes"
            ),
            graph(
                "Errors of the store",
                target(
                    "sum by (job, instance) (rate(operation_watcher_store_errors_total[$__rate_interval]))",
                    "{{instance}}",
                ),
            ),
            graph(
                "Event loop wakes up late by",
                target("max by (job, instance) (operation_watcher_event_loop_lag_seconds)", "{{instance}}"),
                unit="s",
            ),
            graph(
                "Memory",
                target(
                    'max by (job, instance) (process_resident_memory_bytes{job="operation-watcher"})', "{{instance}}"
                ),
                width=12,
                unit="bytes",
            ),
            graph(
                "CPU",
                target(
                    "sum by (job, instance)"
                    ' (rate(process_cpu_seconds_total{job="operation-watcher"}[$__rate_interval]))',
                    "{{instance}}",
                ),
                width=12,
                unit="percentunit",
            ),
        ),
    ),
)

VARIABLES: Sequence[Json] = (
    {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Source"},
    {
        "name": "account",
        "type": "query",
        "label": "Account",
        "datasource": SOURCE,
        "query": "label_values(twilio_operations, account)",
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
    },
    {
        "name": "operation",
        "type": "query",
        "label": "Operation",
        "datasource": SOURCE,
        "query": f"label_values(twilio_operation_status{{{OF}}}, operation_id)",
        "refresh": 2,
    },
)


def placed(rows: Sequence[tuple[str, Sequence[Json]]]) -> list[Json]:
    """The panels of all rows with their places, from left to right and top to bottom."""
    panels: list[Json] = []
    top = 0
    for title, row in rows:
        panels.append(
            {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": _at(0, top, WIDTH, 1)}
        )
        top, left, tallest = top + 1, 0, 0
        for each in row:
            width, height = each["gridPos"]["w"], each["gridPos"]["h"]
            if left + width > WIDTH:
                top, left, tallest = top + tallest, 0, 0
            panels.append({**each, "gridPos": _at(left, top, width, height)})
            left, tallest = left + width, max(tallest, height)
        top += tallest
    return [{"id": number, **each} for number, each in enumerate(panels, start=1)]


def _at(left: int, top: int, width: int, height: int) -> Json:
    return {"x": left, "y": top, "w": width, "h": height}


def dashboard() -> Json:
    """What Grafana imports."""
    return {
        "uid": "operation-watcher",
        "title": "Push operations",
        "tags": ["operation-watcher"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": list(VARIABLES)},
        "annotations": {"list": []},
        "links": [],
        "panels": placed(ROWS),
    }


def text() -> str:
    """The file's content."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
