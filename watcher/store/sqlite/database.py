"""The connection to the file: opens and checks it, reopens it after failures, and translates its errors.

Opening raises StoreRefused for a file that is not ours, and checks it before anything is written. Once open, every
failure is StoreUnusable: the transaction was rolled back, and the next call tries again, with a new connection where
the old one may be stale. Before each write it is checked that the files are still those that were opened. What is
written to a deleted file is lost when the process ends, and with a second process that writes, no counter is exact.
Everything here runs in the store's thread.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

import msgspec

from watcher.core.errors import StoreRefused, StoreUnusable
from watcher.core.model import Value
from watcher.store.sqlite.identity import FileIdentity, hold, identity_of
from watcher.store.sqlite.lock import Lock
from watcher.store.sqlite.migrations import APPLICATION_ID, migrate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta
    from pathlib import Path

Answer = TypeVar("Answer")

_MAGIC = b"SQLite format 3\0"
_CHECKED_UP_TO_BYTES = 64 << 20
"""Larger files are not checked as a whole at the start. Damage in them is found when a statement reads it."""

_OLDEST_LIBRARY = (3, 37, 0)  # STRICT tables

_SETTINGS = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA journal_size_limit = 8388608;
PRAGMA trusted_schema = OFF;
"""  # auto_vacuum comes first: it takes effect only while the file is empty, and WAL writes the first page

_DAMAGED = "stop the watcher, then put back a copy or move the file away to start with an empty store"
_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_BUSY: "another program keeps it locked",
    sqlite3.SQLITE_CORRUPT: f"it is damaged; {_DAMAGED}",
    sqlite3.SQLITE_NOTADB: f"it is damaged; {_DAMAGED}",
    sqlite3.SQLITE_IOERR: "the disk does not read or write it",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
}
_PASSING = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
"""Conditions that do not affect the connection, so it is kept for the next call."""


