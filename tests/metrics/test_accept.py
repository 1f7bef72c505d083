"""What scrapers say they accept, and what becomes of it, however odd."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.exposition import choose_encoder

from watcher.metrics.accept import accepted_format, accepts_gzip

NAMES = st.sampled_from(["application/openmetrics-text", "text/plain", "text/*", "*/*", "gzip", "*", "", "a/b"])
VALUES = st.one_of(
    st.sampled_from(["1.0.0", "0.0.4", "0.0.1", "9e999", "1", "", "0", "0.5", "1.000", "-1", "nan", "allow-utf-8"]),
    st.text(st.characters(codec="latin-1"), max_size=8),
)
PARAMETERS = st.tuples(st.sampled_from(["version", "q", "escaping", "charset", " Q ", ""]), VALUES).map("=".join)
HEADERS = st.lists(
    st.tuples(NAMES, st.lists(PARAMETERS, max_size=4)).map(lambda offer: ";".join([offer[0], *offer[1]])), max_size=4
).map(",".join)


@given(HEADERS)
def test_there_is_an_encoder_for_every_accepted_format(header: str):
    _, content_type = choose_encoder(accepted_format(header))
    assert content_type.split(";")[0] in {"text/plain", "application/openmetrics-text"}
    assert accepts_gzip(header) in {True, False}


PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;"
    "q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        (PROMETHEUS_3, "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8"),
        ("text/plain;version=1.0.0;q=0.4,text/plain;version=0.0.4;q=0.6", ""),
        ("text/plain;version=1.0.0;escaping=dots", "text/plain;version=1.0.0"),
        ("*/*", ""),
    ],
)
def test_the_preferred_format_is_written(header: str, chosen: str):
    assert accepted_format(header) == chosen
