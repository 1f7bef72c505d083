"""The requests of one account to upstream.

There are two scales of waiting, never nested. tenacity retries within seconds, at most three attempts for a request.
Minutes and hours belong to the planner. A hold longer than `PATIENCE` ends the request as `Unanswered`, and the
governor keeps the hold. Redirects are never followed, so credentials are never sent to another host. Every attempt is
reported to `on_attempt`, for metrics and for the health of the account.
"""

from __future__ import annotations

import asyncio
from codecs import BOM_UTF8
from collections.abc import Awaitable, Callable, Mapping

import httpx
import tenacity

from watcher import __version__
from watcher.api.body import Unreadable, read_body
from watcher.api.connections import RequestProgress
from watcher.api.credentials import BasicCredentials
from watcher.api.gate import Gate
from watcher.api.head import bounded_head, trace
from watcher.core import wire
from watcher.core.attempt import Attempt
from watcher.core.channels import PUSH
from watcher.core.governor import AttemptResult
from watcher.core.model import SECOND, Micros, Moment
from watcher.core.observation import (
    FailureCause,
    Forbidden,
    Page,
    Reply,
    Seen,
    Timing,
    Unanswered,
)
from watcher.core.record_cache import RecordCache
from watcher.core.requests import Answer, Request

ATTEMPTS = 3
PATIENCE: Micros = 5 * SECOND
_DISCONNECTED = "disconnected without sending"
USER_AGENT = f"operation-watcher/{__version__}"

_RESULTS: Mapping[FailureCause, AttemptResult] = {
    FailureCause.THROTTLED: AttemptResult.THROTTLED,
    FailureCause.UNAUTHORIZED: AttemptResult.UNAUTHORIZED,
}


class _NoAnswer(Exception):  # noqa: N818 -- makes tenacity retry, never leaves this module
    def __init__(self, observation: Unanswered | Forbidden) -> None:
        super().__init__()
        self.observation = observation


