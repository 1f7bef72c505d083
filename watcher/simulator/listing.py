"""The list endpoint: parses queries, selects the rows of a page, and makes page tokens.

A token holds the position of the last row that was read, and is only valid with the same filters. It looks random, as
upstream's do: 35 to 83 characters of base64url without padding. No state is kept between pages, so rows that change
their status between two pages are missed or seen twice.
"""

import base64
import binascii
import hashlib
from collections.abc import Collection
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from watcher.simulator.faults import Struck
from watcher.simulator.ids import PREFIX
from watcher.simulator.life import Life, Record, Status, state
from watcher.simulator.timeline import LAST_ID, Place
from watcher.simulator.timestamps import NEVER, SECOND, parse_rfc3339
from watcher.simulator.world import World

DEFAULT_PAGE_SIZE = 50
LARGEST_PAGE_SIZE = 1_000

_SALT, _DIGEST, _INSTANT = 4, 6, 8
_SHORTEST = 26
"""Smallest size of a token in bytes; that is 35 characters."""

_STATUSES: dict[str, Status] = {
    "SCHEDULED": "SCHEDULED",
    "PROCESSING": "PROCESSING",
    "COMPLETED": "COMPLETED",
    "CANCELED": "CANCELED",
}


class BadQuery(Exception):  # noqa: N818 - the client's error, not the simulator's
    """A query that is answered 400; the text says why."""


class Query(NamedTuple):
    """A parsed query: created after and before (both exclusive), the status, and the position to start from."""

    account_id: str
    after: int
    before: int
    status: Status | None
    size: int
    token: str | None
    start: Place | None
    digest: str


class Page(NamedTuple):
    """The rows, and where the next page starts; `has_next` without `next_start` means from the beginning."""

    records: list[Record]
    has_next: bool
    next_start: Place | None


def parse_query(text: str, account_id: str) -> Query:
    """Return the query. Raises BadQuery."""
    given = {name: values[-1] for name, values in parse_qs(text).items()}
    after = _instant(given, "startDate", 0)
    before = _instant(given, "endDate", NEVER)
    if before <= after:
        raise BadQuery("endDate must be after startDate")
    written = given.get("status", "").upper()
    if written and written not in _STATUSES:
        raise BadQuery(f"unknown status {given['status']!r}")
    size = _size(given.get("pageSize"))
    filters = f"{account_id} {after} {before} {written} {size}"
    digest = hashlib.blake2s(filters.encode(), digest_size=6).hexdigest()
    token = given.get("pageToken")
    return Query(
        account_id=account_id,
        after=after,
        before=before,
        status=_STATUSES.get(written),
        size=size,
        token=token,
        start=_start(token, digest) if token is not None else None,
        digest=digest,
    )


def make_token(digest: str, start: Place | None, number: int) -> str:
    """Return a token for the filters of that digest; the number makes it unique."""
    salt = number.to_bytes(_SALT, "big")
    plain = bytes.fromhex(digest)
    if start is not None:
        created_at, operation_id = start
        plain += created_at.to_bytes(_INSTANT, "big", signed=True) + _short(operation_id).encode()
    plain = bytes([len(plain)]) + plain + bytes(max(number % 8, _SHORTEST - len(plain) - _SALT - 1))
    return base64.urlsafe_b64encode(salt + _hidden(salt, plain)).decode().rstrip("=")


def view(
    world: World, query: Query, struck: Struck, *, newest_first: bool, now: int, hidden: Collection[str] = ()
) -> Page:
    """Return the page of the query at `now`, changed by the faults, without the ids in `hidden`."""
    if struck.of("unfiltered") is not None:
        query = query._replace(after=0, before=NEVER, status=None)
    if struck.of("empty_page") is not None:
        return Page([], has_next=True, next_start=query.start)
    invisible, stale = struck.of("invisible"), struck.of("stale")
    then = now - stale.waits(5 * SECOND) if stale is not None else now
    visible = min(then, now - invisible.waits(5 * SECOND)) if invisible is not None else then
    after, before = (query.after, LAST_ID), min((query.before, ""), (visible, LAST_ID))
    if query.start is not None and newest_first:
        before = min(before, query.start)
    elif query.start is not None:
        after = max(after, query.start)
    # The index by status is only valid for now. For the past, the status of each life is computed.
    line = world.timeline(query.account_id, query.status if then == now else None)
    lives = line.between(after, before, newest_first=newest_first)
    if hidden:
        lives = (life for life in lives if life.id not in hidden)
    seen = ((life, state(life, then)) for life in lives)
    if then != now and query.status is not None:
        seen = (pair for pair in seen if pair[1].status == query.status)
    missed = struck.of("missed_rows")
    ahead = max(1, (missed.rows or 1) + 1) if missed is not None else 1
    return _cut_page(list(islice(seen, query.size + ahead)), query, struck)


def _cut_page(seen: list[tuple[Life, Record]], query: Query, struck: Struck) -> Page:
    size = query.size
    if (short := struck.of("short_page")) is not None:
        size = max(1, int(min(size, len(seen)) * short.shares(0.5)))
    shown = seen[:size]
    if len(seen) <= size:
        return Page([record for _, record in shown], has_next=False, next_start=None)
    last = size - 1
    if (missed := struck.of("missed_rows")) is not None:
        last = min(len(seen) - 1, last + (missed.rows or 1))
    if (repeated := struck.of("repeated_rows")) is not None:
        # At least one row must be new, or paging would never end.
        last = max(0, last - (repeated.rows or 1))
    life = seen[last][0]
    return Page([record for _, record in shown], has_next=True, next_start=(life.created_at, life.id))


def _instant(given: dict[str, Any], name: str, default: int) -> int:
    if name not in given:
        return default
    try:
        return parse_rfc3339(given[name])
    except ValueError as error:
        raise BadQuery(f"{name} is not an RFC 3339 timestamp") from error


def _size(written: str | None) -> int:
    if written is None:
        return DEFAULT_PAGE_SIZE
    if not written.isascii() or not written.isdigit() or not 1 <= int(written) <= LARGEST_PAGE_SIZE:
        raise BadQuery(f"pageSize must be from 1 to {LARGEST_PAGE_SIZE}")
    return int(written)


def _start(token: str, digest: str) -> Place | None:
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        whole = base64.b64decode(padded, altchars=b"-_", validate=True)
        if len(whole) < _SHORTEST:
            raise BadQuery("invalid pageToken")
        plain = _hidden(whole[:_SALT], whole[_SALT:])
        plain = plain[1 : 1 + plain[0]]
        place = plain[_DIGEST:]
        start = (int.from_bytes(place[:_INSTANT], "big", signed=True), place[_INSTANT:].decode()) if place else None
    except (UnicodeError, binascii.Error, IndexError) as error:
        raise BadQuery("invalid pageToken") from error
    if plain[:_DIGEST].hex() != digest:
        raise BadQuery("pageToken belongs to other filters")
    return None if start is None else (start[0], _long(start[1]))


def _short(operation_id: str) -> str:
    """Return the id without its common prefix, so that a token is no longer than upstream's."""
    return operation_id.removeprefix(PREFIX) if operation_id.startswith(PREFIX) else f"={operation_id}"


def _long(text: str) -> str:
    return text[1:] if text.startswith("=") else PREFIX + text


def _hidden(salt: bytes, text: bytes) -> bytes:
    """Return the bytes XORed with noise derived from the salt; a second call with the same salt restores them."""
    noise = hashlib.shake_128(salt).digest(len(text))
    return bytes(one ^ other for one, other in zip(text, noise, strict=True))
