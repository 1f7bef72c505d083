"""The observer of the account loops: counts in the metrics, logs when problems begin and end, wakes the publisher."""

from __future__ import annotations

from watcher.core.account_health import AccountEvent
from watcher.core.attempt import Attempt
from watcher.core.errors import StoreUnusable
from watcher.core.model import SECOND, Micros
from watcher.logs import EventLog
from watcher.metrics import Instruments
from watcher.publishing import EventPublisher


class Telemetry:
    """The only observer of all accounts."""

    def __init__(self, instruments: Instruments, log: EventLog, publisher: EventPublisher) -> None:
        self._instruments = instruments
        self._log = log
        self._publisher = publisher
        self._store_is_usable = True

    def attempted(self, account: str, attempt: Attempt) -> None:
        """An HTTP attempt at upstream ended."""
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
        """A problem of the account began or ended."""
        self._log.account_event(account, event)

    def anomaly(self, account: str, kind: str) -> None:
        """Upstream's answer contradicts what is known or documented; `kind` is the anomaly's name in the manual."""
        self._instruments.anomaly(account, kind)

    def detected(self, account: str, delay: Micros) -> None:
        """A change was detected `delay` after it happened."""
        self._instruments.detected(account, delay)

    def committed(self) -> None:
        """A commit may have added events that wait to be published."""
        self._publisher.wake()

    def store_trouble(self, issue: StoreUnusable | None) -> None:
        """The store failed (the error), or works (None). Logged only when that changes."""
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
