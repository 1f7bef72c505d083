import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.core.errors import StoreUnusable
from watcher.core.model import SECOND, Operation, Outcome, Source, Status
from watcher.core.settings import Account
from watcher.intake import (
    EntriesRefusedError,
    Intake,
    MalformedError,
    NotAnIdError,
    NotFollowedError,
    SeveralAccountsError,
    TrackRequest,
    quoted,
)
from watcher.store import Change, RegistrationResult
from watcher.store.memory import MemoryStore

NOW = 1_800_000_000 * SECOND
AN_ID = "comms_operation_01h9krwprkeee8fzqspvwy6nq8"
ANOTHER_ID = "comms_operation_01h9krwprkeee8fzqspvwy6nq9"


class IntakeRig:
    """An intake with its parts."""

    def __init__(self, *accounts: str) -> None:
        self.accounts = list(accounts)
        self.store = MemoryStore()
        self.woken: list[str] = []
        self.intake = Intake(self.store, lambda: self.accounts, self.woken.append, lambda: NOW)

    async def take(self, *entries: Any) -> list[tuple[str, str]]:
        registrations = await self.intake.take(json.dumps(entries).encode())
        return [(registration.account, registration.result.value) for registration in registrations]

    async def refusal(self, *entries: Any) -> EntriesRefusedError:
        with pytest.raises(EntriesRefusedError) as caught:
            await self.take(*entries)
        return caught.value

    async def why(self, *entries: Any) -> list[str]:
        return [entry_error.why for entry_error in (await self.refusal(*entries)).errors]

    async def labels(self, account: str, operation_id: str) -> dict[str, str]:
        (found,) = await self.store.find(operation_id, account)
        return dict(found.operation.labels)

    async def end(self, account: str, operation_id: str, status: Status) -> None:
        (found,) = await self.store.find(operation_id, account)
        ended = found.operation.with_(status=status, final_at=NOW)
        await self.store.commit(account, [Change(operation=ended)])


@pytest.fixture
def app() -> IntakeRig:
    return IntakeRig("main")


async def test_a_new_operation_is_stored_and_its_loop_is_woken(app: IntakeRig):
    assert await app.take({"id": AN_ID, "labels": {"campaign": "spring"}}) == [("main", "new")]
    assert app.woken == ["main"]
    assert await app.labels("main", AN_ID) == {"campaign": "spring"}


async def test_one_object_is_a_list_of_one(app: IntakeRig):
    (registration,) = await app.intake.take(b' {"id": "%s"} ' % AN_ID.encode())
    assert registration.result is RegistrationResult.NEW


async def test_an_empty_list_wakes_no_loop(app: IntakeRig):
    assert await app.take() == []
    assert app.woken == []


async def test_labels_of_a_known_operation_merge_and_given_keys_win(app: IntakeRig):
    await app.take({"id": AN_ID, "labels": {"a": "1", "b": "1"}})
    assert await app.take({"id": AN_ID, "labels": {"b": "2", "c": "2"}}) == [("main", "known")]
    assert await app.labels("main", AN_ID) == {"a": "1", "b": "2", "c": "2"}


async def test_an_id_twice_in_a_list_is_new_and_then_known(app: IntakeRig):
    results = await app.take({"id": AN_ID, "labels": {"a": "1"}}, {"id": AN_ID, "labels": {"a": "2"}})
    assert results == [("main", "new"), ("main", "known")]
    assert await app.labels("main", AN_ID) == {"a": "2"}


async def test_a_finished_operation_answers_its_outcome_and_wakes_no_loop(app: IntakeRig):
    await app.take({"id": AN_ID})
    await app.end("main", AN_ID, Status.CANCELED)
    app.woken.clear()
    (registration,) = await app.intake.take(json.dumps({"id": AN_ID}).encode())
    assert (registration.result, registration.outcome) == (RegistrationResult.FINISHED, Outcome.CANCELED)
    assert app.woken == []


async def test_a_failed_registration_is_reported_and_so_is_the_next_success():
    reported: list[StoreUnusable | None] = []
    full = StoreUnusable("the disk is full")

    class Filling(MemoryStore):
        trouble: StoreUnusable | None = full

        async def register(self, entries: Any, now: int, **more: Any) -> Any:
            if self.trouble is not None:
                raise self.trouble
            return await super().register(entries, now, **more)

    store = Filling()
    intake = Intake(store, lambda: ["main"], lambda _: None, lambda: NOW, store_trouble=reported.append)
    with pytest.raises(StoreUnusable):
        await intake.register([TrackRequest(id=AN_ID)], Source.API)
    store.trouble = None
    await intake.register([TrackRequest(id=AN_ID)], Source.API)
    assert reported == [full, None]


