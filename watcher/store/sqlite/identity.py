"""Which files were opened: a name may come to mean another file, or none, while the daemon runs.

A device and an inode number say which. The number is not given away again while somebody holds the file.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

FileIdentity: TypeAlias = tuple[int, int]


def identity_of(path: Path) -> FileIdentity | None:
    """The file that has this name now; None where there is none. Raises OSError where that cannot be seen."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def hold(path: Path) -> int:
    """A descriptor that keeps the file's inode number taken; it can neither read nor write.

    Closing one that can would drop SQLite's locks on the file, which POSIX ties to the process.
    """
    return os.open(path, os.O_PATH | os.O_CLOEXEC)
