"""The outermost layer of both listeners: security headers on every answer, and no exception that reaches the server.

A head that is too large is refused here when it arrives whole; one that is only begun, where it is read.
"""

from collections.abc import Callable, Mapping

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from watcher.server.problems import answer, from_error, problem

MOST_HEAD = 16 * 1024
"""Bytes of request line and headers."""

HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    # What is not a page needs nothing at all; the page brings its own policy.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


def _no_headers() -> Mapping[str, str]:
    return {}


class OuterMiddleware:
    """Adds `HEADERS` where the answer does not set them itself; what escapes is told to `failed` and answered 500.

    `headers` are the operator's, asked at each answer; they stand in the place of ours and the answer's.
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
        """Let the application answer."""
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
            return  # nobody is left to answer to
        except Exception as exc:  # noqa: BLE001 -- the last resort: the server would print it and close the connection
            self._failed(exc)
            if not has_started:
                await answer(*from_error(exc))(scope, receive, send_framed)


TOO_LARGE = problem(431, f"request line and headers may have {MOST_HEAD} bytes together", name="head")


def _head_of(scope: Scope) -> int:
    return (
        sum(len(name) + len(value) for name, value in scope["headers"])
        + len(scope["raw_path"])
        + len(scope["query_string"])
    )