class Client:
    """Requests operations and list pages of one account.

    `http` belongs to the caller, who closes it; `base_url` has no slash at its end. `reread` reads the secret of the
    credentials again. It must not raise or block the event loop: the secret's file may be on a mount that hangs.
    """

    def __init__(
        self,
        *,
        http: httpx.AsyncClient,
        base_url: str,
        credentials: BasicCredentials,
        reread: Callable[[], Awaitable[None]],
        gate: Gate,
        request_timeout: Micros,
        now: Callable[[], Moment],
        on_attempt: Callable[[Attempt], None],
    ) -> None:
        self._http = http
        self._operations = httpx.URL(f"{base_url}/{PUSH.path}/Operations")
        self._credentials = credentials
        self._reread = reread
        self._gate = gate
        self._request_timeout = request_timeout
        self._now = now
        self._on_attempt = on_attempt
        self._rows = RecordCache(wire.read_record)

    @property
    def address(self) -> str:
        """The URL of the lists, without a query."""
        return str(self._operations)

    async def ask(self, request: Request) -> Answer:
        """Upstream's answer to the request, as the request reads it."""
        retrying = tenacity.AsyncRetrying(
            stop=self._is_enough,
            wait=tenacity.wait_random_exponential(multiplier=0.25, max=2),
            retry=tenacity.retry_if_exception_type(_NoAnswer),
            sleep=asyncio.sleep,
            reraise=True,
        )
        try:
            return await retrying(self._attempt, request, self._url(request))
        except _NoAnswer as failed:
            return failed.observation

    def _is_enough(self, state: tenacity.RetryCallState) -> bool:
        return state.attempt_number >= ATTEMPTS or self._gate.hold() > PATIENCE

    def _url(self, request: Request) -> httpx.URL:
        url = self._operations.copy_with(path=self._operations.path + request.path)
        return url.copy_with(params=dict(request.query)) if request.query else url

    async def _attempt(self, request: Request, url: httpx.URL) -> Answer:
        """One attempt with a permit; raises _NoAnswer where another attempt may help."""
        permit = await self._gate.enter()
        result, retry_after = AttemptResult.ABANDONED, None
        used = self._credentials.header
        asked = self._now()
        try:
            code, answer = await self._send(request, url, used, asked)
            result, why = _judge(answer)
            retry_after = answer.retry_after if isinstance(answer, Unanswered) else None
            if result is AttemptResult.UNAUTHORIZED or isinstance(answer, Forbidden):
                await self._reread()
            stale = self._credentials.header != used
            if stale:
                # The secret was replaced since the request was built: nothing is wrong with the account.
                result = AttemptResult.ABANDONED
        finally:
            self._gate.leave(permit, result, retry_after)
        label = wire.code_label(answer, code)
        self._on_attempt(Attempt(endpoint=request.endpoint, code=label, result=result, timing=answer.timing, why=why))
        if stale:
            self._gate.forgive()
        if isinstance(answer, Forbidden) and stale:
            raise _NoAnswer(answer)
        if isinstance(answer, Unanswered) and (stale or result is not AttemptResult.UNAUTHORIZED):
            raise _NoAnswer(answer)
        return answer

    async def _send(
        self, request: Request, url: httpx.URL, authorization: str, asked: Moment
    ) -> tuple[int | None, Answer]:
        """The HTTP status code, if one was received, and the answer as an observation."""
        reading = _Reading()
        progress = RequestProgress()
        cause = FailureCause.OTHER
        try:
            async with asyncio.timeout(self._request_timeout / SECOND):
                await reading.read(self._http, _request(url, authorization, progress))
            why = ""
        except (TimeoutError, httpx.TimeoutException):
            stage = f" ({progress.stage})" if progress.stage else ""
            cause, why = FailureCause.TIMEOUT, f"no answer within {self._request_timeout / SECOND:g} s{stage}"
        except httpx.NetworkError as exc:
            cause, why = FailureCause.CONNECT, _reason(exc, progress.stage)
        except httpx.RemoteProtocolError as exc:
            # Upstream closed an idle connection just as it was used again: there is no answer that could be garbled.
            is_closed = progress.is_reused and reading.code is None and _DISCONNECTED in str(exc)
            cause, why = FailureCause.CONNECT if is_closed else FailureCause.GARBLED, _reason(exc)
        except (httpx.ProtocolError, httpx.DecodingError, Unreadable) as exc:
            cause, why = FailureCause.GARBLED, _reason(exc)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as exc:
            why = _reason(exc)
        code, answered = reading.code, self._now()
        # A refusal whose body is cut off still counts as a refusal: its status and headers were received.
        if code is None or (why and code == httpx.codes.OK):
            return code, Unanswered(timing=Timing(asked=asked, answered=answered), cause=cause, why=why)
        reply = Reply(code=code, headers=reading.headers, body=reading.body, asked=asked, answered=answered)
        return code, request.read(reply, self._rows)


class _Reading:
    """The parts of an answer that were received so far."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.headers: Mapping[str, str] = {}
        self.body = b""

    async def read(self, http: httpx.AsyncClient, request: httpx.Request) -> None:
        with bounded_head():
            response = await http.send(request, stream=True, follow_redirects=False, auth=None)
        try:
            self.code = response.status_code
            self.headers = {name.lower(): value for name, value in response.headers.items()}
            # RFC 8259, section 8.1: a byte order mark may be ignored.
            self.body = (await read_body(response)).removeprefix(BOM_UTF8)
        finally:
            await response.aclose()


def _request(url: httpx.URL, authorization: str, progress: RequestProgress) -> httpx.Request:
    headers = {
        "Host": url.netloc.decode("ascii"),
        "Accept": "application/json",
        "Accept-Encoding": "gzip",
        "Authorization": authorization,
        "User-Agent": USER_AGENT,
    }
    return httpx.Request("GET", url, headers=headers, extensions={"trace": trace, "progress": progress})


def _judge(answer: Answer) -> tuple[AttemptResult, str]:
    """What one attempt shows about the account. A 400, 403 or 404 shows nothing yet: `attribution` decides on it."""
    match answer:
        case Page() | Seen():
            return AttemptResult.GOOD, ""
        case Unanswered():
            return _RESULTS.get(answer.cause, AttemptResult.TROUBLED), answer.why
        case _:
            return AttemptResult.DOUBTFUL, answer.why


def _reason(exc: Exception, stage: str = "") -> str:
    """The library's message, shortened. It contains hosts and system errors, never a header or a body."""
    if isinstance(exc, Unreadable):
        return str(exc)
    words = ": ".join(word for word in (type(exc).__name__, str(exc)[:200]) if word)
    return f"{words} ({stage})" if stage else words
