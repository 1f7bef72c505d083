"""What the handlers answer from: values and callables that the daemon hands in, so that a reload swaps them beneath."""

import enum
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from watcher.core.model import Moment
from watcher.core.snapshot import AccountSnapshot, NextPoll
from watcher.intake import Intake
from watcher.store import Store

Exposition: TypeAlias = tuple[bytes, Mapping[str, str], object]
"""The body of a scrape, its headers (content type and encoding), and what to hand to `scraped` when it arrived."""


class Side(enum.Enum):
    """Which listener answers: it decides what may be seen."""

    WEB = "web"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppContext:
    """Everything that the listeners need.

    `accounts` are the names in force. `metrics` takes the request's Accept and Accept-Encoding. `scraped` hears of each
    scrape by Prometheus that was handed whole to the socket. `reload` gives the reasons against, none when the new
    configuration is in force. `healthy` names the loops that are overdue. `metric_labels` are what web may show of an
    operation's labels. `failed` hears of what no handler expected.
    """

    accounts: Callable[[], Sequence[str]]
    snapshots: Callable[[], Sequence[AccountSnapshot]]
    store: Store
    intake: Intake
    metrics: Callable[[str, str], Awaitable[Exposition]]
    scraped: Callable[[object], None]
    reload: Callable[[], Awaitable[Sequence[str]]]
    healthy: Callable[[], Sequence[str]]
    next_poll: Callable[[str, str], NextPoll | None]
    metric_labels: Callable[[], Sequence[str]]
    now: Callable[[], Moment]
    failed: Callable[[Exception], None]
    version: str
