"""Upstream's bytes and headers as observations: the documented shapes exactly, and anything else without raising."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.factories import (
    NOW,
    OPERATION_ID,
    a_reply,
    a_timing,
    at,
    days,
    forbidden,
    missing,
    refused,
    seen,
    unanswered,
)
from tests.support.strategies import unhurried
from watcher.core.channels import Stats
from watcher.core.error_bodies import read_error
from watcher.core.model import MINUTE, SECOND
from watcher.core.observation import (
    FailureCause,
    Forbidden,
    ListAnswer,
    Missing,
    Observation,
    Page,
    Record,
    Refused,
    Seen,
    Unanswered,
)
from watcher.core.wire import (
    CODES,
    RETRY_AFTER_AT_MOST,
    code_label,
    read_date,
    read_fetch,
    read_page,
    read_record,
    read_retry_after,
)

DOCUMENTED = b"""{"id": "comms_operation_01h9krwprkeee8fzqspvwy6nq8", "status": "PROCESSING",
 "stats": {"total": 1, "recipients": 1, "queued": 0, "sent": 0, "scheduled": 0, "unaddressable": 0, "failed": 0,
 "canceled": 0}, "createdAt": "2024-01-15T09:30:00Z", "updatedAt": "2024-01-15T09:30:00Z"}"""
DOCUMENTED_AT = 1_705_311_000 * SECOND
DOCUMENTED_RECORD = Record(
    id=OPERATION_ID,
    word="PROCESSING",
    stats=Stats(total=1, recipients=1, queued=0, sent=0, scheduled=0, unaddressable=0, failed=0, canceled=0),
    created_at=DOCUMENTED_AT,
    updated_at=DOCUMENTED_AT,
)
MANY_DIGITS = b"9" * 4000
DEEP = b"[" * 10_000 + b"]" * 10_000
AWKWARD = [
    b"",
    b"null",
    b"NaN",
    b"{",
    b'"' + DOCUMENTED + b'"',
    b"\xff\xfe{}",
    b'{"status": "\\ud800"}',
    MANY_DIGITS,
    DEEP,
    b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    b'{"status": "COMPLETED", "x": ' + DEEP + b"}",
    b'{"stats": {"sent": ' + MANY_DIGITS + b"}}",
    b'{"stats": {"sent": NaN}}',
    b'{"createdAt": "0001-01-01T00:00:00+14:00", "updatedAt": "9999-12-31T23:59:59-14:00"}',
    b'{"operations": [' + MANY_DIGITS + b"]}",
    b'{"operations": [' + DEEP + b"]}",
    b"<html><body>502 Bad Gateway</body></html>",
]

NO_LISTS = [body for body in AWKWARD if MANY_DIGITS not in body or not body.startswith(b'{"operations"')]


def record_of(**fields: Any) -> Record:
    record = read_record(json.dumps(fields).encode())
    assert record is not None
    return record


# ── one operation ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_documented_operation_is_read_exactly():
    assert read_fetch(a_reply(DOCUMENTED), OPERATION_ID) == Seen(
        timing=a_timing(), record=DOCUMENTED_RECORD, retry_after=None
    )


def test_the_date_header_is_upstreams_clock_and_retry_after_a_hint():
    headers = {"date": "Mon, 15 Jan 2024 09:30:05 GMT", "retry-after": "7"}
    reply = a_reply(DOCUMENTED, headers=headers)
    observation = read_fetch(reply, OPERATION_ID)
    assert isinstance(observation, Seen)
    assert observation.timing.date == observation.timing.upstream_now == DOCUMENTED_AT + 5 * SECOND
    assert observation.retry_after == 7 * SECOND


def test_a_date_ten_years_off_is_ignored():
    observation = read_fetch(a_reply(DOCUMENTED, headers={"date": "Thu, 01 Jan 1970 00:00:00 GMT"}), OPERATION_ID)
    assert observation.timing.date is None
    assert observation.timing.upstream_now == observation.timing.answered.at


def test_unknown_fields_are_ignored():
    assert record_of(**json.loads(DOCUMENTED), channel="push", links={"errors": []}) == DOCUMENTED_RECORD


@pytest.mark.parametrize("word", ["completed", "Completed", " COMPLETED "])
def test_statuses_are_compared_case_insensitively(word: str):
    assert record_of(status=word).word == "COMPLETED"


def test_a_foreign_status_is_short_and_printable():
    assert record_of(status="päused\n" + "x" * 100).word == r"päused\n" + "x" * 51 + "…"


@pytest.mark.parametrize(
    ("given_at", "read"),
    [
        ("2024-01-15T09:30:00Z", DOCUMENTED_AT),
        ("2024-01-15T09:30:00", DOCUMENTED_AT),
        ("2024-01-15T10:30:00+01:00", DOCUMENTED_AT),
        ("2024-01-15T09:30:00.25Z", DOCUMENTED_AT + SECOND // 4),
        ("1970-01-01T00:00:00Z", 0),
    ],
)
def test_instants_are_microseconds_since_1970(given_at: str, read: int):
    record = record_of(status="X", createdAt=given_at)
    assert (record.created_at, record.odd) == (read, ("stats_missing",))


@pytest.mark.parametrize(
    "given_at",
    [
        "yesterday",
        "",
        1705311000,
        True,
        [],
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59-14:00",
        "1969-12-31T23:59:59Z",
    ],
)
def test_an_impossible_time_is_odd_and_ignored(given_at: Any):
    record = record_of(status="X", stats={}, updatedAt=given_at)
    assert (record.word, record.updated_at, record.odd) == ("X", None, ("instant_garbled",))


def test_a_time_far_ahead_is_ignored_or_every_later_answer_would_seem_stale():
    body = json.dumps({"id": OPERATION_ID, "status": "PROCESSING", "updatedAt": "2999-01-01T00:00:00Z", "stats": {}})
    listed = read_page(a_reply(body=b'{"operations": [' + body.encode() + b"]}"))
    fetched = read_fetch(a_reply(body=body.encode()), OPERATION_ID)
    assert isinstance(listed, Page)
    assert isinstance(fetched, Seen)
    for record in (listed.records[0], fetched.record):
        assert (record.updated_at, record.odd) == (None, ("instant_garbled",))


def test_every_field_may_be_missing():
    assert record_of() == Record(odd=("stats_missing", "status_missing"))


def test_every_field_may_be_null():
    nothing = record_of(id=None, status=None, stats=None, createdAt=None, updatedAt=None)
    assert nothing == Record(odd=("stats_missing", "status_missing"))


def test_one_bad_stat_spoils_no_other():
    stats = {"sent": "7", "failed": 3.0, "queued": -1, "canceled": True, "total": 2**53, "scheduled": 2**53 + 1}
    record = record_of(status="X", stats=stats)
    assert record.stats == Stats(failed=3, total=2**53)
    assert record.odd == ("stats_garbled",)


@pytest.mark.parametrize("stats", [7, "none", [], True])
def test_stats_of_the_wrong_type_are_odd_and_ignored(stats: Any):
    record = record_of(status="X", stats=stats)
    assert (record.stats, record.odd) == (None, ("stats_garbled",))


def test_a_stat_that_is_null_was_not_received():
    assert record_of(status="X", stats={"sent": None, "failed": 0}).stats == Stats(failed=0)


def test_texts_of_the_wrong_type_are_odd_and_ignored():
    record = record_of(id=5, status=["COMPLETED"], stats=None)
    assert record == Record(odd=("id_garbled", "status_garbled", "status_missing", "stats_missing"))


def test_of_duplicate_keys_the_last_counts():
    record = read_record(b'{"status": "PROCESSING", "status": "COMPLETED", "stats": {"sent": 1, "sent": 2}}')
    assert record == Record(word="COMPLETED", stats=Stats(sent=2))


@pytest.mark.parametrize("body", [b"[]", b"7", b'"text"', *AWKWARD[:5], MANY_DIGITS, DEEP])
def test_a_body_that_is_no_object_is_garbled(body: bytes):
    assert read_record(body) is None
    answer = read_fetch(a_reply(body), OPERATION_ID)
    assert answer == Unanswered(timing=a_timing(), cause=FailureCause.GARBLED, why="the body is not an operation")


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"code": 20404, "status": 404}',
        b'{"id": "%s"}' % OPERATION_ID.encode(),
        b'{"status": "healthy"}',
        b'{"status": "error", "message": "Log in to use the network."}',
    ],
)
def test_an_object_without_fields_of_an_operation_is_garbled(body: bytes):
    answer = read_fetch(a_reply(body), OPERATION_ID)
    assert isinstance(answer, Unanswered)
    assert answer.cause is FailureCause.GARBLED


@pytest.mark.parametrize(
    "fields", [{"id": OPERATION_ID, "status": "X"}, {"stats": {}}, {"createdAt": "2024-01-15T09:30:00Z"}]
)
def test_an_object_with_any_field_of_an_operation_is_an_operation(fields: dict[str, Any]):
    assert isinstance(read_fetch(a_reply(json.dumps(fields).encode()), OPERATION_ID), Seen)


def test_an_answer_about_another_operation_is_garbled():
    answer = read_fetch(a_reply(DOCUMENTED), OPERATION_ID[:-1] + "9")
    assert isinstance(answer, Unanswered)
    assert (answer.cause, answer.why) == (FailureCause.GARBLED, "the answer is of another operation")


# ── pages ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def a_page(*rows: str, pagination: str = '{"next": null, "self": "s"}') -> ListAnswer:
    return read_page(a_reply(f'{{"operations": [{",".join(rows)}], "pagination": {pagination}}}'.encode()))


def test_the_documented_page_is_read_exactly():
    assert a_page(DOCUMENTED.decode(), pagination='{"next": "abc", "self": "s"}') == Page(
        timing=a_timing(), records=(DOCUMENTED_RECORD,), garbled=0, next_token="abc"
    )


def test_one_bad_row_spoils_no_other():
    page = a_page(
        "7", "null", "9" * 4000, DOCUMENTED.decode(), '{"status": "COMPLETED"}', '{"id": "other", "stats": 5}'
    )
    assert isinstance(page, Page)
    assert [record.id for record in page.records] == [OPERATION_ID, "other"]
    assert page.garbled == 4


@pytest.mark.parametrize("pagination", ["null", "{}", '{"next": null}', '{"next": ""}'])
def test_null_absent_and_empty_tokens_are_the_end(pagination: str):
    page = a_page(pagination=pagination)
    assert page == Page(timing=a_timing())


@pytest.mark.parametrize("token", ["7", "{}", "[]", "false", '"' + "t" * 4097 + '"'])
def test_a_token_that_cannot_be_used_is_no_end(token: str):
    answer = a_page(DOCUMENTED.decode(), pagination=f'{{"next": {token}}}')
    assert isinstance(answer, Unanswered)
    assert (answer.cause, answer.why) == (FailureCause.GARBLED, "the token of the next page cannot be used")


@pytest.mark.parametrize("pagination", ["7", "[]", '"abc"'])
def test_a_pagination_that_is_no_object_is_not_the_end(pagination: str):
    answer = a_page(DOCUMENTED.decode(), pagination=pagination)
    assert isinstance(answer, Unanswered)
    assert answer.cause is FailureCause.GARBLED


def test_a_page_may_be_empty_while_there_is_another():
    page = a_page(pagination='{"next": "abc"}')
    assert isinstance(page, Page)
    assert (page.records, page.next_token) == ((), "abc")


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"operations": null}', b'{"operations": {}}', *NO_LISTS])
def test_what_is_no_list_is_garbled(body: bytes):
    answer = read_page(a_reply(body))
    assert answer == Unanswered(
        timing=a_timing(), cause=FailureCause.GARBLED, why="the body is not a list of operations"
    )


@pytest.mark.parametrize("code", [400, 404, 503])
def test_a_page_can_fail_as_a_fetch_can(code: int):
    assert read_page(a_reply(code=code)) == read_fetch(a_reply(code=code), OPERATION_ID)


# ── failures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (401, FailureCause.UNAUTHORIZED),
        (429, FailureCause.THROTTLED),
        (503, FailureCause.THROTTLED),
        (500, FailureCause.UPSTREAM),
        (502, FailureCause.UPSTREAM),
        (504, FailureCause.UPSTREAM),
        (599, FailureCause.UPSTREAM),
        (201, FailureCause.OTHER),
        (204, FailureCause.OTHER),
        (302, FailureCause.OTHER),
        (418, FailureCause.OTHER),
    ],
)
@pytest.mark.parametrize("body", [b"", b'{"code": 20404}', DOCUMENTED])
def test_the_http_status_decides_whatever_the_body_says(code: int, cause: FailureCause, body: bytes):
    answer = read_fetch(a_reply(body, code=code), OPERATION_ID)
    assert isinstance(answer, Unanswered)
    assert answer.cause is cause


def test_a_404_is_missing_and_a_400_is_refused():
    assert read_fetch(a_reply(code=404), OPERATION_ID) == Missing(timing=a_timing(), why="HTTP 404")
    assert read_fetch(a_reply(b'{"code": 20001}', code=400), OPERATION_ID) == Refused(
        timing=a_timing(), why="HTTP 400, error 20001"
    )


def test_a_403_is_forbidden_and_not_yet_about_the_credentials():
    body = b'{"code": 70051, "message": "m", "more_info": "u", "status": 403}'
    answer = Forbidden(timing=a_timing(), why="HTTP 403, error 70051")
    assert read_fetch(a_reply(body, code=403), OPERATION_ID) == answer
    assert read_page(a_reply(body, code=403)) == answer


@pytest.mark.parametrize("code", [404, 405, 410])
def test_a_list_that_is_not_there_is_missing(code: int):
    assert read_page(a_reply(code=code)) == Missing(timing=a_timing(), why=f"HTTP {code}")


def test_a_method_that_is_not_allowed_says_nothing_of_one_operation():
    assert isinstance(read_fetch(a_reply(code=405), OPERATION_ID), Unanswered)


@pytest.mark.parametrize("written", ["CANCELLED", "cancelled", " Cancelled "])
def test_cancelled_is_read_as_canceled(written: str):
    record = read_record(json.dumps({"id": OPERATION_ID, "status": written}).encode())
    assert record is not None
    assert record.word == "CANCELED"


@pytest.mark.parametrize("name", ["twilio-request-id", "x-twilio-request-id"])
def test_a_failure_names_code_error_and_request(name: str):
    body = b'{"errors": [{"code": 20429, "message": "too many", "infoUrl": "u", "context": "null"}]}'
    reply = a_reply(body, code=429, headers={name: "RQ12\n3", "retry-after": "2"})
    assert read_fetch(reply, OPERATION_ID) == Unanswered(
        timing=a_timing(),
        cause=FailureCause.THROTTLED,
        why="HTTP 429, error 20429, request RQ12\\n3",
        retry_after=2 * SECOND,
    )


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"errors": [{"code": 20404, "message": "m"}]}', 20404),
        (b'{"code": 20003, "message": "m", "more_info": "u", "status": 401}', 20003),
        (b'{"code": "20003"}', 20003),
        (b'{"errors": [], "code": 5}', 5),
        (b"<html>Forbidden</html>", None),
        (b"", None),
        (b"[]", None),
        (b'{"errors": [7]}', None),
        (b'{"errors": {"code": 7}}', None),
        (b'{"code": true}', None),
        (b'{"code": 0}', None),
        (b'{"code": -7}', None),
        (b'{"code": 1000000}', None),
        (b'{"code": "1000000"}', None),
        (b'{"code": "\xc2\xb2"}', None),
        (b'{"code": 1.5}', None),
        (b'{"code": ' + MANY_DIGITS + b"}", None),
    ],
)
def test_error_numbers_are_read_from_all_shapes(body: bytes, code: int | None):
    number = read_error(body, 404).number
    assert number == code
    assert type(number) is type(code)


# ── waits and dates ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("0", 0),
        ("3", 3 * SECOND),
        (" 3 ", 3 * SECOND),
        ("1.5", 3 * SECOND // 2),
        ("900", 15 * MINUTE),
        ("901", 15 * MINUTE),
        ("9" * 4000, 15 * MINUTE),
        ("Mon, 21 Sep 2026 14:13:30 GMT", 10 * SECOND),
        ("Mon, 21 Sep 2026 14:13:00 GMT", 0),
        ("Tue, 22 Sep 2026 14:13:00 GMT", 15 * MINUTE),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("-5", None),
        ("1e3", None),
        ("1_0", None),
        ("٣", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_clamped(text: str, wait: int | None):
    assert read_retry_after({"retry-after": text}, NOW) == wait


def test_a_date_to_retry_after_is_judged_by_upstreams_clock():
    headers = {"date": "Mon, 15 Jan 2024 09:30:00 GMT", "retry-after": "Mon, 15 Jan 2024 09:30:20 GMT"}
    answer = read_fetch(a_reply(code=429, headers=headers), OPERATION_ID)
    assert isinstance(answer, Unanswered)
    assert answer.retry_after == 20 * SECOND


def test_no_header_is_no_wait():
    assert read_retry_after({}, NOW) is None


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("Mon, 15 Jan 2024 09:30:00 GMT", DOCUMENTED_AT),
        ("Monday, 15-Jan-24 09:30:00 GMT", DOCUMENTED_AT),
        ("Mon Jan 15 09:30:00 2024", DOCUMENTED_AT),
        ("Mon, 15 Jan 2024 09:30:00 -0000", DOCUMENTED_AT),
        ("Mon, 15 Jan 2024 10:30:00 +0100", DOCUMENTED_AT),
        ("Mon, 01 Jan 0001 00:00:00 GMT", 978_307_200 * SECOND),
        ("Mon, 15 Jan 99999999999 09:30:00 GMT", None),
        ("2024-01-15", None),
        ("", None),
        ("Thu, 01 Jan 1960 00:00:00 GMT", None),
    ],
)
def test_http_dates_are_read_in_all_their_forms(text: str, instant: int | None):
    assert read_date(text) == instant


# ── labels ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("observation", "code", "label"),
    [
        (seen(), 200, "200"),
        (Page(timing=a_timing()), 200, "200"),
        (missing(), 404, "404"),
        (refused(), 400, "400"),
        (unanswered(cause=FailureCause.UNAUTHORIZED), 401, "401"),
        (forbidden(), 403, "403"),
        (unanswered(cause=FailureCause.THROTTLED), 429, "429"),
        (unanswered(cause=FailureCause.THROTTLED), 503, "5xx"),
        (unanswered(), 500, "5xx"),
        (unanswered(cause=FailureCause.TIMEOUT), None, "timeout"),
        (unanswered(cause=FailureCause.TIMEOUT), 200, "timeout"),
        (unanswered(cause=FailureCause.CONNECT), None, "connect"),
        (unanswered(cause=FailureCause.GARBLED), 200, "garbled"),
        (unanswered(cause=FailureCause.OTHER), 302, "other"),
        (unanswered(cause=FailureCause.OTHER), None, "other"),
    ],
)
def test_each_attempt_has_one_of_the_labels(observation: Page | Observation, code: int | None, label: str):
    assert code_label(observation, code) == label
    assert label in CODES


# ── anything at all ──────────────────────────────────────────────────────────────────────────────────────────────────

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
rows = st.fixed_dictionaries(
    {},
    optional={
        "id": st.just(OPERATION_ID) | json_values,
        "status": st.sampled_from(["COMPLETED", "completed"]) | json_values,
        "stats": st.dictionaries(st.sampled_from(["sent", "failed", "total", "odd"]), json_values) | json_values,
        "createdAt": st.datetimes().map(str) | st.just("0001-01-01T00:00:00+14:00") | json_values,
        "updatedAt": st.datetimes().map(str) | st.just("9999-12-31T23:59:59-14:00") | json_values,
    },
)
pages = st.fixed_dictionaries({"operations": st.lists(rows | json_values)}, optional={"pagination": json_values})
bodies = (
    st.binary(max_size=200)
    | st.sampled_from(AWKWARD)
    | (rows | pages | json_values).map(lambda value: json.dumps(value).encode())
)
header_texts = (
    st.text(max_size=40)
    | st.sampled_from(["Mon, 15 Jan 2024 09:30:00 GMT", "9" * 4000, "nan", "-1"])
    | st.from_regex(
        r"[A-Z][a-z]{2}, [0-9]{1,20} [A-Z][a-z]{2} [0-9]{1,20} [0-9:.]{1,12} [+-]?[A-Z0-9]{1,12}", fullmatch=True
    )
)
headers = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(["date", "retry-after", "twilio-request-id", "content-type"], header_texts)
)


@unhurried
@given(bodies, headers, st.sampled_from([200, 200, 200, 400, 404, 429, 500, 503]))
@example(DEEP, {}, 200)
@example(MANY_DIGITS, {"retry-after": "9" * 4000}, 429)
def test_nothing_that_upstream_sends_raises(body: bytes, given_headers: dict[str, str], code: int):
    reply = a_reply(body, code=code, headers=given_headers)
    fetched, listed = read_fetch(reply, OPERATION_ID), read_page(reply)
    for answer in (fetched, listed):
        assert code_label(answer, code) in CODES
        date = answer.timing.date
        assert date is None or abs(date - at(0.1).at) <= days(3650)
        if isinstance(answer, Unanswered | Seen) and answer.retry_after is not None:
            assert 0 <= answer.retry_after <= RETRY_AFTER_AT_MOST
    if isinstance(fetched, Seen):
        assert fetched.record.id in (None, OPERATION_ID)


@unhurried
@given(rows)
def test_whatever_is_read_is_of_its_type(row: dict[str, Any]):
    record = record_of(**row)
    assert record.id is None or isinstance(record.id, str)
    assert record.word is None or (len(record.word) <= 60 and record.word.isprintable())
    for instant in (record.created_at, record.updated_at):
        assert instant is None or 0 <= instant < 253_402_300_800 * SECOND
    for name in Stats.__struct_fields__:
        count = getattr(record.stats, name, None)
        assert count is None or (type(count) is int and 0 <= count <= 2**53)


@unhurried
@given(st.text(max_size=60))
def test_no_text_is_too_odd_for_a_date(text: str):
    instant = read_date(text)
    assert instant is None or instant >= 0
