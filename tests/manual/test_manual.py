"""The manual cannot lie: what exists is documented, and what is documented exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import msgspec
import pytest
from prometheus_client import CollectorRegistry, Metric

from tests.support.factories import counters_with
from watcher.cli.exits import Exit
from watcher.core import model
from watcher.core.account_health import HealthIssue
from watcher.core.channels import STAT_NAMES, Stats
from watcher.core.model import Moment, Operation, Source, Status
from watcher.core.snapshot import AccountSnapshot
from watcher.logs.events import fields_of, level_of, operation_fields
from watcher.metrics.census import CensusCollector
from watcher.metrics.instruments import KINDS, Instruments
from watcher.server.api.app_context import Side
from watcher.server.api.endpoints import ENDPOINTS, ApiEndpoint, ResponseSpec
from watcher.server.api.openapi import PATH as OPENAPI
from watcher.server.problems import PLAIN
from watcher.simulator import Scenario, built_in_names
from watcher.simulator.fault_types import _ALL_DETAILS, _DETAILS, Fault, Kind
from watcher.simulator.send_endpoint import _Send

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CODE = ROOT / "watcher"


def page(name: str) -> str:
    return (DOCS / name).read_text()


def sections(text: str, level: str = "###") -> Mapping[str, str]:
    """The text under each heading of the level that is code, up to the next heading."""
    found = re.findall(rf"^{level} `([^`]+)`\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    return dict(found)


def rows(text: str, *, head: str) -> Sequence[Sequence[str]]:
    """The rows of all tables whose first heading is this, as cells."""
    tables = re.findall(rf"^\| {re.escape(head)} \|.*\n\|[-|]+\|\n((?:\|.*\|\n?)+)", text, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for table in tables for line in table.splitlines()]


def keys(text: str, *, head: str) -> list[str]:
    return [row[0].strip("`") for row in rows(text, head=head)]


def quoted(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


# ── metrics ───────────────────────────────────────────────────────────────────────────────────────────────────────────

OURS = re.compile(r"\b(?:twilio_operations?|operation_watcher)_[a-z][a-z_]*\b(?!:)")
SUFFIXES = ("_bucket", "_sum", "_count")


def everything() -> Sequence[Metric]:
    """Every family, each with every series that it can have."""
    operation = Operation(
        account="main",
        id="comms_operation_01h9krwprkeee8fzqspvwy6nq8",
        source=Source.API,
        registered_at=1,
        status=Status.COMPLETED,
        stats=Stats(**dict.fromkeys(STAT_NAMES, 1)),
        created_at=1,
        updated_at=1,
        progressed_at=1,
        ended_at=1,
    )
    snapshot = AccountSnapshot(
        account="main",
        taken=Moment(1, 1),
        shown=(operation,),
        statuses={status.value: 0 for status in Status},
        counters=counters_with(),
        discovered_at=1,
    )
    instruments = Instruments()
    instruments.open_account("main")
    whole = CollectorRegistry(auto_describe=False)
    for part in (instruments.registry, CensusCollector([snapshot])):
        whole.register(part)
    return list(whole.collect())


FAMILIES = {
    metric.name + ("_total" if metric.type == "counter" else ""): metric for metric in everything() if metric.samples
}
METRIC_ROWS = {row[0].strip("`"): row for row in rows(page("metrics.md"), head="metric")}


def test_the_manual_has_every_metric_and_no_others():
    # Those of the process depend on the platform.
    documented = {name for name in METRIC_ROWS if OURS.fullmatch(name)}
    assert documented == {name for name in FAMILIES if OURS.fullmatch(name)}
    assert FAMILIES.keys() <= METRIC_ROWS.keys()


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_the_manual_names_type_and_labels_of_a_metric(name: str):
    _, kind, labels, unit, meaning = METRIC_ROWS[name]
    family = FAMILIES[name]
    assert kind == family.type
    assert quoted(labels) == {label for sample in family.samples for label in sample.labels} - {"le"}
    assert unit
    assert meaning


@pytest.mark.parametrize("name", [name for name in sorted(FAMILIES) if FAMILIES[name].type == "histogram"])
def test_the_manual_names_the_buckets_of_a_histogram(name: str):
    documented = METRIC_ROWS[name][4].partition("buckets ")[2]
    units = {"s": 1, "min": 60, "h": 3600, "d": 86400, "": 1}
    numbers = [float(number) * units[unit] for number, unit in re.findall(r"([0-9.]+)(?: (s|min|h|d))?\b", documented)]
    bounds = {float(sample.labels["le"]) for sample in FAMILIES[name].samples if "le" in sample.labels}
    assert numbers == sorted(bounds - {float("inf")})


def test_every_fixed_label_value_is_in_the_manual():
    for name, family in FAMILIES.items():
        for sample in family.samples:
            for label in {"state", "outcome", "code", "endpoint"} & sample.labels.keys():
                assert re.search(rf"\b{sample.labels[label]}\b", METRIC_ROWS[name][4]), (name, sample.labels)
    assert keys(page("metrics.md"), head="status") == [status.value for status in Status]


@pytest.mark.parametrize("document", [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))], ids=lambda path: path.name)
def test_every_metric_that_is_named_anywhere_exists(document: Path):
    known = {name + suffix for name, family in FAMILIES.items() for suffix in ("", *_suffixes(family))}
    assert set(OURS.findall(document.read_text())) - known == set()


def _suffixes(family: Metric) -> Sequence[str]:
    return SUFFIXES if family.type == "histogram" else ()


# ── events ────────────────────────────────────────────────────────────────────────────────────────────────────────────

EVENTS = sections(page("events.md"))
OPERATION_EVENTS: Mapping[str, type[msgspec.Struct]] = {
    str(event.__struct_config__.tag): event for event in get_args(model.OperationEvent)
}
OF_EVERY_OPERATION = list(
    operation_fields(account="", operation_id="", labels={}, event_id="", seq=1, occurred_at=1, replayed=False)
)
# What the AST does not show: names that are composed at run time.
PUT_TOGETHER = {"f'account.{issue}'": [f"account.{issue.value}" for issue in HealthIssue]}
SPOKEN = {"debug", "info", "warning", "error", "critical"}


@dataclass(frozen=True)
class Call:
    """One call that logs an event that is not of an operation."""

    event: str
    keys: frozenset[str]


def tellings() -> Iterator[Call]:
    """Every call of `.event(…)`, and of the logger of what the watcher says about itself."""
    for path in sorted(CODE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        for function in functions(tree):
            for call in calls_in(function):
                if is_logging_call(call):
                    keywords = frozenset(word.arg for word in call.keywords if word.arg) - {"exc_info"}
                    yield from (Call(name, keywords) for name in texts(call.args[0], function))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def calls_in(function: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(function) if isinstance(node, ast.Call) and node.args)


def is_logging_call(call: ast.Call) -> bool:
    match call.func:
        case ast.Attribute(attr="event"):
            return True
        case ast.Attribute(value=ast.Attribute(attr="about_itself"), attr=level):
            return level in SPOKEN
        case ast.Call(func=ast.Name(id="getattr"), args=[ast.Attribute(attr="about_itself"), *_]):
            return True
        case _:
            return False


def texts(node: ast.expr, function: ast.AST) -> Sequence[str]:
    """The texts that an argument can be; raises for an argument that is not a constant."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.IfExp(body=body, orelse=other):
            return [*texts(body, function), *texts(other, function)]
        case ast.JoinedStr() if ast.unparse(node) in PUT_TOGETHER:
            return PUT_TOGETHER[ast.unparse(node)]
        case ast.Name(id=name):
            given = [
                assigned.value
                for assigned in ast.walk(function)
                if isinstance(assigned, ast.Assign)
                and any(isinstance(target, ast.Name) and target.id == name for target in assigned.targets)
            ]
            if given:
                return [text for value in given for text in texts(value, function)]
    raise AssertionError(f"cannot determine the text of: {ast.unparse(node)}")


