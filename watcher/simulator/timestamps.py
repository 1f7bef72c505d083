"""Timestamps are whole microseconds since 1970, UTC. The API shows them as RFC 3339 text in whole seconds."""

from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from functools import lru_cache

SECOND = 1_000_000
DAY = 86_400 * SECOND
# The last second of the year 9999 means never.
NEVER = 253_402_300_799 * SECOND

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(instant: int) -> str:
    """Return the timestamp as the API shows it, truncated to the second: `2024-01-15T09:30:00Z`."""
    return _second_as_text(instant // SECOND)


def http_date(instant: int) -> str:
    """Return the timestamp as an HTTP date."""
    return formatdate(instant // SECOND, usegmt=True)


def parse_rfc3339(text: str) -> int:
    """Return the timestamp of an RFC 3339 text. Raises ValueError, also if the offset is missing."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or "T" not in text.upper():
        raise ValueError(f"not a full RFC 3339 timestamp: {text!r}")
    return (moment - _EPOCH) // timedelta(microseconds=1)


# A page of 1,000 rows formats 2,000 timestamps, and most of them repeat from page to page.
@lru_cache(maxsize=65_536)
def _second_as_text(second: int) -> str:
    return (_EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%SZ")
