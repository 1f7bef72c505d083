"""Applies the results of `core.attribution` to the operations, the health of the account and its governor."""

from __future__ import annotations

from collections.abc import Mapping

from watcher.api import Gate
from watcher.core.account_health import AccountHealth, Cause
from watcher.core.attribution import Attribution
from watcher.core.model import Micros, Moment, Status
from watcher.core.observation import Forbidden, ListAnswer, Missing, Observation, Refused
from watcher.core.requests import Fetch, Probe
from watcher.watch.tracker import Tracker


class Attributor:
    """Passes the answers of one account to its operations, once they are believed.

    `address` is the URL of its lists, for messages. `api_key` is the id of the key where the configuration has no
    account id.
    """

    def __init__(
        self,
        tracker: Tracker,
        gate: Gate,
        *,
        health: AccountHealth,
        address: str,
        now: Moment,
        api_key: str | None,
    ) -> None:
        self.tracker = tracker
        self._gate = gate
        self._address = address
        self._attribution = Attribution(now, (cause for cause, _ in health.since))
        self._was_held = False
        self._key = api_key
        self._stored_key: str | None = None

    def begin(self, stored_key: str | None) -> None:
        """Start, once the account's operations and the API key that was adopted last are loaded.

        A key without an account id may be a key of another account, where every operation of this account answers 404.
        So a new key must show a tracked operation before its negative answers are believed. The first key must only
        where operations were seen before, with any key.
        """
        self._stored_key = stored_key
        if self._key is None or self._key == stored_key:
            return
        tracked = [operation for operation in self.tracker.operations if operation.final_at is None]
        if stored_key is None:
            tracked = [operation for operation in tracked if operation.status is not Status.UNSEEN]
        if tracked:
            self._attribution.require_proof()
            self.tracker.planner.uses_lists = False

    @property
    def key_to_adopt(self) -> str | None:
        """The new key that is to be stored as a key of the account. None where there is none or it is not proven."""
        return None if self._attribution.needs_proof or self._key == self._stored_key else self._key

    def adopted(self, key: str) -> None:
        """Note that the key was stored."""
        self._stored_key = key

    @property
    def uses_lists(self) -> bool:
        """Whether lists are answered; otherwise operations are fetched by id, and nothing can be discovered."""
        return self._attribution.uses_lists

    def choose(self, now: Moment) -> Probe | Fetch | None:
        """The due request that resolves doubtful answers, counted as sent; None when none is due."""
        # Without a tracked operation nothing could prove the key, and lists would never be read.
        if self._attribution.needs_proof and not self.tracker.operations.unfinished:
            self._attribution.accept()
            self.tracker.planner.uses_lists = True
        return self._attribution.choose(now, self.tracker.operations)

    def wake_tick(self) -> Micros | None:
        """When the next request of `choose` falls due; None when none is planned."""
        return self._attribution.wake_tick()

    def fetched(self, operation_id: str, answer: Observation) -> None:
        """Apply the answer to a fetch now, or set it aside where it is not believed yet."""
        operation = self.tracker.operations.get(operation_id)
        if operation is None or operation.final_at is not None:
            return
        is_believed = self._attribution.fetched(operation, answer, self.tracker.reading())
        if isinstance(answer, Missing | Refused | Forbidden) and not is_believed:
            self.tracker.put_off(operation_id, answer, is_held=self._attribution.is_held)
        else:
            self.tracker.learn(operation_id, answer)

    def listed(self, answer: ListAnswer, *, is_first_page: bool = True) -> None:
        """Note the answer to a request for a page of a list."""
        self._attribution.listed(answer, is_first_page=is_first_page)

    def settle(self, health: AccountHealth) -> Mapping[Cause, str]:
        """Apply what the answers so far have resolved. Returns the causes of the account's problems, each with why."""
        attribution = self._attribution
        believed, forgotten = attribution.resolved()
        for operation_id, answer in believed:
            self.tracker.conclude(operation_id, answer)
        for operation_id in forgotten:
            self.tracker.plan_again(operation_id)
        self.tracker.planner.uses_lists = attribution.uses_lists
        self._hold(health)
        return {
            cause: f"{why}, from the list at {self._address}" if cause in _WITH_ADDRESS else why
            for cause, why in attribution.causes.items()
        }

    def _hold(self, health: AccountHealth) -> None:
        if self._attribution.is_held:
            # A good answer to a check ends the governor's hold, although the problem may last: the hold is set again.
            self._gate.refuse()
        elif self._was_held and all(cause is not Cause.CREDENTIALS for cause, _ in health.since):
            self._gate.forgive()
        self._was_held = self._attribution.is_held


_WITH_ADDRESS = frozenset({Cause.LISTS_ABSENT, Cause.LISTS_FORBIDDEN, Cause.OPERATIONS_GONE})
