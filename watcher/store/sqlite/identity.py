"""Which files were opened. While the daemon runs, a path may come to lead to another file, or to no file.

A file is identified by its device and inode numbers. An inode number is not reused while the file is open.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

FileIdentity: TypeAlias = tuple[int, int]


def identity_of(path: Path) -> FileIdentity | None:
    """The file at this path now; None where there is no file. Raises OSError where that cannot be found out."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def hold(path: Path) -> int:
    """A descriptor that keeps the file's inode number from being reused. It can neither read nor write.

    Closing a descriptor that can would drop SQLite's locks on the file, because POSIX locks belong to the process.
    """
    return os.open(path, os.O_PATH | os.O_CLOEXEC)