LOG_CALLS = list(tellings())


def test_the_manual_has_every_event_and_no_others():
    assert set(EVENTS) == OPERATION_EVENTS.keys() | {call.event for call in LOG_CALLS}


@pytest.mark.parametrize("name", sorted(OPERATION_EVENTS))
def test_the_manual_names_the_keys_of_an_operations_event(name: str):
    assert keys(EVENTS[name], head="key") == list(OPERATION_EVENTS[name].__struct_fields__)


@pytest.mark.parametrize("name", sorted({call.event for call in LOG_CALLS}))
def test_the_manual_names_the_keys_of_every_other_event(name: str):
    carried = frozenset[str]().union(*(call.keys for call in LOG_CALLS if call.event == name))
    assert set(keys(EVENTS[name], head="key")) == carried


def test_the_manual_names_the_keys_of_all_events_of_operations():
    beginning = page("events.md").partition("## Events of operations")[2].partition("###")[0]
    assert keys(beginning, head="key") == OF_EVERY_OPERATION


@pytest.mark.parametrize("sample", re.findall(r"^```json\n(.*?)^```$", page("events.md"), re.MULTILINE | re.DOTALL))
def test_a_sample_of_an_event_has_the_keys_of_a_line_of_the_log(sample: str):
    shown = msgspec.json.decode(sample, type=dict[str, Any])
    first, name = ["timestamp", "level", "event"], shown["event"]
    if name not in OPERATION_EVENTS:
        assert list(shown)[:3] == first
        assert shown.keys() - first <= set(keys(EVENTS[name], head="key"))
        return
    event = msgspec.convert(shown, OPERATION_EVENTS[name])
    own = [key for key in fields_of(event) if key != "event"]  # type: ignore[arg-type]  # one of the union
    assert list(shown) == first + OF_EVERY_OPERATION + own
    assert shown["level"] == level_of(event)  # type: ignore[arg-type]  # as above
    event_id = UUID(shown["event_id"])
    assert (event_id.version, str(event_id)) == (7, shown["event_id"])
    assert (event_id.int >> 80) * 1000 == round(datetime.fromisoformat(shown["occurred_at"]).timestamp() * 1000) * 1000


