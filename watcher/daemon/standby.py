"""Standby: the listeners of a daemon with `--stay` that cannot start.

In the pod of an app, a watcher that ends would make the whole pod unhealthy. So the listeners are open, healthy and
ready answer 200, and nothing is tracked, while the metrics and one event say what is wrong. Registrations are refused
as a temporary failure, so that no client takes them for stored. The web configuration file is honoured here, too. Where
it cannot be read, everything but healthy and ready is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from watcher import __version__
from watcher.config import ConfigurationError, read_web_file
from watcher.core.errors import OperatorError, StoreUnusable, WatcherError
from watcher.core.model import Operation
from watcher.core.settings import Configuration
from watcher.daemon.process_context import ProcessContext
from watcher.intake import Intake
from watcher.metrics import Exposition
from watcher.server import AccessRules, AppContext, Listener, WebConfig, admin_app, web_app
from watcher.store import Registration
from watcher.store.memory import MemoryStore


class Standby:
    """The reason for the standby, as of the last attempt to start. A request to reload sets `again`."""

    def __init__(self, trouble: WatcherError, *, again: asyncio.Event) -> None:
        self.trouble = trouble
        self.again = again

    async def reload(self) -> Sequence[str]:
        """Try to start again soon. Returns the present reasons."""
        self.again.set()
        return [str(self.trouble)]


@contextlib.asynccontextmanager
async def standing_by(base: ProcessContext, configuration: Configuration, standby: Standby) -> AsyncIterator[None]:
    """Listen while the context lasts."""
    store = MemoryStore()

    app = AppContext(
        accounts=lambda: (),
        snapshots=lambda: (),
        store=store,
        intake=_ClosedIntake(store, standby),
        metrics=Exposition(base.instruments.registry, lambda: (), base.scrapes).render,
        scraped=lambda _: None,
        reload=standby.reload,
        healthy=lambda: (),
        next_poll=lambda _, __: None,
        metric_labels=lambda: (),
        now=base.clock.now,
        failed=lambda error: base.log.about_itself.error("request.failed", exc_info=error),
        version=__version__,
    )
    admin = configuration.admin
    # The token is not known here. So if one is configured, every request is rejected.
    rules = AccessRules(
        is_unix=admin.listen.startswith("unix:"), token=lambda: None if admin.token_file is None else ""
    )
    config = _web_config(configuration.web.config_file)
    listeners: list[Listener] = []
    # An address that cannot be bound must not end a daemon with `--stay`. The next attempt to start tries it again.
    with contextlib.suppress(OperatorError):
        web = web_app(app, config)
        listen = configuration.web.listen
        listeners.append(base.addresses.listener(listen, web, setting="web.listen", tls=lambda: config.tls))
        listeners.append(base.addresses.listener(admin.listen, admin_app(app, rules), setting="admin.listen"))
    serving = [asyncio.create_task(listener.serve(), name="stand by") for listener in listeners]
    try:
        yield
    finally:
        for listener in listeners:
            listener.stop()
        await asyncio.gather(*serving)


def _web_config(path: str | None) -> WebConfig:
    with contextlib.suppress(ConfigurationError):
        return WebConfig(path, None if path is None else read_web_file(path))
    return WebConfig(path)


class _ClosedIntake(Intake):
    """Refuses every registration and untracking, with the reason of the standby."""

    def __init__(self, store: MemoryStore, standby: Standby) -> None:
        super().__init__(store, lambda: (), lambda _: None, lambda: 0)
        self._standby = standby

    async def take(self, body: bytes) -> Sequence[Registration]:  # noqa: ARG002 -- nothing is registered
        raise StoreUnusable(f"the watcher is on standby: {self._standby.trouble}")

    async def locate(self, operation_id: str, account: str | None = None) -> Operation:  # noqa: ARG002 -- nothing is found
        raise StoreUnusable(f"the watcher is on standby: {self._standby.trouble}")
