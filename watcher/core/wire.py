"""Decodes bytes and headers of upstream's answers into observations.

Decoding is lenient, row by row and field by field: what can be read counts, and what cannot is named in `odd`. The HTTP
status decides, never a code in the body. `error_bodies` says whether upstream wrote the body of an error. Nothing here
raises, whatever upstream sends. Source of the shapes: Twilio's reference for push-notification Operations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from watcher.core.channels import STAT_NAMES, Stats
from watcher.core.error_bodies import ErrorBody, read_error
from watcher.core.model import DAY, HOUR, MINUTE, SECOND, Instant, Micros, Status
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
"""All values of the label `code`."""

RETRY_AFTER_AT_MOST: Micros = 15 * MINUTE
"""A longer `Retry-After` counts as this, so that a wrong one does not stop an account for hours."""

AHEAD_AT_MOST: Micros = HOUR
"""An instant further ahead of both clocks, upstream's and ours, is dropped. If it were believed, every later
answer would count as stale, and the end would never be known."""

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
"""Upstream's status values, as they are nearly always written."""
_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Instant = 253_402_300_800 * SECOND - 1  # the end of the year 9999: what can be shown as RFC 3339
_UNREADABLE = (msgspec.DecodeError, RecursionError, ValueError, OverflowError)


class _OperationRow(msgspec.Struct, rename="camel", gc=False):
    """An operation exactly as documented. A row that does not fit is decoded again, field by field."""

    # The typed decoder fails as a whole: one bad count would cost the status of the row. So `_read_leniently` decodes
    # such a row again. Nearly every row fits, so this costs little.
    id: str | None = None
    status: str | None = None
    stats: Stats | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class _List(msgspec.Struct):
    """The envelope of a page, with undecoded rows, so that one bad row does not cost the others."""

    # Raw bytes also serve as the key of `RecordCache`: most rows are the same as in the last sweep.
    operations: list[msgspec.Raw]
    pagination: Any = None


_rows = msgspec.json.Decoder(_OperationRow)
_lists = msgspec.json.Decoder(_List)
_anything = msgspec.json.Decoder()


def read_fetch(reply: Reply, operation_id: str) -> Observation:
    """The observation from the answer to a fetch. An answer about another operation counts as no answer."""
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
    """One page of a list: its good rows, and the number of bad ones. `known` keeps decoded rows from page to page."""
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
        # This must not count as the end of the list: the pages behind it would never be read, and their operations
        # would count as absent.
        return Unanswered(timing=timing, cause=FailureCause.GARBLED, why="the token of the next page cannot be used")
    record_of = read_record if known is None else known.record
    rows = [record_of(bytes(raw)) for raw in envelope.operations]
    latest = _latest(timing)
    # Compared here and not when the row is decoded: a cached record is older than this page, and the limit moves.
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
    """One operation from JSON, or None if it is not an object."""
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
    """`Retry-After` in microseconds from `now`, limited to 0 … 15 min; None if it is not valid.

    RFC 9110: seconds or an HTTP date.
    """
    text = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(text):
        return int(min(float(text), RETRY_AFTER_AT_MOST / SECOND) * SECOND)
    date = read_date(text)
    return None if date is None else min(max(date - now, 0), RETRY_AFTER_AT_MOST)


def read_date(text: str) -> Instant | None:
    """An HTTP date as an instant, None if it is not valid."""
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
    # A `Date` ten years off, such as 1970, comes from a clock that was never set.
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
    """For a list, 405 (method not allowed) and 410 (gone) mean that there is no list at this address."""
    if reply.code in _NO_LIST:
        return Missing(timing=timing, why=_why(reply, read_error(reply.body, reply.code)))
    return _read_failure(reply, timing)


def _why(reply: Reply, error: ErrorBody) -> str:
    why = f"HTTP {reply.code}"
    if error.number is not None:
        why += f", error {error.number}"
    # With it, upstream can explain an answer. It comes from outside, so only printable ASCII may reach a log.
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
    """The status, compared case-insensitively. An unknown one is cut short and made printable."""
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
        # 12.0 is a count, too. A boolean is an integer in Python, but not a count. Beyond 2**53 a float is not exact.
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
    """Whether an object carries nothing of an operation: an error with status 200, or something else.

    A `status` alone is not an operation: the answer of a proxy or a health check has one, too.
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
