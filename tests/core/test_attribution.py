"""Which answers are believed about an operation, which are checked first, and which concern the whole account."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.factories import (
    NOW,
    a_running_operation,
    a_timing,
    an_id,
    an_operation,
    at,
    days,
    forbidden,
    missing,
    refused,
    seen,
    unanswered,
)
from tests.support.strategies import unhurried
from watcher.core.account_health import Cause
from watcher.core.attribution import CHECK_EVERY, LIST_EVERY, Attribution
from watcher.core.clocks import ClockReading
from watcher.core.model import MINUTE, Moment, Operation
from watcher.core.observation import Forbidden, Missing, Negative, Observation, Page, Refused
from watcher.core.requests import Fetch, Probe


def upstreams(answer: Missing | Refused) -> Missing | Refused:
    """The answer with one of upstream's error bodies."""
    return msgspec.structs.replace(answer, is_upstreams=True)


def fetched(attribution: Attribution, operation: Operation, answer: Observation) -> bool:
    """Whether the answer is believed; both clocks say the same."""
    at_ = answer.timing.answered.at
    return attribution.fetched(operation, answer, ClockReading(machine_at=at_, upstream_at=at_))


def page(seconds: float) -> Page:
    return Page(timing=a_timing(seconds))


def known(number: int, **changes: Any) -> Operation:
    """An operation that was seen before."""
    return a_running_operation(id=an_id(number), **changes)


class Tracked(dict[str, Operation]):
    """The operations of an account."""

    def __init__(self, *operations: Operation) -> None:
        super().__init__({operation.id: operation for operation in operations})

    def __iter__(self) -> Any:
        return iter(self.values())


def refuse(attribution: Attribution, answer: Callable[[float], Negative]) -> None:
    """A list is refused, and refused again."""
    attribution.listed(answer(1))
    attribution.listed(answer(1.5))


NONE = Tracked()
NEW = an_operation()


@pytest.mark.parametrize("answer", [missing(1), refused(1)])
def test_a_400_or_404_without_upstreams_body_waits_for_a_list_requested_after_it(answer: Missing | Refused):
    attribution = Attribution(at())
    attribution.listed(page(0))
    assert not fetched(attribution, NEW, answer)
    assert attribution.choose(at(1.1), NONE) == Probe()
    attribution.listed(page(1))
    attribution.listed(page(1.2))
    # A proxy may have gone in between, so it is requested again.
    assert attribution.resolved() == ([], [])
    again = msgspec.structs.replace(answer, timing=a_timing(5))
    assert not fetched(attribution, NEW, again)
    attribution.listed(page(5))
    assert attribution.resolved() == ([], [])
    attribution.listed(page(5.2))
    assert attribution.resolved() == ([(NEW.id, again)], [])
    assert attribution.resolved() == ([], [])


@pytest.mark.parametrize("answer", [upstreams(missing(1)), upstreams(refused(1))])
def test_a_400_or_404_with_upstreams_body_is_believed_once_anything_was_answered_well(answer: Missing | Refused):
    assert not fetched(Attribution(at()), NEW, answer)
    after_a_list = Attribution(at())
    after_a_list.listed(page(0))
    assert fetched(after_a_list, NEW, answer)
    after_a_fetch = Attribution(at())
    assert fetched(after_a_fetch, known(1), seen(seconds=0))
    assert fetched(after_a_fetch, NEW, answer)
    assert after_a_fetch.choose(at(2), NONE) is None
    after_the_check = Attribution(at())
    assert not fetched(after_the_check, NEW, answer)
    after_the_check.listed(page(2))
    assert after_the_check.resolved().believed == [(NEW.id, answer)]


@pytest.mark.parametrize("refusal", [missing(2), upstreams(missing(2)), refused(2), forbidden(2)])
@pytest.mark.parametrize("answer", [missing(1), refused(1), upstreams(missing(1)), forbidden(1)])
def test_where_the_list_is_refused_too_no_answer_is_believed_and_the_account_is_held(
    answer: Negative, refusal: Negative
):
    attribution = Attribution(at())
    refusal_later = msgspec.structs.replace(refusal, timing=a_timing(2.5))
    assert not fetched(attribution, NEW, answer)
    attribution.listed(refusal)
    assert (attribution.causes, attribution.is_held) == ({}, False)
    attribution.listed(refusal_later)
    assert attribution.resolved() == ([], [NEW.id])
    assert (attribution.is_held, attribution.uses_lists) == (True, False)
    cause = Cause.LISTS_FORBIDDEN if isinstance(refusal, Forbidden) else Cause.LISTS_ABSENT
    assert attribution.causes == {cause: refusal.why}
    assert not fetched(attribution, NEW, msgspec.structs.replace(answer, timing=a_timing(3)))
    attribution.listed(page(4))
    assert (attribution.is_held, attribution.uses_lists, attribution.causes) == (False, True, {})


