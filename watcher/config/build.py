"""Turns the draft into the frozen configuration: each account with complete credentials, then all sections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from watcher.config.credentials import CredentialSource, GivenCredentials, choose, of_account, owner
from watcher.config.problems import ENVIRONMENT, BadValueError, Origin, Problems
from watcher.config.schema import ACCOUNT, SCHEMA, Section
from watcher.config.secrets import FileSecret
from watcher.core.settings import Account, Configuration

if TYPE_CHECKING:
    from watcher.config.draft import Draft

DEFAULT_ACCOUNT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An account with the place where it was given and, if they could be read, its name and credentials."""

    origin: Origin
    name: str | None
    credentials: CredentialSource | None
    uses_environment: bool

    @property
    def path(self) -> str:
        """Its key path, as in `accounts[0]`."""
        return self.origin.path


def candidates(draft: Draft, environment: GivenCredentials, problems: Problems) -> list[Candidate]:
    """Return the accounts of the draft; report each whose name or credentials are missing."""
    if not draft.bad.isdisjoint({"", "accounts"}):
        return []
    origins = draft.accounts or [Origin(file=ENVIRONMENT, path="accounts[0]")]
    owned = owner([of_account(draft, origin.path) for origin in origins])
    return [
        Candidate(
            origin=origin,
            name=_name(origin, draft, problems),
            credentials=_credentials(origin, draft, environment if index == owned else GivenCredentials(), problems),
            uses_environment=index == owned,
        )
        for index, origin in enumerate(origins)
    ]


def freeze(draft: Draft, accounts: list[Candidate]) -> Configuration:
    """Return the configuration. A setting that was not given, or is bad, has its default."""
    sections = {
        name: section.struct(**_values(section, name, draft))
        for name, section in SCHEMA.children.items()
        if isinstance(section, Section) and not section.is_list
    }
    frozen = tuple(_account(candidate, draft) for candidate in accounts)
    return Configuration(accounts=frozen, **sections)  # type: ignore[arg-type]  # one struct for each field, by name


def _name(origin: Origin, draft: Draft, problems: Problems) -> str | None:
    path = f"{origin.path}.name"
    name = draft.get(path)
    if isinstance(name, str):
        return name
    if origin.file == ENVIRONMENT and origin.path == "accounts[0]":
        return DEFAULT_ACCOUNT
    if path not in draft.bad and origin.path not in draft.bad:
        problems.add(origin.at(path), "is missing; each account needs a name of its own")
    return None


def _credentials(
    origin: Origin, draft: Draft, environment: GivenCredentials, problems: Problems
) -> CredentialSource | None:
    try:
        return choose(of_account(draft, origin.path), environment)
    except BadValueError as exc:
        # A bad value has been reported already.
        was_reported = environment.is_bad or not draft.bad.isdisjoint(_places_of_credentials(origin.path))
        if not was_reported:
            problems.add(origin, exc.message)
        return None


def _places_of_credentials(path: str) -> set[str]:
    return {path, *(f"{path}.{part}" for part in ("account_id", "auth_token_file", "api_key", "api_key_secret_file"))}


def _account(candidate: Candidate, draft: Draft) -> Account:
    values = _values(ACCOUNT, candidate.path, draft)
    return Account(**(values | {"name": candidate.name or candidate.path} | _parts(candidate.credentials)))


def _parts(credentials: CredentialSource | None) -> dict[str, Any]:
    if credentials is None:
        return {}
    file = credentials.secret.path if isinstance(credentials.secret, FileSecret) else None
    return {
        "account_id": credentials.account_id,
        "api_key": credentials.api_key,
        "auth_token_file": None if credentials.api_key else file,
        "api_key_secret_file": file if credentials.api_key else None,
    }


def _values(section: Section, path: str, draft: Draft) -> dict[str, Any]:
    entries = {name: draft.entries.get(f"{path}.{name}") for name in section.children}
    return {name: entry.value for name, entry in entries.items() if entry is not None}
