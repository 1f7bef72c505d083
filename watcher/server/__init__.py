"""The two HTTP listeners: web, which is read only, and admin, where the app registers operations.

    Listener ── TlsHandshake ──── Protocol (limits, flushed answers) ── OuterMiddleware ┬─ BasicAuth (web) ─┬─ routes
                                                                                       └─ Guard (admin) ───┘     │
                                                 all that handlers need is in the `AppContext` ─ handlers ┘

The table in `endpoints` is the only list of endpoints: the routes and the OpenAPI document are built from it.
"""

from watcher.server.addresses import Addresses
from watcher.server.app_context import AppContext
from watcher.server.application import admin_app, web_app
from watcher.server.guard import AccessRules
from watcher.server.listener import Listener
from watcher.server.webconfig import WebConfig, WebFileWatch

__all__ = ["AccessRules", "Addresses", "AppContext", "Listener", "WebConfig", "WebFileWatch", "admin_app", "web_app"]
