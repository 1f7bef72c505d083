"""Where operations come from: what people hand in is checked, made durable, and only then answered.

Nothing of a batch is kept when any entry of it is bad. Nobody here touches an account's loop: operations go into the
store, and the loop that owns the account is woken to take them from there. Long batches are checked in pieces, so that
the event loop turns meanwhile.
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
# NUL ends texts in too many places; lone surrogates cannot be written as UTF-8.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_MOST_NAMED = 5
_AT_ONCE = 100  # checked, or looked up, before the event loop has its turn
# Operations that ended so were perhaps only asked for under the wrong account; another one may claim them.
_NEVER_SEEN = frozenset({Outcome.NOT_FOUND, Outcome.REJECTED})

_LABEL_VALUE = {"maxLength": MAX_LABEL_LENGTH, "pattern": LABEL_VALUE_PATTERN}

T = TypeVar("T")
R = TypeVar("R")


class TrackRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One operation to be followed, as handed in; the account may be left out where there is only one."""

    id: Annotated[str, msgspec.Meta(extra_json_schema={"pattern": ID_PATTERN})]
    account: str | None = None
    labels: Annotated[
        # Said of the values themselves: beside the names, msgspec would write their bare type over it.
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
    """What is wrong with one thing that was handed in. The id is shortened and printable, so not always as given."""

    why: str
    index: int | None = None
    id: str | None = None
    parameter: str | None = None


class MalformedError(WatcherError):
    """What was handed in is no list of entries at all; the message says where it breaks off."""


class EntriesRefusedError(WatcherError):
    """Some entries are bad, so none was kept. `is_conflict`: good in themselves, but not beside what is followed."""

    def __init__(self, complaints: Sequence[EntryError], *, of: int, is_conflict: bool = False) -> None:
        super().__init__(f"{len(complaints)} of {of} {'entry' if of == 1 else 'entries'} refused, nothing was kept")
        self.complaints = complaints
        self.is_conflict = is_conflict


class NotAnIdError(WatcherError):
    """What should be an operation id is none."""


class NotFollowedError(WatcherError):
    """No account follows such an operation, or shows it still."""


class SeveralAccountsError(WatcherError):
    """The operation is followed under several accounts, and none was named."""


class Intake:
    """Takes operations in and lets them go, for the accounts that are configured at the moment.

    `store_trouble` hears of every write that failed, and with None of every one that did not: where registrations are
    all that is written, nobody else would notice.
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
        # Between looking whether another account follows an id and writing it down, nobody else may write.
        self._turn = asyncio.Lock()

    async def take(self, body: bytes) -> Sequence[Registration]:
        """What became of each entry of a JSON object or list.

        Raises MalformedError, EntriesRefusedError, StoreUnusable.
        """
        raws = raw_entries(body)
        return await self._register(
            (read_entry(index, raw) for index, raw in enumerate(raws)), Source.API, self._accounts()
        )

    async def register(self, entries: Sequence[TrackRequest], source: Source) -> Sequence[Registration]:
        """What became of each entry. Raises MalformedError, EntriesRefusedError, StoreUnusable."""
        return await self._register(entries, source, self._accounts())

    async def from_configuration(self, accounts: Iterable[Account]) -> Sequence[Registration]:
        """Register what the configuration names; nothing happens to what is known, finished or was untracked."""
        accounts = tuple(accounts)
        entries = [TrackRequest(id=id_, account=account.name) for account in accounts for id_ in account.operations]
        return await self._register(entries, Source.CONFIG, [account.name for account in accounts])

    async def locate(self, operation_id: str, account: str | None = None) -> Operation:
        """The operation as stored, followed or lately finished.

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
            raise NotFollowedError(f"{operation_id} is not followed" + (f" under {account}" if account else ""))
        if len(held) > 1:
            names = ", ".join(operation.account for operation in held)
            raise SeveralAccountsError(f"{operation_id} is followed under several accounts, name one: {names}")
        return held[0]

    async def untrack(self, operation_id: str, account: str | None = None) -> Operation:
        """Stop following; the operation as it was. Raises what `locate` raises."""
        async with self._turn:
            operation = await self.locate(operation_id, account)
            was_followed = await self._store.untrack(operation.account, operation.id, self._now(), Source.API)
        if not was_followed:
            raise NotFollowedError(f"{operation_id} is not followed")
        self._wake(operation.account)
        return operation

    async def _register(
        self, request: Iterable[TrackRequest | EntryError], source: Source, accounts: Sequence[str]
    ) -> Sequence[Registration]:
        checked = await in_pieces(request, lambda index, one: checked_entry(index, one, accounts))
        complaints = [one for one in checked if isinstance(one, EntryError)]
        if complaints:
            raise EntriesRefusedError(complaints, of=len(checked))
        now = self._now()
        entries = await in_pieces(
            (one for one in checked if isinstance(one, TrackRequest)),
            lambda _, one: Entry(
                account=one.account or "",
                id=one.id,
                source=source,
                labels=one.labels,
                created_at=created_hint(one.id, now),
            ),
        )
        async with self._turn:
            # The configuration speaks for its accounts; what the API once said must not keep the daemon from starting.
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
        for account in {
            one.account for one in registrations if one.result in {RegistrationResult.NEW, RegistrationResult.KNOWN}
        }:
            self._wake(account)
        return registrations

    async def _refuse_conflicts(self, entries: Sequence[Entry], accounts: Sequence[str]) -> None:
        if len(accounts) == 1 and not any(entry.labels for entry in entries):
            return  # the common case: nothing stored could stand in the way
        ledger = _Ledger(await self._held(entries, accounts))
        complaints = await in_pieces(entries, ledger.enter)
        conflicts = [entry_error for entry_error in complaints if entry_error is not None]
        if conflicts:
            raise EntriesRefusedError(conflicts, of=len(entries), is_conflict=True)

    async def _held(self, entries: Sequence[Entry], accounts: Sequence[str]) -> Iterator[Operation]:
        ids = iter({entry.id: None for entry in entries})
        held: list[Operation] = []
        while batch := [*islice(ids, _AT_ONCE)]:
            for found in await asyncio.gather(*(self._store.find(id_) for id_ in batch)):
                held += (one.operation for one in found if one.untracked_at is None)
        return (operation for operation in held if operation.account in accounts)


class _Ledger:
    """Which account follows an id and which label names it has, as stored and as the batch goes on to say."""

    def __init__(self, held: Iterable[Operation]) -> None:
        self._names: dict[str, dict[str, set[str]]] = {}
        for operation in held:
            if operation.outcome not in _NEVER_SEEN:
                self._names.setdefault(operation.id, {})[operation.account] = set(operation.labels)

    def enter(self, index: int, entry: Entry) -> EntryError | None:
        """Enter one more; what stands in its way, if anything."""
        accounts = self._names.setdefault(entry.id, {})
        others = sorted(accounts.keys() - {entry.account})
        if others:
            return EntryError(index=index, id=quoted(entry.id), why=f"followed under the account {quoted(others[0])}")
        names = accounts.setdefault(entry.account, set())
        names |= entry.labels.keys()
        if len(names) > MAX_LABELS:
            why = f"{len(names)} labels together with those that it has; at most {MAX_LABELS}"
            return EntryError(index=index, id=quoted(entry.id), why=why)
        return None


def raw_entries(body: bytes) -> Sequence[msgspec.Raw]:
    """The entries of a JSON list, or the one that the body is, each not yet decoded. Raises MalformedError."""
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
    """The entry, or why it is none."""
    try:
        return msgspec.json.decode(raw, type=TrackRequest)
    except msgspec.MsgspecError as exc:
        why = str(exc)
    fields = _fields(raw)
    unknown = sorted(fields.keys() - set(TrackRequest.__struct_fields__))
    if unknown:
        names = ", ".join(map(quoted, unknown[:_MOST_NAMED])) + (", …" if len(unknown) > _MOST_NAMED else "")
        why = f"unknown {'key' if len(unknown) == 1 else 'keys'} {names}; there are id, account and labels"
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
    """The results of the work on each item and its index; the event loop turns in between."""
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
    if "truncated" in str(exc):
        return f"JSON that breaks off, by byte {len(body)} at the latest"
    return str(exc).replace("JSON is malformed: ", "malformed JSON: ")


def _fields(raw: msgspec.Raw) -> Mapping[str, msgspec.Raw]:
    try:
        return msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError):  # the list could just be read, but this is a few frames further down
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
        yield f"unknown account {quoted(request.account)}; there is {named}"
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
        yield f"{quoted(name)} is no label name: a-z, 0-9 and _, no digit first, at most {MAX_LABEL_LENGTH}"
    if len(value) > MAX_LABEL_LENGTH:
        yield f"the value of {quoted(name)} has {len(value)} characters; at most {MAX_LABEL_LENGTH}"
    elif _UNSTORABLE.search(value):
        yield f"the value of {quoted(name)} holds a character that no text can carry"
