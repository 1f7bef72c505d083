"""The alert rules against the real tools, their tests, their page and what the code exports."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.factories import counters_with
from watcher.core.channels import Stats
from watcher.core.model import OUTCOME_OF, SECOND, Moment, Operation, Source, Status
from watcher.core.snapshot import AccountSnapshot
from watcher.metrics import Instruments
from watcher.metrics.census import CensusCollector

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy" / "prometheus"
RULES = DEPLOY / "operation-watcher.rules.yaml"
PAGE = ROOT / "docs" / "alerts.md"
RULE_TESTS = sorted((DEPLOY / "tests").glob("*.test.yaml"))

ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
OF_PROMETHEUS = {"up"}

_GROUPING = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)")
_NAME = re.compile(r"(?<![\w.:])[a-zA-Z_:][\w:]*(?!\s*\(|[\w:])")
_OPERATORS = {"and", "or", "unless", "bool", "offset"}
_OURS = re.compile(r"\b(?:twilio_operations?|operation_watcher)_\w+")
_MATCHER = re.compile(r'\b(status|outcome)(?:=~|=)"([^"]*)"')


def run(*command: str, text: str | None = None) -> str:
    """What the tool printed; the test fails when the tool does, or is not there."""
    if shutil.which(command[0]) is None:
        pytest.fail(f"needs {command[0]} on the PATH (Debian: apt-get install prometheus prometheus-alertmanager)")
    done = subprocess.run(command, input=text, cwd=DEPLOY, capture_output=True, text=True, timeout=300, check=False)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    return printed


# ── the tools ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_rules_are_valid():
    assert f"{len(ALERTS)} rules found" in run("promtool", "check", "rules", RULES.name)


@pytest.mark.parametrize("tests", RULE_TESTS, ids=lambda path: path.name)
def test_the_rules_pass_their_tests(tests: Path):
    assert "SUCCESS" in run("promtool", "test", "rules", f"tests/{tests.name}")


def test_the_example_of_prometheus_is_valid_and_uses_the_rules():
    assert "1 rule files found" in run("promtool", "check", "config", "prometheus.yaml")


def test_the_example_of_alertmanager_is_valid():
    assert "SUCCESS" in run("amtool", "check-config", "alertmanager.yaml")


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ("alertname=OperationFailureShare scope=operation severity=critical account=main operation_id=op1", "pager"),
        ("alertname=OperationFailed scope=operation severity=warning account=main operation_id=op1", "on-call"),
        ("alertname=AccountUnauthorized scope=account severity=critical account=main", "pager"),
        ("alertname=AccountAnomalies scope=account severity=info account=main", "on-call"),
    ],
)
def test_the_example_routes_by_severity(labels, receiver):
    # Before the answer some versions print that they read the file and ask no Alertmanager.
    routed = run("amtool", "config", "routes", "test", "--config.file=alertmanager.yaml", *labels.split())
    assert receiver in routed.splitlines()


def test_promtool_has_nothing_to_say_of_the_metrics():
    assert run("promtool", "check", "metrics", text=rendered()) == ""


# ── the rules by themselves ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_where_and_what_to_read(name):
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["labels"]["scope"] in {"operation", "account", "watcher"}
    annotations = rule["annotations"]
    assert annotations["summary"]
    assert annotations["runbook_url"] == f"https://operation-watcher.example/docs/alerts.md#{name.lower()}"
    if rule["labels"]["scope"] == "operation":
        assert "$labels.account" in annotations["description"]
        assert "$labels.operation_id" in annotations["description"]
        assert 'label "campaign"' in annotations["campaign"]


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_survives_a_restart(name):
    # Where nothing is scraped, that is the alert.
    assert "keep_firing_for" in ALERTS[name] or name == "WatcherAbsent"


def test_every_metric_that_the_rules_name_is_exported():
    families = text_string_to_metric_families(rendered())
    exported = {sample.name for family in families for sample in family.samples}
    unknown = {name: metrics_of(rule) - exported - OF_PROMETHEUS for name, rule in ALERTS.items()}
    assert {name: metrics for name, metrics in unknown.items() if metrics} == {}
    assert all(metrics_of(rule) for rule in ALERTS.values())


def test_every_status_and_outcome_that_the_rules_name_exists():
    known = {"status": set(map(str, Status)), "outcome": set(map(str, OUTCOME_OF.values()))}
    named = [
        (label, word)
        for rule in ALERTS.values()
        for label, words in _MATCHER.findall(rule["expr"])
        for word in words.split("|")
    ]
    assert named
    assert [(label, word) for label, word in named if word not in known[label]] == []


def test_a_status_that_can_end_is_either_ended_or_not_in_the_rule_of_age():
    words = {word for _, words in _MATCHER.findall(ALERTS["OperationNearExpiry"]["expr"]) for word in words.split("|")}
    assert words == set(map(str, Status))


# ── their tests and their page ───────────────────────────────────────────────────────────────────────────────────────


def test_every_alert_is_tested_for_firing_and_for_staying_silent():
    firing: set[str] = set()
    silent: set[str] = set()
    for case in rule_cases():
        (firing if case.get("exp_alerts") else silent).add(case["alertname"])
    assert firing == set(ALERTS)
    assert silent == set(ALERTS)


def test_every_alert_has_its_section_and_every_section_its_alert():
    assert sections().keys() == ALERTS.keys()


@pytest.mark.parametrize("name", ALERTS)
def test_the_page_gives_severity_meaning_remedy_and_tuning(name):
    section = sections().get(name, "")
    assert f"**{ALERTS[name]['labels']['severity']}**" in section
    assert [word for word in ("Fires", "Means", "Do", "Tune") if f"- {word}: " not in section] == []


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def metrics_of(rule: dict[str, Any]) -> set[str]:
    """The metrics that a rule reads, in its expression and in the lookups of its texts."""
    expression = re.sub(r"#.*", "", rule["expr"])
    expression = re.sub(r'"[^"]*"', '""', expression)
    expression = _GROUPING.sub("", re.sub(r"\{[^}]*\}|\[[^]]*\]", "", expression))
    texts = " ".join(rule["annotations"].values())
    return (set(_NAME.findall(expression)) - _OPERATORS) | set(_OURS.findall(texts))


def rule_cases() -> Iterator[dict[str, Any]]:
    for path in RULE_TESTS:
        for test in yaml.safe_load(path.read_text())["tests"]:
            yield from test.get("alert_rule_test", ())


def sections() -> dict[str, str]:
    """The sections of the page, by the alert that each is about."""
    parts = re.split(r"^### (.+)$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rendered() -> str:
    """A scrape of one account with one operation of which everything is known."""
    instruments = Instruments()
    instruments.open_account("main")
    at = 1_750_000_000 * SECOND
    operation = Operation(
        account="main",
        id="comms_operation_01h9krwprkeee8fzqspvwy6nq8",
        source=Source.API,
        registered_at=at,
        status=Status.COMPLETED,
        stats=Stats(total=9, recipients=9, scheduled=0, queued=0, sent=8, failed=1, canceled=0, unaddressable=0),
        created_at=at,
        updated_at=at,
        progressed_at=at,
        ended_at=at,
        learned_at=at,
    )
    snapshot = AccountSnapshot(
        account="main",
        counters=counters_with(),
        taken=Moment(at, 0),
        shown=(operation,),
        statuses={"COMPLETED": 1},
        last_success_at=at,
        discovered_at=at,
    )
    instruments.registry.register(CensusCollector((snapshot,)))
    return generate_latest(instruments.registry).decode()
