"""One attempt at upstream as it ended: what the metrics and the account's condition hear of."""

from __future__ import annotations

import enum

from watcher.core.governor import AttemptResult
from watcher.core.model import Value
from watcher.core.observation import Timing


class Endpoint(enum.StrEnum):
    """The value of the label `endpoint`."""

    FETCH = "fetch"
    LIST = "list"


class Attempt(Value, frozen=True, kw_only=True):
    """One attempt at one question. `code` is the metrics' label; `why` is empty when it went well."""

    endpoint: Endpoint
    code: str
    result: AttemptResult
    timing: Timing
    why: str = ""
