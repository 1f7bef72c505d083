"""Finds the account of a request: HTTP Basic with either pair of the account's credentials."""

import base64
from collections.abc import Iterable

from watcher.simulator.scenario import Account


class Credentials:
    """The accounts by the credentials that they accept."""

    def __init__(self, accounts: Iterable[Account]) -> None:
        self._accounts: dict[str, Account] = {}
        for account in accounts:
            self._accounts[_basic(account.account_id, account.auth_token)] = account
            if account.api_key is not None and account.api_key_secret is not None:
                self._accounts[_basic(account.api_key, account.api_key_secret)] = account

    def account(self, authorization: str | None) -> Account | None:
        """Return the account with the credentials of the Authorization header, or None."""
        scheme, _, secret = (authorization or "").partition(" ")
        return self._accounts.get(secret.strip()) if scheme.lower() == "basic" else None


def _basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()
