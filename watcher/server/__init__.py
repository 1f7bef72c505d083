"""The two HTTP listeners: web, which can change nothing, and admin, which the app registers with.

    Listener ── Greeter (TLS) ── Protocol (limits, flushed answers) ── OuterMiddleware ┬─ BasicAuth (web) ─┬─ routes
                                                                                       └─ Guard (admin) ───┘     │
                                                 everything that handlers need is on the `AppContext` ─ handlers ┘

`endpoints` is the one table of what exists: the routes and the OpenAPI document are both made from it.
"""

from watcher.server.addresses import Addresses
from watcher.server.app_context import AppContext
from watcher.server.application import admin_app, web_app
from watcher.server.guard import AccessRules
from watcher.server.listener import Listener
from watcher.server.webconfig import WebConfig, WebFileWatch

__all__ = ["AccessRules", "Addresses", "AppContext", "Listener", "WebConfig", "WebFileWatch", "admin_app", "web_app"]
