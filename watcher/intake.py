"""Registers operations from the admin API and the configuration: entries are checked and stored, then answered.

If any entry of a batch is bad, nothing of the batch is kept. This module never changes an account's loop: it writes to
the store and wakes the loop, which reads the operations from there. Long batches are checked in pieces, so that the
event loop turns in between.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Annotated, TypeVar

import msgspec

from watcher.config.rules import RESERVED_LABELS
from watcher.core.errors import StoreUnusable, WatcherError
from watcher.core.model import Instant, Operation, Outcome, Source, created_hint, is_operation_id
from watcher.core.printable import shortened
from watcher.core.settings import Account
from watcher.store import Entry, Registration, RegistrationResult, Store

MAX_ENTRIES = 10_000
MAX_LABELS = 10
MAX_LABEL_LENGTH = 128

ID_PATTERN = "^comms_operation_[0-7][a-hjkmnpqrstv-z0-9]{25,34}$"
LABEL_NAME_PATTERN = "^(?!__)[a-z_][a-z0-9_]*$"
LABEL_VALUE_PATTERN = "^[^\\u0000]*$"

_ID_WANTED = "not an operation id: comms_operation_, one of 0-7, then 25 to 34 of a-z (without i, l, o, u) and 0-9"
_LABEL_NAME = re.compile(r"[a-z_][a-z0-9_]*")
# Many programs take NUL for the end of a text, and lone surrogates cannot be encoded as UTF-8.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_MOST_NAMED = 5
_AT_ONCE = 100  # entries that are checked, or read from the store, before the event loop turns
# With these outcomes the operation may only have been registered under the wrong account, so that another account may
# still register it.
_NEVER_SEEN = frozenset({Outcome.NOT_FOUND, Outcome.REJECTED})

_LABEL_VALUE = {"maxLength": MAX_LABEL_LENGTH, "pattern": LABEL_VALUE_PATTERN}

T = TypeVar("T")
R = TypeVar("R")


class TrackRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry of a request: an operation to be tracked. The account may be omitted where only one is configured."""

    id: Annotated[str, msgspec.Meta(extra_json_schema={"pattern": ID_PATTERN})]
    account: str | None = None
    labels: Annotated[
        # The schema of the values is given here. Given below, beside that of the names, msgspec would overwrite it.
        dict[str, Annotated[str, msgspec.Meta(extra_json_schema=_LABEL_VALUE)]],
        msgspec.Meta(
            extra_json_schema={
                "maxProperties": MAX_LABELS,
                "propertyNames": {
                    "pattern": LABEL_NAME_PATTERN,
                    "maxLength": MAX_LABEL_LENGTH,
                    "not": {"enum": sorted(RESERVED_LABELS)},
                },
            }
        ),
    ] = {}


