"""Finding every operation of an account: which list pages to read, and up to which creation time all was read.

Lists are not snapshots, and clocks are only hints. So no single reading is believed to have shown everything:

    first     on an empty store: SCHEDULED, then PROCESSING, of what was created within `since`
    pair      the same again, 90 s and 15 min after a start, because a status index may lag
    new       every round: everything created since the cursor, with the 90 s before it if those fill few pages
    recent    otherwise those 90 s apart, one page a round
    wide      every 3 min, one page a round: the 20 min before the cursor, for what becomes visible up to 15 min late
    meanwhile once, one page a round, if the first reading took long: all of `since`, for what ended during that time

The cursor is a creation time by the best-known clock: everything created before it was read and committed at least
once. It moves when every page of `new` is committed. If the two clocks agree, it moves to the earlier one. Otherwise it
moves to the newest creation that two readings confirm, and never beyond a steady upstream clock. A cursor that turns
out to be ahead of the time is not believed.

Operations that ended before the very first answer are neither tracked nor counted, then or later. If the clocks
disagree at a first start, two readings of `new` (the survey) register nothing that has ended: they only show the time.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import assert_never

import msgspec

from watcher.core.backoff import doubled
from watcher.core.clocks import AGREE_WITHIN, ClockReading
from watcher.core.model import DAY, MINUTE, SECOND, Instant, Micros, Moment, Status, Value, created_hint
from watcher.core.observation import Forbidden, Missing, Negative, Page, Record, Refused, Unanswered
from watcher.core.readings import Purpose, Reading
from watcher.core.requests import PAGE_SIZE, Discover

# The creation times that the regular readings cover. Neighbours overlap by `PAD` or more, so no row is lost:
#
#     cursor - 20 min            cursor - 90 s            cursor             now
#     ├────────── wide ────────────────┼──────── recent ────┼────── new ───────▶    a busy account
#     ├────────── wide ────────────────┼───────────────── new ─────────────────▶    a quiet one
#
# A row created shortly before the cursor may become visible only after its page was read, so `new` alone is not enough.
# In a busy account `recent` is read apart: within every round, it would cost several pages each time.
OVERLAP: Micros = 90 * SECOND
"""Lists are eventually consistent: an operation may become visible this long after its creation. So this span before
the cursor is read again every round."""

LATE_AT_MOST: Micros = 15 * MINUTE
"""An operation that becomes visible at most this long after its creation is found."""

WIDE_EVERY: Micros = 3 * MINUTE
WIDE: Micros = LATE_AT_MOST + WIDE_EVERY + 2 * MINUTE
"""How far a wide round reaches back. What becomes visible right after one round is still within reach of the next."""

PAIR_AFTER: Sequence[Micros] = (OVERLAP, LATE_AT_MOST)
"""How long after a start the lists SCHEDULED and PROCESSING are read again."""

PAD: Micros = 2 * SECOND
"""Bounds are padded: `createdAt` has whole seconds, and whether bounds are inclusive is not stated."""

SOON: Micros = 10 * SECOND
"""A first reading of at most this time is not followed by `meanwhile`. An end during it may count as before it."""

AGAIN_AT_MOST: Micros = MINUTE
"""A round that failed is tried again after this time at most."""

JOINED_PAGES = 2
"""The rows that every round reads again fill at most this number of pages. More are read apart, one page a round."""

_CAPACITY_LEARNING = 0.3
_NOT_ENDED = (Status.SCHEDULED, Status.PROCESSING)
"""In this order: an operation that begins between the two readings is on the second list."""
_ENDED = frozenset({Status.COMPLETED.value, Status.CANCELED.value})


class Scope(Value, frozen=True, kw_only=True):
    """The settings of discovery: the interval of rounds, and how far back an empty store is filled."""

    every: Micros
    since: Micros


class DiscoveryProgress(Value, frozen=True, kw_only=True):
    """What the store keeps: the cursor, and the time of the very first answer.

    `began_at` is None while that time is not known. Then no operation counts as ended before it.
    """

    cursor: Instant | None = None
    began_at: Instant | None = None


class Chosen(Value, frozen=True, kw_only=True):
    """The rows of a page to track unless they are known, and those that had ended before discovery began."""

    wanted: Sequence[Record] = ()
    ended_before: Sequence[Record] = ()


class Discovery:
    """The rounds of one account. Pure: the present moment is an argument of every call."""

    def __init__(self, scope: Scope, progress: DiscoveryProgress, now: Moment) -> None:
        self._scope = scope
        self._progress = progress
        self._due: Micros = now.tick
        # The main reading (`first`, `new`) is read without a rest, and only it moves the cursor. Then a round reads one
        # page of one reading beside it. So a long list of old rows never delays new operations.
        self._main: Reading | None = None
        self._beside: deque[Reading] = deque()
        self._under_way: Reading | None = None
        self._is_main_read = False
        self._is_start = True
        self._is_answered = False
        # The survey: two readings of `new` after `first`, if the clocks disagreed then. They only find out the time.
        self._is_survey = False
        self._surveyed_tick: Micros | None = None
        self._shown_began_at: Instant = 0
        self._known_times: AbstractSet[tuple[str, Instant]] = frozenset()
        self._is_begin_agreed = False
        self._began_tick: Micros | None = None
        self._pairs_due = [now.tick + wait for wait in PAIR_AFTER]
        self._wide_due: Micros = now.tick + WIDE_EVERY
        self._is_meanwhile_due = _began_lately(progress)
        self._meanwhile_from: Instant = progress.began_at or 0
        # Rows of the last minutes by second of creation, and rows per full page: together they show how many pages the
        # 90 s before the cursor fill. Upstream may send shorter pages than requested, so their size is estimated.
        self._recent: Counter[int] = Counter()
        self._capacity = float(PAGE_SIZE)
        self._failures = 0
        self._beside_failed_tick: Micros | None = None

    def is_behind(self, now: Moment) -> bool:
        """Whether late rows could not be read for longer than `LATE_AT_MOST`, so that some of them may be missed."""
        return self._beside_failed_tick is not None and now.tick - self._beside_failed_tick > LATE_AT_MOST

    @property
    def is_first(self) -> bool:
        """Whether nothing was ever discovered for the account. Then operations that have ended are not registered."""
        return self._progress.cursor is None

    def wake_tick(self) -> Micros | None:
        """When the next page is due; None while one is under way."""
        return self._due if self._under_way is None else None

    def choose(self, now: Moment, clocks: ClockReading) -> Discover | None:
        """The next page, counted as requested; None if none is due."""
        if self._under_way is not None or now.tick < self._due:
            return None
        if self._is_main_read and self._beside:
            self._under_way = self._beside[0]
        else:
            if self._main is None:
                self._main = self._begin(clocks)
            self._is_main_read = False
            self._under_way = self._main
        return self._under_way.lists[0]

    def sort(self, page: Page) -> Chosen:
        """The rows of a page to track, and those that had ended before. The rest is ignored."""
        wanted: list[Record] = []
        ended_before: list[Record] = []
        for record in page.records:
            if record.word not in _ENDED:
                wanted.append(record)
            # An end whose time cannot be judged yet is left to later readings. It gets no tombstone either: that cannot
            # be taken back, and the operation would never be counted.
            elif not (self.is_first or self._is_survey or self._is_left_out(record)):
                (ended_before if self._ended_before(record) else wanted).append(record)
        return Chosen(wanted=wanted, ended_before=ended_before)

    def committed(self, request: Discover, page: Page, now: Moment, clocks: ClockReading) -> DiscoveryProgress | None:
        """The rows of a page are committed. Returns the progress to store if a main reading is complete, else None."""
        read, self._under_way = self._under_way, None
        assert read is not None  # noqa: S101 -- pages come only of readings
        if read.asked_tick is None:
            # The request and not the answer: an operation created between the two may be missing from the answer.
            read.asked_tick = page.timing.asked.tick
            self._is_answered = True
            if self.is_first and self._began_tick is None:
                self._began_tick = read.asked_tick
            if self._is_misplaced(read, request, clocks):
                self._start_again(now, clocks)
                return None
        read.take(page, clocks)
        token = page.next_token
        if token is not None:
            # Learned only from pages with a successor: the last one may be short because the list ends.
            shown = len(page.records) + page.garbled
            self._capacity += (max(shown, 1) - self._capacity) * _CAPACITY_LEARNING
            if not read.goes_on(request, token):
                self._give_up(read, now)
                return None
        elif read.ends_list():
            return self._complete(read, request, now, clocks)
        self._turn(read, now)
        return None

    def failed(self, answer: Negative | Unanswered, now: Moment) -> None:
        """A page could not be read."""
        read, self._under_way = self._under_way, None
        assert read is not None  # noqa: S101 -- answers come only of readings
        match answer:
            case Unanswered() if read is not self._main:
                # It must not delay the rounds, so it goes to the end of the queue, and this round is over.
                self._beside.rotate(-1)
                self._beside_failed(now)
            case Unanswered():
                # The same page is requested again: the pages before it remain valid.
                self._failures += 1
                self._due = now.tick + doubled(self._scope.every, self._failures - 1, at_most=AGAIN_AT_MOST)
            case Missing() | Refused() | Forbidden():
                self._give_up(read, now)
            case _:
                assert_never(answer)

    def adopt(self, scope: Scope) -> None:
        """Use new settings from the next round on."""
        self._scope = scope

    # ── where to begin ────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, clocks: ClockReading) -> Reading:
        cursor = self._progress.cursor
        if cursor is None:
            return self._not_ended(Purpose.FIRST, clocks)
        # The process before this one may have stopped within a `recent` or `wide` reading. That is not stored, so the
        # first round reads all that they would.
        reach = WIDE if self._is_start else OVERLAP if self._is_joined(cursor) else PAD
        return Reading(Purpose.NEW, [Discover(status=None, start=cursor - reach)], known_times=self._known_times)

    def _not_ended(self, purpose: Purpose, clocks: ClockReading) -> Reading:
        start = self._earliest(clocks)
        return Reading(purpose, [Discover(status=status, start=start) for status in _NOT_ENDED])

    def _earliest(self, clocks: ClockReading) -> Instant:
        """Where a reading of unknown operations begins; one day earlier if only the machine's clock is known."""
        # That clock may be ahead, and then operations before the start would never be found.
        is_alone = self._is_answered and clocks.upstream_at is None
        return clocks.earliest_at - self._scope.since - (DAY if is_alone else 0)

    def _is_joined(self, cursor: Instant) -> bool:
        first = (cursor - OVERLAP) // SECOND
        rows = sum(number for second, number in self._recent.items() if second >= first)
        return rows <= JOINED_PAGES * self._capacity

    def _is_misplaced(self, read: Reading, request: Discover, clocks: ClockReading) -> bool:
        """Whether the first answer shows that the reading began too late, because a clock was ahead."""
        if read.purpose is Purpose.FIRST:
            return self._earliest(clocks) < request.start - AGREE_WITHIN
        return read.purpose is Purpose.NEW and self._is_ahead(clocks)

    def _is_ahead(self, clocks: ClockReading) -> bool:
        # Without a trusted clock, only a cursor that is ahead of both is surely wrong.
        cursor, trusted_at = self._progress.cursor, clocks.trusted_at
        present = clocks.latest_at if trusted_at is None else trusted_at
        return cursor is not None and cursor > present + AGREE_WITHIN

    def _start_again(self, now: Moment, clocks: ClockReading) -> None:
        """Begin again from further back. A cursor ahead of the time proves nothing, so as far back as at first."""
        if self._progress.cursor is not None:
            self._progress = msgspec.structs.replace(self._progress, cursor=self._earliest(clocks))
            self._is_start = True
            self._recent.clear()
        self._main = None
        self._due = now.tick

    # ── going on ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _turn(self, read: Reading, now: Moment) -> None:
        """Plan the next page: of the main reading at once, of one beside it in the next round."""
        self._failures = 0
        if read is self._main:
            self._due = now.tick
        else:
            self._beside_failed_tick = None
            self._beside.rotate(-1)
            self._rest(now)

    def _rest(self, now: Moment) -> None:
        """End the round."""
        self._is_main_read = False
        self._due = now.tick + self._scope.every

    def _beside_failed(self, now: Moment) -> None:
        if self._beside_failed_tick is None:
            self._beside_failed_tick = now.tick
        self._rest(now)

    def _complete(
        self, read: Reading, request: Discover, now: Moment, clocks: ClockReading
    ) -> DiscoveryProgress | None:
        self._failures = 0
        if read is not self._main:
            self._beside_failed_tick = None
            self._beside.remove(read)
            if read.purpose is Purpose.RECENT:
                self._recount(read, request.start, request.end)
            self._rest(now)
            return None
        self._main = None
        self._is_start = False
        self._due = now.tick
        if read.purpose is Purpose.FIRST:
            # While the clocks disagree, creations show the time. The next two readings only serve to find it.
            self._is_survey = not clocks.agrees
            self._progress = self._moved(read, request, now, clocks)
            if not self._is_survey:
                self._begun(now)
        elif self._is_survey and self._surveyed_tick is None:
            # Half of the survey. One reading proves nothing. Times that the second one repeats lie before this moment.
            self._surveyed_tick = now.tick
        else:
            self._recount(read, request.start, None)
            self._is_main_read = True
            if self._is_survey:
                self._shown_began_at = self._began_by(read)
            self._progress = self._moved(read, request, now, clocks)
            if self._is_survey:
                self._is_survey = False
                self._begun(now)
            self._begin_beside(now, clocks)
            if not self._beside:
                self._rest(now)
        self._known_times = read.times
        # A process that ends during a survey leaves a store without progress, so that the next one begins anew.
        return None if self._is_survey else self._progress

    def _began_by(self, read: Reading) -> Instant:
        """The time of the first answer, or a little before: what both readings show happened before the first one."""
        # Too early is the safe side: an old end is then reported. Too late, and operations would never be counted.
        if not read.latest or self._surveyed_tick is None or self._began_tick is None:
            return 0
        return read.latest - (self._surveyed_tick - self._began_tick)

    def _begun(self, now: Moment) -> None:
        """The first round is over. If it took long, plan a reading of what ended during it (`meanwhile`)."""
        self._meanwhile_from = max(self._shown_began_at, self._progress.began_at or 0)
        took = now.tick - (now.tick if self._began_tick is None else self._began_tick)
        self._is_meanwhile_due = took > SOON and self._meanwhile_from > 0

    def _moved(self, read: Reading, request: Discover, now: Moment, clocks: ClockReading) -> DiscoveryProgress:
        asked_ago = now.tick - (now.tick if read.asked_tick is None else read.asked_tick)
        before, trusted_at = self._progress.cursor, clocks.trusted_at
        # Upstream read its list after the request, so everything visible at that time was shown. A second less, because
        # `Date` has whole seconds.
        cursor = None if trusted_at is None else trusted_at - asked_ago - SECOND
        if not clocks.agrees:
            # A gateway's clock may be steady and wrong, so the newest creation is the limit. No row is newer, so the
            # next round re-reads little. `first` confirms no creations, so the cursor begins at its start.
            newest = request.start if before is None else read.newest
            cursor = newest if cursor is None else min(cursor, newest)
        assert cursor is not None  # noqa: S101 -- clocks that agree are trusted
        # Never backwards, whatever the clocks show: what lies before the cursor was read.
        return DiscoveryProgress(cursor=max(cursor, before or 0), began_at=self._beginning(now, clocks))

    def _beginning(self, now: Moment, clocks: ClockReading) -> Instant | None:
        """The time of the first answer, or a little before; None while that is not known.

        It comes from two clocks that agree then or within 15 min, otherwise from the earlier of the two. If there is
        only one clock, it comes from the survey: the times that it showed lie before its end. An operation that wrongly
        counts as ended before is never tracked, so one clock alone does not decide.
        """
        known, began_tick, present = self._progress.began_at, self._began_tick, clocks.trusted_at
        if began_tick is None or now.tick - began_tick > LATE_AT_MOST:
            return known
        passed = now.tick - began_tick
        if clocks.agrees and present is not None:
            began_at = _earlier(known if self._is_begin_agreed else None, present - passed)
            self._is_begin_agreed = True
            return began_at
        if self._is_begin_agreed:
            return known
        if clocks.upstream_at is not None:
            return _earlier(known, clocks.earliest_at - passed)
        return known or self._shown_began_at or None

    def _recount(self, read: Reading, start: Instant, end: Instant | None) -> None:
        """Update the number of rows by second of creation with those of a reading that is complete."""
        # Only seconds that lie within the bounds as a whole. Of the others a part was not read.
        first = -(-start // SECOND)
        last = None if end is None else end // SECOND - 1
        kept = {
            second: number
            for second, number in self._recent.items()
            if second < first or (last is not None and second > last)
        }
        fresh = {
            second: number
            for second, number in read.created.items()
            if second >= first and (last is None or second <= last)
        }
        recent = Counter({**kept, **fresh})
        oldest = ((self._progress.cursor or 0) - 2 * OVERLAP) // SECOND
        self._recent = Counter({second: number for second, number in recent.items() if second >= oldest})

    def _begin_beside(self, now: Moment, clocks: ClockReading) -> None:
        """Begin the readings that are due beside the main one. Of each purpose only one is under way at a time."""
        cursor = self._progress.cursor
        assert cursor is not None  # noqa: S101 -- a main reading has just moved it
        under_way = {read.purpose for read in self._beside}
        if Purpose.PAIR not in under_way and self._pairs_due and self._pairs_due[0] <= now.tick:
            del self._pairs_due[0]
            self._beside.append(self._not_ended(Purpose.PAIR, clocks))
        if Purpose.RECENT not in under_way and not self._is_joined(cursor):
            self._beside.append(
                Reading(Purpose.RECENT, [Discover(status=None, start=cursor - OVERLAP, end=cursor + PAD)])
            )
        if Purpose.WIDE not in under_way and self._wide_due <= now.tick:
            self._wide_due = now.tick + WIDE_EVERY
            window = Discover(status=None, start=cursor - WIDE, end=cursor - OVERLAP + PAD)
            self._beside.append(Reading(Purpose.WIDE, [window]))
        if self._is_meanwhile_due:
            self._is_meanwhile_due = False
            window = Discover(status=None, start=self._earliest(clocks), end=cursor + PAD)
            self._beside.append(Reading(Purpose.MEANWHILE, [window]))

    def _give_up(self, read: Reading, now: Moment) -> None:
        """The list has no end, or the page was refused: read the list from its beginning again, later."""
        if read is not self._main:
            self._beside.remove(read)
            if read.purpose is Purpose.WIDE:
                self._wide_due = now.tick
            elif read.purpose is Purpose.PAIR:
                self._pairs_due.insert(0, now.tick)
            elif read.purpose is Purpose.MEANWHILE:
                self._is_meanwhile_due = True
            self._beside_failed(now)
            return
        self._main = None
        self._failures += 1
        self._due = now.tick + doubled(self._scope.every, self._failures - 1, at_most=AGAIN_AT_MOST)

    # ── what had ended before ─────────────────────────────────────────────────────────────────────────────────────────

    def _is_left_out(self, record: Record) -> bool:
        """Whether it is an ended row of `meanwhile` that may have ended before the first answer.

        That reading shows the ends of many hours. If the clocks disagreed, it must not track operations that ended
        before. It inserts no tombstones for them either, because those could not be taken back.
        """
        if self._under_way is None or self._under_way.purpose is not Purpose.MEANWHILE:
            return False
        return record.updated_at is None or record.updated_at < self._meanwhile_from

    def _ended_before(self, record: Record) -> bool:
        """Whether an ended row is from before the first answer, by all the times that it carries.

        Such an operation is never tracked later. So any time after that answer, also that in its id alone, makes this
        False.
        """
        began_at = self._progress.began_at
        if began_at is None:
            return False
        created_at = max(record.created_at or 0, created_hint(record.id or "", began_at) or 0)
        return created_at < began_at and (record.updated_at is None or record.updated_at < began_at)


def _began_lately(progress: DiscoveryProgress) -> bool:
    """Whether the process before this one may have ended before its `meanwhile` reading was done."""
    cursor, began_at = progress.cursor, progress.began_at
    return cursor is not None and began_at is not None and cursor - began_at < LATE_AT_MOST


def _earlier(known: Instant | None, other: Instant) -> Instant:
    return other if known is None else min(known, other)
