"""Bytes and headers into observations: the whole of what we believe about upstream's answers.

Decoding is lenient, row by row and field by field: what can be read counts, what cannot is named in `odd`. The HTTP
status decides, never a code in the body; `error_bodies` says whether upstream wrote the body of an error. Nothing here
raises, whatever upstream sends. Source of the shapes: Twilio's reference for push-notification Operations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from watcher.core.error_bodies import ErrorBody, read_error
from watcher.core.model import DAY, HOUR, MINUTE, SECOND, STAT_NAMES, Instant, Micros, Stats, Status
from watcher.core.observation import (
    FailureCause,
    Forbidden,
    ListAnswer,
    Missing,
    Negative,
    Observation,
    Page,
    Record,
    Refused,
    Reply,
    Seen,
    Timing,
    Unanswered,
)
from watcher.core.printable import shortened
from watcher.core.record_cache import RecordCache

CODES: tuple[str, ...] = ("200", "400", "401", "403", "404", "429", "5xx", "timeout", "connect", "garbled", "other")
"""The values of the label `code`, all of them."""

RETRY_AFTER_AT_MOST: Micros = 15 * MINUTE
"""A longer `Retry-After` is taken for this: upstream may ask for patience, not for silence."""

AHEAD_AT_MOST: Micros = HOUR
"""An instant so far ahead of both clocks, upstream's and ours, is none. Taken for true, it would make every later
answer look stale, and the end would never be learned."""

TOKEN_AT_MOST = 4096
"""Characters of a page token. A longer one, percent-encoded, may be longer than a URL can be."""

_TROUBLES: Mapping[int, FailureCause] = {
    401: FailureCause.UNAUTHORIZED,
    429: FailureCause.THROTTLED,
    503: FailureCause.THROTTLED,
}
_SERVER_ERRORS = range(500, 600)
_NO_LIST = frozenset({405, 410})
_WORDS = frozenset({Status.SCHEDULED, Status.PROCESSING, Status.COMPLETED, Status.CANCELED})
"""Upstream's words, as they are nearly always written."""
_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Instant = 253_402_300_800 * SECOND - 1  # the end of the year 9999: what can be shown as RFC 3339
_UNREADABLE = (msgspec.DecodeError, RecursionError, ValueError, OverflowError)


class _OperationRow(msgspec.Struct, rename="camel", gc=False):
    """An operation exactly as documented; whatever does not fit is read again, field by field."""

    id: str | None = None
    status: str | None = None
    stats: Stats | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class _List(msgspec.Struct):
    """The envelope of a page, with each row unread, so that one bad row spoils no other."""

    operations: list[msgspec.Raw]
    pagination: Any = None


_rows = msgspec.json.Decoder(_OperationRow)
_lists = msgspec.json.Decoder(_List)
_anything = msgspec.json.Decoder()


def read_fetch(reply: Reply, operation_id: str) -> Observation:
    """What the answer to a fetch of one operation says; an answer of another operation is none."""
    timing = _timing(reply)
    if reply.code != 200:  # noqa: PLR2004 -- the one code that is good
        return _read_failure(reply, timing)
    record = read_record(reply.body)
    if record is None or _says_nothing(record):
        return Unanswered(timing=timing, cause=FailureCause.GARBLED, why="the body is not an operation")
    if record.id is not None and record.id != operation_id:
        return Unanswered(timing=timing, cause=FailureCause.GARBLED, why="the answer is of another operation")
    record = _without_future(record, _latest(timing))
    return Seen(timing=timing, record=record, retry_after=read_retry_after(reply.headers, timing.upstream_now))


