"""Runs discovery for one account: reads a page, registers its operations that are not tracked yet, moves the cursor.

One page at a time: the next is requested when the store has committed everything that the last one showed.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence

from watcher.core.clocks import UpstreamClock
from watcher.core.discovery import Discovery, DiscoveryProgress, Scope
from watcher.core.model import MINUTE, Instant, Micros, Moment, Source, Value, is_operation_id
from watcher.core.observation import ListAnswer, Page, Record
from watcher.core.requests import Discover, honours
from watcher.store import Entry, Store


class _Found(Value, frozen=True, kw_only=True):
    """A page whose new operations are not committed yet."""

    request: Discover
    page: Page
    records: Sequence[Record]
    ended_before: Sequence[Record]


LEFT_OUT_AT_MOST = 100_000
"""Ids of operations that had ended before discovery began, kept in memory so that their tombstones are written once."""


class DiscoveryRunner:
    """Finds operations; does nothing while no scope is given, or while `uses_lists` says that lists are refused.

    `odd` is called for each row without a valid id.
    """

    def __init__(
        self,
        account: str,
        store: Store,
        *,
        clock: UpstreamClock,
        odd: Callable[[], None],
        uses_lists: Callable[[], bool],
    ) -> None:
        self._account = account
        self._store = store
        self._clock = clock
        self._odd = odd
        self._uses_lists = uses_lists
        self._discovery: Discovery | None = None
        self._progress = DiscoveryProgress()
        self._left_out: set[str] = set()
        self._found: _Found | None = None
        self.complete_at: Instant | None = None
        """When the lists were last read to their end and all of it was committed."""

    def begin(self, scope: Scope | None, progress: DiscoveryProgress, now: Moment) -> None:
        """Continue from the stored progress."""
        self._progress = progress
        self.adopt(scope, now)

    def adopt(self, scope: Scope | None, now: Moment) -> None:
        """Start, continue or stop, as the settings say."""
        if scope is None:
            self._discovery = None
        elif self._discovery is None:
            self._discovery = Discovery(scope, self._progress, now)
        else:
            self._discovery.adopt(scope)

    # ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def choose(self, now: Moment) -> Discover | None:
        """The due page to request, counted as sent; None when none is due."""
        if self._discovery is None or self._found is not None or not self._uses_lists():
            return None
        return self._discovery.choose(now, self._clock.read(now))

    def wake_tick(self) -> Micros | None:
        """When the next page falls due; None when none is planned."""
        if self._discovery is None or self._found is not None or not self._uses_lists():
            return None
        return self._discovery.wake_tick()

    # ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def answered(self, request: Discover, answer: ListAnswer, known: Container[str], now: Moment) -> None:
        """Keep the rows of operations that are not tracked yet until they are committed, or note that it failed."""
        if self._discovery is None:
            return
        if isinstance(answer, Page):
            self._find(self._discovery, request, answer, known)
        else:
            self._discovery.failed(answer, now)

    def _find(self, discovery: Discovery, request: Discover, page: Page, known: Container[str]) -> None:
        chosen = discovery.sort(page)
        # Where upstream ignored the filter, the page shows older operations, which discovery was not asked to find.
        oldest = None if honours(request, page) else request.start - MINUTE
        records = list(self._new(chosen.wanted, known, oldest))
        ended_before = list(self._new(chosen.ended_before, known, oldest))
        self._found = _Found(request=request, page=page, records=records, ended_before=ended_before)

    def _new(self, records: Sequence[Record], known: Container[str], oldest: Instant | None) -> Iterator[Record]:
        for record in records:
            if record.id is None or record.id in known or record.id in self._left_out:
                continue
            if oldest is not None and record.created_at is not None and record.created_at < oldest:
                continue
            if is_operation_id(record.id):
                yield record
            else:
                self._odd()

    # ── committing ────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def has_found(self) -> bool:
        """Whether a page waits for the store."""
        return self._found is not None

    async def register(self, now: Moment) -> None:
        """Register what the page showed in the store; known, finished and untracked ids stay as they are.

        Operations that had ended before discovery began get a tombstone. Raises StoreUnusable.
        """
        ended_before = () if self._found is None else self._found.ended_before
        if ended_before:
            created = {record.id: record.created_at for record in ended_before if record.id is not None}
            await self._store.insert_tombstones(self._account, created, now.at)
            if len(self._left_out) + len(created) > LEFT_OUT_AT_MOST:
                self._left_out.clear()
            self._left_out |= created.keys()
        entries = [
            Entry(account=self._account, id=record.id, source=Source.DISCOVERY, created_at=record.created_at)
            for record in (self._found.records if self._found is not None else ())
            if record.id is not None
        ]
        if entries:
            await self._store.register(entries, now.at)

    def rows(self) -> Iterator[tuple[Record, Page]]:
        """The registered rows, each with the page that showed it."""
        if self._found is not None:
            for record in self._found.records:
                yield record, self._found.page

    async def commit(self, now: Callable[[], Moment]) -> None:
        """Move the cursor and allow the next page, once the rows are committed. Raises StoreUnusable."""
        found, self._found = self._found, None
        if found is None or self._discovery is None:
            return
        moment = now()
        progress = self._discovery.committed(found.request, found.page, moment, self._clock.read(moment))
        if progress is None:
            return
        if progress.began_at is not None and progress.began_at != self._progress.began_at:
            await self._store.note_discovery_began(self._account, progress.began_at)
        await self._store.commit(self._account, (), cursor=progress.cursor)
        self._progress = progress
        if not self._discovery.is_behind(moment):
            self.complete_at = now().at
