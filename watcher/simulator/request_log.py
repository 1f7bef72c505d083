"""Records requests and their outcomes, so that tests and users can see how a client behaved."""

from collections import Counter, deque

import msgspec

REMEMBERED = 100_000


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request; `outcome` is the status, or reset, cut, silent or endless."""

    at: int
    account_id: str | None
    endpoint: str
    operation_id: str | None
    outcome: str
    # The request came during the time of an earlier Retry-After.
    during_hold: bool


class RequestLog:
    """Counts all requests, and keeps the last ones."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.entries: deque[Entry] = deque(maxlen=REMEMBERED)
        self.most_concurrent: Counter[str] = Counter()
        self.during_hold = 0
        self._holds: dict[str, tuple[int, int]] = {}

    def note(self, entry: Entry) -> None:
        """Count and keep a request."""
        self.counts[entry.endpoint, entry.outcome] += 1
        self.entries.append(entry)
        self.during_hold += entry.during_hold

    def saw_concurrent(self, account_id: str, number: int) -> None:
        """Record the number of requests that an account had under way at once."""
        self.most_concurrent[account_id] = max(self.most_concurrent[account_id], number)

    def hold(self, account_id: str, *, answered_at: int, until: int) -> None:
        """Record that the account should send no requests from `answered_at` until `until`."""
        self._holds[account_id] = (answered_at, until)

    def holds(self, account_id: str, now: int) -> bool:
        """Whether the account should send no requests now."""
        answered_at, until = self._holds.get(account_id, (0, 0))
        return answered_at < now < until

    def count(self, endpoint: str | None = None, outcome: str | None = None) -> int:
        """Return the number of requests, of all or one endpoint and outcome."""
        return sum(
            number
            for (its_endpoint, its_outcome), number in self.counts.items()
            if endpoint in (None, its_endpoint) and outcome in (None, its_outcome)
        )

    def instants(self, endpoint: str | None = None, outcome: str | None = None) -> list[int]:
        """Return when the kept requests began, in microseconds, of all or one endpoint and outcome."""
        return [
            entry.at
            for entry in self.entries
            if endpoint in (None, entry.endpoint) and outcome in (None, entry.outcome)
        ]
