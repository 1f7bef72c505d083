"""The web configuration that is in force: TLS, headers and users of the web listener, read again when the file changes.

A change of the file, of the certificate or its key is taken up by itself, once two looks in a row find the same: half
of a file may be good YAML and ask for no password. What is bad changes nothing: the old one stays in force. It is told
when a further look still finds it bad, since certificate and key may be replaced one after the other. Where nothing
good was ever read, nobody is let in.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence

from watcher.config import ConfigurationError, WebFile, read_web_file
from watcher.config.tls import Tls

LOOK_EVERY_SECONDS = 1.0

_Prints = Sequence[tuple[int, ...] | None]


class WebConfig:
    """What the web listener asks at each connection and request. `file` None: neither TLS nor users."""

    def __init__(self, path: str | None = None, file: WebFile | None = None) -> None:
        self._path = path
        self._file = file or WebFile()
        self.is_closed = path is not None and file is None
        """Whether nobody is let in, since a file was wanted and none could be read."""

    @property
    def path(self) -> str | None:
        """Where the file is; None where there is none."""
        return self._path

    @property
    def tls(self) -> Tls | None:
        """How to shake hands with whoever connects now; None: plain HTTP."""
        return self._file.tls

    @property
    def headers(self) -> Mapping[str, str]:
        """What every answer carries besides our own headers, or in their place."""
        return self._file.headers

    @property
    def users(self) -> Mapping[bytes, bytes]:
        """The bcrypt hash of each user."""
        return self._file.users

    @property
    def files(self) -> Sequence[str]:
        """What is to be looked at."""
        return self._file.files

    @property
    def asks_for_password(self) -> bool:
        """Whether requests need one."""
        return self.is_closed or bool(self._file.users)

    def adopt(self, path: str | None, file: WebFile | None) -> None:
        """Put another in force."""
        self._path = path
        self._file = file or WebFile()
        self.is_closed = False


class WebFileWatch:
    """Looks whether the file has changed. `rejected` hears the reasons, once for each; `reloaded` of a good one."""

    def __init__(
        self,
        config: WebConfig,
        *,
        rejected: Callable[[Sequence[str]], None],
        reloaded: Callable[[str], None],
    ) -> None:
        self._config = config
        self._rejected = rejected
        self._reloaded = reloaded
        self._known: tuple[str, _Prints] | None = None
        self._seen: tuple[str, _Prints] | None = None
        self._reasons: Sequence[str] = ()
        self._told: Sequence[str] = ()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def look(self) -> None:
        """Take up what has changed."""
        path = self._config.path
        if path is None:
            return
        # In a thread, as the files may be on a slow disk.
        prints = await asyncio.to_thread(_prints, self._config.files)
        is_first = self._known is None or self._known[0] != path
        if not self._reasons and self._known == (path, prints):
            return
        if not is_first and self._seen != (path, prints):
            self._seen = path, prints
            return
        try:
            found = await asyncio.to_thread(read_web_file, path)
        except ConfigurationError as exc:
            self._reject([str(problem) for problem in exc.problems])
            return
        if self._config.path != path:
            return  # a reload came in between
        if await asyncio.to_thread(_prints, self._config.files) != prints:
            return  # somebody writes just now
        self._config.adopt(path, found)
        # Of other files than before if the new one names others; then the next look reads once more.
        self._known = (path, prints)
        self._reasons = ()
        if self._told or not is_first:
            self._told = ()
            self._reloaded(path)

    def _reject(self, reasons: Sequence[str]) -> None:
        is_second = list(self._reasons) == list(reasons)
        self._reasons = reasons
        if is_second and self._told != reasons:
            self._told = reasons
            self._rejected(reasons)


def _prints(files: Sequence[str]) -> _Prints:
    """What changes when a file does, also when a symlink on its way is swapped."""
    return [_print(file) for file in files]


def _print(file: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(file)  # noqa: PTH116 -- all of it in one call
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
