"""A scenario: accounts, operations and faults. YAML in a file, frozen values in memory.

Every setting is optional. An empty scenario has one account, no operations, no limits and no faults.
"""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import yaml

from watcher.simulator.fault_types import Fault, RetryAfterForm, Shape, Share
from watcher.simulator.life import Status
from watcher.simulator.timestamps import SECOND
from watcher.simulator.values import Counts, Duration, Durations, decode

T = TypeVar("T")
Natural = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]


class ScenarioError(Exception):
    """A scenario that cannot be read; the text says what is wrong and where."""


class _Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all parts of a scenario."""


class Account(_Settings, frozen=True):
    """An account with two pairs of credentials; `weight` is its share of the population."""

    account_id: str = "AC00000000000000000000000000000000"
    auth_token: str = "simulated-auth-token"  # noqa: S105 - accepted by the simulation only
    api_key: str | None = "SK00000000000000000000000000000000"
    api_key_secret: str | None = "simulated-api-key-secret"  # noqa: S105 - as above
    forbidden: bool = False
    weight: Annotated[float, msgspec.Meta(ge=0)] = 1.0

    def __repr__(self) -> str:
        return f"Account(account_id={self.account_id!r})"


class Population(_Settings, frozen=True):
    """Random operations.

    `in_flight` is the number of running operations at the start, and on average if `arrivals_per_second` is left out.
    Operations that were created and ended within `history` before the start are in the lists too.
    """

    in_flight: Natural = 0
    arrivals_per_second: Annotated[float, msgspec.Meta(ge=0)] | None = None
    history: Duration = Duration(0)
    lifetime: Durations = Durations.parse("5s..2m")
    recipients: Counts = Counts.parse("1..10000")
    # Shares of the operations: those with failures, those with recipients without a device, and so on.
    share_failing: Share = 0.0
    share_unaddressable: Share = 0.0
    share_canceled: Share = 0.0
    share_scheduled: Share = 0.0
    share_corrected: Share = 0.0
    # The largest share of failed notifications in a failing operation, and of unaddressable recipients.
    failed_at_most: Share = 1.0
    unaddressable_at_most: Share = 0.5
    scheduled_for: Durations = Durations.parse("10s..1m")
    corrected_after: Durations = Durations.parse("5s..1m")

    def __post_init__(self) -> None:
        if self.history < 0:
            raise ValueError("history is a time before the start, and cannot be negative")


class FinalStats(_Settings, frozen=True):
    """Stats at the end. Missing numbers are computed: total = recipients - unaddressable = sent + failed + canceled."""

    recipients: Natural | None = None
    total: Natural | None = None
    unaddressable: Natural = 0
    sent: Natural | None = None
    failed: Natural = 0
    canceled: Natural = 0


class ScriptedStats(_Settings, frozen=True):
    """Stats that are shown exactly as given."""

    total: int = 0
    recipients: int = 0
    queued: int = 0
    sent: int = 0
    scheduled: int = 0
    unaddressable: int = 0
    failed: int = 0
    canceled: int = 0


class ScriptedStep(_Settings, frozen=True):
    """From `at` (since the start) on, exactly this is shown."""

    at: Duration
    status: Status
    stats: ScriptedStats = ScriptedStats()


class ScriptedOperation(_Settings, frozen=True):
    """One scripted operation. Times count from the start, and may be negative.

    Without `completed` and `canceled` it never ends. `steps` replace the other settings of its life.
    """

    id: str | None = None
    account: str | None = None
    created: Duration = Duration(0)
    processing: Duration | None = None
    completed: Duration | None = None
    canceled: Duration | None = None
    stats: FinalStats = FinalStats()
    steps: tuple[ScriptedStep, ...] = ()

    def __post_init__(self) -> None:
        if self.completed is not None and self.canceled is not None:
            raise ValueError("an operation is completed or canceled, not both")
        ends = self.completed if self.completed is not None else self.canceled
        if self.steps and not (self.processing is None and ends is None):
            raise ValueError("steps replace processing, completed and canceled; leave those out")
        instants = (
            [step.at for step in self.steps] if self.steps else [at for at in (self.processing, ends) if at is not None]
        )
        if [self.created, *instants] != sorted([self.created, *instants]) or ends == self.created:
            raise ValueError("the times of an operation are not in order")


class Limits(_Settings, frozen=True):
    """The limits above which an account gets 429, and the Retry-After of that answer."""

    max_concurrent: Annotated[int, msgspec.Meta(ge=1)] | None = None
    requests_per_second: Positive | None = None
    retry_after: RetryAfterForm = "seconds"
    retry_after_for: Durations = Durations.parse("1s")


class Clock(_Settings, frozen=True):
    """Upstream's own clock: its speed, and its difference from the real clock at the start.

    Operations run by it. Waits on the wire (latency, slow answers, Retry-After, limits) are in real seconds.
    """

    speed: Positive = 1.0
    offset: Duration = Duration(0)


class Paging(_Settings, frozen=True):
    """What the API reference does not specify about lists: their order, and the `next` of the last page."""

    newest_first: bool = True
    end: Literal["null", "absent", "empty"] = "null"


class Scenario(_Settings, frozen=True):
    """A whole scenario. The same scenario with the same seed gives the same operations."""

    seed: int = 0
    accounts: Annotated[tuple[Account, ...], msgspec.Meta(min_length=1)] = (Account(),)
    population: Population = Population()
    operations: tuple[ScriptedOperation, ...] = ()
    limits: Limits = Limits()
    latency: Durations = Durations.parse(0)
    paging: Paging = Paging()
    # The shape of error bodies that do not come from faults; mixed: each of upstream's shapes in turn.
    error_shape: Shape | Literal["mixed"] = "errors"
    clock: Clock = Clock()
    # Twilio: records are kept 7 days after creation.
    retention: Duration = Duration(7 * 86_400 * SECOND)
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        known = {account.account_id for account in self.accounts}
        if len(known) < len(self.accounts):
            raise ValueError("two accounts have the same account_id")
        ids = [operation.id for operation in self.operations if operation.id is not None]
        if len(set(ids)) < len(ids):
            raise ValueError("two operations have the same id")
        strangers = {operation.account for operation in self.operations} - known - {None}
        if strangers:
            raise ValueError(f"operations of unknown accounts: {', '.join(sorted(map(str, strangers)))}")


def load_scenario(name_or_file: str) -> Scenario:
    """Return the scenario in a file, or the built-in one of this name. Raises ScenarioError."""
    if name_or_file in built_in_names() and not Path(name_or_file).exists():
        return built_in(name_or_file)
    return read_scenario(Path(name_or_file))


def read_scenario(path: Path) -> Scenario:
    """Return the scenario in a YAML file. Raises ScenarioError, which names the file and the fault."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: {error}") from error
    return parse_scenario(text, name=str(path))