# ── exit codes, anomalies ─────────────────────────────────────────────────────────────────────────────────────────────


def test_every_exit_code_is_in_the_manual():
    assert [int(code) for code in keys(page("operating.md"), head="code")] == [code.value for code in Exit]


def anomalies() -> Iterator[str]:
    """Every kind that the code can count."""
    lifecycle = sorted((CODE / "core" / "lifecycle").glob("*.py"))
    for path in (CODE / "core" / "wire.py", *lifecycle, *sorted((CODE / "watch").glob("*.py"))):
        for function in functions(ast.parse(path.read_text())):
            for call in calls_in(function):
                yield from _kinds_of_call(call, function)
            if function.name in {"oddities", "oddities_of_creation"}:
                yield from _constants_in_tuples(function)
            yield from _initial_oddities(function)


def _kinds_of_call(call: ast.Call, function: ast.AST) -> Sequence[str]:
    match call:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="odd"), attr="append"), args=[ast.JoinedStr() as kind]):
            assert ast.unparse(kind) == "f'{name}_garbled'"
            return ["id_garbled", "status_garbled"]
        case ast.Call(func=ast.Attribute(value=ast.Name(id="odd"), attr="append"), args=[kind]):
            return texts(kind, function)
        case ast.Call(func=ast.Name(id="unchanged"), args=[_, kind]):
            return texts(kind, function)
        case ast.Call(func=ast.Name(id="with_oddities"), args=[_, ast.Tuple(elts=[ast.Constant() as kind])]):
            return texts(kind, function)
        case ast.Call(func=ast.Attribute(attr="anomaly"), args=[_, ast.Constant() as kind]):
            return texts(kind, function)
    return []


def _constants_in_tuples(function: ast.AST) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Tuple):
            yield from (one.value for one in node.elts if isinstance(one, ast.Constant) and isinstance(one.value, str))


def _initial_oddities(function: ast.AST) -> Iterator[str]:
    """Of `odd = [] if … else ["…"]`."""
    for node in ast.walk(function):
        match node:
            case ast.Assign(
                targets=[ast.Name(id="odd")], value=ast.IfExp(body=ast.List() as a, orelse=ast.List() as b)
            ):
                found = [*a.elts, *b.elts]
                yield from (one.value for one in found if isinstance(one, ast.Constant) and isinstance(one.value, str))


def test_every_anomaly_is_known_by_name_and_shown_at_zero():
    assert set(anomalies()) == set(KINDS)


