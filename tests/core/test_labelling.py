"""Label values on counters are bounded."""

from __future__ import annotations

from watcher.core.labelling import OTHER, VALUES_AT_MOST, CounterLabels


def test_values_are_counted_under_their_own_name_up_to_a_bound_then_as_other():
    labels = CounterLabels(("campaign",))
    for number in range(VALUES_AT_MOST):
        assert labels.of({"campaign": str(number)}) == {"campaign": str(number)}
    assert labels.of({"campaign": "one too many"}) == {"campaign": OTHER}
    assert labels.of({"campaign": "7"}) == {"campaign": "7"}


def test_a_label_that_is_missing_is_empty_and_one_that_is_not_allowed_is_left_out():
    assert CounterLabels(("campaign",)).of({"team": "x"}) == {"campaign": ""}


def test_values_that_were_counted_before_are_known_after_a_restart():
    totals = [("operations", "completed", f"campaign={number}") for number in range(VALUES_AT_MOST)]
    labels = CounterLabels(("campaign",), [*totals, ("operations", "completed", "team=x"), ("recipients",)])
    assert labels.of({"campaign": "new"}) == {"campaign": OTHER}
    assert labels.of({"campaign": "3"}) == {"campaign": "3"}