def read_page(reply: Reply, known: RecordCache | None = None) -> ListAnswer:
    """One page of the list: the good rows count, the bad are counted. `known` remembers them from page to page."""
    timing = _timing(reply)
    if reply.code != 200:  # noqa: PLR2004 -- the one code that is good
        return _read_list_failure(reply, timing)
    try:
        envelope = _lists.decode(reply.body)
    except _UNREADABLE:
        return Unanswered(timing=timing, cause=FailureCause.GARBLED, why="the body is not a list of operations")
    pagination = {} if envelope.pagination is None else envelope.pagination
    token = pagination.get("next") if isinstance(pagination, dict) else False
    if token is not None and not (isinstance(token, str) and len(token) <= TOKEN_AT_MOST):
        # Not the end: what is on the pages behind it would never be seen.
        return Unanswered(timing=timing, cause=FailureCause.GARBLED, why="the token of the next page cannot be used")
    record_of = read_record if known is None else known.record
    rows = [record_of(bytes(raw)) for raw in envelope.operations]
    latest = _latest(timing)
    good = [
        row if (row.created_at or 0) <= latest and (row.updated_at or 0) <= latest else _without_future(row, latest)
        for row in rows
        if row is not None and row.id is not None
    ]
    return Page(
        timing=timing,
        records=tuple(good),
        garbled=len(rows) - len(good),
        next_token=token or None,
    )


def read_record(body: bytes) -> Record | None:
    """One operation from JSON, or None where it is not even an object."""
    try:
        row = _rows.decode(body)
        created_at, updated_at = _instant(row.created_at), _instant(row.updated_at)
    except _UNREADABLE:
        return _read_leniently(body)
    odd: tuple[str, ...] = () if row.stats is not None else ("stats_missing",)
    if row.status is None:
        odd = (*odd, "status_missing")
    return Record(
        id=row.id,
        word=_word(row.status),
        stats=row.stats,
        created_at=created_at,
        updated_at=updated_at,
        odd=odd,
    )


def read_retry_after(headers: Mapping[str, str], now: Instant) -> Micros | None:
    """`Retry-After` in microseconds from `now`, clamped to 0 … 15 min; None where it cannot be read.

    RFC 9110: seconds or an HTTP date.
    """
    text = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(text):
        return int(min(float(text), RETRY_AFTER_AT_MOST / SECOND) * SECOND)
    date = read_date(text)
    return None if date is None else min(max(date - now, 0), RETRY_AFTER_AT_MOST)


def read_date(text: str) -> Instant | None:
    """An HTTP date as an instant, None where it is none."""
    try:
        date = parsedate_to_datetime(text)
        return _instant(date)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def code_label(observation: Page | Observation, code: int | None) -> str:
    """The value of the label `code` for one attempt."""
    match observation:
        case Unanswered(cause=FailureCause.TIMEOUT | FailureCause.CONNECT | FailureCause.GARBLED as cause):
            return cause.value
        case _ if code in _SERVER_ERRORS:
            return "5xx"
        case _ if str(code) in CODES:
            return str(code)
        case _:
            return "other"


def _timing(reply: Reply) -> Timing:
    date = read_date(reply.headers.get("date", ""))
    if date is not None and abs(date - reply.answered.at) > 3650 * DAY:
        date = None
    return Timing(asked=reply.asked, answered=reply.answered, date=date)


def _read_failure(reply: Reply, timing: Timing) -> Negative | Unanswered:
    error = read_error(reply.body, reply.code)
    why = _why(reply, error)
    match reply.code:
        case 400:
            return Refused(timing=timing, why=why, is_upstreams=error.is_upstreams)
        case 403:
            return Forbidden(timing=timing, why=why)
        case 404:
            return Missing(timing=timing, why=why, is_upstreams=error.is_upstreams)
        case _:
            pass
    cause = _TROUBLES.get(reply.code, FailureCause.UPSTREAM if reply.code in _SERVER_ERRORS else FailureCause.OTHER)
    return Unanswered(
        timing=timing,
        cause=cause,
        why=why,
        retry_after=read_retry_after(reply.headers, timing.upstream_now),
    )


def _read_list_failure(reply: Reply, timing: Timing) -> Negative | Unanswered:
    """Where a list should be, a method that is not allowed (405) and what is gone (410) mean that there is none."""
    if reply.code in _NO_LIST:
        return Missing(timing=timing, why=_why(reply, read_error(reply.body, reply.code)))
    return _read_failure(reply, timing)


