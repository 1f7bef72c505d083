"""The outermost layer of both listeners: security headers on every answer, and no exception that reaches the server."""

from collections.abc import Callable, Mapping

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from watcher.server.problems import answer, from_error

HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    # What is not a page needs nothing at all; the page brings its own policy.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class Frame:
    """Adds `HEADERS` where the answer does not set them itself; what escapes is told to `failed` and answered 500."""

    def __init__(self, app: ASGIApp, failed: Callable[[Exception], None]) -> None:
        self._app = app
        self._failed = failed

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
            await send(message)

        try:
            await self._app(scope, receive, send_framed)
        except ClientDisconnect:
            return  # nobody is left to answer to
        except Exception as exc:  # noqa: BLE001 -- the last resort: the server would print it and close the connection
            self._failed(exc)
            if not has_started:
                await answer(*from_error(exc))(scope, receive, send_framed)
