"""What an account's loop goes by, and who hears of it."""

from __future__ import annotations

from typing import Protocol

from watcher.core.account_health import AccountEvent
from watcher.core.attempt import Attempt
from watcher.core.census import Retention
from watcher.core.discovery import Scope
from watcher.core.errors import StoreUnusable
from watcher.core.lifecycle import LifecycleRules
from watcher.core.model import Micros, Value
from watcher.core.polls import Promise


class WatchSettings(Value, frozen=True, kw_only=True):
    """What of the settings an account's loop goes by."""

    rules: LifecycleRules
    promise: Promise
    retention: Retention
    counter_labels: tuple[str, ...] = ()
    discovers: Scope | None = None
    api_key: str | None = None
    """The id of the key in use, where no account id says whose it is."""


class AccountObserver(Protocol):
    """Hears what happens to accounts; must return at once and never raise."""

    def attempted(self, account: str, attempt: Attempt) -> None:
        """One attempt at upstream ended."""

    def health_changed(self, account: str, event: AccountEvent) -> None:
        """A trouble of the account began or ended."""

    def anomaly(self, account: str, kind: str) -> None:
        """Upstream said something that does not fit."""

    def detected(self, account: str, delay: Micros) -> None:
        """A change was learned so long after it happened."""

    def committed(self) -> None:
        """Events may wait to be told."""

    def store_trouble(self, cause: StoreUnusable | None) -> None:
        """Writing failed, or works."""
