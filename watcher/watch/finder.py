"""Discovery at work for one account: a page is read, what nobody follows yet is registered, and the cursor moves.

One page at a time: the next is asked for when the store has taken everything that the last one showed.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence

from watcher.core.asks import Discover, honours
from watcher.core.discovery import Discovery, Scope
from watcher.core.model import MINUTE, Instant, Micros, Moment, Source, Value, is_operation_id
from watcher.core.observation import Negative, Page, Record, Unanswered
from watcher.store import Entry, Store


class _Found(Value, frozen=True, kw_only=True):
    """A page whose new rows are not yet committed."""

    ask: Discover
    page: Page
    records: Sequence[Record]


class Finder:
    """Finds operations, or rests while no scope is given. `odd` hears of rows that cannot be followed."""

    def __init__(self, account: str, store: Store, odd: Callable[[], None]) -> None:
        self._account = account
        self._store = store
        self._odd = odd
        self._discovery: Discovery | None = None
        self._cursor: Instant | None = None
        self._found: _Found | None = None
        self.complete_at: Instant | None = None
        """When the lists were last read to their end and all of it was committed."""

    def begin(self, scope: Scope | None, cursor: Instant | None, now: Moment) -> None:
        """Go on from the cursor that the store remembers."""
        self._cursor = cursor
        self.adopt(scope, now)

    def adopt(self, scope: Scope | None, now: Moment) -> None:
        """Begin, go on or stop, as the settings say."""
        if scope is None:
            self._discovery = None
        elif self._discovery is None:
            self._discovery = Discovery(scope, self._cursor, now)
        else:
            self._discovery.adopt(scope)

    # ── asking ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def choose(self, now: Moment) -> Discover | None:
        """The page to ask for, taken as asked; None when none is due."""
        return self._discovery.choose(now) if self._discovery is not None and self._found is None else None

    def wake_tick(self) -> Micros | None:
        """When the next page falls due; None when none is planned."""
        return self._discovery.wake_tick() if self._discovery is not None and self._found is None else None

    # ── hearing ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def find(self, ask: Discover, page: Page, known: Container[str]) -> None:
        """Keep the rows that nobody follows yet until they are committed."""
        if self._discovery is None:
            return
        records = []
        # A filter that was ignored shows what was there long before: that is none of our business.
        oldest = None if honours(ask, page) else ask.start - MINUTE
        for record in self._discovery.wanted(page):
            if record.id is None or record.id in known:
                continue
            if oldest is not None and record.created_at is not None and record.created_at < oldest:
                continue
            if is_operation_id(record.id):
                records.append(record)
            else:
                self._odd()
        self._found = _Found(ask=ask, page=page, records=records)

    def failed(self, answer: Negative | Unanswered, now: Moment) -> None:
        """A page could not be read."""
        if self._discovery is not None:
            self._discovery.failed(answer, now)

    # ── committing ────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def has_found(self) -> bool:
        """Whether a page waits for the store."""
        return self._found is not None

    async def register(self, now: Moment) -> None:
        """Take what the page showed into the store; known, finished and untracked ids stay as they are.

        Raises StoreUnusable.
        """
        entries = [
            Entry(account=self._account, id=record.id, source=Source.DISCOVERY, created_at=record.created_at)
            for record in (self._found.records if self._found is not None else ())
            if record.id is not None
        ]
        if entries:
            await self._store.register(entries, now.at)

    def rows(self) -> Iterator[tuple[Record, Page]]:
        """What was registered, with the page that showed it."""
        if self._found is not None:
            for record in self._found.records:
                yield record, self._found.page

    async def commit(self, now: Callable[[], Moment]) -> None:
        """The rows are committed: the next page may be asked for, and the cursor may move. Raises StoreUnusable."""
        found, self._found = self._found, None
        if found is None or self._discovery is None:
            return
        cursor = self._discovery.committed(found.ask, found.page, now())
        if cursor is not None:
            await self._store.commit(self._account, (), cursor=cursor)
            self._cursor = cursor
            self.complete_at = now().at
