"""The two HTTP listeners: web, which is read only, and admin, where the app registers operations.

    http: Listener ── TlsHandshake ── Protocol ── OuterMiddleware ┬─ BasicAuth (web) ─┬─ routes :api
                                                                  └─ Guard (admin) ───┘     │
                            all that handlers need is in the `AppContext` ─ handlers (api) ─┴─ page

http       sockets, TLS, limits; knows nothing of what it serves
api        endpoints, handlers, who may use them
page       the status page
views      what the API and the page show of operations and accounts
problems   errors as `application/problem+json`
webconfig  the web configuration file, read again while the daemon runs
"""

from watcher.server.api import AccessRules, AppContext, admin_app, web_app
from watcher.server.http import Addresses, Listener
from watcher.server.webconfig import WebConfig, WebFileWatch

__all__ = ["AccessRules", "Addresses", "AppContext", "Listener", "WebConfig", "WebFileWatch", "admin_app", "web_app"]
