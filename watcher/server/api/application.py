"""The two applications: routes from the table of endpoints, behind passwords (web) or the guard (admin)."""

from collections.abc import Callable, Mapping, Sequence

from starlette.applications import Starlette
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from watcher.server.api import openapi
from watcher.server.api.app_context import AppContext, Side
from watcher.server.api.endpoints import ApiEndpoint, Handler, endpoints_of
from watcher.server.api.guard import AccessRules, Guard
from watcher.server.api.passwords import BasicAuth
from watcher.server.http import OuterMiddleware
from watcher.server.problems import handlers
from watcher.server.webconfig import WebConfig


class _Anything(PathConvertor):
    """Matches the whole rest of the path, so that the handler can name a bad id in its error."""

    regex = "(?s:.*)"


register_url_convertor("anything", _Anything())


def web_app(app: AppContext, config: WebConfig | None = None) -> ASGIApp:
    """Return the application for Prometheus and people; it is read only. `config` None: no password is needed."""
    config = config or WebConfig()
    routes = _routes(app, Side.WEB, lambda: openapi.BASIC if config.needs_password else None)
    return OuterMiddleware(BasicAuth(routes, config), app.failed, lambda: config.headers)


def admin_app(app: AppContext, rules: AccessRules) -> ASGIApp:
    """Return the application with everything that web has, and with registration and reload."""
    routes = _routes(app, Side.ADMIN, lambda: openapi.BEARER if rules.token() is not None else None)
    return OuterMiddleware(Guard(routes, rules), app.failed)


def _routes(app: AppContext, side: Side, lock: Callable[[], openapi.SecurityScheme | None]) -> Starlette:
    endpoints = endpoints_of(side)

    async def get_openapi(_: AppContext, __: Side, ___: Request) -> Response:
        document = openapi.describe(
            side,
            endpoints,
            accounts=app.accounts(),
            version=app.version,
            lock=lock(),
        )
        return Response(document, media_type="application/json")

    by_path: dict[str, dict[str, Handler]] = {openapi.PATH: {"GET": get_openapi}}
    for endpoint in endpoints:
        by_path.setdefault(_route_path(endpoint), {})[endpoint.method] = endpoint.handler
    routes = [_route(app, side, path, by_method) for path, by_method in by_path.items()]
    starlette = Starlette(routes=routes, exception_handlers=handlers())
    # A path with an extra slash is answered 404, without a redirect.
    starlette.router.redirect_slashes = False
    return starlette


def _route_path(endpoint: ApiEndpoint) -> str:
    return endpoint.path.replace("{id}", "{id:anything}")


def _route(app: AppContext, side: Side, path: str, by_method: Mapping[str, Handler]) -> Route:
    async def endpoint(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await by_method[method](app, side, request)

    methods: Sequence[str] = list(by_method)
    return Route(path, endpoint, methods=methods)
