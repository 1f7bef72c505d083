"""Whether a refusal is about one operation, or a sign that something is wrong with the whole account.

A 400, 403 or 404 to a fetch says something of its operation only if upstream gave it, for this account:

    400, 404   believed with one of upstream's error bodies, once any request was answered with 200. Otherwise doubtful:
               set aside until a list *requested after it* is answered with 200, and forgotten if that list is refused.
               The first one is requested again all the same: a proxy may have been removed between answer and list
    403        always doubtful, until a list or another fetch requested after it is answered with 200
    a list     that answers 400, 403, 404, 405 or 410, twice: a problem of the account. While fetches are answered with
               200 (a key that may not list), its operations are fetched by id. Otherwise the account is held
    three      operations that were seen before and answer 400 or 404, with no fetch answered with 200 in between: a
               wrong key, path or proxy is likelier than three lost records, so no such answer is believed. Another
               operation that a list has shown since then can decide it: it is fetched, as the witness
    a new key  without an account id: no 400, 403 or 404 is believed until it has shown a tracked operation

Doubtful answers are checked with a list of one row, requested at most once a minute however many there are. Any other
list that is read serves as well. Where no other list is read, the check is made every 5 minutes, so that the shown
state of the account stays true. Everything here is per account and in memory: after a restart, answers become doubtful
and are resolved anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from watcher.core.account_health import Cause
from watcher.core.clocks import ClockReading
from watcher.core.lifecycle import is_past_its_record
from watcher.core.model import MINUTE, SECOND, Micros, Moment, Operation, Status
from watcher.core.observation import Forbidden, ListAnswer, Missing, Negative, Page, Refused, Seen, Unanswered
from watcher.core.requests import Fetch, Probe

CHECK_EVERY: Micros = MINUTE

CONFIRMED_AFTER: Micros = 5 * SECOND
"""A list that is refused is requested again after this wait, before anything is concluded from it."""

LIST_EVERY: Micros = 5 * MINUTE
"""The interval of lists where nothing else requests them: no answer is doubtful, or a key may only fetch."""

OTHERS_WITHIN: Micros = 30 * SECOND
"""While lists stay refused, a fetch must be answered with 200 within this time of one that was refused. Otherwise the
account is held."""

GONE_AT_MOST = 2
"""The number of operations that may be gone at the same time without the account being suspected."""

WITNESS_WITHIN: Micros = 30 * SECOND
WITNESS_EVERY: Micros = 5 * SECOND
"""How long the next lists may take to show another operation, and the interval at which one is searched for."""

_OF_LISTS = frozenset({Cause.LISTS_ABSENT, Cause.LISTS_FORBIDDEN})
_OURS = _OF_LISTS | {Cause.OPERATIONS_GONE, Cause.KEY_UNPROVEN}


class TrackedOperation(Protocol):
    """The operations of the account."""

    def get(self, operation_id: str) -> Operation | None:
        """The operation, or None if it is not tracked."""

    def __iter__(self) -> Iterator[Operation]:
        """All tracked operations, and final ones that are still in memory."""


class Resolved(NamedTuple):
    """Doubtful answers that are believed now, and the operations whose doubtful answer was forgotten."""

    believed: list[tuple[str, Negative]]
    forgotten: list[str]


class Attribution:
    """The doubtful answers of one account. Pure: the present moment comes with every call."""

    def __init__(self, now: Moment, causes: Iterable[Cause] = ()) -> None:
        """`causes` are those that the account's health has already, from the loop before this one."""
        # All times here are ticks: a wall clock that is set must not confirm or delay a conclusion.
        self._list_tick: Micros = now.tick
        self._causes: dict[Cause, str] = dict.fromkeys(_OURS.intersection(causes), "")
        self._holds: set[Cause] = set()
        self._doubtful: dict[str, Negative] = {}
        self._resolved = Resolved([], [])
        # Operations that were seen before and are not shown any more, with the tick of the request that was refused.
        self._gone: dict[str, Micros] = {}
        # Operations whose doubtful answer was followed by a list that was answered: the next such answer is believed.
        self._repeated: set[str] = set()
        # When the newest list and the newest fetch that were answered with 200 were requested, and the list whose
        # refusal was believed. -1: no such request yet.
        self._listed: Micros = -1
        self._fetched: Micros = -1
        self._refused: Micros = -1
        # When a list was refused that has to be requested again, and when that is due.
        self._first_refusal: Micros | None = None
        self._confirm_due: Micros = 0
        # The first refused fetch since one was answered with 200.
        self._negative_since: Micros | None = None
        self._check_tick: Micros | None = None
        self._witness: str | None = None
        self._witness_due: Micros = 0
        self._suspicious_since: Micros | None = None
        self._needs_proof = False

    # ── what the account's loop reads ─────────────────────────────────────────────────────────────────────────────────

    @property
    def causes(self) -> Mapping[Cause, str]:
        """What is wrong with the account as a whole, with the answer that showed it."""
        return self._causes

    @property
    def uses_lists(self) -> bool:
        """Whether lists can be used. Otherwise operations are fetched by their ids."""
        return not self._needs_proof and not self._lists_are_refused

    @property
    def is_held(self) -> bool:
        """Whether requests can only show that the problem is over, and must be few."""
        return bool(self._holds)

    @property
    def needs_proof(self) -> bool:
        """Whether the credentials have not shown a tracked operation yet, and must."""
        return self._needs_proof

    def require_proof(self) -> None:
        """The credentials may be those of another account."""
        self._needs_proof = True

    def accept(self) -> None:
        """The credentials are those of this account, or no tracked operation exists that could show it."""
        if self._needs_proof:
            # Lists were not read until now, so one is due at once.
            self._list_tick = -LIST_EVERY
        self._needs_proof = False
        self._end(Cause.KEY_UNPROVEN)

    def resolved(self) -> Resolved:
        """The doubtful answers that were resolved since the last call."""
        resolved, self._resolved = self._resolved, Resolved([], [])
        return resolved

    # ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def choose(self, now: Moment, tracked: TrackedOperation) -> Probe | Fetch | None:
        """The request that resolves doubtful answers, or None if it is not due. It is counted as made."""
        if self._needs_proof:
            # The key of another account lists that account with 200, so a list proves nothing here.
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
        """When the next such request is due, or None if no request is planned."""
        if self._needs_proof:
            return None
        if not self._is_suspicious:
            return self._check_due()
        return min(self._check_due(), self._witness_due)

    # ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def fetched(self, operation: Operation, answer: Seen | Negative | Unanswered, now: ClockReading) -> bool:
        """Whether an answer to a fetch is believed now. Otherwise it is set aside or forgotten."""
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
                # About the token of that page: the first page was answered, so lists can be read.
                pass
            case _:
                self._refuse(answer)

    # ── rules ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _lists_are_refused(self) -> bool:
        return not _OF_LISTS.isdisjoint(self._causes)

    @property
    def _is_suspicious(self) -> bool:
        return len(self._gone) > GONE_AT_MOST or Cause.OPERATIONS_GONE in self._causes

    @property
    def _is_vouched_for(self) -> bool:
        """Whether anything was answered with 200, so that an error body of upstream's came from the right address."""
        # While lists are refused, only a fetch that was requested after the refusal counts: what was right before it
        # may be wrong since.
        if self._lists_are_refused:
            return self._fetched > self._refused
        return max(self._listed, self._fetched) >= 0

    def _check_due(self) -> Micros:
        """When the next list of one row is due."""
        due = self._list_tick + LIST_EVERY
        if self._first_refusal is not None:
            due = min(due, self._confirm_due)
        # One list resolves all doubtful answers, so once a minute is enough even for 500 of them. The first check is
        # due at once.
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
            # The problem that held the account is over, so lists may be answered again, too: one is due at once.
            self._holds.clear()
            self._list_tick = asked - LIST_EVERY
        if self._needs_proof:
            self.accept()
        # Another request of the account was answered, so a 403 before it concerns its operation alone. Of 400s and
        # 404s, `_acquit` has believed those with upstream's error body. The others still wait for a list.
        self._believe((Forbidden,), asked)

    def _is_believed(self, operation: Operation, answer: Negative, now: ClockReading) -> bool:
        asked = answer.timing.asked.tick
        if self._negative_since is None:
            self._negative_since = asked
        # A record past its 7 days is gone in the right account, too, so its 404 neither proves nor disproves the key.
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
        # Neither a list nor a fetch was answered since lists are refused, so this is not a key that may only fetch.
        if self._lists_are_refused and self._fetched <= self._refused:
            self._holds |= self._causes.keys() & _OF_LISTS
        if not isinstance(answer, Forbidden):
            # An operation that was never seen may simply not exist, so its absence says nothing of the account.
            if operation.status is not Status.UNSEEN and not is_past:
                self._gone[operation.id] = asked
            if operation.id == self._witness:
                # A list has shown it, so it is the fetches that fail. Lists are still read: the account is not held.
                self._witness = None
                self._blame_operations(answer.why, holds=False)
            if is_upstreams and self._is_vouched_for and (is_past or not self._is_suspicious):
                return True
        # While the account is held, refusals are taken for signs of its problem, and are not kept.
        if not self._holds:
            self._doubtful[operation.id] = answer
        return False

    def _believe(self, kinds: tuple[type[Negative], ...], asked: Micros) -> None:
        """Doubtful answers were about their operation if they came before a request that was answered with 200."""
        for operation_id, answer in list(self._doubtful.items()):
            # A request that was made before the answer came may be older than the problem, so it shows nothing.
            if not isinstance(answer, kinds) or answer.timing.answered.tick > asked:
                continue
            if not isinstance(answer, Forbidden) and self._is_suspicious:
                continue
            del self._doubtful[operation_id]
            # Without an error body of upstream's, the answer may be of a proxy that was removed before the list was
            # read. So the first one is only noted, and the next one that a list follows is believed.
            if isinstance(answer, Forbidden) or answer.is_upstreams or operation_id in self._repeated:
                self._resolved.believed.append((operation_id, answer))
            else:
                self._repeated.add(operation_id)

    def _refuse(self, answer: Negative) -> None:
        asked = answer.timing.asked.tick
        if asked < self._listed:
            return  # a list that was requested later has been answered
        # One refusal proves nothing. The second counts only if it was requested after the first was answered: two
        # requests at the same moment meet the same disturbance.
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
        # A key that may fetch but not list is not held, as long as some fetch is answered within half a minute of one
        # that was refused. A list that is refused for the first time holds at once if a fetch was refused as well.
        if self._negative_since is not None:
            waited = answer.timing.answered.tick - self._negative_since
            if is_new or waited >= OTHERS_WITHIN:
                self._holds.add(cause)
        # If the account is not held, a 403 may still turn out to concern one operation alone, so those are kept.
        self._repeated.clear()
        self._forget(only_others=not self._holds)

    def _forget(self, *, only_others: bool = False) -> None:
        """Forget doubtful answers. With `only_others`, those that were forbidden (403) are kept."""
        for operation_id, doubtful in list(self._doubtful.items()):
            if not (only_others and isinstance(doubtful, Forbidden)):
                del self._doubtful[operation_id]
                self._resolved.forgotten.append(operation_id)

    def _find_witness(self, tracked: TrackedOperation, now: Moment) -> str | None:
        """An operation that was shown since others were gone. Fetching it shows whether fetches work at all."""
        for operation_id, asked in list(self._gone.items()):
            operation = tracked.get(operation_id)
            if operation is None or operation.final_at is not None or operation.asked_tick > asked:
                del self._gone[operation_id]
        if len(self._gone) <= GONE_AT_MOST:
            self._acquit(None)
            return None
        # Operations that a list has shown after the first one was gone: if such an operation cannot be fetched either,
        # the fault is not with the operations.
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
        """End the suspicion: a fetch made at `asked` was answered, or too few operations are gone (`asked` is None)."""
        if self._is_suspicious and Cause.OPERATIONS_GONE in self._causes:
            # What was answered while operations counted as gone was not about this account. It is polled again.
            self._forget()
        self._gone.clear()
        self._witness, self._suspicious_since, self._witness_due = None, None, 0
        self._end(Cause.OPERATIONS_GONE)
        # The fetch also shows that the address is right, so 400s and 404s before it are believed if upstream wrote
        # them.
        for operation_id, answer in list(self._doubtful.items()):
            is_earlier = asked is not None and answer.timing.answered.tick <= asked
            if is_earlier and not isinstance(answer, Forbidden) and answer.is_upstreams:
                del self._doubtful[operation_id]
                self._resolved.believed.append((operation_id, answer))

    def _blame_operations(self, why: str, *, holds: bool) -> None:
        count = len(self._gone)
        self._blame(
            Cause.OPERATIONS_GONE,
            f"{count} operations that were seen before are missing, and no operation is shown any more: {why}",
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
