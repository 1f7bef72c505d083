"""Which credentials each account uses, and where their secret comes from.

An account has one pair: account id and auth token, or API key and its secret (an account id may be given as well).
The environment's `TWILIO_…` variables belong to the only account. Of several accounts they belong to the first that
names no secret of its own; if each names one, they are not used. The environment wins over the file. If it gives both
pairs completely, the API key is used, since it can be revoked alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from watcher.config.problems import ENVIRONMENT, BadValueError, Origin, Problems
from watcher.config.rules import check
from watcher.config.scalars import Scalar, read_scalar
from watcher.config.secrets import EnvironmentSecret, FileSecret, SecretError, SecretSource, parse_secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from watcher.config.draft import Draft

ACCOUNT_ID = "TWILIO_ACCOUNT_SID"
AUTH_TOKEN = "TWILIO_AUTH_TOKEN"  # noqa: S105 - the name of a variable
API_KEY = "TWILIO_API_KEY"
API_KEY_SECRET = "TWILIO_API_KEY_SECRET"  # noqa: S105 - the name of a variable

PAIRS_OF_FILE = "account_id and auth_token_file, or api_key and api_key_secret_file"
PAIRS_OF_ENVIRONMENT = f"{ACCOUNT_ID} and {AUTH_TOKEN}, or {API_KEY} and {API_KEY_SECRET} (each also with _FILE)"


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialSource:
    """One complete pair: API key and secret if `api_key` is set, else account id and auth token."""

    account_id: str | None
    api_key: str | None
    secret: SecretSource


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenCredentials:
    """The parts of credentials that one source gives; any may be missing. `is_bad`: a part could not be read."""

    account_id: str | None = None
    auth_token: SecretSource | None = None
    api_key: str | None = None
    api_key_secret: SecretSource | None = None
    is_bad: bool = False

    @property
    def has_secret(self) -> bool:
        """Whether a secret or an API key is given."""
        return bool(self.auth_token or self.api_key or self.api_key_secret)

    def by_key(self) -> CredentialSource | None:
        """Return the pair of API key and secret, if both are given."""
        if not self.api_key or not self.api_key_secret:
            return None
        return CredentialSource(account_id=self.account_id, api_key=self.api_key, secret=self.api_key_secret)

    def by_token(self) -> CredentialSource | None:
        """Return the pair of account id and auth token, if both are given."""
        if not self.account_id or not self.auth_token:
            return None
        return CredentialSource(account_id=self.account_id, api_key=None, secret=self.auth_token)


def read_twilio(environ: Mapping[str, str], problems: Problems) -> GivenCredentials:
    """Return what the environment's `TWILIO_…` variables give. An empty variable counts as not set."""
    before = len(problems)
    account_id = _id(environ, ACCOUNT_ID, "accounts[].account_id", problems)
    auth_token = _secret(environ, AUTH_TOKEN, problems)
    api_key = _id(environ, API_KEY, "accounts[].api_key", problems)
    api_key_secret = _secret(environ, API_KEY_SECRET, problems)
    return GivenCredentials(
        account_id=account_id,
        auth_token=auth_token,
        api_key=api_key,
        api_key_secret=api_key_secret,
        is_bad=len(problems) > before,
    )


def of_account(draft: Draft, path: str) -> GivenCredentials:
    """Return the credentials that the settings of the account at the path give."""
    token_file = draft.get(f"{path}.auth_token_file")
    secret_file = draft.get(f"{path}.api_key_secret_file")
    return GivenCredentials(
        account_id=draft.get(f"{path}.account_id"),
        auth_token=FileSecret(path=token_file) if token_file else None,
        api_key=draft.get(f"{path}.api_key"),
        api_key_secret=FileSecret(path=secret_file) if secret_file else None,
    )


def owner(accounts: list[GivenCredentials]) -> int | None:
    """Return the index of the account that uses the environment's credentials, or None."""
    if len(accounts) == 1:
        return 0
    return next((index for index, given in enumerate(accounts) if not given.has_secret), None)


def choose(own: GivenCredentials, environment: GivenCredentials) -> CredentialSource:
    """Return the pair to use. Raises `BadValueError` if no pair is complete, or the account's settings give both."""
    if own.auth_token and (own.api_key or own.api_key_secret):
        raise BadValueError("two pairs of credentials are given; keep one of auth_token_file and api_key")
    merged = GivenCredentials(
        account_id=environment.account_id or own.account_id,
        auth_token=environment.auth_token or own.auth_token,
        api_key=environment.api_key or own.api_key,
        api_key_secret=environment.api_key_secret or own.api_key_secret,
    )
    by_key, by_token = merged.by_key(), merged.by_token()
    in_order = (
        by_key if environment.api_key and environment.api_key_secret else None,
        by_token if environment.auth_token else None,
        by_key,
        by_token,
    )
    chosen = next((pair for pair in in_order if pair is not None), None)
    if chosen is None:
        raise BadValueError(_missing(merged))
    return chosen


def unused(environment: GivenCredentials, chosen: CredentialSource | None) -> list[str]:
    """Return the variables of the environment's credentials that the chosen pair does not use."""
    used = {} if chosen is None else {chosen.account_id, chosen.api_key}
    parts = {ACCOUNT_ID: environment.account_id, API_KEY: environment.api_key}
    secrets = {AUTH_TOKEN: environment.auth_token, API_KEY_SECRET: environment.api_key_secret}
    return [name for name, part in parts.items() if part and part not in used] + [
        name for name, source in secrets.items() if source and (chosen is None or source is not chosen.secret)
    ]


def _missing(parts: GivenCredentials) -> str:
    match parts:
        case GivenCredentials(api_key=str()):
            return f"an API key without its secret; set api_key_secret_file or {API_KEY_SECRET}"
        case GivenCredentials(api_key=None, api_key_secret=secret) if secret:
            return f"the secret of an API key without the key; set api_key or {API_KEY}"
        case GivenCredentials(auth_token=token) if token:
            return f"an auth token without the account's id; set account_id or {ACCOUNT_ID}"
        case GivenCredentials(account_id=str()):
            return f"an account id without a secret; set auth_token_file or {AUTH_TOKEN}, or an API key with its secret"
        case _:
            return f"no credentials; set {PAIRS_OF_FILE}, or in the environment {PAIRS_OF_ENVIRONMENT}"


def _id(environ: Mapping[str, str], name: str, rule: str, problems: Problems) -> str | None:
    source = _secret(environ, name, problems)
    if source is None:
        return None
    variable = f"{name}_FILE" if isinstance(source, FileSecret) else name
    try:
        return str(check(rule, source.read().reveal()))
    except (BadValueError, SecretError) as exc:
        problems.add(Origin(file=ENVIRONMENT, path=variable), str(exc))
        return None


def _secret(environ: Mapping[str, str], name: str, problems: Problems) -> SecretSource | None:
    text, file = environ.get(name), environ.get(f"{name}_FILE")
    origin = Origin(file=ENVIRONMENT, path=name)
    if text and file:
        problems.add(origin, f"set together with {name}_FILE; keep one of them")
        return None
    if not text and not file:
        return None
    try:
        if file:
            scalar = Scalar(text=file, is_private=True)
            return FileSecret(path=check("accounts[].auth_token_file", read_scalar(scalar, str)))
        # Undecodable bytes must get the message for text that is not UTF-8, not an error of the encoder.
        secret = parse_secret((text or "").encode(errors="surrogatepass"), where="the value")
    except (BadValueError, SecretError) as exc:
        problems.add(origin.at(f"{name}_FILE") if file else origin, str(exc))
        return None
    return EnvironmentSecret(variable=name, secret=secret)
