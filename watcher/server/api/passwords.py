"""Basic auth of the web listener: passwords against bcrypt hashes, off the event loop.

A bcrypt check takes a tenth of a second by design. So only one check runs at a time, in a thread, and only a few may
wait; further requests are answered 503. A password that was right is remembered as a keyed digest, so that not every
scrape needs a check. An unknown user costs as much time as a known one.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from functools import partial

import bcrypt
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from watcher.server.api.guard import OPEN_PATHS
from watcher.server.problems import answer, problem
from watcher.server.webconfig import WebConfig
from watcher.threads import NoThreadError, Threads

MOST_WAITING = 8
"""The largest number of checks that may wait or run."""

_TAKEN_BY_BCRYPT = 72  # bytes; bcrypt ignores the rest, and libraries that create hashes refuse or cut longer passwords
_NOBODYS_HASH = "$2b${cost:02d}$" + "." * 53
_DEFAULT_COST = 10
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="operation-watcher", charset="UTF-8"'}
_RETRY = {"Retry-After": "1"}


class TooManyError(Exception):
    """Too many checks are waiting already."""


class Passwords:
    """Checks passwords and remembers the right ones."""

    def __init__(self) -> None:
        # The digests are useless outside of this process.
        self._key = secrets.token_bytes(32)
        self._right: dict[bytes, tuple[bytes, bytes]] = {}
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._threads = Threads("passwords")

    async def is_right(self, users: Mapping[bytes, bytes], user: bytes, password: bytes) -> bool:
        """Whether the user has that password. Raises `TooManyError`, `NoThreadError`."""
        stored = users.get(user)
        digest = hmac.digest(self._key, password, hashlib.sha256)
        if stored is not None and self._knows(user, stored, digest):
            return True
        if self._waiting >= MOST_WAITING:
            raise TooManyError
        self._waiting += 1
        try:
            async with self._turn:
                if stored is not None and self._knows(user, stored, digest):
                    return True
                is_right = await self._threads.run(partial(_check, password, stored or _nobodys_hash(users)))
        finally:
            self._waiting -= 1
        if stored is None or not is_right:
            return False
        self._right = {name: known for name, known in self._right.items() if name in users}
        self._right[user] = (stored, digest)
        return True

    def _knows(self, user: bytes, stored: bytes, digest: bytes) -> bool:
        known = self._right.get(user)
        return known is not None and known[0] == stored and hmac.compare_digest(known[1], digest)


class BasicAuth:
    """Passes on requests with a right password. Health and readiness need no password."""

    def __init__(self, app: ASGIApp, config: WebConfig) -> None:
        self._app = app
        self._config = config
        self._passwords = Passwords()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request or pass it on."""
        if scope["path"] in OPEN_PATHS or not self._config.needs_password:
            await self._app(scope, receive, send)
            return
        user, password = credentials(Headers(scope=scope).get("authorization", ""))
        try:
            is_right = user is not None and await self._passwords.is_right(self._config.users, user, password)
        except (TooManyError, NoThreadError) as exc:
            reason = "too many passwords are being checked" if isinstance(exc, TooManyError) else exc.strerror
            busy = problem(503, f"{reason}; try again", name="busy")
            await answer(busy, _RETRY)(scope, receive, send)
            return
        if is_right:
            await self._app(scope, receive, send)
        else:
            wanted = problem(401, "user and password are required: Authorization: Basic …", name="password")
            await answer(wanted, _CHALLENGE)(scope, receive, send)


def credentials(authorization: str) -> tuple[bytes | None, bytes]:
    """Return user and password of an Authorization header; the user is None if it is not valid Basic auth."""
    scheme, _, given = authorization.partition(" ")
    try:
        text = base64.b64decode(given.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None, b""
    user, colon, password = text.partition(b":")
    return (user, password) if scheme.lower() == "basic" and colon else (None, b"")


def _nobodys_hash(users: Mapping[bytes, bytes]) -> bytes:
    """Return a hash that no password matches, with the highest cost of the users' hashes."""
    cost = max((int(stored[4:6]) for stored in users.values()), default=_DEFAULT_COST)
    return _NOBODYS_HASH.format(cost=cost).encode()


def _check(password: bytes, stored: bytes) -> bool:
    try:
        return bcrypt.checkpw(password[:_TAKEN_BY_BCRYPT], stored)
    except ValueError:  # a NUL byte in the password, or an invalid hash
        return False