async def test_the_creation_time_in_the_id_is_stored(app: IntakeRig):
    seen: list[Any] = []
    register = app.store.register

    class Listening(MemoryStore):
        async def register(self, entries: Any, now: int, **more: Any) -> Any:
            seen.extend(entries)
            return await register(entries, now)

    intake = Intake(Listening(), lambda: ["main"], app.woken.append, lambda: NOW)
    await intake.register([TrackRequest(id=AN_ID)], Source.API)
    assert [entry.created_at for entry in seen] == [1_693_954_497_299_000]


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"id": f"{AN_ID}/../x"}, "not an operation id"),
        ({"id": f"{AN_ID}\n"}, "not an operation id"),
        ({"id": ""}, "not an operation id"),
        ({"id": AN_ID.upper()}, "not an operation id"),
        ({"id": 5}, "expected `str`, got `int` - at `$.id`"),
        ({}, "object missing required field `id`"),
        (5, "expected `object`, got `int`"),
        ({"id": AN_ID, "acount": "main"}, 'unknown key "acount"; known keys are id, account and labels'),
        ({"id": AN_ID, **dict.fromkeys("abcdefg", 1)}, 'unknown keys "a", "b", "c", "d", "e", …; known keys are'),
        ({"id": AN_ID, "account": "other"}, 'unknown account "other"; configured: "main"'),
        ({"id": AN_ID, "labels": {"a": 1}}, "expected `str`, got `int` - at `$.labels[...]`"),
        ({"id": AN_ID, "labels": {"status": ""}}, 'the label "status" is used by the watcher itself'),
        (
            {"id": AN_ID, "labels": {"__name": ""}},
            'labels that begin with __ are used by Prometheus itself, got "__name"',
        ),
        ({"id": AN_ID, "labels": {"1a": ""}}, '"1a" is not a label name'),
        ({"id": AN_ID, "labels": {"a\n": ""}}, '"a\\n" is not a label name'),
        ({"id": AN_ID, "labels": {"a" * 129: ""}}, "is not a label name"),
        ({"id": AN_ID, "labels": {"a": "x" * 129}}, 'the value of "a" has 129 characters; at most 128'),
        ({"id": AN_ID, "labels": {"a": "\0"}}, 'the value of "a" contains a character that cannot be stored'),
        ({"id": AN_ID, "labels": {f"a{n}": "" for n in range(11)}}, "11 labels; at most 10"),
    ],
)
async def test_a_bad_entry_is_named_with_its_reason_and_nothing_is_kept(app: IntakeRig, entry: Any, why: str):
    refusal = await app.refusal({"id": ANOTHER_ID}, entry)
    (entry_error,) = refusal.errors
    assert entry_error.index == 1
    assert entry_error.why.startswith(why) or why in entry_error.why
    assert str(refusal) == "1 of 2 entries refused, nothing was kept"
    assert not refusal.is_conflict
    assert await app.store.find(ANOTHER_ID) == ()


async def test_every_bad_entry_is_named_with_all_its_reasons(app: IntakeRig):
    refusal = await app.refusal({"id": "x", "account": "y"}, {"id": AN_ID}, {"id": "\x1b[31m", "extra": 1})
    assert [(error.index, error.id) for error in refusal.errors] == [(0, '"x"'), (2, '"\\x1b[31m"')]
    assert "not an operation id" in refusal.errors[0].why
    assert "unknown account" in refusal.errors[0].why


async def test_a_lone_surrogate_is_refused_where_the_text_did_not_come_as_json(app: IntakeRig):
    with pytest.raises(EntriesRefusedError) as caught:
        await app.intake.register([TrackRequest(id=AN_ID, labels={"a": "\ud800"})], Source.API)
    assert "cannot be stored" in caught.value.errors[0].why


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "incomplete JSON, at byte 0 or before"),
        (b"[", "incomplete JSON, at byte 1 or before"),
        (b'["\\ud800"]', "incomplete JSON"),
        (b"[tru]", "malformed JSON: invalid character (byte 2)"),
        (b"[NaN]", "malformed JSON: invalid character (byte 1)"),
        (b'["\xff"]', "not UTF-8 at byte 2"),
        (b"\xef\xbb\xbf[]", "malformed JSON: invalid character (byte 0)"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[" + b"0," * 10_000 + b"0]", "10001 entries in one list; at most 10000"),
    ],
    ids=lambda text: ascii(text)[:20],
)
async def test_a_body_that_is_no_list_of_entries_is_refused_with_the_position(app: IntakeRig, body: bytes, why: str):
    with pytest.raises(MalformedError) as caught:
        await app.intake.take(body)
    assert str(caught.value).startswith(why)


