"""Whose answer it is: upstream's word on one operation, or a sign that something is wrong with the whole account.

A 400, 403 or 404 of a fetch is evidence about its operation only where upstream gave it, of this account:

    400, 404   believed with one of upstream's error bodies, once anything was answered with 200. Otherwise doubtful:
               set aside until a list *requested after it* answers 200, and forgotten where that list is refused. The
               first one is requested again all the same: a proxy may have gone between the answer and the list
    403        doubtful always, until a list or another fetch requested after it answers 200
    a list     that answers 400, 403, 404, 405 or 410, twice: trouble of the account. While fetches answer 200 (a key
               that may not list) its operations are fetched one by one; otherwise the account is held
    three      operations that were seen before and answer 400 or 404, with no fetch answered 200 in between: a wrong
               key, path or proxy is likelier than three lost records, so none of those answers is believed. The one
               that can tell is another operation that a list has shown since: it is fetched, as the witness
    a new key  without an account id: no 400, 403 or 404 is believed until it has shown a tracked operation

The check is a list of one row, at most once a minute whatever is doubtful; any list that is read serves as well. Where
none is read otherwise, it is made every 5 minutes, so that what is shown of the account is true.
All of it is per account and in memory: after a restart, doubts are raised and resolved anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from watcher.core.account_health import Cause
from watcher.core.answers import is_past_its_record
from watcher.core.clocks import ClockReading
from watcher.core.model import MINUTE, SECOND, Micros, Moment, Operation, Status
from watcher.core.observation import Forbidden, ListAnswer, Missing, Negative, Page, Refused, Seen, Unanswered
from watcher.core.requests import Fetch, Probe

CHECK_EVERY: Micros = MINUTE

CONFIRMED_AFTER: Micros = 5 * SECOND
"""A list that is refused is requested once more so soon, before anything is concluded from it."""

LIST_EVERY: Micros = 5 * MINUTE
"""How often a list is requested where none is otherwise: nothing is doubtful, or a key may only fetch."""

OTHERS_WITHIN: Micros = 30 * SECOND
"""Where lists are refused as before, another fetch may be answered within this time of one that was not."""

GONE_AT_MOST = 2
"""Operations that may be gone at the same time without a doubt about the account."""

WITNESS_WITHIN: Micros = 30 * SECOND
WITNESS_EVERY: Micros = 5 * SECOND
"""How long the next lists may take to show another operation, and how often it is looked for."""

_OF_LISTS = frozenset({Cause.LISTS_ABSENT, Cause.LISTS_FORBIDDEN})
_OURS = _OF_LISTS | {Cause.OPERATIONS_GONE, Cause.KEY_UNPROVEN}


class TrackedOperation(Protocol):
    """The operations of the account."""

    def get(self, operation_id: str) -> Operation | None:
        """The operation, if it is held."""

    def __iter__(self) -> Iterator[Operation]:
        """All that are held."""


class Resolved(NamedTuple):
    """What became of doubtful answers: those that are believed now, and operations whose answer was forgotten."""

    believed: list[tuple[str, Negative]]
    forgotten: list[str]


class Attribution:
    """The doubts of one account. Pure: the present moment comes with every call."""

    def __init__(self, now: Moment, causes: Iterable[Cause] = ()) -> None:
        """`causes` are those that the account's health has already, from the loop before this one."""
        self._list_tick: Micros = now.tick
        self._causes: dict[Cause, str] = dict.fromkeys(_OURS.intersection(causes), "")
        self._holds: set[Cause] = set()
        self._doubtful: dict[str, Negative] = {}
        self._resolved = Resolved([], [])
        # Operations that were seen before and are not shown any more, with the tick of the request that said so.
        self._gone: dict[str, Micros] = {}
        # Operations whose doubtful answer stood beside a list that was answered; the next such answer is believed.
        self._repeated: set[str] = set()
        self._listed: Micros = -1
        self._fetched: Micros = -1
        self._refused: Micros = -1
        self._first_refusal: Micros | None = None
        self._confirm_due: Micros = 0
        self._negative_since: Micros | None = None
        self._check_tick: Micros | None = None
        self._witness: str | None = None
        self._witness_due: Micros = 0
        self._suspicious_since: Micros | None = None
        self._needs_proof = False

    # ── what the account's loop goes by ───────────────────────────────────────────────────────────────────────────────

    @property
    def causes(self) -> Mapping[Cause, str]:
        """What is wrong with the account as a whole, and why that is thought."""
        return self._causes

    @property
    def uses_lists(self) -> bool:
        """Whether lists are of use; else operations are fetched by their ids."""
        return not self._needs_proof and not self._lists_are_refused

    @property
    def is_held(self) -> bool:
        """Whether requests can only show that the trouble is over, and are to be few."""
        return bool(self._holds)

    @property
    def needs_proof(self) -> bool:
        """Whether the credentials have yet to show a tracked operation."""
        return self._needs_proof

    def require_proof(self) -> None:
        """The credentials may be those of another account."""
        self._needs_proof = True

    def accept(self) -> None:
        """The credentials are those of this account, or there is nothing that could tell."""
        if self._needs_proof:
            # Lists were not read until now.
            self._list_tick = -LIST_EVERY
        self._needs_proof = False
        self._end(Cause.KEY_UNPROVEN)

    def resolved(self) -> Resolved:
        """What became of doubtful answers since this was last called."""
        resolved, self._resolved = self._resolved, Resolved([], [])
        return resolved

    # ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def choose(self, now: Moment, tracked: TrackedOperation) -> Probe | Fetch | None:
        """The request that resolves a doubt, taken as made; None when none is due."""
        if self._needs_proof:
            return None
        if self._is_suspicious and self._witness_due <= now.tick:
            self._witness = self._find_witness(tracked, now)
            if self._witness is not None:
                self._witness_due = now.tick + CHECK_EVERY
                return Fetch(operation_id=self._witness)
        if self._check_due() <= now.tick:
            self._check_tick = self._list_tick = now.tick
            self._confirm_due = now.tick + CHECK_EVERY
            return Probe()
        return None

    def wake_tick(self) -> Micros | None:
        """When the next such request falls due; None when none is planned."""
        if self._needs_proof:
            return None
        if not self._is_suspicious:
            return self._check_due()
        return min(self._check_due(), self._witness_due)

    # ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def fetched(self, operation: Operation, answer: Seen | Negative | Unanswered, now: ClockReading) -> bool:
        """Whether an answer to a fetch is believed now. One that is not is set aside or forgotten."""
        match answer:
            case Seen():
                self._show(operation.id, answer.timing.asked.tick)
                return True
            case Unanswered():
                return True
            case _:
                return self._is_believed(operation, answer, now)

    def listed(self, answer: ListAnswer, *, is_first_page: bool = True) -> None:
        """A page of a list came back or was refused. A 400 to a later page is about its token."""
        self._list_tick = max(self._list_tick, answer.timing.asked.tick)
        match answer:
            case Page():
                self._first_refusal = None
                self._listed = max(self._listed, answer.timing.asked.tick)
                self._end(Cause.LISTS_ABSENT, Cause.LISTS_FORBIDDEN)
                self._believe((Missing, Refused, Forbidden), answer.timing.asked.tick)
            case Unanswered():
                pass
            case Refused() if not is_first_page:
                pass
            case _:
                self._refuse(answer)

    # ── inside ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _lists_are_refused(self) -> bool:
        return not _OF_LISTS.isdisjoint(self._causes)

    @property
    def _is_suspicious(self) -> bool:
        return len(self._gone) > GONE_AT_MOST or Cause.OPERATIONS_GONE in self._causes

    @property
    def _is_vouched_for(self) -> bool:
        """Whether anything was answered with 200, so that what has upstream's form came from the right address."""
        if self._lists_are_refused:
            return self._fetched > self._refused
        return max(self._listed, self._fetched) >= 0

    def _check_due(self) -> Micros:
        """When the next list of one row is due."""
        due = self._list_tick + LIST_EVERY
        if self._first_refusal is not None:
            due = min(due, self._confirm_due)
        if self._doubtful or self._holds or (self._lists_are_refused and self._fetched <= self._refused):
            due = min(due, 0 if self._check_tick is None else self._check_tick + CHECK_EVERY)
        return due

    def _show(self, operation_id: str, asked: Micros) -> None:
        self._fetched = max(self._fetched, asked)
        self._negative_since = None
        self._doubtful.pop(operation_id, None)
        self._repeated.discard(operation_id)
        self._acquit(asked)
        if self._holds:
            # What the account was held for is over, so lists may be answered again, too.
            self._holds.clear()
            self._list_tick = asked - LIST_EVERY
        if self._needs_proof:
            self.accept()
        # Another request of the account was answered, so what was forbidden is one operation's own trouble.
        self._believe((Forbidden,), asked)

    def _is_believed(self, operation: Operation, answer: Negative, now: ClockReading) -> bool:
        asked = answer.timing.asked.tick
        if self._negative_since is None:
            self._negative_since = asked
        # Upstream has no record any more: the right account would say the same.
        is_past = isinstance(answer, Missing) and is_past_its_record(operation, now)
        is_upstreams = not isinstance(answer, Forbidden) and answer.is_upstreams
        if self._needs_proof:
            if is_past and is_upstreams:
                return True
            self._blame(
                Cause.KEY_UNPROVEN,
                f"the new API key has not shown a tracked operation, so it may be of another account: {answer.why}",
                holds=True,
            )
            return False
        if self._lists_are_refused and self._fetched <= self._refused:
            self._holds |= self._causes.keys() & _OF_LISTS
        if not isinstance(answer, Forbidden):
            if operation.status is not Status.UNSEEN and not is_past:
                self._gone[operation.id] = asked
            if operation.id == self._witness:
                self._witness = None
                self._blame_operations(answer.why, holds=False)
            if is_upstreams and self._is_vouched_for and (is_past or not self._is_suspicious):
                return True
        if not self._holds:
            self._doubtful[operation.id] = answer
        return False

    def _believe(self, kinds: tuple[type[Negative], ...], asked: Micros) -> None:
        """What was answered before a request that went well was about its operation."""
        for operation_id, answer in list(self._doubtful.items()):
            if not isinstance(answer, kinds) or answer.timing.answered.tick > asked:
                continue
            if not isinstance(answer, Forbidden) and self._is_suspicious:
                continue
            del self._doubtful[operation_id]
            if isinstance(answer, Forbidden) or answer.is_upstreams or operation_id in self._repeated:
                self._resolved.believed.append((operation_id, answer))
            else:
                self._repeated.add(operation_id)

    def _refuse(self, answer: Negative) -> None:
        asked = answer.timing.asked.tick
        if asked < self._listed:
            return  # a later request was answered with a list
        is_new = not self._lists_are_refused
        if is_new and (self._first_refusal is None or asked < self._first_refusal):
            self._first_refusal = answer.timing.answered.tick
            self._confirm_due = self._first_refusal + CONFIRMED_AFTER
            return
        self._first_refusal = None
        cause, other = Cause.LISTS_ABSENT, Cause.LISTS_FORBIDDEN
        if isinstance(answer, Forbidden):
            cause, other = other, cause
        if is_new:
            self._refused = asked
        self._blame(cause, answer.why)
        self._end(other)
        if self._negative_since is not None:
            waited = answer.timing.answered.tick - self._negative_since
            if is_new or waited >= OTHERS_WITHIN:
                self._holds.add(cause)
        self._repeated.clear()
        self._forget(only_others=not self._holds)

    def _forget(self, *, only_others: bool = False) -> None:
        """Doubtful answers are forgotten; `only_others` than those that were forbidden."""
        for operation_id, doubtful in list(self._doubtful.items()):
            if not (only_others and isinstance(doubtful, Forbidden)):
                del self._doubtful[operation_id]
                self._resolved.forgotten.append(operation_id)

    def _find_witness(self, tracked: TrackedOperation, now: Moment) -> str | None:
        """An operation that was shown since others were not: its fetch tells whether fetches work at all."""
        for operation_id, asked in list(self._gone.items()):
            operation = tracked.get(operation_id)
            if operation is None or operation.final_at is not None or operation.asked_tick > asked:
                del self._gone[operation_id]
        if len(self._gone) <= GONE_AT_MOST:
            self._acquit(None)
            return None
        since = min(self._gone.values())
        for operation in tracked:
            if operation.asked_tick > since and operation.final_at is None and operation.id not in self._gone:
                return operation.id
        if self._suspicious_since is None:
            self._suspicious_since = now.tick
        self._witness_due = now.tick + WITNESS_EVERY
        if now.tick >= self._suspicious_since + WITNESS_WITHIN:
            self._blame_operations("HTTP 400 or 404", holds=True)
        return None

    def _acquit(self, asked: Micros | None) -> None:
        """Another operation was answered at a request made at `asked`, or there are not so many that are gone."""
        if self._is_suspicious and Cause.OPERATIONS_GONE in self._causes:
            # What was answered in the meantime was not about this account.
            self._forget()
        self._gone.clear()
        self._witness, self._suspicious_since, self._witness_due = None, None, 0
        self._end(Cause.OPERATIONS_GONE)
        for operation_id, answer in list(self._doubtful.items()):
            is_earlier = asked is not None and answer.timing.answered.tick <= asked
            if is_earlier and not isinstance(answer, Forbidden) and answer.is_upstreams:
                del self._doubtful[operation_id]
                self._resolved.believed.append((operation_id, answer))

    def _blame_operations(self, why: str, *, holds: bool) -> None:
        count = len(self._gone)
        self._blame(
            Cause.OPERATIONS_GONE,
            f"{count} operations that were seen before are not shown any more, and none other is: {why}",
            holds=holds,
        )

    def _blame(self, cause: Cause, why: str, *, holds: bool = False) -> None:
        self._causes.setdefault(cause, why)
        if holds:
            self._holds.add(cause)

    def _end(self, *causes: Cause) -> None:
        for cause in causes:
            self._causes.pop(cause, None)
            self._holds.discard(cause)
