"""One process per store: an exclusive lock on a file beside it.

The kernel releases the lock when the process ends, however it ends. The lock file itself stays: if it were removed, two
processes could hold locks on two files of the same name. Where it was removed all the same, `is_in_place` is false.
SQLite's own locks are on the database and are not affected.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from watcher.core.errors import StoreRefused, StoreUnusable
from watcher.store.sqlite.identity import identity_of

if TYPE_CHECKING:
    from pathlib import Path


class Lock:
    """The lock on a store's lock file, with our process id in it, for the error message of a second process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        held = os.fstat(descriptor)
        self._identity = held.st_dev, held.st_ino

    @property
    def is_in_place(self) -> bool:
        """Whether the locked file still has its name; else another process could lock a new file. Raises OSError."""
        return identity_of(self._path) == self._identity

    @classmethod
    def take(cls, database: Path) -> Lock:
        """Take the database's lock.

        Raises StoreRefused when another process holds it, StoreUnusable when the file cannot be locked.
        """
        while True:
            lock = cls._take(database)
            try:
                if lock.is_in_place:
                    return lock
            except OSError as error:
                lock.release()
                raise _cannot_lock(database, error) from error
            lock.release()  # it was removed or replaced just before it was locked

    @classmethod
    def _take(cls, database: Path) -> Lock:
        path = database.with_name(f"{database.name}.lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _cannot_lock(database, error) from error
        lock = cls(path, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            lock.release()
            is_held = isinstance(error, BlockingIOError)
            raise _in_use(database, holder) if is_held else _cannot_lock(database, error) from error
        # The process id only helps people, so a full disk must not keep us from starting.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return lock

    def release(self) -> None:
        """Release the lock; to be called once."""
        os.close(self._descriptor)


def _in_use(database: Path, holder: str) -> StoreRefused:
    return StoreRefused(
        f"the store {database} is in use by another watcher (pid {holder}); "
        "stop that one, or give this one another storage.url"
    )


def _cannot_lock(database: Path, error: OSError) -> StoreUnusable:
    directory = database.parent
    match error:
        case FileNotFoundError():
            what = f"the store cannot be kept in {directory}: the directory does not exist"
        case PermissionError():
            what = f"the store cannot be kept in {directory}: the directory is not writable by user {os.geteuid()}"
        case _:
            what = f"the store {database} cannot be locked: {(error.strerror or str(error)).lower()}"
    return StoreUnusable(what)
