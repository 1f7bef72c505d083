"""When an operation is polled next, and why.

`freshness` is the promise: a running operation is polled again at most this long after the request of its last answer.
Holds and back-off delay the next poll, never the promise, so that the lag shows them. A scheduled operation is polled
less often the longer it has waited, because upstream does not say when it begins. A settling one is polled when its
settling read is due.
"""

from __future__ import annotations

from typing import NamedTuple, assert_never

import msgspec

from watcher.core.backoff import doubled
from watcher.core.lifecycle import retry_wait, settling_began_at, settling_wait
from watcher.core.model import HOUR, MINUTE, SECOND, Instant, Micros, Moment, Operation, Phase, Status, Value
from watcher.core.observation import Forbidden, Missing, Observation, Refused, Seen, Unanswered

SETTLE_SLACK: Micros = 30 * SECOND
"""How much later than due a settling read may come."""

SETTLE_COMPANY: Micros = 25 * SECOND
"""How long a settling read that is due waits for a sweep that shows it anyway, or for other reads to share one with.
It waits at most as long as it was ahead when it was planned."""

SCHEDULED_AT_MOST: Micros = 2 * MINUTE
SCHEDULED_SHARE = 3
"""A scheduled operation is polled again after a third of the time that it has waited, at most after two minutes."""

MISSING_AT_MOST: Micros = 30 * SECOND
SLOW_TRY_EVERY: Micros = MINUTE
UNANSWERED_AT_MOST: Micros = 30 * SECOND

FORBIDDEN_AT_FIRST: Micros = MINUTE
FORBIDDEN_AT_MOST: Micros = HOUR
"""The wait between polls of an operation that may not be read, first and at most; it grows fourfold. Hundreds of such
operations must not make other polls late. One wrong 403 costs a minute, and a permission that is granted is noticed."""

RUNNING = "freshness after the last poll"

FORBIDDEN = "forbidden: polled at growing intervals, when nothing else is due"

FETCHING = -1
"""In place of a sweep's number: the operation is fetched by its id."""

NOWHERE: Micros = -1
"""In place of a tick: the poll is in no queue."""


class Promise(Value, frozen=True, kw_only=True):
    """The settings that decide when operations are polled."""

    freshness: Micros = 5 * SECOND
    settle_after: tuple[Micros, ...] = (30 * SECOND, 2 * MINUTE)


class Plan(NamedTuple):
    """When a poll is due, by when it is promised, and why. `not_before`: the first tick of a fetch by id."""

    due: Micros
    promised: Micros
    why: str
    not_before: Micros = 0


class Poll(msgspec.Struct, gc=False, eq=False):
    """The next poll of one operation.

    `since` is the request of its last answer; between that and `due` an early poll gains in worth. `place` is its
    creation time, if known. `status` names the list of one status that should show it. `queued` is the tick of its
    entry in a queue, `NOWHERE` without one. `asked` is the number of the sweep that is about to show it, or `FETCHING`,
    or 0. `company` is how long the settling read `read` waits for others when it is due. `alone`: no list can be relied
    on to show it. `by_list`: its last request was a sweep. `fruitless`: answers in a row that did not show it.
    """

    id: str
    since: Micros
    due: Micros = 0
    promised: Micros = 0
    why: str = ""
    not_before: Micros = 0
    place: Instant | None = None
    status: Status | None = None
    queued: Micros = NOWHERE
    asked: int = 0
    fruitless: int = 0
    company: Micros = 0
    read: tuple[int, Instant | None] | None = None
    settles: bool = False
    alone: bool = False
    was_seen: bool = False
    by_list: bool = False

    def take(self, observation: Observation) -> None:
        """Take from an observation what later polls depend on."""
        if isinstance(observation, Seen):
            self.fruitless, self.alone, self.was_seen = 0, False, True
            self.since = max(self.since, observation.timing.asked.tick)
            return
        self.fruitless += 1
        # An operation that a fetch by id does not show is on no list either.
        self.alone = self.alone or isinstance(observation, Missing | Forbidden)

    def run_on(self, asked: Micros, freshness: Micros, margin: Micros) -> None:
        """The same as `take` and `keep` for an operation that runs on, shown by a list of one status.

        By far the most frequent case, so it has a short way of its own. `asked`: the tick of the request; `margin`: see
        `second_question`.
        """
        self.fruitless = self.not_before = 0
        self.alone, self.was_seen, self.why = False, True, RUNNING
        asked = max(asked, self.since)
        self.since = asked
        self.promised = promised = asked + freshness
        self.due = promised - margin if self.by_list else promised

    def keep(self, plan: Plan) -> None:
        """Make this the next poll."""
        self.due, self.promised, self.why, self.not_before = plan


