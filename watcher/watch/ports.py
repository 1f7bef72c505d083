"""The settings of an account's loop, and the protocol of its observer."""

from __future__ import annotations

from typing import Protocol

from watcher.core.account_health import AccountEvent
from watcher.core.attempt import Attempt
from watcher.core.census import Retention
from watcher.core.discovery import Scope
from watcher.core.errors import StoreUnusable
from watcher.core.lifecycle import LifecycleRules
from watcher.core.model import Micros, Value
from watcher.core.planner import Promise


class WatchSettings(Value, frozen=True, kw_only=True):
    """The settings that an account's loop uses."""

    rules: LifecycleRules
    promise: Promise
    retention: Retention
    counter_labels: tuple[str, ...] = ()
    discovers: Scope | None = None
    api_key: str | None = None
    """The id of the key in use, where the configuration has no account id."""


class AccountObserver(Protocol):
    """Receives what happens to accounts. Its methods must return at once and never raise."""

    def attempted(self, account: str, attempt: Attempt) -> None:
        """An HTTP attempt at upstream ended."""

    def health_changed(self, account: str, event: AccountEvent) -> None:
        """A problem of the account began or ended."""

    def anomaly(self, account: str, kind: str) -> None:
        """Upstream's answer contradicts what is known or documented; `kind` is the anomaly's name in the manual."""

    def detected(self, account: str, delay: Micros) -> None:
        """A change was detected `delay` after it happened."""

    def committed(self) -> None:
        """A commit may have added events that wait to be published."""

    def store_trouble(self, cause: StoreUnusable | None) -> None:
        """The store failed (the error), or works (None)."""
