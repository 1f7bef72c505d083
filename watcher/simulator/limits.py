"""How much an account may ask: so many requests at once, and so many per second from a bucket of one second."""

from collections import Counter

from watcher.simulator.scenario import Limits


class Throttle:
    """What each account has under way, and what is left in its bucket."""

    def __init__(self, limits: Limits, *, second: int) -> None:
        self.limits = limits
        # A second of the client, on the clock that `now` is read from.
        self._second = second
        self.under_way: Counter[str] = Counter()
        # What was left, and when.
        self._buckets: dict[str, tuple[float, int]] = {}

    def refuses(self, account_id: str, now: int) -> bool:
        """Whether the request that has just begun is one too many; if not, it is paid for."""
        most = self.limits.max_concurrent
        if most is not None and self.under_way[account_id] > most:
            return True
        rate = self.limits.requests_per_second
        return rate is not None and not self._pay(account_id, rate, now)

    def _pay(self, account_id: str, rate: float, now: int) -> bool:
        full = max(1.0, rate)
        left, at = self._buckets.get(account_id, (full, now))
        left = min(full, left + rate * max(0, now - at) / self._second)
        # A millionth of a request is a rounding error.
        paid = left >= 1 - 1e-6
        self._buckets[account_id] = (left - 1 if paid else left, max(now, at))
        return paid
