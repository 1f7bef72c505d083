"""Finding every operation of an account: what to read of its lists, and how far that has got.

Lists are no snapshots, and clocks are hints, so no reading is believed to have shown everything:

    first     on an empty store: SCHEDULED, then PROCESSING, of what was created within `since`
    pair      the same again, 90 s and 15 min after a start, because a status index may lag
    new       every round: all that was created since the cursor, with the 90 s before it where those fill few pages
    recent    else those 90 s apart, a page a round
    wide      every 3 min, a page a round: the 20 min before the cursor, for what becomes visible up to 15 min late
    meanwhile once, a page a round, where the first took long: all of `since`, for what has ended during that

The cursor is a creation instant by the best-known time: what was created before it was read and committed at least
once. It moves when every page of `new` is committed: to the earlier of two clocks that agree. Else to the newest
creation that two readings bear out, and no further than a steady upstream clock. One that turns out to be ahead of the
time is not believed.

What had ended before the very first answer is neither followed nor counted, nor is it ever taken up later. Where the
clocks disagree at a first start, two readings of `new` take up nothing that has ended: they only show the time.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import assert_never

import msgspec

from watcher.core.clocks import AGREE_WITHIN, ClockReading
from watcher.core.model import DAY, MINUTE, SECOND, Instant, Micros, Moment, Status, Value, created_hint
from watcher.core.observation import Forbidden, Missing, Negative, Page, Record, Refused, Unanswered
from watcher.core.readings import Purpose, Reading
from watcher.core.requests import PAGE_SIZE, Discover

OVERLAP: Micros = 90 * SECOND
"""Lists are eventually consistent: what was created so long ago may still turn up, and is read again every round."""

LATE_AT_MOST: Micros = 15 * MINUTE
"""An operation that becomes visible so long after its creation is found."""

WIDE_EVERY: Micros = 3 * MINUTE
WIDE: Micros = LATE_AT_MOST + WIDE_EVERY + 2 * MINUTE
"""How far a wide round reaches back: what became visible just after one is still in reach of the next."""

PAIR_AFTER: Sequence[Micros] = (OVERLAP, LATE_AT_MOST)
"""When after a start the lists of what has not ended are read again."""

PAD: Micros = 2 * SECOND
"""Bounds are padded: `createdAt` has whole seconds, and whether bounds are inclusive is not stated."""

SOON: Micros = 10 * SECOND
"""An end this soon after the first answer may count as before it: its list may not have been read by then."""

AGAIN_AT_MOST: Micros = MINUTE
"""A round that failed is tried again at the latest after so long."""

JOINED_PAGES = 2
"""What is read again in a round fills at most so many pages; else it is read apart, a page a round."""

_CAPACITY_LEARNING = 0.3
_NOT_ENDED = (Status.SCHEDULED, Status.PROCESSING)
"""In this order: what begins between the two readings is on the second list."""
_ENDED = frozenset({Status.COMPLETED.value, Status.CANCELED.value})


class Scope(Value, frozen=True, kw_only=True):
    """What of the settings decides: how often to read, and how far back on an empty store."""

    every: Micros
    since: Micros


class DiscoveryProgress(Value, frozen=True, kw_only=True):
    """What the store remembers: the cursor, and when the very first answer came.

    `began_at` is None where clocks did not agree on that; nothing is then taken for ended before.
    """

    cursor: Instant | None = None
    began_at: Instant | None = None


class Chosen(Value, frozen=True, kw_only=True):
    """Which rows of a page to follow unless they are known, and which had ended before discovery began."""

    wanted: Sequence[Record] = ()
    ended_before: Sequence[Record] = ()


class Discovery:
    """The rounds of one account. Pure: the present comes with every call."""

    def __init__(self, scope: Scope, progress: DiscoveryProgress, now: Moment) -> None:
        self._scope = scope
        self._progress = progress
        self._due: Micros = now.tick
        self._main: Reading | None = None
        self._beside: deque[Reading] = deque()
        self._under_way: Reading | None = None
        self._is_main_read = False
        self._is_start = True
        self._is_answered = False
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
        self._recent: Counter[int] = Counter()
        self._capacity = float(PAGE_SIZE)
        self._failures = 0
        self._beside_failed_tick: Micros | None = None

    def is_behind(self, now: Moment) -> bool:
        """Whether what becomes visible late was not read for so long that some of it may be missed."""
        return self._beside_failed_tick is not None and now.tick - self._beside_failed_tick > LATE_AT_MOST

    @property
    def is_first(self) -> bool:
        """Whether nothing was ever discovered here, so that what has ended is none of our business."""
        return self._progress.cursor is None

    def wake_tick(self) -> Micros | None:
        """When the next page is to be asked for; None while one is under way."""
        return self._due if self._under_way is None else None

    def choose(self, now: Moment, clocks: ClockReading) -> Discover | None:
        """The next page, taken as asked; None when none is due."""
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
        """What to do with the rows of a page."""
        wanted: list[Record] = []
        ended_before: list[Record] = []
        for record in page.records:
            if record.word not in _ENDED:
                wanted.append(record)
            elif not (self.is_first or self._is_survey or self._is_left_out(record)):
                (ended_before if self._ended_before(record) else wanted).append(record)
        return Chosen(wanted=wanted, ended_before=ended_before)

    def committed(self, request: Discover, page: Page, now: Moment, clocks: ClockReading) -> DiscoveryProgress | None:
        """A page was read and what it brought is committed; the progress to be stored when that has moved."""
        read, self._under_way = self._under_way, None
        assert read is not None  # noqa: S101 -- pages come only of readings
        if read.asked_tick is None:
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
                # It must not hold up the next round.
                self._beside.rotate(-1)
                self._beside_failed(now)
            case Unanswered():
                # The same page again: what was read before it still holds.
                self._failures += 1
                self._due = now.tick + _growing(self._scope.every, self._failures)
            case Missing() | Refused() | Forbidden():
                self._give_up(read, now)
            case _:
                assert_never(answer)

    def adopt(self, scope: Scope) -> None:
        """New settings; they hold from the next round on."""
        self._scope = scope

    # ── where to begin ────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, clocks: ClockReading) -> Reading:
        cursor = self._progress.cursor
        if cursor is None:
            return self._not_ended(Purpose.FIRST, clocks)
        # At a start it is not known what was being read again when the process before this one ended.
        reach = WIDE if self._is_start else OVERLAP if self._is_joined(cursor) else PAD
        return Reading(Purpose.NEW, [Discover(status=None, start=cursor - reach)], known_times=self._known_times)

    def _not_ended(self, purpose: Purpose, clocks: ClockReading) -> Reading:
        start = self._earliest(clocks)
        return Reading(purpose, [Discover(status=status, start=start) for status in _NOT_ENDED])

    def _earliest(self, clocks: ClockReading) -> Instant:
        """From where to read what is not known; the machine's clock alone may be ahead, so a day further by that."""
        is_alone = self._is_answered and clocks.upstream_at is None
        return clocks.earliest_at - self._scope.since - (DAY if is_alone else 0)

    def _is_joined(self, cursor: Instant) -> bool:
        first = (cursor - OVERLAP) // SECOND
        rows = sum(number for second, number in self._recent.items() if second >= first)
        return rows <= JOINED_PAGES * self._capacity

    def _is_misplaced(self, read: Reading, request: Discover, clocks: ClockReading) -> bool:
        """Whether the first answer shows that a reading began too late, because a clock was ahead."""
        if read.purpose is Purpose.FIRST:
            return self._earliest(clocks) < request.start - AGREE_WITHIN
        return read.purpose is Purpose.NEW and self._is_ahead(clocks)

    def _is_ahead(self, clocks: ClockReading) -> bool:
        cursor, trusted_at = self._progress.cursor, clocks.trusted_at
        present = clocks.latest_at if trusted_at is None else trusted_at
        return cursor is not None and cursor > present + AGREE_WITHIN

    def _start_again(self, now: Moment, clocks: ClockReading) -> None:
        """From further back: a cursor that is ahead of the time does not say what was read, so as far as at first."""
        if self._progress.cursor is not None:
            self._progress = msgspec.structs.replace(self._progress, cursor=self._earliest(clocks))
            self._is_start = True
            self._recent.clear()
        self._main = None
        self._due = now.tick

    # ── going on ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _turn(self, read: Reading, now: Moment) -> None:
        """The next page of a list: of the main one at once, of those beside it in the next round."""
        self._failures = 0
        if read is self._main:
            self._due = now.tick
        else:
            self._beside_failed_tick = None
            self._beside.rotate(-1)
            self._rest(now)

    def _rest(self, now: Moment) -> None:
        """The round is over."""
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
            # While clocks disagree, what is created tells the time: the next readings only look for that.
            self._is_survey = not clocks.agrees
            self._progress = self._moved(read, request, now, clocks)
            if not self._is_survey:
                self._begun(now)
        elif self._is_survey and self._surveyed_tick is None:
            # One reading proves nothing. What the next one repeats had happened by now.
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
        # A process that ends before the survey is done leaves an empty store for the next.
        return None if self._is_survey else self._progress

    def _began_by(self, read: Reading) -> Instant:
        """When the first answer came, or a little before: what both readings of the survey show preceded the first."""
        if not read.latest or self._surveyed_tick is None or self._began_tick is None:
            return 0
        return read.latest - (self._surveyed_tick - self._began_tick)

    def _begun(self, now: Moment) -> None:
        """The first round is over; where it took long, its time is read once more."""
        self._meanwhile_from = max(self._shown_began_at, self._progress.began_at or 0)
        took = now.tick - (now.tick if self._began_tick is None else self._began_tick)
        self._is_meanwhile_due = took > SOON and self._meanwhile_from > 0

    def _moved(self, read: Reading, request: Discover, now: Moment, clocks: ClockReading) -> DiscoveryProgress:
        asked_ago = now.tick - (now.tick if read.asked_tick is None else read.asked_tick)
        before, trusted_at = self._progress.cursor, clocks.trusted_at
        # Upstream looked after it was asked, so whatever was there by then was shown. `Date` has whole seconds.
        cursor = None if trusted_at is None else trusted_at - asked_ago - SECOND
        if not clocks.agrees:
            # A gateway's clock may be steady and wrong. Nothing is shown behind the newest, so this costs little.
            newest = request.start if before is None else read.newest
            cursor = newest if cursor is None else min(cursor, newest)
        assert cursor is not None  # noqa: S101 -- clocks that agree are trusted
        return DiscoveryProgress(cursor=max(cursor, before or 0), began_at=self._beginning(now, clocks))

    def _beginning(self, now: Moment, clocks: ClockReading) -> Instant | None:
        """When the first answer came, or a little before; None while that is not known.

        By clocks that agree, then or some minutes later; else by the earlier of two. Where there is only one, by what
        the survey showed: nothing of it happened after it was read. An operation that is wrongly taken for ended before
        is never followed, so one clock alone does not decide that.
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
        """How many rows the last minutes have, by the second: of what was read just now, as it was read."""
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
        """Begin what is due beside the rounds, each once at a time."""
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
        """The list has no end, or the page was refused: from its beginning again, later."""
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
        self._due = now.tick + _growing(self._scope.every, self._failures)

    # ── what had ended before ─────────────────────────────────────────────────────────────────────────────────────────

    def _is_left_out(self, record: Record) -> bool:
        """Whether an ended row of `meanwhile` is not shown to have ended after the first answer.

        That reading shows everything that ended in hours. Where clocks disagreed, it must not track what ended before,
        and it does not insert tombstones for it either, because that could not be taken back.
        """
        if self._under_way is None or self._under_way.purpose is not Purpose.MEANWHILE:
            return False
        return record.updated_at is None or record.updated_at < self._meanwhile_from

    def _ended_before(self, record: Record) -> bool:
        """Whether an ended row is of the time before the first answer, by everything that it says of itself.

        It is never taken up again, so a creation after that answer, also by the id alone, speaks for it.
        """
        began_at = self._progress.began_at
        if began_at is None:
            return False
        created_at = max(record.created_at or 0, created_hint(record.id or "", began_at) or 0)
        return created_at < began_at and (record.updated_at is None or record.updated_at < began_at)


def _began_lately(progress: DiscoveryProgress) -> bool:
    """Whether a process before this one may not have got to read what ended during its first round."""
    cursor, began_at = progress.cursor, progress.began_at
    return cursor is not None and began_at is not None and cursor - began_at < LATE_AT_MOST


def _earlier(known: Instant | None, other: Instant) -> Instant:
    return other if known is None else min(known, other)


def _growing(first: Micros, times: int) -> Micros:
    return min(first << min(max(times - 1, 0), 20), max(AGAIN_AT_MOST, first))


def comes_first(discovery_tick: Micros | None, poll_tick: Micros | None, *, was_first: bool) -> bool:
    """Whether discovery's next page comes before the next poll: what is due longer does.

    A poll due at tick 0 waits for no time (a further page of a sweep): then they take turns.
    """
    if discovery_tick is None or poll_tick is None:
        return discovery_tick is not None
    return not was_first if poll_tick == 0 else discovery_tick < poll_tick