def parse_scenario(text: str, *, name: str = "scenario") -> Scenario:
    """Return the scenario in a YAML text. Raises ScenarioError."""
    try:
        written = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, OverflowError, AttributeError, RecursionError) as error:
        # PyYAML raises the other types for dates, numbers and characters that do not exist.
        raise ScenarioError(f"{name}: not valid YAML: {error}") from error
    try:
        return convert({} if written is None else written, Scenario)
    except ScenarioError as error:
        raise ScenarioError(f"{name}: {error}") from error


def convert(written: Any, kind: type[T]) -> T:
    """Convert decoded YAML or JSON to a part of a scenario. Raises ScenarioError, with the fault and its place."""
    try:
        return msgspec.convert(written, kind, dec_hook=decode)
    except msgspec.ValidationError as error:
        raise ScenarioError(str(error)) from error


def built_in_names() -> tuple[str, ...]:
    """Return the names of the built-in scenarios."""
    found = (files("watcher.simulator") / "scenarios").iterdir()
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in found if entry.name.endswith(".yaml")))


def built_in(name: str) -> Scenario:
    """Return a built-in scenario: calm, demo or nasty. Raises ScenarioError for other names."""
    if name not in built_in_names():
        raise ScenarioError(f"no scenario is called {name!r}, only {', '.join(built_in_names())}")
    text = (files("watcher.simulator") / "scenarios" / f"{name}.yaml").read_text(encoding="utf-8")
    return parse_scenario(text, name=name)
