"""The outermost layer of both listeners: adds security headers to every answer, and lets no exception reach the server.

A complete head that is too large is refused here. An incomplete one is refused by the protocol while it is read.
"""

from collections.abc import Callable, Mapping

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from watcher.server.problems import answer, from_error, problem

MOST_HEAD = 16 * 1024
"""Largest size of request line and headers together, in bytes."""

HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    # Only the page loads anything, and it sets its own policy.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


def _no_headers() -> Mapping[str, str]:
    return {}


class OuterMiddleware:
    """Adds `HEADERS` unless the answer sets them; passes an unexpected exception to `failed` and answers it 500.

    `headers` returns the operator's headers, at each answer. They replace those of `HEADERS` and of the answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        failed: Callable[[Exception], None],
        headers: Callable[[], Mapping[str, str]] = _no_headers,
    ) -> None:
        self._app = app
        self._failed = failed
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer, and add the headers."""
        has_started = False

        async def send_framed(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                for name, value in self._headers().items():
                    headers[name] = value
            await send(message)

        if _head_of(scope) > MOST_HEAD:
            await answer(TOO_LARGE, {"Connection": "close"})(scope, receive, send_framed)
            return
        try:
            await self._app(scope, receive, send_framed)
        except ClientDisconnect:
            return  # the client has closed the connection
        except Exception as exc:  # noqa: BLE001 -- the last resort: the server would print it and close the connection
            self._failed(exc)
            if not has_started:
                await answer(*from_error(exc))(scope, receive, send_framed)


TOO_LARGE = problem(431, f"request line and headers may have at most {MOST_HEAD} bytes together", name="head")


def _head_of(scope: Scope) -> int:
    return (
        sum(len(name) + len(value) for name, value in scope["headers"])
        + len(scope["raw_path"])
        + len(scope["query_string"])
    )
