"""Hypothesis strategies for what upstream may say, in whatever order."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

from tests.support.factories import CREATED, NOW, PLAIN_ID, at
from watcher.core.channels import STAT_NAMES, Stats
from watcher.core.model import DAY, SECOND
from watcher.core.observation import FailureCause, Missing, Observation, Record, Refused, Seen, Timing, Unanswered

unhurried = settings(deadline=None)
"""For all properties: a busy machine is no failure."""

WORDS = ("SCHEDULED", "PROCESSING", "COMPLETED", "CANCELED", "PAUSED", None)

counts = st.none() | st.integers(0, 20)
stats = st.builds(Stats, **dict.fromkeys(STAT_NAMES, counts))
instants = st.none() | st.integers(0, 30).map(lambda seconds: CREATED + seconds * SECOND)

records = st.builds(
    Record,
    id=st.just(PLAIN_ID),
    word=st.sampled_from(WORDS),
    stats=st.none() | stats,
    created_at=st.just(CREATED) | st.none(),
    updated_at=instants,
    odd=st.sampled_from(((), ("stats_missing",), ("stats_garbled", "instant_garbled"))),
)


@st.composite
def timings(draw: st.DrawFn) -> Timing:
    """Requested within the hour. Upstream's clock agrees, is not shown, or is days later."""
    asked = at(draw(st.integers(0, 3600)))
    answered = asked.later(draw(st.integers(0, 10)) * SECOND)
    later = draw(st.sampled_from((None, 0, 0, 0, 5 * DAY, 7 * DAY + 3600 * SECOND, 9 * DAY)))
    return Timing(asked=asked, answered=answered, date=None if later is None else NOW + later)


observations: st.SearchStrategy[Observation] = st.one_of(
    st.builds(Seen, timing=timings(), record=records),
    st.builds(Missing, timing=timings()),
    st.builds(Refused, timing=timings()),
    st.builds(Unanswered, timing=timings(), cause=st.sampled_from(FailureCause)),
)

harmless: st.SearchStrategy[Observation] = st.one_of(
    st.builds(Seen, timing=timings(), record=records),
    st.builds(Unanswered, timing=timings(), cause=st.sampled_from(FailureCause)),
)
"""What ends an operation only by upstream's own word, or by age."""