def test_a_check_a_minute_is_enough_for_all_unconfirmed_answers():
    attribution = Attribution(at())
    for number in range(500):
        assert not fetched(attribution, known(number), forbidden(1 + number / 1000))
    assert attribution.wake_tick() == 0
    assert attribution.choose(at(2), NONE) == Probe()
    assert attribution.choose(at(61), NONE) is None
    assert attribution.wake_tick() == at(62).tick
    attribution.listed(page(2))
    believed, forgotten = attribution.resolved()
    assert (len(believed), forgotten) == (500, [])
    assert attribution.wake_tick() == at(2).tick + LIST_EVERY


def test_a_403_is_about_its_operation_when_another_fetch_requested_after_it_is_answered():
    attribution = Attribution(at())
    assert not fetched(attribution, NEW, forbidden(1))
    assert fetched(attribution, known(1), seen(seconds=1))
    assert attribution.resolved() == ([], [])
    assert fetched(attribution, known(1), seen(seconds=2))
    assert attribution.resolved() == ([(NEW.id, forbidden(1))], [])


def test_an_answer_with_the_operation_itself_needs_no_confirmation():
    attribution = Attribution(at())
    assert not fetched(attribution, NEW, missing(1))
    assert fetched(attribution, NEW, seen(seconds=2))
    assert attribution.wake_tick() == at().tick + LIST_EVERY


def test_a_check_without_an_answer_is_made_again_a_minute_later():
    attribution = Attribution(at())
    assert not fetched(attribution, NEW, missing(1))
    assert fetched(attribution, NEW, unanswered(1.5))
    assert attribution.choose(at(2), NONE) == Probe()
    attribution.listed(unanswered(2))
    assert (attribution.choose(at(3), NONE), attribution.choose(at(62), NONE)) == (None, Probe())


# ── lists that are refused ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_400_to_the_token_of_a_later_page_says_nothing_of_lists():
    attribution = Attribution(at())
    attribution.listed(refused(1), is_first_page=False)
    attribution.listed(refused(2), is_first_page=False)
    assert attribution.uses_lists
    refuse(attribution, refused)
    assert not attribution.uses_lists


def test_a_list_that_is_refused_once_is_requested_again_before_anything_is_concluded():
    attribution = Attribution(at())
    attribution.listed(missing(1))
    # Requested before the first answer was there: that is the same moment once more.
    attribution.listed(missing(1.05))
    assert (attribution.uses_lists, attribution.causes) == (True, {})
    assert (attribution.choose(at(6), NONE), attribution.choose(at(6.2), NONE)) == (None, Probe())
    assert attribution.choose(at(60), NONE) is None
    attribution.listed(page(6.2))
    attribution.listed(missing(8))
    assert attribution.causes == {}
    attribution.listed(missing(14))
    assert attribution.causes == {Cause.LISTS_ABSENT: ""}


def test_a_refusal_that_was_overtaken_by_a_list_says_nothing():
    attribution = Attribution(at())
    attribution.listed(page(2))
    attribution.listed(forbidden(1))
    assert attribution.causes == {}


def test_a_key_that_may_fetch_but_not_list_is_an_issue_that_holds_no_requests():
    attribution = Attribution(at())
    refuse(attribution, forbidden)
    assert (attribution.is_held, attribution.uses_lists) == (False, False)
    assert fetched(attribution, known(1), seen(seconds=2))
    assert attribution.causes == {Cause.LISTS_FORBIDDEN: "HTTP 403"}
    assert attribution.choose(at(3), NONE) is None
    attribution.listed(forbidden(3))
    assert (attribution.is_held, attribution.wake_tick()) == (False, at(3).tick + LIST_EVERY)
    # What has upstream's form is believed: another fetch was answered since lists are refused.
    assert fetched(attribution, NEW, upstreams(missing(4)))
    # One operation that is forbidden holds nothing where others are answered.
    assert not fetched(attribution, NEW, forbidden(10))
    assert attribution.choose(at(63), NONE) == Probe()
    attribution.listed(forbidden(11))
    assert not attribution.is_held
    assert fetched(attribution, known(1), seen(seconds=12))
    assert attribution.resolved().believed == [(NEW.id, forbidden(10))]


