"""The two HTTP listeners of a running daemon, and the values that their handlers read.

The web configuration file and the admin token are read again while it runs. Where one of them cannot be read, the last
value stays in force.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence

from watcher import __version__
from watcher.config import LoadedConfiguration, Secret, SecretError
from watcher.daemon.account_loops import AccountLoops
from watcher.daemon.process_context import ProcessContext
from watcher.intake import Intake
from watcher.metrics import Exposition
from watcher.server import AccessRules, AppContext, Listener, WebConfig, WebFileWatch, admin_app, web_app
from watcher.store import Store
from watcher.threads import NoThreadError

TOKEN_SECONDS = 1.0
"""How long a request waits for the token to be read again. After that, the token that was read last is compared."""


class HttpListeners:
    """The listeners `web` and `admin`. `loaded` returns the configuration that is in force.

    `rejected` is called with what is wrong with the web configuration file, `reloaded` with its path after it was read
    again.
    """

    def __init__(
        self,
        base: ProcessContext,
        loaded: Callable[[], LoadedConfiguration],
        *,
        rejected: Callable[[Sequence[str]], None],
        reloaded: Callable[[str], None],
    ) -> None:
        self._base = base
        self._loaded = loaded
        self._web = WebConfig(loaded().configuration.web.config_file, loaded().web)
        self._web_file = WebFileWatch(self._web, rejected=rejected, reloaded=reloaded, threads=base.files)
        self._listeners: dict[str, Listener] = {}
        self._token = Secret("")

    @property
    def addresses(self) -> Mapping[str, Sequence[str]]:
        """The URLs at which `web` and `admin` listen."""
        return {name: listener.addresses for name, listener in self._listeners.items()}

    def bind(
        self,
        *,
        loops: AccountLoops,
        store: Store,
        intake: Intake,
        exposition: Exposition,
        reload: Callable[[], Awaitable[Sequence[str]]],
    ) -> None:
        """Bind both addresses. Raises OperatorError where one cannot be bound, or the admin token cannot be read."""
        loaded = self._loaded()
        if loaded.admin_token is not None:
            self._token = loaded.admin_token.read()
        app = AppContext(
            accounts=lambda: self._loaded().configuration.account_names,
            snapshots=loops.snapshots,
            store=store,
            intake=intake,
            metrics=exposition.render,
            scraped=loops.scraped,
            reload=reload,
            healthy=loops.overdue,
            next_poll=loops.next_poll,
            metric_labels=lambda: self._loaded().configuration.metrics.labels,
            now=self._base.clock.now,
            failed=lambda error: self._base.log.about_itself.error("request.failed", exc_info=error),
            version=__version__,
        )
        web, admin, addresses = loaded.configuration.web, loaded.configuration.admin, self._base.addresses
        rules = AccessRules(
            is_unix=admin.listen.startswith("unix:"),
            allowed_hosts=lambda: self._loaded().configuration.admin.allowed_hosts,
            token=self._admin_token,
            refresh=self._refresh_token,
        )
        self._listeners["web"] = addresses.listener(
            web.listen, web_app(app, self._web), setting="web.listen", tls=lambda: self._web.tls
        )
        self._listeners["admin"] = addresses.listener(admin.listen, admin_app(app, rules), setting="admin.listen")
        addresses.keep(web.listen, admin.listen)

    def unbind(self) -> None:
        """Release the addresses of listeners that never served."""
        for listener in self._listeners.values():
            listener.close()

    def adopt(self, loaded: LoadedConfiguration) -> None:
        """Use another web configuration file, or the new content of the same one."""
        self._web.adopt(loaded.configuration.web.config_file, loaded.web)

    def serve(self, tasks: asyncio.TaskGroup) -> Sequence[asyncio.Task[None]]:
        """Start a task for each listener, which ends after `stop`."""
        return [tasks.create_task(listener.serve(), name=name) for name, listener in self._listeners.items()]

    def watch_web_file(self, tasks: asyncio.TaskGroup) -> asyncio.Task[None]:
        """Start the task that reads the web configuration file when it changed, until it is cancelled."""
        return tasks.create_task(self._web_file.run(), name="web file")

    def stop(self) -> None:
        """Accept no more requests; those in progress are answered."""
        for listener in self._listeners.values():
            listener.stop()

    def _admin_token(self) -> str | None:
        return None if self._loaded().admin_token is None else self._token.reveal()

    async def _refresh_token(self) -> None:
        """Read the token again, in a thread, as its file may be on a mount that hangs.

        Where the file is empty or has vanished, the old value stays in force, so that no request is let in without one.
        """
        source = self._loaded().admin_token
        if source is None:
            return
        with contextlib.suppress(SecretError, TimeoutError, NoThreadError):
            async with asyncio.timeout(TOKEN_SECONDS):
                self._token = await self._base.secrets.share(source, source.read)
