"""What was asked and how it was answered: so that a test, or a curious user, can tell how a client behaved."""

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
    # It came although the account had been told to wait.
    during_hold: bool


class RequestLog:
    """Counts for good, and the last requests one by one."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.entries: deque[Entry] = deque(maxlen=REMEMBERED)
        self.most_concurrent: Counter[str] = Counter()
        self.during_hold = 0
        self._holds: dict[str, tuple[int, int]] = {}

    def note(self, entry: Entry) -> None:
        """The request is counted."""
        self.counts[entry.endpoint, entry.outcome] += 1
        self.entries.append(entry)
        self.during_hold += entry.during_hold

    def saw_concurrent(self, account_id: str, number: int) -> None:
        """So many requests of the account were under way at once."""
        self.most_concurrent[account_id] = max(self.most_concurrent[account_id], number)

    def hold(self, account_id: str, *, answered_at: int, until: int) -> None:
        """From when it hears of it, the account should ask nothing until then."""
        self._holds[account_id] = (answered_at, until)

    def holds(self, account_id: str, now: int) -> bool:
        """Whether the account has been told to be quiet now."""
        answered_at, until = self._holds.get(account_id, (0, 0))
        return answered_at < now < until

    def count(self, endpoint: str | None = None, outcome: str | None = None) -> int:
        """How many requests there were to the endpoint (any) with the outcome (any)."""
        return sum(
            number
            for (its_endpoint, its_outcome), number in self.counts.items()
            if endpoint in (None, its_endpoint) and outcome in (None, its_outcome)
        )

    def instants(self, endpoint: str | None = None, outcome: str | None = None) -> list[int]:
        """When the last requests to the endpoint (any) with the outcome (any) began, in microseconds."""
        return [
            entry.at
            for entry in self.entries
            if endpoint in (None, entry.endpoint) and outcome in (None, entry.outcome)
        ]