def test_a_restricted_key_that_is_refused_altogether_is_held_once_no_fetch_was_answered_for_half_a_minute():
    attribution = Attribution(at())
    refuse(attribution, forbidden)
    assert fetched(attribution, known(1), seen(seconds=2))
    assert not fetched(attribution, known(1), forbidden(7))
    held = []
    for seconds in (20, 80):
        attribution.listed(forbidden(seconds))
        held.append(attribution.is_held)
    assert held == [False, True]
    assert attribution.resolved().forgotten == [known(1).id]
    assert fetched(attribution, known(1), seen(seconds=120))
    assert not attribution.is_held


def test_lists_that_were_forbidden_and_are_absent_now_are_one_cause_at_a_time():
    attribution = Attribution(at())
    refuse(attribution, forbidden)
    attribution.listed(missing(2))
    assert attribution.causes == {Cause.LISTS_ABSENT: missing().why}


def test_a_loop_that_takes_over_keeps_the_causes_of_failure():
    attribution = Attribution(at(), [Cause.LISTS_ABSENT, Cause.THROTTLING])
    assert (list(attribution.causes), attribution.uses_lists) == ([Cause.LISTS_ABSENT], False)
    assert attribution.choose(at(0), NONE) == Probe()
    attribution.listed(page(0))
    assert attribution.causes == {}


# ── several that are gone ────────────────────────────────────────────────────────────────────────────────────────────


def three_gone() -> Attribution:
    attribution = Attribution(at())
    attribution.listed(page(0))
    assert [fetched(attribution, known(number), upstreams(missing(number))) for number in (1, 2, 3)] == [
        True,
        True,
        False,
    ]
    return attribution


GONE = Tracked(known(1), known(2), known(3))


def test_three_missing_operations_that_were_seen_before_mean_that_the_account_is_another():
    attribution = three_gone()
    assert attribution.choose(at(4), GONE) == Probe()
    assert not attribution.causes
    for seconds in range(4, 35):
        assert attribution.choose(at(seconds), GONE) is None
    assert list(attribution.causes) == [Cause.OPERATIONS_GONE]
    assert attribution.is_held
    attribution.listed(page(35))
    assert attribution.is_held
    assert not fetched(attribution, known(1), upstreams(missing(36)))
    assert attribution.resolved() == ([], [])
    assert fetched(attribution, known(2), seen(seconds=37))
    assert (attribution.causes, attribution.is_held) == ({}, False)
    # What was answered in the meantime was not about this account.
    assert attribution.resolved() == ([], [known(3).id])
    assert fetched(attribution, known(1), upstreams(missing(38)))


def test_unconfirmed_answers_of_operations_that_are_gone_are_dropped_though_the_list_is_answered():
    attribution = Attribution(at())
    for number in (1, 2, 3):
        assert not fetched(attribution, known(number), missing(number))
    attribution.listed(page(5))
    assert attribution.resolved().believed == []


def test_operations_never_seen_do_not_make_the_account_another():
    attribution = Attribution(at())
    attribution.listed(page(0))
    assert all(fetched(attribution, an_operation(id=an_id(number)), upstreams(missing(1))) for number in range(50))
    assert attribution.causes == {}


def test_operations_past_the_life_of_their_record_may_all_be_missing():
    attribution = Attribution(at())
    attribution.listed(page(0))
    old = [known(number, created_at=NOW - days(9)) for number in range(50)]
    assert all(fetched(attribution, operation, upstreams(missing(1))) for operation in old)


def test_an_operation_that_a_list_shows_is_fetched_as_the_witness():
    attribution = three_gone()
    shown = known(9, asked_tick=at(5).tick)
    assert attribution.choose(at(6), Tracked(*GONE.values(), shown)) == Fetch(operation_id=shown.id)
    assert attribution.causes == {}
    assert fetched(attribution, shown, seen(seconds=6))
    assert attribution.resolved() == ([(known(3).id, upstreams(missing(3)))], [])
    assert fetched(attribution, known(1), upstreams(missing(7)))
    assert attribution.wake_tick() == at().tick + LIST_EVERY


def test_a_witness_that_is_gone_too_is_an_issue_but_lists_are_still_read():
    attribution = three_gone()
    shown = known(9, asked_tick=at(5).tick)
    tracked = Tracked(*GONE.values(), shown)
    assert attribution.choose(at(6), tracked) == Fetch(operation_id=shown.id)
    assert not fetched(attribution, shown, upstreams(missing(6)))
    assert list(attribution.causes) == [Cause.OPERATIONS_GONE]
    assert (attribution.is_held, attribution.uses_lists) == (False, True)
    assert attribution.choose(at(7), tracked) == Probe()
    assert attribution.choose(at(65), tracked) is None
    assert attribution.wake_tick() == at(6).tick + CHECK_EVERY


