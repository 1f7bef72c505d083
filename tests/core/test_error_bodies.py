"""Upstream's error bodies in all their shapes, distinguished from those of proxies, gateways and frameworks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.strategies import unhurried
from watcher.core.error_bodies import ErrorBody, read_error

ITEM = {"code": 20404, "message": "not found", "infoUrl": "https://www.twilio.com/docs/errors/20404", "context": "null"}
CLASSIC = {"code": 20404, "message": "not found", "more_info": "https://www.twilio.com/docs/errors/20404"}
PROBLEM = {"type": "https://www.twilio.com/docs/errors/20404", "title": "Not found", "status": 404}


@pytest.mark.parametrize(
    ("body", "number"),
    [
        ({"errors": [ITEM]}, 20404),
        ({"errors": [{"message": "first"}, ITEM, {"code": 20001, "message": "last"}]}, 20404),
        (CLASSIC | {"status": 404}, 20404),
        ({"code": 404, "message": "not found", "status": 404}, 404),
        (PROBLEM | {"code": 20404}, 20404),
        (PROBLEM | {"errors": [{"code": 20404, "detail": "not found"}]}, 20404),
        (PROBLEM | {"code": 20404, "errors": []}, 20404),
        (PROBLEM | {"code": 20404, "errors": [{"detail": "id", "pointer": "#/id"}]}, 20404),
        ({"errors": [{"code": "20404", "message": "not found"}]}, 20404),
    ],
)
def test_each_of_upstreams_shapes_is_upstreams_and_the_first_number_found_counts(body: dict[str, Any], number: int):
    assert read_error(json.dumps(body).encode(), 404) == ErrorBody(number, is_upstreams=True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><head><title>404 Not Found</title></head><body>nginx</body></html>",
        b"default backend - 404",
        b"null",
        b"[]",
        b'["errors"]',
        b"\xff\xfe",
        b'{"message": "no Route matched with those values"}',
        b'{"timestamp": 1, "status": 404, "error": "Not Found", "path": "/v1"}',
        b'{"type": "about:blank", "title": "Not Found", "status": 404, "detail": "no such page", "instance": "/v1"}',
        b'{"kind": "Status", "status": "Failure", "message": "not found", "reason": "NotFound", "code": 404}',
        b'{"error": {"code": 404, "message": "not found", "status": "NOT_FOUND"}}',
        b'{"errors": [{"code": "NAME_UNKNOWN", "message": "unknown"}]}',
        b'{"errors": [{"status": "404", "title": "Not found"}]}',
        b'{"errors": [{"code": 20404}]}',
        b'{"errors": {"code": 20404, "message": "m"}}',
        b'{"errors": [7, null]}',
        b'{"code": 404, "message": "not found"}',
        b'{"code": 404, "message": "not found", "status": 502}',
        b'{"status": 404, "errors": [7], "message": "m"}',
    ],
)
def test_what_others_answer_is_not_upstreams(body: bytes):
    assert not read_error(body, 404).is_upstreams


NAMES = st.sampled_from(["errors", "code", "message", "status"])
VALUES = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner | st.lists(inner)),
)


@unhurried
@given(st.binary() | VALUES.map(lambda value: json.dumps(value).encode()))
def test_no_body_raises_and_what_is_upstreams_has_a_number(body: bytes):
    error = read_error(body, 404)
    assert error.number is not None or not error.is_upstreams
