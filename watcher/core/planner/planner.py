"""Chooses the next request, and the time to wake.

`freshness` is the promise: a change is known at most this long after it happened, while limits allow. The most overdue
poll determines the next request: a fetch of that operation alone, or the list window around it that saves the most
requests (`windows`). So sweeps arrange themselves: operations that were shown together fall due together. Where the
account's share does not allow the promise, all polls become late evenly, and `lag` says by how much.

A sweep can only show operations; an operation that it does not show has not ended. If the sweep was read to its end,
the operation has left that list and is polled again in another way. A newly registered operation is polled at once,
unless another one was registered less than `freshness` ago. Then it waits for the next sweep, if there are more than a
`FEW` operations.

The planner returns one `Request` at a time and takes its result in this order: `answered`, then `learned` for each
operation that was shown, then `swept`.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import assert_never

from watcher.core.model import MINUTE, SECOND, Micros, Moment, Operation, Phase, Status, created_hint
from watcher.core.observation import ListAnswer, Observation, Seen, Timing
from watcher.core.planner.creation_index import CreationIndex
from watcher.core.planner.due_queue import DueQueue
from watcher.core.planner.exit_rates import ExitRates, ages_of, class_of
from watcher.core.planner.polls import (
    FETCHING,
    FORBIDDEN,
    FORBIDDEN_AT_MOST,
    NOWHERE,
    Plan,
    Poll,
    Promise,
    company_of,
    next_plan,
    second_question,
    settling_plan,
)
from watcher.core.planner.row_density import SWEPT_STATUSES, RowDensity
from watcher.core.planner.sweeps import SweepProgress, Sweeps
from watcher.core.planner.windows import Window, WindowChooser
from watcher.core.requests import Discover, Fetch, Probe, Request, Sweep
from watcher.core.snapshot import NextPoll

__all__ = ["Planner", "Promise"]

FEW = 20
"""Up to this number of operations, new ones do not wait for a sweep: they may be fetched by id."""

IDLE_EVERY: Micros = 5 * MINUTE
"""The interval of requests in an account without tracked operations, so that its shown state stays true."""

TIDY_EVERY: Micros = 60 * MINUTE
ALONE_AT_MOST = 1 << 10


_LISTS = {Status.UNSEEN: Status.PROCESSING} | {status: status for status in SWEPT_STATUSES}
_PROMISED = attrgetter("promised")


class Planner:
    """The next polls of one account. Pure: the present moment is an argument of every call."""

    def __init__(self, promise: Promise, now: Moment) -> None:
        self._promise = promise
        self._polls: dict[str, Poll] = {}
        # Apart from the polls: an id that is forgotten and tracked anew during its fetch must not be fetched twice.
        self._fetching: set[str] = set()
        self._queue = DueQueue()
        # Polls that wait until nothing else is due.
        self._spare = DueQueue()
        self._index = CreationIndex()
        self._densities = RowDensity()
        self._exit_rates = ExitRates()
        self._chooser = WindowChooser(self._index, self._densities, self._exit_rates)
        self._sweeps = Sweeps(self._densities)
        self._failures = 0
        # When a new operation was last polled. Others that come within `freshness` of it wait for the next sweep, or a
        # burst of thousands would be a fetch each.
        self._newcomer_tick: Micros | None = None
        self._newcomers: list[Poll] = []
        self._latency: Micros = 0
        self._margin: Micros = 0
        self._timing: Timing | None = None
        self._wall = now.at - now.tick
        self._probe_due: Micros = now.tick
        self._tidy_due: Micros = now.tick
        self._probe_under_way = False
        self.uses_lists = True
        """False while upstream refuses its lists: then every operation is fetched by its id."""

    def adopt(self, promise: Promise) -> None:
        """A new promise from the settings. It holds from each operation's next poll on."""
        self._promise = promise

    def follow(self, operation: Operation, now: Moment) -> None:
        """Plan the first poll of an operation that is new or was loaded from the store."""
        if operation.phase is Phase.FINAL or operation.id in self._polls:
            return
        poll = self._polls[operation.id] = Poll(operation.id, now.tick)
        if operation.id in self._fetching:
            poll.asked = FETCHING
        if operation.phase is Phase.SETTLING:
            plan = settling_plan(operation, now, self._promise)
        else:
            plan = self._first_plan(now)
            if plan.due > now.tick:
                self._newcomers.append(poll)
        self._keep(poll, operation, plan, now)

    def forget(self, operation_id: str) -> None:
        """Plan no more polls of the operation."""
        poll = self._polls.pop(operation_id, None)
        if poll is not None:
            poll.queued = NOWHERE
            self._index.remove(poll)

    # ── asking ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def choose(self, now: Moment) -> Request | None:
        """The cheapest request that is due, counted as sent; None if nothing is due."""
        self._wall = now.at - now.tick
        # First the next page of a sweep under way. Until it is over its members are in no queue, and a wait delays all.
        if self._sweeps.has_pages:
            return self._sweeps.next_page()
        self._hurry(now)
        front, spare = self._queue.front(), self._spare.front()
        # A poll of the spare queue gets its turn after an hour at the latest, or a busy account would starve it.
        has_waited = spare is not None and spare[0] <= now.tick - FORBIDDEN_AT_MOST
        if front is not None and front[0] <= now.tick and not has_waited:
            self._densities.fade(now.tick)
            return self._request_for(front[1], now)
        if spare is not None and spare[0] <= now.tick:
            return self._request_for(spare[1], now)
        if self._probe_is_due(now):
            self._probe_under_way = True
            return Probe()
        return None

    def wake_tick(self) -> Micros | None:
        """When the next request is due; None if none is planned."""
        if self._sweeps.has_pages or (self._newcomers and len(self._polls) <= FEW):
            return 0
        fronts = [front[0] for front in (self._queue.front(), self._spare.front()) if front is not None]
        if fronts:
            return min(fronts)
        return None if self._polls or self._probe_under_way else self._probe_due

    # ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def answered(self, request: Request, now: Moment) -> None:
        """The request has ended, with whatever result."""
        self._probe_due = now.tick + IDLE_EVERY
        match request:
            case Probe():
                self._probe_under_way = False
            case Fetch(operation_id=operation_id):
                self._fetching.discard(operation_id)
                poll = self._polls.get(operation_id)
                if poll is not None:
                    # Only until `learned` plans the next poll: it follows at once if the answer showed the operation.
                    self._release(poll, max(poll.due, now.tick))
            case Sweep() | Discover():
                pass
            case _:
                assert_never(request)

    def learned(self, operation: Operation, observation: Observation, now: Moment) -> None:
        """Plan the next poll after an observation was applied to the operation."""
        poll = self._polls.get(operation.id)
        if poll is None:
            return
        if isinstance(observation, Seen):
            if observation.timing is not self._timing:
                self._time(observation.timing)
            if _runs_on(poll, operation, observation):
                # By far the most frequent case, so it has a short way: see docs/decisions/0007-hot-path.md.
                poll.run_on(observation.timing.asked.tick, self._promise.freshness, self._margin)
                if poll.asked != FETCHING:
                    poll.asked = 0
                    self._queue.put(poll, poll.due)
                return
        listed = _list_of(operation.status)
        # `poll.status` is still that of the last answer: the operation has left its list, which the exit rates count.
        if poll.status is not None and listed is None:
            self._note_departure(poll, now)
        if listed is None and operation.phase is Phase.FINAL:
            self.forget(operation.id)
            return
        poll.take(observation)
        if poll.asked != FETCHING:
            poll.asked = 0
        plan = next_plan(operation, observation, poll, now, promise=self._promise, latency=self._latency)
        self._keep(poll, operation, plan, now)

    def _time(self, timing: Timing) -> None:
        """Estimate how long an answer takes: once per page, however many operations it shows."""
        self._timing = timing
        # Averaged over about two answers, and bounded: one answer that hangs must not make all polls early.
        taken = timing.answered.tick - timing.asked.tick
        self._latency += (min(taken, self._promise.freshness) - self._latency) // 2
        self._margin = second_question(self._promise.freshness, self._latency)

    def swept(self, request: Sweep, answer: ListAnswer, now: Moment) -> None:
        """A page of a sweep came back, after `learned` for each operation on it."""
        done = self._sweeps.answered(request, answer)
        if done is None:
            return
        if done.whole:
            self._complete(done.progress, now)
        else:
            self._give_up(done.progress, now)
        if self._tidy_due <= now.tick:
            self._tidy_due = now.tick + TIDY_EVERY
            self._densities.forget_before(now.at)

    # ── views ───────────────────────────────────────────────────────────────────────────────────────────────────

    def lag(self, now: Moment) -> Micros:
        """How far past its promise the most overdue poll is; 0 if nothing is tracked or all polls are in time."""
        # With map and min, since every scrape calls it for all operations.
        return max(now.tick - min(map(_PROMISED, self._polls.values()), default=now.tick), 0)

    def next_poll(self, operation_id: str) -> NextPoll | None:
        """When, how and why an operation is polled next, as far as that is known now."""
        poll = self._polls.get(operation_id)
        if poll is None:
            return None
        if poll.asked:
            how = "GET by id" if poll.asked == FETCHING else "sweep that is under way"
            return NextPoll(due_tick=poll.due, how=how, why="a request for it is under way")
        then = Moment(poll.due + self._wall, poll.due)
        window = self._chooser.best(poll, then) if self.uses_lists else None
        return NextPoll(due_tick=poll.due, how="GET by id" if window is None else _in_words(window), why=poll.why)

    # ── inside ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _first_plan(self, now: Moment) -> Plan:
        freshness = self._promise.freshness
        due = now.tick
        if self._newcomer_tick is not None:
            due = max(due, min(self._newcomer_tick + freshness, now.tick + freshness))
        if due == now.tick:
            self._newcomer_tick = now.tick
        return Plan(due, now.tick + freshness, "first poll")

    def _hurry(self, now: Moment) -> None:
        """With few operations, new ones do not wait for a sweep."""
        if not self._newcomers:
            return
        if len(self._polls) <= FEW:
            for poll in self._newcomers:
                if not poll.was_seen and poll.queued > now.tick and self._polls.get(poll.id) is poll:
                    self._release(poll, now.tick)
        self._newcomers.clear()

    def _keep(self, poll: Poll, operation: Operation, plan: Plan, now: Moment) -> None:
        status = _list_of(operation.status)
        settles = status is None and operation.phase is Phase.SETTLING
        company = company_of(poll, operation, plan, now) if settles else 0
        poll.status, poll.settles = status, settles
        poll.keep(plan)
        # Before its first answer, the time in its id places an operation in the lists, so that a sweep can show it.
        place = operation.created_at
        if place is None and poll.place is None:
            place = created_hint(operation.id, now.at)
        if place is not None:
            self._index.put(poll, place)
        if not poll.asked and plan.why is FORBIDDEN:
            self._spare.put(poll, poll.due)
        elif not poll.asked:
            # A settling read is queued later than it is due. In between a window counts it as due, and nearly all are
            # shown by a sweep that comes anyway. With few operations there are few sweeps, so it does not wait.
            self._queue.put(poll, poll.due + (company if len(self._polls) > FEW else 0))

    def _probe_is_due(self, now: Moment) -> bool:
        return not self._polls and not self._probe_under_way and self._probe_due <= now.tick

    def _request_for(self, poll: Poll, now: Moment) -> Request:
        window = self._chooser.best(poll, now) if self.uses_lists else None
        if window is None:
            self._expect([poll], now)
            poll.asked, poll.queued, poll.by_list = FETCHING, NOWHERE, False
            self._fetching.add(poll.id)
            return Fetch(operation_id=poll.id)
        self._expect(window.members, now)
        sweep = self._sweeps.begin(window, now.tick)
        for member in window.members:
            member.asked, member.queued, member.by_list = sweep.number, NOWHERE, True
        return sweep

    def _expect(self, polls: Sequence[Poll], now: Moment) -> None:
        """Report polls that are about to happen to the exit rates, with the time since the last poll of each."""
        # One call for each doubling of the age, not for each member: every call fades older observations of that age.
        passed: dict[int, list[int]] = {}
        youngest, oldest, sums = 1, 0, [0, 0, 0]  # neighbours mostly have one class
        for poll in polls:
            place = poll.place
            if not poll.was_seen:
                # From now on the next new operation waits for a sweep.
                self._newcomer_tick = now.tick
            elif poll.status is not None and place is not None:
                age = now.at - place
                if not youngest <= age < oldest:
                    at = class_of(age)
                    youngest, oldest = ages_of(at)
                    sums = passed.setdefault(at, [0, 0, 0])
                sums[0] += now.tick - poll.since
                sums[1] += age
                sums[2] += 1
        for waited, age, count in passed.values():
            self._exit_rates.expect(waited // count, age // count, count)

    def _complete(self, progress: SweepProgress, now: Moment) -> None:
        """The sweep was read to its end: members that it did not show have left the list."""
        self._failures = 0
        vanished = self._not_shown(progress)
        for poll in vanished:
            self._note_departure(poll, now)
            poll.why = "it has left the list that showed it"
            # The unfiltered list shows every operation of its span. One that it does not show is on no list, so only a
            # fetch by id is left. One that has left the list of its status may well be on the unfiltered list.
            poll.alone = progress.window.status is None
            poll.status = None
            self._release(poll, max(now.tick, poll.not_before))

    def _note_departure(self, poll: Poll, now: Moment) -> None:
        if poll.was_seen and poll.status is not None and poll.place is not None:
            self._exit_rates.left(now.at - poll.place)

    def _give_up(self, progress: SweepProgress, now: Moment) -> None:
        """The sweep cannot be read to its end: members that it did not show are polled in another way."""
        missed = self._not_shown(progress)
        # With each sweep in a row that shows no member, twice as many are fetched by id, so that there is progress.
        self._failures = self._failures + 1 if len(missed) == len(progress.window.members) else 0
        alone = min(1 << self._failures, ALONE_AT_MOST)
        for position, poll in enumerate(missed):
            poll.alone = position < alone
            self._release(poll, max(poll.due, now.tick))

    def _not_shown(self, progress: SweepProgress) -> list[Poll]:
        """Members that no answer has shown since the sweep began, the most overdue first."""
        # An answer that shows a member sets its `asked` to 0. An id that was tracked anew meanwhile has another poll.
        missed = [poll for poll in progress.window.members if poll.asked == progress.number]
        return sorted((poll for poll in missed if self._polls.get(poll.id) is poll), key=lambda poll: poll.due)

    def _release(self, poll: Poll, due: Micros) -> None:
        poll.asked = 0
        poll.due = due
        self._queue.put(poll, due)


def _runs_on(poll: Poll, operation: Operation, seen: Seen) -> bool:
    """Whether it is still being processed, as in the last answer, and the answer has no `Retry-After`."""
    return (
        operation.status is Status.PROCESSING
        and poll.status is Status.PROCESSING
        and poll.place == operation.created_at
        and seen.retry_after is None
    )


def _list_of(status: Status) -> Status | None:
    """The list of one status that is likely to show it. A new operation is most likely being processed."""
    return _LISTS.get(status)


def _in_words(window: Window) -> str:
    what = "all operations" if window.status is None else f"the {window.status} list"
    span = (window.end - window.start) // SECOND
    return f"sweep of {what} created within {span} s, with {len(window.members) - 1} others of ours"
