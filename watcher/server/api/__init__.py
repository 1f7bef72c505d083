"""What the listeners serve: the JSON API, health, metrics, OpenAPI, and who may use it. The page is beside it.

application  the two applications: routes behind passwords (web) or the guard (admin)
endpoints    the table of endpoints: the routes and the OpenAPI document are built from it
handlers     one function for each endpoint
query        query parameters, strictly read
openapi      the OpenAPI document
guard        admin: Host, Origin, content type, bearer token
passwords    web: basic auth
app_context  all that handlers need
"""

from watcher.server.api.app_context import AppContext
from watcher.server.api.application import admin_app, web_app
from watcher.server.api.guard import AccessRules

__all__ = ["AccessRules", "AppContext", "admin_app", "web_app"]