async def test_any_depth_of_nesting_is_refused_without_a_crash(app: IntakeRig):
    for depth in (10, 100, *range(800, 1100)):  # somewhere there Python's own limit lies
        deep = b"[" * depth + b"]" * depth
        for body in (deep, b'[{"id":' + deep + b"}]", b'[{"else":' + deep + b"}]"):
            with pytest.raises((MalformedError, EntriesRefusedError)):
                await app.intake.take(body)


async def test_of_duplicate_keys_the_last_counts_and_huge_numbers_are_only_of_the_wrong_type(app: IntakeRig):
    await app.intake.take(b'{"id": "x", "id": "%s"}' % AN_ID.encode())
    with pytest.raises(EntriesRefusedError):
        await app.intake.take(b'{"id": 1%s}' % (b"0" * 5000))


async def test_ten_thousand_entries_are_accepted_at_once(app: IntakeRig):
    entries = [{"id": f"comms_operation_0{number:025d}"} for number in range(10_000)]
    assert set(await app.take(*entries)) == {("main", "new")}
    assert app.woken == ["main"]


async def test_without_any_account_nothing_can_be_tracked():
    assert await IntakeRig().why({"id": AN_ID}) == ["no account is configured"]


async def test_among_several_accounts_one_must_be_named():
    app = IntakeRig("a", "b")
    assert await app.why({"id": AN_ID}) == ['no account is given, and there are several: "a", "b"']
    assert await app.take({"id": AN_ID, "account": "b"}) == [("b", "new")]
    assert app.woken == ["b"]


async def test_an_operation_of_another_account_is_a_conflict():
    app = IntakeRig("a", "b")
    await app.take({"id": AN_ID, "account": "a"})
    refusal = await app.refusal({"id": ANOTHER_ID, "account": "b"}, {"id": AN_ID, "account": "b"})
    assert refusal.is_conflict
    assert [(error.index, error.why) for error in refusal.errors] == [(1, 'tracked under the account "a"')]
    assert await app.store.find(ANOTHER_ID) == ()


async def test_one_list_cannot_give_an_operation_to_two_accounts():
    refusal = await IntakeRig("a", "b").refusal({"id": AN_ID, "account": "a"}, {"id": AN_ID, "account": "b"})
    assert refusal.is_conflict
    assert [error.index for error in refusal.errors] == [1]


@pytest.mark.parametrize("status", [Status.NOT_FOUND, Status.REJECTED])
async def test_an_operation_that_its_account_never_saw_may_be_registered_under_another(status: Status):
    app = IntakeRig("a", "b")
    await app.take({"id": AN_ID, "account": "a"})
    await app.end("a", AN_ID, status)
    assert await app.take({"id": AN_ID, "account": "b"}) == [("b", "new")]


async def test_an_operation_that_is_untracked_or_of_a_removed_account_may_be_registered_under_another():
    app = IntakeRig("a", "b", "c")
    await app.take({"id": AN_ID, "account": "a"}, {"id": ANOTHER_ID, "account": "c"})
    await app.intake.untrack(AN_ID)
    app.accounts.remove("c")
    entries = [{"id": AN_ID, "account": "b"}, {"id": ANOTHER_ID, "account": "b"}]
    assert await app.take(*entries) == [("b", "new"), ("b", "new")]


async def test_labels_that_are_too_many_together_are_a_conflict(app: IntakeRig):
    await app.take({"id": AN_ID, "labels": {f"a{n}": "" for n in range(8)}})
    refusal = await app.refusal({"id": AN_ID, "labels": {f"b{n}": "" for n in range(3)}})
    assert refusal.is_conflict
    assert refusal.errors[0].why == "11 labels together with the stored ones; at most 10"


async def test_the_configuration_names_operations_of_its_accounts(app: IntakeRig):
    accounts = [Account(name="a", operations=(AN_ID,)), Account(name="b", operations=(AN_ID, ANOTHER_ID))]
    registrations = await app.intake.from_configuration(accounts)
    assert [(one.account, one.id) for one in registrations] == [("a", AN_ID), ("b", AN_ID), ("b", ANOTHER_ID)]
    assert sorted(app.woken) == ["a", "b"]
    assert (await app.store.find(AN_ID, "a"))[0].operation.source is Source.CONFIG


