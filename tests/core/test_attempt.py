"""One attempt as the metrics count it."""

from __future__ import annotations

from tests.support.factories import a_timing
from watcher.core.attempt import Attempt
from watcher.core.governor import AttemptResult
from watcher.core.requests import Endpoint


def test_the_endpoints_are_those_of_the_contract():
    assert [endpoint.value for endpoint in Endpoint] == ["fetch", "list"]


def test_an_attempt_that_went_well_needs_no_reason():
    attempt = Attempt(endpoint=Endpoint.FETCH, code="200", result=AttemptResult.GOOD, timing=a_timing())
    assert attempt.why == ""
