"""Access rules of the admin listener: a list, checked in order. The first broken rule determines the answer.

1. Host (over TCP) must be localhost, 127.0.0.1, [::1] or an allowed host, else 421. A page that points its own name to
   this address (DNS rebinding) sends that name.
2. Origin, if a browser sends it, must be this listener, and Sec-Fetch-Site must not be cross-site, else 403.
3. The bearer token, if one is set, must be right on all paths except /-/healthy and /-/ready, else 401.
4. Content-Type, if given with a method that may change state, must be application/json, else 415. A page of another
   origin cannot send that type without a preflight request.
"""

import hmac
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from watcher.server.problems import ProblemDetails, answer, problem

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
OPEN_PATHS = frozenset({"/-/healthy", "/-/ready"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

HEADERS_OF: Mapping[int, Mapping[str, str]] = {401: {"WWW-Authenticate": 'Bearer realm="operation-watcher"'}}

_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[^\[\]:/?#@\s]+)(:(?P<port>[0-9]{1,5}))?")
_DEFAULT_PORTS: Mapping[str, str] = {"http": "80", "https": "443"}


def _no_credentials() -> Sequence[str]:
    return ()


def _no_token() -> str | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRules:
    """The operator's settings. `allowed_hosts` and `token` are called at each request, so a reload acts at once."""

    is_unix: bool = False
    allowed_hosts: Callable[[], Sequence[str]] = _no_credentials
    token: Callable[[], str | None] = _no_token
    refresh: Callable[[], Awaitable[None]] | None = None
    """Awaited before `token` is called, if the token comes from a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """The parts of a request that the rules check."""

    method: str
    path: str
    scheme: str
    headers: Headers


class Guard:
    """Passes a request on, or answers with the problem of the first rule that it breaks."""

    def __init__(self, app: ASGIApp, rules: AccessRules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request or pass it on."""
        asked = _Asked(method=scope["method"], path=scope["path"], scheme=scope["scheme"], headers=Headers(scope=scope))
        if self._rules.refresh is not None and asked.path not in OPEN_PATHS:
            await self._rules.refresh()
        for rule in RULES:
            broken = rule(asked, self._rules)
            if broken is not None:
                await answer(broken, HEADERS_OF.get(broken.status))(scope, receive, send)
                return
        await self._app(scope, receive, send)


def is_allowed_host(host: str, allowed: Sequence[str]) -> bool:
    """Whether a Host header names this listener: a loopback name on any port, or an allowed host (with its port)."""
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    lowered = {one.lower() for one in allowed}
    return match["name"].lower() in LOOPBACK_HOSTS | lowered or host.lower() in lowered


def is_same_origin(origin: str, scheme: str, host: str) -> bool:
    """Whether the Origin header names the same listener as the Host header; `null` never does."""
    given, own = _authority(origin), _authority(f"{scheme}://{host}")
    return given is not None and given == own


def _authority(url: str) -> tuple[str, str] | None:
    scheme, separator, rest = url.partition("://")
    match = _HOST.fullmatch(rest)
    if not separator or match is None:
        return None
    return match["name"].lower(), match["port"] or _DEFAULT_PORTS.get(scheme, "")


def _misdirected(asked: _Asked, rules: AccessRules) -> ProblemDetails | None:
    host = asked.headers.get("host", "")
    if rules.is_unix or is_allowed_host(host, rules.allowed_hosts()):
        return None
    return problem(421, "the Host header is not allowed on this listener; see admin.allowed_hosts", name="host")


def _foreign(asked: _Asked, _: AccessRules) -> ProblemDetails | None:
    origin = asked.headers.get("origin")
    is_foreign = origin is not None and not is_same_origin(origin, asked.scheme, asked.headers.get("host", ""))
    if is_foreign or asked.headers.get("sec-fetch-site") == "cross-site":
        return problem(403, "pages of another origin may not use this listener", name="origin")
    return None


def _unauthorized(asked: _Asked, rules: AccessRules) -> ProblemDetails | None:
    token = rules.token()
    if token is None or asked.path in OPEN_PATHS:
        return None
    scheme, _, given = asked.headers.get("authorization", "").partition(" ")
    # Headers are latin-1 to Starlette; a token from a file is UTF-8.
    # An empty token means: configured, but unreadable. Then every request is rejected.
    is_right = token != "" and hmac.compare_digest(given.strip().encode("latin-1"), token.encode())
    if scheme.lower() == "bearer" and is_right:
        return None
    return problem(401, "a bearer token is required: Authorization: Bearer …", name="token")


def _unsupported(asked: _Asked, _: AccessRules) -> ProblemDetails | None:
    content_type = asked.headers.get("content-type")
    if asked.method in SAFE_METHODS or content_type is None or is_json(content_type):
        return None
    return problem(415, "the content type must be application/json", name="content-type")


def is_json(content_type: str) -> bool:
    """Whether a Content-Type header is application/json, with any parameters."""
    return content_type.partition(";")[0].strip().lower() == "application/json"


RULES: Sequence[Callable[[_Asked, AccessRules], ProblemDetails | None]] = (
    _misdirected,
    _foreign,
    _unauthorized,
    _unsupported,
)
