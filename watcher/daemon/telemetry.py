"""Who hears what happens: the metrics count it, the log tells the edges, the teller is woken."""

from __future__ import annotations

from watcher.core.account_health import AccountEvent
from watcher.core.attempt import Attempt
from watcher.core.errors import StoreUnusable
from watcher.core.model import SECOND, Micros
from watcher.logs import EventLog
from watcher.metrics import Instruments
from watcher.publishing import EventPublisher


class Telemetry:
    """The one listener of all accounts."""

    def __init__(self, instruments: Instruments, log: EventLog, publisher: EventPublisher) -> None:
        self._instruments = instruments
        self._log = log
        self._publisher = publisher
        self._store_is_usable = True

    def attempted(self, account: str, attempt: Attempt) -> None:
        """One attempt at upstream ended."""
        self._instruments.attempted(account, attempt)
        took = attempt.timing.answered.tick - attempt.timing.asked.tick
        self._log.about_itself.debug(
            "api.attempted",
            account=account,
            endpoint=attempt.endpoint.value,
            code=attempt.code,
            seconds=round(took / SECOND, 4),
            reason=attempt.why,
        )

    def health_changed(self, account: str, event: AccountEvent) -> None:
        """A trouble of the account began or ended."""
        self._log.account_event(account, event)

    def anomaly(self, account: str, kind: str) -> None:
        """Upstream said something that does not fit."""
        self._instruments.anomaly(account, kind)

    def detected(self, account: str, delay: Micros) -> None:
        """A change was learned so long after it happened."""
        self._instruments.detected(account, delay)

    def committed(self) -> None:
        """Events may wait to be told."""
        self._publisher.wake()

    def store_trouble(self, issue: StoreUnusable | None) -> None:
        """Writing failed, or works; told on the edge."""
        if issue is None:
            self._instruments.store_works()
            if not self._store_is_usable:
                self._store_is_usable = True
                self._log.event("store.recovered")
            return
        self._instruments.store_failed()
        if self._store_is_usable:
            self._store_is_usable = False
            self._log.event("store.unusable", "error", reason=str(issue))
