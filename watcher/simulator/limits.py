"""Limits of an account: requests at the same time, and requests per second by a token bucket of one second."""

from collections import Counter

from watcher.simulator.scenario import Limits


class Throttle:
    """The running requests of each account, and the state of its token bucket."""

    def __init__(self, limits: Limits, *, second: int) -> None:
        self.limits = limits
        # One second of the client, in the microseconds of the simulated clock.
        self._second = second
        self.under_way: Counter[str] = Counter()
        # By account: the tokens left, and the time of that count.
        self._buckets: dict[str, tuple[float, int]] = {}

    def refuses(self, account_id: str, now: int) -> bool:
        """Return whether the request that has just begun is above a limit; if not, take a token for it."""
        most = self.limits.max_concurrent
        if most is not None and self.under_way[account_id] > most:
            return True
        rate = self.limits.requests_per_second
        return rate is not None and not self._pay(account_id, rate, now)

    def _pay(self, account_id: str, rate: float, now: int) -> bool:
        full = max(1.0, rate)
        left, at = self._buckets.get(account_id, (full, now))
        left = min(full, left + rate * max(0, now - at) / self._second)
        # Allow for a rounding error of a millionth.
        paid = left >= 1 - 1e-6
        self._buckets[account_id] = (left - 1 if paid else left, max(now, at))
        return paid