async def test_the_api_tracks_an_untracked_operation_again_but_the_configuration_does_not(app: IntakeRig):
    account = Account(name="main", operations=(AN_ID,))
    await app.intake.from_configuration([account])
    await app.intake.untrack(AN_ID)
    app.woken.clear()
    (registration,) = await app.intake.from_configuration([account])
    assert registration.result is RegistrationResult.LEFT_OUT
    assert app.woken == []
    assert await app.take({"id": AN_ID}) == [("main", "new")]


async def test_the_store_remembers_which_ids_the_configuration_names(app: IntakeRig):
    named: list[Any] = []

    class Listening(MemoryStore):
        async def register(self, entries: Any, now: int, **more: Any) -> Any:
            named.append((sorted(entry.id for entry in entries), *more["configured"]))
            return await super().register(entries, now, **more)

    intake = Intake(Listening(), lambda: ["main"], app.woken.append, lambda: NOW)
    await intake.from_configuration([Account(name="main", operations=(AN_ID,)), Account(name="idle")])
    await intake.register([TrackRequest(id=ANOTHER_ID)], Source.API)
    await intake.register([TrackRequest(id=ANOTHER_ID)], Source.DISCOVERY)
    assert named == [([AN_ID], "main", "idle"), ([ANOTHER_ID],), ([ANOTHER_ID],)]


async def test_untracking_ends_tracking_and_wakes_the_loop(app: IntakeRig):
    await app.take({"id": AN_ID})
    app.woken.clear()
    untracked = await app.intake.untrack(AN_ID)
    assert (untracked.account, untracked.id) == ("main", AN_ID)
    assert app.woken == ["main"]
    with pytest.raises(NotFollowedError):
        await app.intake.untrack(AN_ID)


async def test_untracking_an_operation_that_was_untracked_meanwhile_answers_that_it_is_not_tracked():
    class Forgetful(MemoryStore):
        async def untrack(self, account: str, operation_id: str, now: int, source: Source) -> bool:
            return False

    intake = Intake(Forgetful(), lambda: ["main"], lambda _: None, lambda: NOW)
    await intake.register([TrackRequest(id=AN_ID)], Source.API)
    with pytest.raises(NotFollowedError):
        await intake.untrack(AN_ID)


async def test_an_operation_under_several_accounts_must_be_named_with_one():
    app = IntakeRig("a", "b")
    await app.intake.from_configuration([Account(name=name, operations=(AN_ID,)) for name in ("a", "b")])
    with pytest.raises(SeveralAccountsError, match="name one: a, b"):
        await app.intake.locate(AN_ID)
    located: Operation = await app.intake.locate(AN_ID, "b")
    assert located.account == "b"


async def test_an_invalid_or_untracked_id_cannot_be_located(app: IntakeRig):
    with pytest.raises(NotAnIdError, match=r'"\.\./x" is not an operation id'):
        await app.intake.locate("../x")
    with pytest.raises(NotFollowedError, match=f"{AN_ID} is not tracked under main"):
        await app.intake.locate(AN_ID, "main")


def test_quoted_texts_are_short_and_harmless():
    assert quoted('a"b\\') == '"a\\"b\\\\"'
    assert quoted("\x1b\ud800\u202e") == '"\\x1b\\ud800\\u202e"'
    assert quoted("x" * 100) == '"' + "x" * 59 + '…"'


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NEARLY = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from([AN_ID, ANOTHER_ID]) | st.text() | JSON,
        "account": st.sampled_from(["main", "other"]) | JSON,
        "labels": st.dictionaries(st.sampled_from(["a", "_b", "__c", "status"]) | st.text(), st.text()) | JSON,
        "extra": JSON,
    },
)


async def reasons(body: bytes) -> list[str]:
    """Why the body is refused; nothing where it is taken."""
    try:
        await IntakeRig("main", "third").intake.take(body)
    except EntriesRefusedError as refused:
        return [entry_error.why + (entry_error.id or "") for entry_error in refused.errors]
    except MalformedError as malformed:
        return [str(malformed)]
    return []


@given(what=st.lists(NEARLY) | NEARLY | JSON)
async def test_any_json_is_taken_or_refused_with_reasons_that_can_be_shown(what: Any):
    assert all(reason.isprintable() for reason in await reasons(json.dumps(what).encode()))


@given(body=st.binary())
async def test_any_bytes_are_taken_or_refused_with_reasons_that_can_be_shown(body: bytes):
    assert all(reason.isprintable() for reason in await reasons(body))