def test_the_manual_has_every_anomaly_and_no_others():
    assert sorted(keys(page("operating.md"), head="kind")) == sorted({*KINDS, *anomalies()})


# ── HTTP ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

HTTP = page("http.md")
ROUTES = sections(HTTP)
OF_ALL = [
    *ENDPOINTS,
    ApiEndpoint(
        method="GET", path=OPENAPI, handler=ENDPOINTS[0].handler, words="", answers={200: ResponseSpec(words="")}
    ),
]


def test_the_manual_has_every_route_and_no_others():
    assert set(ROUTES) == {f"{endpoint.method} {endpoint.path}" for endpoint in OF_ALL}


@pytest.mark.parametrize("endpoint", OF_ALL, ids=lambda endpoint: f"{endpoint.method} {endpoint.path}")
def test_the_manual_names_listener_parameters_and_answers_of_a_route(endpoint: ApiEndpoint):
    name = f"{endpoint.method} {endpoint.path}"
    both, admin = HTTP.split("## On admin only")
    assert (f"### `{name}`" in admin) is (endpoint.side is Side.ADMIN)
    assert (f"### `{name}`" in both) is (endpoint.side is Side.WEB)
    assert keys(ROUTES[name], head="parameter") == [parameter.name for parameter in endpoint.parameters]
    assert [int(status) for status in keys(ROUTES[name], head="status")] == list(endpoint.answers)
    body = list(endpoint.body.__struct_fields__) if endpoint.body else []
    assert keys(ROUTES[name], head="key") == body


def test_the_manual_has_every_type_of_problem_and_no_others():
    given = {name for _, name in PLAIN.values()}
    for path in (CODE / "server").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "problem":
                names = (word.value for word in call.keywords if word.arg == "name")
                given |= {
                    node.value for node in names if isinstance(node, ast.Constant) and isinstance(node.value, str)
                }
    assert set(keys(HTTP, head="type, after `urn:operation-watcher:problem:`")) == given


# ── the simulated API ─────────────────────────────────────────────────────────────────────────────────────────────────

SIMULATOR = page("simulator.md")


def test_the_manual_has_every_kind_of_fault_with_its_details_and_no_others():
    documented = {row[0].strip("`"): quoted(row[1]) for row in rows(SIMULATOR, head="kind")}
    kinds = {kind for group in get_args(Kind) for kind in (get_args(group) or [group])}
    assert documented == {kind: set(_DETAILS.get(kind, ())) for kind in kinds}


def test_every_key_of_a_fault_is_in_the_manual():
    whole = {field.encode_name for field in msgspec.structs.fields(Fault)}
    assert set(keys(SIMULATOR, head="key of a fault")) == whole - _ALL_DETAILS


def test_every_key_of_a_send_is_in_the_manual():
    assert keys(SIMULATOR, head="key of a send") == list(_Send.__struct_fields__)


def scenario_settings(kind: Any, prefix: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(kind):
        path = f"{prefix}{field.encode_name}"
        yield path
        inner = parts(field.type)
        if inner is not None and path not in {"faults", "operations[].steps[].stats"}:
            yield from scenario_settings(inner, f"{path}[]." if "tuple" in str(field.type) else f"{path}.")


def parts(annotation: Any) -> type[msgspec.Struct] | None:
    """The struct in the annotation, be it of one or of many."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return annotation
    return next((found for one in get_args(annotation) if (found := parts(one)) is not None), None)


def test_the_manual_has_every_setting_of_a_scenario_and_no_others():
    assert keys(SIMULATOR, head="setting") == list(scenario_settings(Scenario))


def test_every_included_scenario_is_in_the_manual():
    assert all(f"`{name}` (" in SIMULATOR for name in built_in_names())


def test_the_manual_has_every_control_route_of_the_simulator_and_no_others():
    tree = ast.parse((CODE / "simulator" / "control.py").read_text())
    patterns = [case.pattern for node in ast.walk(tree) if isinstance(node, ast.Match) for case in node.cases]
    routes = {
        " /_simulator/".join(
            ast.literal_eval(part.value) for part in pattern.patterns if isinstance(part, ast.MatchValue)
        )
        for pattern in patterns
        if isinstance(pattern, ast.MatchSequence)
    }
    assert set(keys(SIMULATOR, head="route")) == routes
