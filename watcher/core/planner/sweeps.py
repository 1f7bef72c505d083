"""Sweeps under way: a window is read page by page.

Pages may be short or empty. If a token is refused because it went stale, the list is begun once more. A page without an
answer is requested again with the same token, a few times. A list that repeats its tokens, or is much longer than
planned, is given up.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, assert_never

import msgspec

from watcher.core.model import Instant, Micros
from watcher.core.observation import Forbidden, ListAnswer, Missing, Page, Refused, Unanswered
from watcher.core.planner.row_density import SWEPT_STATUSES, RowDensity
from watcher.core.planner.windows import Window
from watcher.core.requests import Sweep

TRIES_OF_A_PAGE = 3


class SweepProgress(msgspec.Struct, eq=False):
    """One sweep: its window, and its progress since it was begun or begun once more."""

    number: int
    window: Window
    began: Micros
    created: list[tuple[str | None, Instant]] = []
    tokens: set[str] = set()
    pages: int = 0
    restarts: int = 0
    tries: int = 0

    @property
    def is_too_long(self) -> bool:
        """Whether more pages came than planned and half as many again. One page beyond the plan is always read."""
        # The estimate was wrong or the filter is ignored: the rest could cost more requests than it saves.
        planned = self.window.pages
        return self.pages > planned + planned // 2

    def take(self, page: Page) -> None:
        """Count the page, and keep the creations of its rows for the row densities."""
        self.pages += 1
        self.tries = 0
        # Rows outside the window would be counted in buckets that it did not read.
        start, end = self.window.start, self.window.end
        self.created += [
            (record.word, at) for record in page.records if (at := record.created_at) is not None and start <= at <= end
        ]

    def restart(self) -> None:
        """Begin again from the first page."""
        self.restarts += 1
        self.pages = self.tries = 0
        self.tokens, self.created = set(), []


class Done(NamedTuple):
    """A sweep that is over. `whole`: it was read to its end."""

    progress: SweepProgress
    whole: bool


class Sweeps:
    """All sweeps under way, and the pages to be requested next."""

    def __init__(self, densities: RowDensity) -> None:
        self._densities = densities
        self._sweeps: dict[int, SweepProgress] = {}
        self._pages: deque[Sweep] = deque()
        self._number = 0

    @property
    def has_pages(self) -> bool:
        """Whether a page waits to be requested."""
        return bool(self._pages)

    def next_page(self) -> Sweep:
        """The page that has waited longest, counted as requested."""
        return self._pages.popleft()

    def begin(self, window: Window, began: Micros) -> Sweep:
        """Begin a sweep. Returns its first page, counted as requested."""
        self._number += 1
        self._sweeps[self._number] = SweepProgress(self._number, window, began)
        return Sweep(number=self._number, status=window.status, start=window.start, end=window.end)

    def answered(self, request: Sweep, answer: ListAnswer) -> Done | None:
        """Apply the result of a page. Returns the sweep if that has ended it, else None."""
        progress = self._sweeps.get(request.number)
        if progress is None:
            return None
        match answer:
            case Page():
                return self._turn_page(request, progress, answer)
            # A refused token went stale. A list that is refused on its first page, or once more, has another reason for
            # it.
            case Refused() if request.token is not None and not progress.restarts:
                progress.restart()
                self._go_on(request, None)
            case Unanswered() if progress.tries + 1 < TRIES_OF_A_PAGE:
                progress.tries += 1
                self._go_on(request, request.token)
            case Missing() | Refused() | Forbidden() | Unanswered():
                return self._end(progress, whole=False)
            case _:
                assert_never(answer)
        return None

    def _turn_page(self, request: Sweep, progress: SweepProgress, page: Page) -> Done | None:
        progress.take(page)
        token = page.next_token
        if token is None:
            return self._end(progress, whole=True)
        # Only a page with a successor shows how many rows a full page has.
        self._densities.learn_page(request.status, len(page.records) + page.garbled)
        if token in progress.tokens or token == request.token or progress.is_too_long:
            return self._end(progress, whole=False)
        progress.tokens.add(token)
        self._go_on(request, token)
        return None

    def _go_on(self, request: Sweep, token: str | None) -> None:
        self._pages.append(msgspec.structs.replace(request, token=token))

    def _end(self, progress: SweepProgress, *, whole: bool) -> Done:
        del self._sweeps[progress.number]
        window = progress.window
        # The unfiltered list has the rows of the other lists too.
        lists = (None, *SWEPT_STATUSES) if window.status is None else (window.status,)
        learn = self._densities.learn_whole if whole else self._densities.learn_some
        for status in lists:
            created = [at for word, at in progress.created if status is None or word == status]
            learn(status, window.start, window.end, created)
        return Done(progress, whole)