def next_plan(
    operation: Operation, observation: Observation, poll: Poll, now: Moment, *, promise: Promise, latency: Micros
) -> Plan:
    """The poll after an observation. `latency` is how long an answer usually takes."""
    if operation.phase is Phase.SETTLING:
        return settling_plan(operation, now, promise, already=poll.due if poll.settles else None)
    freshness = promise.freshness
    asked = observation.timing.asked.tick
    match observation:
        case Seen(retry_after=retry_after):
            if retry_after is not None and retry_after > freshness:
                # The promise moves too: a wait that upstream asks for in a good answer is no lag.
                floor = now.tick + retry_after
                return Plan(floor, floor, "upstream asked for a pause until then", floor)
            if operation.status is Status.SCHEDULED:
                due = asked + _scheduled_wait(operation, now, freshness)
                return Plan(due, due, "scheduled: the longer it has waited, the less often")
            return running_plan(poll, asked, freshness, latency)
        case Missing() | Refused() if operation.missed:
            due = now.tick + SLOW_TRY_EVERY
            return Plan(due, due, "a slow try before it is given up", due)
        case Missing():
            due = now.tick + doubled(freshness, poll.fruitless - 1, at_most=MISSING_AT_MOST)
            return Plan(due, due, "not shown yet, within the not-found grace", due)
        case Forbidden():
            # Two doublings for each answer.
            due = now.tick + doubled(FORBIDDEN_AT_FIRST, 2 * poll.fruitless - 2, at_most=FORBIDDEN_AT_MOST)
            # The promise is far away, so that hundreds of these count as no lag and take no turn from others.
            return Plan(due, due + FORBIDDEN_AT_MOST, FORBIDDEN, due)
        case Unanswered() | Refused():
            due = now.tick + doubled(freshness, poll.fruitless - 1, at_most=UNANSWERED_AT_MOST)
            # The promise stays where it was, so that the lag shows how long the operation was not polled.
            return Plan(due, poll.promised, "the last poll was not answered", due)
        case _:
            assert_never(observation)


def running_plan(poll: Poll, asked: Micros, freshness: Micros, latency: Micros) -> Plan:
    """The poll after a request at that tick that showed the operation running."""
    promised = max(poll.since, asked) + freshness
    margin = second_question(freshness, latency) if poll.by_list and poll.status is not None else 0
    return Plan(promised - margin, promised, RUNNING)


def second_question(freshness: Micros, latency: Micros) -> Micros:
    """How much earlier than promised an operation on the list of its status is polled.

    If it has left that list, a second request must show how it ended, and both must fit into the promise.
    """
    # Bounded: with answers that take as long as `freshness`, every poll would be due again at once.
    return min(2 * latency, freshness // 4)


def settling_plan(operation: Operation, now: Moment, promise: Promise, *, already: Micros | None = None) -> Plan:
    """The next settling read; `already`: when it was due before this poll."""
    number = operation.settled + operation.prolonged + 1
    why = f"settling read {number} of {max(len(promise.settle_after), number)}"
    if operation.unsettled_since is not None:
        due = now.tick + retry_wait(operation)
        if already is not None and already > now.tick:
            # A list that lags behind must not delay the read that is planned.
            due = min(due, already)
        return Plan(due, due + SETTLE_SLACK, f"{why}, again after one that failed", due)
    after = settling_wait(operation, promise.settle_after)
    if not after and not operation.settled:
        # The read that only confirms the end comes with the next poll.
        after = promise.freshness
    # Never later than the wait itself, whatever the wall clock did meanwhile.
    due = now.tick + min(max(settling_began_at(operation) + after - now.at, 0), after)
    return Plan(due, due + SETTLE_SLACK, why)


def company_of(poll: Poll, operation: Operation, plan: Plan, now: Moment) -> Micros:
    """How long a settling read that is due waits for a sweep. If it is planned again, it waits no longer for that."""
    read = (operation.settled + operation.prolonged, operation.unsettled_since)
    if poll.read != read:
        poll.read = read
        poll.company = min(SETTLE_COMPANY, max(plan.due - now.tick, 0))
    return poll.company


def _scheduled_wait(operation: Operation, now: Moment, freshness: Micros) -> Micros:
    created_at = operation.created_at if operation.created_at is not None else operation.registered_at
    waited = max(now.at - created_at, 0)
    return max(freshness, min(waited // SCHEDULED_SHARE, SCHEDULED_AT_MOST))
