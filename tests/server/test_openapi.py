"""The OpenAPI document says what the handlers do."""

import json
import re
from collections.abc import Mapping
from typing import Any

import httpx
import msgspec
import pytest

from tests.server.serving import AN_ID, NOW, AppParts, client_of
from watcher.core.channels import Stats
from watcher.core.model import Moved, Odd, Status
from watcher.intake import EntryError, TrackRequest, checked_entry
from watcher.store import Change

PYTHON: Mapping[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": int | float,
    "boolean": bool,
    "null": type(None),
}


async def document(client: httpx.AsyncClient) -> Any:
    answer = await client.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def resolve(doc: Any, schema: Any) -> Any:
    while "$ref" in schema:
        schema = doc["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def fits(doc: Any, schema: Any, value: Any) -> bool:
    """Whether the value is what the schema says, for as much of JSON Schema as the document uses."""
    schema = resolve(doc, schema)
    if "anyOf" in schema:
        return any(fits(doc, one, value) for one in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    kind = schema["type"]
    if not isinstance(value, PYTHON[kind]):
        return False
    if kind == "object":
        known = schema.get("properties", {})
        is_complete = set(schema.get("required", ())) <= set(value)
        return is_complete and all(fits(doc, known[name], one) for name, one in value.items() if name in known)
    if kind == "array":
        return all(fits(doc, schema["items"], one) for one in value)
    return kind != "string" or re.search(schema.get("pattern", ""), value) is not None


async def test_web_describes_only_what_it_answers(web: httpx.AsyncClient, admin: httpx.AsyncClient):
    of_web, of_admin = await document(web), await document(admin)
    methods = {method for item in of_web["paths"].values() for method in item}
    assert methods == {"get", "head"}
    assert set(of_admin["paths"]) == {*of_web["paths"], "/-/reload"}
    assert set(of_admin["paths"]["/api/v1/operations"]) == {"get", "head", "post"}
    assert set(of_admin["paths"]["/api/v1/operations/{id}"]) == {"get", "head", "delete"}
    assert of_web["openapi"] == "3.1.0"
    assert of_web["info"]["version"] == "1.2.3"


async def test_every_method_that_is_not_described_is_405(admin: httpx.AsyncClient):
    for path, item in (await document(admin))["paths"].items():
        for method in ("get", "head", "post", "put", "delete", "patch", "options", "trace"):
            answer = await admin.request(
                method, path.replace("{id}", AN_ID), headers={"Content-Type": "application/json"}
            )
            assert (answer.status_code == 405) is (method not in item)
            assert answer.status_code == 405 or str(answer.status_code) in item[method]["responses"]


async def test_operation_ids_are_unique_and_references_lead_somewhere(admin: httpx.AsyncClient):
    doc = await document(admin)
    ids = [operation["operationId"] for item in doc["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids))
    for reference in re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(doc)):
        assert reference in doc["components"]["schemas"]


async def test_answers_fit_their_schemas(parts: AppParts, admin: httpx.AsyncClient):
    doc = await document(admin)
    await admin.post("/api/v1/operations", json={"id": AN_ID, "labels": {"a": "b"}})
    (found,) = await parts.store.find(AN_ID)
    moved = Moved(
        from_status=None, to_status=Status.PROCESSING, stats=Stats(sent=1), updated_at=None, delay_seconds=0.5
    )
    operation = found.operation.with_(status=Status.PROCESSING, stats=Stats(sent=1))
    events = ((NOW.at, moved), (NOW.at, Odd(kind="x")))
    await parts.store.commit("main", [Change(operation=operation, events=events)])
    for method, path, template, body in (
        ("get", "/api/v1/operations", "/api/v1/operations", None),
        ("get", f"/api/v1/operations/{AN_ID}", "/api/v1/operations/{id}", None),
        ("post", "/api/v1/operations", "/api/v1/operations", [{"id": AN_ID}]),
        ("post", "/api/v1/operations", "/api/v1/operations", [{"id": "x"}]),
        ("delete", f"/api/v1/operations/{AN_ID}", "/api/v1/operations/{id}", None),
        ("delete", f"/api/v1/operations/{AN_ID}", "/api/v1/operations/{id}", None),
        ("post", "/-/reload", "/-/reload", None),
    ):
        answer = await admin.request(method, path, json=body) if body is not None else await admin.request(method, path)
        content = doc["paths"][template][method]["responses"][str(answer.status_code)]["content"]
        assert fits(doc, content[answer.headers["content-type"]]["schema"], answer.json()), (method, path)


async def test_the_history_is_described_event_by_event(web: httpx.AsyncClient):
    schemas = (await document(web))["components"]["schemas"]
    published = schemas["OperationDetail"]["properties"]["history"]["items"]["discriminator"]["mapping"]
    assert published["operation.moved"] == "#/components/schemas/MovedEntry"
    moved = schemas["MovedEntry"]
    assert {"event", "event_id", "seq", "occurred_at", "from_status", "stats"} <= set(moved["required"])
    assert "status_word" not in moved["required"]


async def test_the_accounts_of_an_entry_are_those_in_force(parts: AppParts, admin: httpx.AsyncClient):
    def entry(doc: Any) -> Any:
        return doc["components"]["schemas"]["TrackRequest"]

    one = entry(await document(admin))
    assert (one["properties"]["account"]["enum"], one["required"]) == (["main", None], ["id"])
    assert one["additionalProperties"] is False
    parts.accounts.append("other")
    several = await document(admin)
    assert entry(several)["properties"]["account"]["enum"] == ["main", "other"]
    assert entry(several)["required"] == ["id", "account"]
    by_name = {one["name"]: one for one in several["paths"]["/api/v1/operations"]["get"]["parameters"]}
    assert by_name["account"]["schema"]["enum"] == ["main", "other"]
    parts.accounts.clear()
    assert entry(await document(admin))["properties"]["account"]["anyOf"] == [{"type": "string"}, {"type": "null"}]


async def test_the_token_is_described_where_it_is_needed(parts: AppParts):
    async with client_of(parts.admin(token=lambda: "t")) as admin:
        doc = (await admin.get("/openapi.json", headers={"Authorization": "Bearer t"})).json()
    assert doc["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    for path, item in doc["paths"].items():
        for operation in item.values():
            assert ("security" in operation) is (path not in {"/-/healthy", "/-/ready"})


def test_the_schema_of_an_entry_agrees_with_what_is_decoded():
    schema = msgspec.json.schema(TrackRequest)["$defs"]["TrackRequest"]
    assert set(schema["properties"]) == {"id", "account", "labels"}
    assert re.search(schema["properties"]["id"]["pattern"], AN_ID)
    names = schema["properties"]["labels"]["propertyNames"]
    assert "status" in names["not"]["enum"]
    assert not re.search(names["pattern"], "__a")


@pytest.mark.parametrize(
    ("value", "is_taken"),
    [("", True), ("x" * 128, True), ("\t\x01\n\x7f ü \U0001f514", True), ("x" * 129, False), ("a\0b", False)],
)
def test_the_schema_of_a_labels_value_allows_what_is_accepted(value: str, *, is_taken: bool):
    values = msgspec.json.schema(TrackRequest)["$defs"]["TrackRequest"]["properties"]["labels"]["additionalProperties"]
    fits_schema = len(value) <= values["maxLength"] and re.search(values["pattern"], value) is not None
    checked = checked_entry(0, TrackRequest(id=AN_ID, labels={"a": value}), ["main"])
    assert (fits_schema, not isinstance(checked, EntryError)) == (is_taken, is_taken)
