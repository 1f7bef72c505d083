"""The web configuration in force: TLS, headers and users of the web listener, read again when the file changes.

A change of the file, the certificate or its key takes effect without a reload, once two checks in a row find the same:
half of a file may be good YAML without a password. A bad file changes nothing: the old configuration stays in force.
It is reported when a further check still finds it bad, since certificate and key may be replaced one after the other.
If no good file was ever read, every request is rejected.

A file that protects less than before is bad too: an empty file, or one that is being replaced, must not open the
listener. Only a reload or a restart, which are deliberate, can remove protection.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from watcher.config import ConfigurationError, WebFile, read_web_file
from watcher.config.tls import Tls
from watcher.threads import NoThreadError, Threads

CHECK_EVERY_SECONDS = 1.0
READ_SECONDS = 10.0
"""Time limit for reading. A mount that hangs is reported like a file that cannot be read."""

_Prints = Sequence[tuple[int, ...] | None]


class WebConfig:
    """What the web listener reads at each connection and request. `file` None: neither TLS nor users."""

    def __init__(self, path: str | None = None, file: WebFile | None = None) -> None:
        self._path = path
        self._file = file or WebFile()
        self.is_closed = path is not None and file is None
        """Whether every request is rejected, since a file is configured and could not be read."""

    @property
    def path(self) -> str | None:
        """The path of the file; None if none is configured."""
        return self._path

    @property
    def tls(self) -> Tls | None:
        """TLS of new connections; None: plain HTTP."""
        return self._file.tls

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that every answer gets, in addition to the watcher's own or replacing them."""
        return self._file.headers

    @property
    def users(self) -> Mapping[bytes, bytes]:
        """The bcrypt hash of each user."""
        return self._file.users

    @property
    def files(self) -> Sequence[str]:
        """The files to check for changes."""
        return self._file.files

    @property
    def needs_password(self) -> bool:
        """Whether requests need a password."""
        return self.is_closed or bool(self._file.users)

    def adopt(self, path: str | None, file: WebFile | None) -> None:
        """Put another configuration in force."""
        self._path = path
        self._file = file or WebFile()
        self.is_closed = False


class WebFileWatch:
    """Checks the file for changes. Calls `rejected` once with the same reasons, `reloaded` with a good file's path."""

    def __init__(
        self,
        config: WebConfig,
        *,
        rejected: Callable[[Sequence[str]], None],
        reloaded: Callable[[str], None],
        threads: Threads | None = None,
    ) -> None:
        self._threads = threads or Threads("files")
        self._config = config
        self._rejected = rejected
        self._reloaded = reloaded
        self._known: tuple[str, _Prints] | None = None
        self._seen: tuple[str, _Prints] | None = None
        self._reasons: Sequence[str] = ()
        self._reported: Sequence[str] = ()

    async def run(self) -> None:
        """Check every second until cancelled."""
        while True:
            await self.check()
            await asyncio.sleep(CHECK_EVERY_SECONDS)

    async def check(self) -> None:
        """Put a changed file in force, if it is good."""
        path = self._config.path
        if path is None:
            return
        try:
            async with asyncio.timeout(READ_SECONDS):
                await self._check(path)
        except TimeoutError:
            self._reject([f"{path}: not read within {READ_SECONDS:g} s; does its mount answer?"])
        except NoThreadError as exc:
            self._reject([f"{path}: {exc.strerror}"])

    async def _check(self, path: str) -> None:
        prints = await self._prints()
        is_first = self._known is None or self._known[0] != path
        if not self._reasons and self._known == (path, prints):
            return
        if not is_first and self._seen != (path, prints):
            self._seen = path, prints
            return
        try:
            found = await self._threads.share(("web file", path), partial(read_web_file, path))
        except ConfigurationError as exc:
            self._reject([str(problem) for problem in exc.problems])
            return
        if self._config.path != path:
            return  # a reload came in between
        if await self._prints() != prints:
            return  # the file is being written
        if removed := _removed(self._config, found):
            self._reject([f"{path}: {what}; the listener stays protected until a reload" for what in removed])
            return
        self._config.adopt(path, found)
        # If the new file names other files than before, the next check reads it once more.
        self._known = (path, prints)
        self._reasons = ()
        if self._reported or not is_first:
            self._reported = ()
            self._reloaded(path)

    async def _prints(self) -> _Prints:
        # In a thread, as the files may be on a slow disk.
        files = tuple(self._config.files)
        return await self._threads.share(files, partial(_prints, files))

    def _reject(self, reasons: Sequence[str]) -> None:
        is_second = list(self._reasons) == list(reasons)
        self._reasons = reasons
        if is_second and self._reported != reasons:
            self._reported = reasons
            self._rejected(reasons)


def _removed(old: WebConfig, new: WebFile) -> Sequence[str]:
    """Return which protection the new file would remove, as reasons to reject it."""
    removed = []
    if old.users and not new.users:
        removed.append("basic_auth_users is empty or gone")
    if old.tls is not None and new.tls is None:
        removed.append("tls_server_config is empty or gone")
    if old.tls is not None and new.tls is not None and _is_weaker(old.tls, new.tls):
        removed.append("client certificates are no longer required as before")
    return removed


def _is_weaker(old: Tls, new: Tls) -> bool:
    """Whether client certificates were required before and are not any more, or need no name any more."""
    required = old.context.verify_mode is ssl.CERT_REQUIRED
    return required and (
        new.context.verify_mode is not ssl.CERT_REQUIRED or (bool(old.allowed_sans) and not new.allowed_sans)
    )


def _prints(files: Sequence[str]) -> _Prints:
    """Return values that change when a file does, also when a symlink in its path is swapped."""
    return [_print(file) for file in files]


def _print(file: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(file)  # noqa: PTH116 -- all of it in one call
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
