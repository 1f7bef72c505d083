"""HTTP Basic credentials. The secret is read again when upstream refuses it, and when its file changes.

Twilio: API keys are replaced, not rotated, and auth tokens are promoted. Either way, the valid secret may appear under
the same path at any time.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

from watcher.core.errors import OperatorError


class BasicCredentials:
    """A user name and a secret. `read` returns the secret, and raises OperatorError where it cannot be read."""

    def __init__(self, user: str, read: Callable[[], str]) -> None:
        self.user = user
        self._read = read
        self._header = self._encode(read())

    def __repr__(self) -> str:
        """Contains the user name, never the secret."""
        return f"Credentials({self.user!r})"

    @property
    def header(self) -> str:
        """The value of `Authorization`."""
        return self._header

    def refresh(self) -> bool:
        """Read the secret again. Returns whether it changed. Where it cannot be read, the old one stays in force."""
        try:
            header = self._encode(self._read())
        except OperatorError:
            return False
        changed = header != self._header
        self._header = header
        return changed

    def _encode(self, secret: str) -> str:
        return "Basic " + base64.b64encode(f"{self.user}:{secret}".encode()).decode("ascii")