class EntryError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is wrong with an entry or a parameter. The id is shortened and made printable, so it may differ."""

    why: str
    index: int | None = None
    id: str | None = None
    parameter: str | None = None


class MalformedError(WatcherError):
    """The body is not a list of entries; the message says where it is malformed."""


class EntriesRefusedError(WatcherError):
    """Some entries are bad, so none was kept. `is_conflict`: valid, but in conflict with what is tracked already."""

    def __init__(self, errors: Sequence[EntryError], *, of: int, is_conflict: bool = False) -> None:
        super().__init__(f"{len(errors)} of {of} {'entry' if of == 1 else 'entries'} refused, nothing was kept")
        self.errors = errors
        self.is_conflict = is_conflict


class NotAnIdError(WatcherError):
    """Not a valid operation id."""


class NotFollowedError(WatcherError):
    """The operation is not tracked under any account, and not shown any more."""


class SeveralAccountsError(WatcherError):
    """The operation is tracked under several accounts, and the request names no account."""


class Intake:
    """Registers and untracks operations, for the accounts that are configured at the moment.

    `store_trouble` is called with the error after each registration that could not be written, and with None after each
    that was. Where nothing else is written, a failing store would not be noticed otherwise.
    """

    def __init__(
        self,
        store: Store,
        accounts: Callable[[], Sequence[str]],
        wake: Callable[[str], None],
        now: Callable[[], Instant],
        *,
        store_trouble: Callable[[StoreUnusable | None], None] = lambda _: None,
    ) -> None:
        self._store_trouble = store_trouble
        self._store = store
        self._accounts = accounts
        self._wake = wake
        self._now = now
        # Between the check that no other account tracks an id and its registration, no other request may register it.
        self._turn = asyncio.Lock()

    async def take(self, body: bytes) -> Sequence[Registration]:
        """Register a JSON object or list of entries; the result of each.

        Raises MalformedError, EntriesRefusedError, StoreUnusable.
        """
        raws = raw_entries(body)
        return await self._register(
            (read_entry(index, raw) for index, raw in enumerate(raws)), Source.API, self._accounts()
        )

    async def register(self, entries: Sequence[TrackRequest], source: Source) -> Sequence[Registration]:
        """Register entries; the result of each. Raises MalformedError, EntriesRefusedError, StoreUnusable."""
        return await self._register(entries, source, self._accounts())

    async def from_configuration(self, accounts: Iterable[Account]) -> Sequence[Registration]:
        """Register the ids in the configuration. Known, finished and untracked ids stay as they are."""
        accounts = tuple(accounts)
        entries = [TrackRequest(id=id_, account=account.name) for account in accounts for id_ in account.operations]
        return await self._register(entries, Source.CONFIG, [account.name for account in accounts])

    async def locate(self, operation_id: str, account: str | None = None) -> Operation:
        """The operation as stored: tracked, or finished and still shown.

        Raises NotAnIdError, NotFollowedError, SeveralAccountsError, StoreUnusable.
        """
        if not is_operation_id(operation_id):
            raise NotAnIdError(f"{quoted(operation_id)} is {_ID_WANTED}")
        known = self._accounts()
        held = [
            found.operation
            for found in await self._store.find(operation_id, account)
            if found.untracked_at is None and found.operation.account in known
        ]
        if not held:
            raise NotFollowedError(f"{operation_id} is not tracked" + (f" under {account}" if account else ""))
        if len(held) > 1:
            names = ", ".join(operation.account for operation in held)
            raise SeveralAccountsError(f"{operation_id} is tracked under several accounts, name one: {names}")
        return held[0]

    async def untrack(self, operation_id: str, account: str | None = None) -> Operation:
        """Stop tracking the operation. Returns it as it was. Raises what `locate` raises."""
        async with self._turn:
            operation = await self.locate(operation_id, account)
            was_followed = await self._store.untrack(operation.account, operation.id, self._now(), Source.API)
        if not was_followed:  # its row was pruned since it was located
            raise NotFollowedError(f"{operation_id} is not tracked")
        self._wake(operation.account)
        return operation

    async def _register(
        self, request: Iterable[TrackRequest | EntryError], source: Source, accounts: Sequence[str]
    ) -> Sequence[Registration]:
        checked = await in_pieces(request, lambda index, entry: checked_entry(index, entry, accounts))
        errors = [entry for entry in checked if isinstance(entry, EntryError)]
        if errors:
            raise EntriesRefusedError(errors, of=len(checked))
        now = self._now()
        entries = await in_pieces(
            (entry for entry in checked if isinstance(entry, TrackRequest)),
            lambda _, entry: Entry(
                account=entry.account or "",
                id=entry.id,
                source=source,
                labels=entry.labels,
                created_at=created_hint(entry.id, now),
            ),
        )
        async with self._turn:
            # Not for the configuration: an earlier registration by the API must not keep the daemon from starting.
            if source is not Source.CONFIG:
                await self._refuse_conflicts(entries, accounts)
            try:
                registrations = await self._store.register(
                    entries, now, configured=accounts if source is Source.CONFIG else ()
                )
            except StoreUnusable as exc:
                self._store_trouble(exc)
                raise
            self._store_trouble(None)
        # Known operations may have new labels, so their loops read them again, too.
        changed = {RegistrationResult.NEW, RegistrationResult.KNOWN}
        for account in {registration.account for registration in registrations if registration.result in changed}:
            self._wake(account)
        return registrations

    async def _refuse_conflicts(self, entries: Sequence[Entry], accounts: Sequence[str]) -> None:
        if len(accounts) == 1 and not any(entry.labels for entry in entries):
            return  # the common case: without a second account and without labels, no conflict is possible
        registrations = _Registrations(await self._held(entries, accounts))
        errors = await in_pieces(entries, registrations.enter)
        conflicts = [entry_error for entry_error in errors if entry_error is not None]
        if conflicts:
            raise EntriesRefusedError(conflicts, of=len(entries), is_conflict=True)

    async def _held(self, entries: Sequence[Entry], accounts: Sequence[str]) -> Iterator[Operation]:
        ids = iter({entry.id: None for entry in entries})
        held: list[Operation] = []
        while batch := [*islice(ids, _AT_ONCE)]:
            for found in await asyncio.gather(*(self._store.find(id_) for id_ in batch)):
                held += (row.operation for row in found if row.untracked_at is None)
        return (operation for operation in held if operation.account in accounts)


class _Registrations:
    """Which account tracks an id and which label names it has: as stored, and with the batch's earlier entries."""

    def __init__(self, held: Iterable[Operation]) -> None:
        self._names: dict[str, dict[str, set[str]]] = {}
        for operation in held:
            if operation.outcome not in _NEVER_SEEN:
                self._names.setdefault(operation.id, {})[operation.account] = set(operation.labels)

    def enter(self, index: int, entry: Entry) -> EntryError | None:
        """Add an entry. Returns the conflict that it has, or None."""
        accounts = self._names.setdefault(entry.id, {})
        others = sorted(accounts.keys() - {entry.account})
        if others:
            return EntryError(index=index, id=quoted(entry.id), why=f"tracked under the account {quoted(others[0])}")
        names = accounts.setdefault(entry.account, set())
        names |= entry.labels.keys()
        if len(names) > MAX_LABELS:
            why = f"{len(names)} labels together with the stored ones; at most {MAX_LABELS}"
            return EntryError(index=index, id=quoted(entry.id), why=why)
        return None