class Database:
    """One SQLite file, held by this process alone from `open` to `close`."""

    def __init__(self, path: Path, *, steps: Sequence[str], patience: timedelta) -> None:
        self.path = path.resolve()  # two names of one file share one lock
        self._log = self.path.with_name(f"{self.path.name}-wal")
        self._steps = steps
        self._patience_seconds = patience.total_seconds()
        self._shared = self.path.with_name(f"{self.path.name}-shm")
        self._lock: Lock | None = None
        self._held: int | None = None
        self._opened: _Opened | None = None
        self._lost: str | None = None
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Lock the file, check it, then open it for writing and bring the schema up to date.

        Raises StoreRefused or StoreUnusable; the lock and the file are released then.
        """
        check_library(sqlite3.sqlite_version_info)
        try:
            self._lock = Lock.take(self.path)
            self._connection = self._connect()
        except BaseException:
            self.close()
            raise

    def read(self, work: Callable[[sqlite3.Connection], Answer]) -> Answer:
        """The result of the work. No other connection writes, so several statements see the same state."""
        return self._attempt(work)

    def write(self, work: Callable[[sqlite3.Connection], Answer]) -> Answer:
        """The result of the work, which is done in one transaction and durable, or not at all."""
        self._keep_files()

        def whole(connection: sqlite3.Connection) -> Answer:
            connection.execute("BEGIN IMMEDIATE")
            answer = work(connection)
            connection.execute("COMMIT")
            return answer

        return self._attempt(whole)

    def touch(self) -> None:
        """Write the first page unchanged. An empty transaction would write nothing and succeed on a full disk."""
        self.write(lambda connection: connection.execute(f"PRAGMA user_version = {len(self._steps)}"))

    def size_bytes(self) -> int:
        """The size of the file and its log. Raises StoreUnusable where the file is not in its place."""
        self._require_database()
        sizes = []
        for path in (self.path, self._log):
            with contextlib.suppress(OSError):
                sizes.append(path.stat().st_size)
        return sum(sizes)

    def close(self) -> None:
        """Close the connection and release the lock. Calling it again does nothing."""
        self._disconnect()
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _attempt(self, work: Callable[[sqlite3.Connection], Answer]) -> Answer:
        connection = self._connection or self._reconnect()
        try:
            return work(connection)
        except sqlite3.Error as error:
            if not _is_trouble(error):
                raise
            if _kind(error) not in _PASSING:
                self._disconnect()
            raise self._unusable(error) from error
        finally:
            self._roll_back()  # a statement or COMMIT that failed may leave the transaction open

    def _roll_back(self) -> None:
        if self._connection is not None and self._connection.in_transaction:
            try:
                self._connection.rollback()
            except sqlite3.Error:
                self._disconnect()

    def _reconnect(self) -> sqlite3.Connection:
        try:
            # Where the file has vanished, connecting would create an empty one without any message: counters would
            # start at 0, and ends would be published again.
            self._require_database()
            self._connection = self._connect()
        except StoreRefused as refusal:
            raise StoreUnusable(str(refusal)) from refusal
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            # Commits are in the log already, where the next process that opens the database finds them. Where the
            # database was moved, SQLite leaves the log of the old name alone: it may belong to another database.
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    # ── the files that were opened ────────────────────────────────────────────────────────────────────────────────────

    def _keep_files(self) -> None:
        """Make sure that the next process finds what is written now. Raises StoreUnusable."""
        self._require_database()
        self._keep_lock()
        opened, connection = self._opened, self._connection
        if opened is None or connection is None:
            return
        if self._is_in_place(self._log, opened.log) and self._is_in_place(self._shared, opened.shared):
            return
        # The log was deleted but is still open, or other processes use another index file of it. So what it contains is
        # written into the database, and a new connection opens the files that are there now.
        self._attempt(_write_back)
        self._disconnect()

    def _require_database(self) -> None:
        """Raise StoreUnusable unless the path still leads to the file that was opened."""
        if self._lost is not None:
            raise StoreUnusable(self._lost)
        opened = self._opened
        if opened is None:
            return
        try:
            found = identity_of(self.path)
        except OSError as error:
            raise self._unusable(error) from error
        if found is None:
            self._opened = msgspec.structs.replace(opened, was_away=True)
            raise self._misplaced("the file is gone; put it back, or restart the watcher to start with an empty store")
        if found != opened.database:
            self._opened = msgspec.structs.replace(opened, was_away=True)
            raise self._misplaced(
                "another file is in its place; put back the one that was there, or restart the watcher to use this one"
            )
        if opened.was_away:
            self._take_back(opened)

    def _take_back(self, opened: _Opened) -> None:
        """Continue with the file that is back in its place, unless another process wrote to it meanwhile."""
        self._require_own_writes(opened, "while it was away")
        self._opened = msgspec.structs.replace(opened, was_away=False)

    def _keep_lock(self) -> None:
        """Take the lock again where the lock file was removed.

        Raises StoreUnusable; until a restart where another process has taken it meanwhile.
        """
        try:
            if self._lock is None or self._lock.is_in_place:
                return
            taken = Lock.take(self.path)
        except OSError as error:
            raise self._unusable(error) from error
        except StoreRefused as refusal:
            self._lost = str(self._misplaced("its lock file was removed, and another watcher has taken the store over"))
            raise StoreUnusable(self._lost) from refusal
        self._lock.release()
        self._lock = taken
        if self._opened is not None:
            self._require_own_writes(self._opened, "while its lock file was missing")

    def _require_own_writes(self, opened: _Opened, meanwhile: str) -> None:
        """Raise StoreUnusable, until a restart, where another connection has committed: our memory is out of date."""
        if self._connection is None or self._attempt(_data_version) == opened.data_version:
            return
        self._lost = str(self._misplaced(f"another program wrote to it {meanwhile}; restart the watcher"))
        raise StoreUnusable(self._lost)

    def _is_in_place(self, path: Path, opened: FileIdentity | None) -> bool:
        with contextlib.suppress(OSError):
            return identity_of(path) == opened
        return False

    def _misplaced(self, what: str) -> StoreUnusable:
        return StoreUnusable(f"the store {self.path} cannot be used: {what}")

    def _note_opened(self, connection: sqlite3.Connection) -> None:
        if self._held is None:
            self._held = hold(self.path)
        held = os.fstat(self._held)
        self._opened = _Opened(
            database=(held.st_dev, held.st_ino),
            log=identity_of(self._log),
            shared=identity_of(self._shared),
            data_version=_data_version(connection),
        )

    # ── opening ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _connect(self) -> sqlite3.Connection:
        connection = None
        try:
            self._examine()
            connection = sqlite3.connect(self.path, timeout=self._patience_seconds, isolation_level=None)
            connection.executescript(_SETTINGS)
            migrate(connection, self._steps)
            self._note_opened(connection)
        except (OSError, sqlite3.Error) as error:
            if connection is not None:
                connection.close()
            raise self._unusable(error) from error
        return connection

    def _examine(self) -> None:
        """Check the file without writing. Raises StoreRefused for a file that is not ours, or damaged."""
        if not self.path.exists() or self.path.stat().st_size == 0:
            return  # nothing to check: SQLite deletes a log that has no database
        with self.path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise StoreRefused(f"{self.path} is not an SQLite database, or damaged; {_DAMAGED}")
        try:
            with contextlib.closing(self._open_read_only()) as connection:
                self._recognise(connection)
                if self.path.stat().st_size <= _CHECKED_UP_TO_BYTES:
                    _check(connection)
        except sqlite3.DatabaseError as error:
            if _kind(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
                raise StoreRefused(f"the store {self.path} is damaged ({error}); {_DAMAGED}") from error
            raise

    def _open_read_only(self) -> sqlite3.Connection:
        # Without a log the file is complete, and opened as immutable it is read without creating files beside it.
        mode = "mode=ro" if self._log.exists() and self._log.stat().st_size else "mode=ro&immutable=1"
        return sqlite3.connect(f"file:{quote(str(self.path))}?{mode}", timeout=self._patience_seconds, uri=True)

    def _recognise(self, connection: sqlite3.Connection) -> None:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if application != APPLICATION_ID and (tables or application or version):
            raise StoreRefused(
                f"{self.path} is an SQLite database of another program; give the watcher another storage.url"
            )
        if version > len(self._steps):
            raise StoreRefused(
                f"the store {self.path} was written by a newer watcher (schema {version}, this one knows up to "
                f"{len(self._steps)}); run that version or give this one another storage.url; nothing was changed"
            )

    def _unusable(self, error: OSError | sqlite3.Error) -> StoreUnusable:
        if isinstance(error, OSError):
            return StoreUnusable(f"the store {self.path} cannot be used: {(error.strerror or str(error)).lower()}")
        reason = _REASONS.get(_kind(error), "it does not work")
        return StoreUnusable(f"the store {self.path} cannot be used: {reason} ({str(error).lower()})")


class _Opened(Value, frozen=True, kw_only=True):
    """The files as they were opened. `was_away`: the database was not in its place at the last check."""

    database: FileIdentity
    log: FileIdentity | None
    shared: FileIdentity | None
    data_version: int
    was_away: bool = False


def _write_back(connection: sqlite3.Connection) -> None:
    """Write the content of the log into the database. It works on the open files, also where they have no name."""
    ((is_busy, _, _),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    if is_busy:
        error = sqlite3.OperationalError("its log was removed and cannot be written back")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise error


def _data_version(connection: sqlite3.Connection) -> int:
    """A number that changes when another connection commits."""
    ((version,),) = connection.execute("PRAGMA data_version").fetchall()
    return int(version)


def check_library(version: tuple[int, ...]) -> None:
    """Raise StoreRefused where the SQLite that Python came with is too old for the schema."""
    if version < _OLDEST_LIBRARY:
        needed, given = (".".join(map(str, numbers)) for numbers in (_OLDEST_LIBRARY, version))
        raise StoreRefused(f"the store needs SQLite {needed} or newer, but this Python has {given}")


def _check(connection: sqlite3.Connection) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise damage(verdict.splitlines()[0])


def damage(what: str) -> sqlite3.DatabaseError:
    """An error like SQLite's own for a damaged file."""
    error = sqlite3.DatabaseError(what)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _kind(error: sqlite3.Error) -> int:
    """The primary result code; the higher bits only refine it."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _is_trouble(error: sqlite3.Error) -> bool:
    """Whether the file or the disk caused it. Broken constraints and wrong use are faults of ours and are raised."""
    return type(error) in {sqlite3.OperationalError, sqlite3.DatabaseError}
