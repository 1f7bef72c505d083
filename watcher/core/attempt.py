"""The result of one HTTP request to upstream, as metrics and the account's health receive it."""

from __future__ import annotations

from watcher.core.governor import AttemptResult
from watcher.core.model import Value
from watcher.core.observation import Timing
from watcher.core.requests import Endpoint


class Attempt(Value, frozen=True, kw_only=True):
    """One attempt at a request. `code` is the value of the metrics' label. `why` is empty after a success."""

    endpoint: Endpoint
    code: str
    result: AttemptResult
    timing: Timing
    why: str = ""