def test_operations_that_are_shown_again_or_untracked_are_not_gone():
    attribution = three_gone()
    again = Tracked(known(1, asked_tick=at(4).tick), known(2), known(3, final_at=NOW))
    assert attribution.choose(at(5), again) == Probe()
    assert attribution.causes == {}
    assert fetched(attribution, known(2), upstreams(missing(6)))


# ── a new key ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_key_is_believed_once_it_has_shown_a_tracked_operation():
    attribution = Attribution(at())
    attribution.require_proof()
    assert (attribution.uses_lists, attribution.is_held, attribution.wake_tick()) == (False, False, None)
    assert not fetched(attribution, known(1), upstreams(missing(1)))
    assert list(attribution.causes) == [Cause.KEY_UNPROVEN]
    assert (attribution.is_held, attribution.choose(at(2), NONE)) == (True, None)
    attribution.listed(page(2))
    assert attribution.resolved() == ([], [])
    assert fetched(attribution, known(2), seen(seconds=3))
    assert (attribution.needs_proof, attribution.causes, attribution.is_held) == (False, {}, False)


def test_credentials_that_need_no_proof_may_be_accepted_all_the_same():
    attribution = Attribution(at())
    attribution.accept()
    assert attribution.wake_tick() == at().tick + LIST_EVERY


def test_a_new_key_may_say_that_a_record_is_past_its_time():
    attribution = Attribution(at())
    attribution.require_proof()
    assert fetched(attribution, known(1, created_at=NOW - days(9)), upstreams(missing(1)))
    assert not fetched(attribution, known(1, created_at=NOW - days(9)), missing(1))


# ── in general ───────────────────────────────────────────────────────────────────────────────────────────────────────

ANSWERS = st.sampled_from(["seen", "missing", "missing of upstream", "refused", "forbidden", "unanswered"])
LISTS = st.sampled_from(["page", "missing", "refused", "forbidden", "unanswered"])
MAKE: dict[str, Callable[[float], Any]] = {
    "seen": lambda seconds: seen(seconds=seconds),
    "missing": missing,
    "missing of upstream": lambda seconds: upstreams(missing(seconds)),
    "refused": refused,
    "forbidden": forbidden,
    "unanswered": unanswered,
    "page": page,
}


@unhurried
@given(
    history=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 6), ANSWERS | st.none(), LISTS)),
    is_new_key=st.booleans(),
)
def test_no_answer_of_a_proxy_is_believed_without_a_list_after_it_and_checks_are_rare(
    history: list[tuple[int, int, str | None, str]],
    is_new_key: bool,  # noqa: FBT001 -- hypothesis gives it
):
    attribution, seconds = Attribution(at()), 0.0
    if is_new_key:
        attribution.require_proof()
    operations = {number: known(number) if number % 2 else an_operation(id=an_id(number)) for number in range(7)}
    tracked = Tracked(*operations.values())
    checks: list[Moment] = []
    is_refused_once = False
    pages = [-1.0]
    for wait, number, word, list_word in history:
        seconds += wait + 0.5
        if word is not None:
            answer = MAKE[word](seconds)
            is_believed = fetched(attribution, operations[number], answer)
            assert not (is_believed and word in ("missing", "refused", "forbidden"))
        else:
            answer = MAKE[list_word](seconds)
            attribution.listed(answer)
            is_refused_once = is_refused_once or list_word in ("missing", "refused", "forbidden")
            if list_word == "page":
                pages.append(answer.timing.asked.at)
        for _, believed in attribution.resolved().believed:
            # What has upstream's form needs no list, only that anything was answered.
            is_known = isinstance(believed, Forbidden) or believed.is_upstreams
            assert is_known or believed.timing.answered.at <= max(pages)
        chosen = attribution.choose(at(seconds), tracked)
        if isinstance(chosen, Probe):
            checks.append(at(seconds))
        assert set(attribution.causes) <= set(Cause)
        assert attribution.is_held <= bool(attribution.causes)
    assert is_refused_once or all(later.tick - sooner.tick >= MINUTE for sooner, later in itertools.pairwise(checks))
    fetched(attribution, known(1), seen(seconds=seconds + 1))
    attribution.listed(page(seconds + 1))
    assert (attribution.causes, attribution.is_held, attribution.needs_proof) == ({}, False, False)
