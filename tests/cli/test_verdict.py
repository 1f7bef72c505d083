"""What `wait` makes of ends, and of an API that does not answer."""

import pytest

from tests.server.serving import an_operation
from watcher.cli.exits import Exit
from watcher.cli.reachability import Reachability
from watcher.cli.verdict import FailureLimits, Stop, judge, total
from watcher.core.account_health import Began, HealthIssue, Recovered
from watcher.core.attempt import Attempt
from watcher.core.channels import Stats
from watcher.core.governor import AttemptResult
from watcher.core.model import SECOND, Moment, Status
from watcher.core.observation import Timing
from watcher.core.requests import Endpoint

COMPLETED = an_operation(status=Status.COMPLETED, stats=Stats(sent=10, failed=0, unaddressable=4))
FAILING = an_operation(status=Status.COMPLETED, stats=Stats(sent=7, failed=3))
RUNNING = an_operation(status=Status.PROCESSING, stats=Stats(sent=1))


@pytest.mark.parametrize(
    ("operations", "limits", "code"),
    [
        ([COMPLETED], FailureLimits(), Exit.GOOD),
        ([COMPLETED, FAILING], FailureLimits(), Exit.ENDED_BADLY),
        ([COMPLETED, FAILING], FailureLimits(failed=3), Exit.GOOD),
        ([FAILING, FAILING], FailureLimits(failed=5), Exit.ENDED_BADLY),
        ([FAILING, FAILING], FailureLimits(failed=6), Exit.GOOD),
        ([COMPLETED], FailureLimits(unaddressable=3), Exit.ENDED_BADLY),
        ([COMPLETED], FailureLimits(unaddressable=4), Exit.GOOD),
        ([COMPLETED, COMPLETED], FailureLimits(unaddressable=7), Exit.ENDED_BADLY),
    ],
)
def test_limits_are_sums_over_all(operations, limits: FailureLimits, code: Exit):
    assert judge(Stop.ALL_ENDED, operations, limits).code == code


@pytest.mark.parametrize("status", [Status.CANCELED, Status.EXPIRED, Status.NOT_FOUND, Status.REJECTED])
def test_any_other_end_than_completed_is_bad(status: Status):
    verdict = judge(Stop.ALL_ENDED, [COMPLETED, an_operation(status=status)], FailureLimits(failed=99))
    assert verdict.code == Exit.ENDED_BADLY
    assert verdict.reasons == (f"1 operation ended as {status.value.lower().replace('_', ' ')}",)


@pytest.mark.parametrize(
    ("stop", "operations", "code"),
    [
        (Stop.TIMED_OUT, [COMPLETED, RUNNING], Exit.TIMED_OUT),
        (Stop.TIMED_OUT, [FAILING, RUNNING], Exit.ENDED_BADLY),
        (Stop.UNREACHABLE, [FAILING, RUNNING], Exit.UNREACHABLE),
        (Stop.UNAUTHORIZED, [FAILING, RUNNING], Exit.USAGE),
    ],
)
def test_where_several_apply_the_order_is_2_4_1_3(stop: Stop, operations, code: Exit):
    assert judge(stop, operations, FailureLimits()).code == code


def test_every_reason_is_said():
    verdict = judge(Stop.TIMED_OUT, [COMPLETED, FAILING, RUNNING], FailureLimits(unaddressable=0))
    assert verdict.reasons == (
        "timed out, 1 operation had not ended",
        "3 notifications failed, 0 allowed (--max-failed)",
        "4 recipients unaddressable, 0 allowed (--max-unaddressable)",
    )


def test_a_stat_that_no_operation_has_is_absent_from_the_sum():
    assert total([COMPLETED, FAILING, RUNNING]) == Stats(sent=18, failed=3, unaddressable=4)


def after(*results: tuple[AttemptResult, int]) -> Reachability:
    """The reachability after attempts that were requested at these seconds."""
    reached = Reachability()
    for result, seconds in results:
        asked = Moment(0, seconds * SECOND)
        timing = Timing(asked=asked, answered=asked)
        attempt = Attempt(endpoint=Endpoint.FETCH, code="other", result=result, timing=timing, why="refused")
        reached = reached.after(attempt)
    return reached


GOOD, TROUBLED, UNAUTHORIZED = AttemptResult.GOOD, AttemptResult.TROUBLED, AttemptResult.UNAUTHORIZED


def test_an_api_that_never_answered_is_given_up_after_ten_seconds():
    reached = after((TROUBLED, 5), (TROUBLED, 6))
    assert reached.lost(14 * SECOND) is None
    assert reached.lost(15 * SECOND) is Stop.UNREACHABLE


def test_one_failed_attempt_proves_nothing():
    assert after((TROUBLED, 5), (AttemptResult.ABANDONED, 6)).lost(100 * SECOND) is None


def test_an_api_that_answered_before_has_a_minute_to_come_back():
    reached = after((GOOD, 0), (TROUBLED, 5), (TROUBLED, 6))
    assert reached.lost(64 * SECOND) is None
    assert reached.lost(65 * SECOND) is Stop.UNREACHABLE
    assert after((TROUBLED, 5), (TROUBLED, 6), (AttemptResult.THROTTLED, 7)).lost(100 * SECOND) is None


def test_credentials_that_were_never_taken_are_wrong_at_once():
    assert after((UNAUTHORIZED, 1)).lost(SECOND) is Stop.UNAUTHORIZED


def test_credentials_that_were_taken_may_be_refused_once():
    assert after((GOOD, 0), (UNAUTHORIZED, 1)).lost(SECOND) is None
    assert after((GOOD, 0), (UNAUTHORIZED, 1), (UNAUTHORIZED, 2)).lost(SECOND) is Stop.UNAUTHORIZED
    assert after((GOOD, 0), (UNAUTHORIZED, 1), (GOOD, 2), (UNAUTHORIZED, 3)).lost(SECOND) is None


def test_a_timeout_before_any_answer_means_that_nothing_was_reached():
    assert after((TROUBLED, 0)).at_timeout() is Stop.UNREACHABLE
    assert Reachability().at_timeout() is Stop.UNREACHABLE
    assert after((GOOD, 0), (TROUBLED, 1)).at_timeout() is Stop.TIMED_OUT


@pytest.mark.parametrize(
    ("issue", "stop"), [(HealthIssue.UNREACHABLE, Stop.UNREACHABLE), (HealthIssue.UNAUTHORIZED, Stop.UNAUTHORIZED)]
)
def test_an_issue_of_the_account_counts_like_failed_attempts_and_ends_with_a_good_answer(
    issue: HealthIssue, stop: Stop
):
    reached = Reachability().after_event(Began(issue=issue, why="HTTP 404"), 0)
    assert (reached.lost(9 * SECOND), reached.lost(10 * SECOND), reached.why) == (None, stop, "HTTP 404")
    timing = Timing(asked=Moment(0, 0), answered=Moment(0, 0))
    good = Attempt(endpoint=Endpoint.FETCH, code="200", result=AttemptResult.GOOD, timing=timing)
    assert reached.after(good).lost(99 * SECOND) is None
    assert reached.after_event(Recovered(issue=issue, lasted=1), 1) == reached
    assert Reachability().after_event(Began(issue=HealthIssue.THROTTLED, why="HTTP 429"), 0) == Reachability()