def _why(reply: Reply, error: ErrorBody) -> str:
    why = f"HTTP {reply.code}"
    if error.number is not None:
        why += f", error {error.number}"
    if request_id := reply.headers.get("twilio-request-id") or reply.headers.get("x-twilio-request-id"):
        why += f", request {shortened(request_id)}"
    return why


def _latest(timing: Timing) -> Instant:
    return max(timing.upstream_now, timing.answered.at) + AHEAD_AT_MOST


def _without_future(record: Record, latest: Instant) -> Record:
    created_at, updated_at = record.created_at, record.updated_at
    if (created_at or 0) <= latest and (updated_at or 0) <= latest:
        return record
    return msgspec.structs.replace(
        record,
        created_at=None if (created_at or 0) > latest else created_at,
        updated_at=None if (updated_at or 0) > latest else updated_at,
        odd=tuple(dict.fromkeys((*record.odd, "instant_garbled"))),
    )


def _read_leniently(body: bytes) -> Record | None:
    try:
        row = _anything.decode(body)
    except _UNREADABLE:
        return None
    if not isinstance(row, dict):
        return None
    odd: list[str] = []
    texts = {name: _text(row, name, odd) for name in ("id", "status")}
    if texts["status"] is None:
        odd.append("status_missing")
    return Record(
        id=texts["id"],
        word=_word(texts["status"]),
        stats=_stats(row.get("stats"), odd),
        created_at=_lenient_instant(row, "createdAt", odd),
        updated_at=_lenient_instant(row, "updatedAt", odd),
        odd=tuple(dict.fromkeys(odd)),
    )


def _text(row: Mapping[str, Any], name: str, odd: list[str]) -> str | None:
    value = row.get(name)
    if value is None or isinstance(value, str):
        return value
    odd.append(f"{name}_garbled")
    return None


def _word(status: str | None) -> str | None:
    """Status values are compared case-insensitively; what is shown of a foreign one is short and printable."""
    if status is None or status in _WORDS:
        return status
    word = status.strip()
    known = word.upper()
    # Other operation resources of Twilio write it so.
    known = Status.CANCELED.value if known == "CANCELLED" else known
    return known if known in _WORDS else shortened(word)


def _stats(value: object, odd: list[str]) -> Stats | None:
    if value is None:
        odd.append("stats_missing")
        return None
    if not isinstance(value, dict):
        odd.append("stats_garbled")
        return None
    counts: dict[str, int] = {}
    for name in STAT_NAMES:
        count = value.get(name)
        if isinstance(count, float) and count.is_integer():
            count = int(count)
        if isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= 2**53:
            counts[name] = count
        elif count is not None:
            odd.append("stats_garbled")
    return Stats(**counts)


def _lenient_instant(row: Mapping[str, Any], name: str, odd: list[str]) -> Instant | None:
    value = row.get(name)
    if value is None:
        return None
    try:
        return _instant(msgspec.convert(value, datetime))
    except _UNREADABLE:
        odd.append("instant_garbled")
        return None


def _says_nothing(record: Record) -> bool:
    """Whether an object has nothing of an operation: an error in a 200, or something else altogether.

    A word alone under `status` is no operation: the page of a proxy or of a health check has one, too.
    """
    return (
        record.stats is None
        and record.created_at is None
        and record.updated_at is None
        and (record.word is None or record.id is None)
    )


def _instant(date: datetime | None) -> Instant | None:
    """The date as an instant; raises ValueError for one before 1970 (a zero that was never set) or after 9999."""
    if date is None:
        return None
    since = (date if date.tzinfo else date.replace(tzinfo=UTC)) - _EPOCH
    instant = (since.days * 86_400 + since.seconds) * SECOND + since.microseconds
    if not 0 <= instant <= _LATEST:
        raise ValueError(f"{instant} is no instant of ours")
    return instant