def raw_entries(body: bytes) -> Sequence[msgspec.Raw]:
    """The entries of a JSON list, not decoded yet. Any other JSON value is one entry. Raises MalformedError."""
    try:
        is_list = body.decode().lstrip(" \t\r\n").startswith("[")
        if not is_list:
            return [msgspec.json.decode(body, type=msgspec.Raw)]
        raws = msgspec.json.decode(body, type=list[msgspec.Raw])
    except UnicodeDecodeError as exc:
        raise MalformedError(f"not UTF-8 at byte {exc.start}") from exc
    except msgspec.DecodeError as exc:
        raise MalformedError(_where(exc, body)) from exc
    except RecursionError as exc:
        raise MalformedError("nested too deeply") from exc
    if len(raws) > MAX_ENTRIES:
        raise MalformedError(f"{len(raws)} entries in one list; at most {MAX_ENTRIES}")
    return raws


def read_entry(index: int, raw: msgspec.Raw) -> TrackRequest | EntryError:
    """The decoded entry, or what is wrong with it."""
    try:
        return msgspec.json.decode(raw, type=TrackRequest)
    except msgspec.MsgspecError as exc:
        why = str(exc)
    fields = _fields(raw)
    unknown = sorted(fields.keys() - set(TrackRequest.__struct_fields__))
    if unknown:
        names = ", ".join(map(quoted, unknown[:_MOST_NAMED])) + (", …" if len(unknown) > _MOST_NAMED else "")
        why = f"unknown {'key' if len(unknown) == 1 else 'keys'} {names}; known keys are id, account and labels"
    return EntryError(index=index, id=_id_in(fields), why=why[:1].lower() + why[1:])


def checked_entry(index: int, request: TrackRequest | EntryError, accounts: Sequence[str]) -> TrackRequest | EntryError:
    """The entry with its account filled in, or everything that is wrong with it."""
    if isinstance(request, EntryError):
        return request
    faults = "; ".join(_faults(request, accounts))
    if faults:
        return EntryError(index=index, id=quoted(request.id), why=faults)
    return request if request.account is not None else msgspec.structs.replace(request, account=accounts[0])


async def in_pieces(items: Iterable[T], work: Callable[[int, T], R]) -> list[R]:
    """The results of `work` on each index and item. The event loop turns after every `_AT_ONCE` items."""
    results: list[R] = []
    for index, item in enumerate(items):
        results.append(work(index, item))
        if index % _AT_ONCE == _AT_ONCE - 1:
            await asyncio.sleep(0)
    return results


def quoted(text: str) -> str:
    """The text in quotation marks, shortened and escaped, so that it is harmless on a terminal and in a log."""
    return '"' + shortened(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _where(exc: msgspec.DecodeError, body: bytes) -> str:
    if "truncated" in str(exc):  # msgspec does not say where
        return f"incomplete JSON, at byte {len(body)} or before"
    return str(exc).replace("JSON is malformed: ", "malformed JSON: ")


def _fields(raw: msgspec.Raw) -> Mapping[str, msgspec.Raw]:
    try:
        return msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError):  # a deep value that the list read just within the limit of recursion
        return {}


def _id_in(fields: Mapping[str, msgspec.Raw]) -> str | None:
    try:
        return quoted(msgspec.json.decode(fields["id"], type=str))
    except (KeyError, msgspec.MsgspecError):
        return None


def _faults(request: TrackRequest, accounts: Sequence[str]) -> Iterator[str]:
    if not is_operation_id(request.id):
        yield _ID_WANTED
    named = ", ".join(map(quoted, accounts))
    if not accounts:
        yield "no account is configured"
    elif request.account is None and len(accounts) > 1:
        yield f"no account is given, and there are several: {named}"
    elif request.account is not None and request.account not in accounts:
        yield f"unknown account {quoted(request.account)}; configured: {named}"
    if len(request.labels) > MAX_LABELS:
        yield f"{len(request.labels)} labels; at most {MAX_LABELS}"
    else:
        for name, value in request.labels.items():
            yield from _label_faults(name, value)


def _label_faults(name: str, value: str) -> Iterator[str]:
    if name in RESERVED_LABELS:
        yield f"the label {quoted(name)} is used by the watcher itself"
    elif name.startswith("__"):
        yield f"labels that begin with __ are used by Prometheus itself, got {quoted(name)}"
    elif len(name) > MAX_LABEL_LENGTH or not _LABEL_NAME.fullmatch(name):
        yield f"{quoted(name)} is not a label name: a-z, 0-9 and _, no digit first, at most {MAX_LABEL_LENGTH}"
    if len(value) > MAX_LABEL_LENGTH:
        yield f"the value of {quoted(name)} has {len(value)} characters; at most {MAX_LABEL_LENGTH}"
    elif _UNSTORABLE.search(value):
        yield f"the value of {quoted(name)} contains a character that cannot be stored"
