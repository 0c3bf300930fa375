"""Requests that no person would write: drawn by hypothesis from an OpenAPI document, right, nearly right and absurd."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

Schema = Mapping[str, Any]
Values = st.SearchStrategy[Any]

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND")
MODEL = "tiny"

text = st.text(max_size=40) | st.sampled_from(
    ["", " ", "hello", "\x00", "a\u0301", "→", "😀", "<|eos|>", "{{ 7 * 7 }}", "../.."]
)
numbers = st.integers() | st.sampled_from([0, 1, -1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 10**400]) | st.floats()
anything = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=6,
)
header_values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)


@dataclass(frozen=True)
class Operation:
    """One route of the document. `schema` is that of its JSON body, None where it takes none."""

    method: str
    path: str
    schema: Schema | None
    statuses: frozenset[int]


@dataclass(frozen=True)
class Request:
    """One request to send as it is. `statuses` are those the document lists, where the request is for its route."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    statuses: frozenset[int] | None


def operations(document: Schema) -> list[Operation]:
    """Return the routes of an OpenAPI 3 document."""
    return [
        Operation(method.upper(), path, _body_schema(route), frozenset(map(int, route.get("responses", {}))))
        for path, routes in document["paths"].items()
        for method, route in routes.items()
        if method.upper() in METHODS
    ]


def requests(document: Schema) -> st.SearchStrategy[Request]:
    """Return the strategy of requests to the server that `document` describes."""
    routes = operations(document)
    with_body = [route for route in routes if route.schema is not None]
    return st.sampled_from([*routes, *with_body * 3]).flatmap(lambda route: _requests_to(route, document))


def _body_schema(route: Schema) -> Schema | None:
    content: Schema = route.get("requestBody", {}).get("content", {}).get("application/json", {})
    return content.get("schema")


@st.composite
def _requests_to(draw: st.DrawFn, operation: Operation, document: Schema) -> Request:
    method, path, headers = operation.method, operation.path.replace("{model}", MODEL), {}
    body = draw(_bodies(operation.schema, document)) if operation.schema is not None else b""
    if operation.schema is not None:
        headers["content-type"] = "application/json"
    is_routed = True
    match draw(st.integers(0, 24)):
        case 0:
            method, is_routed = draw(st.sampled_from(METHODS)), False
        case 1:
            segment = draw(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#?")))
            path, is_routed = f"{path}/{segment}", False
        case 2:
            path += "?" + draw(header_values).replace("#", "").replace(" ", "+")
        case 3:
            headers["content-type"] = draw(st.sampled_from(["text/plain", "application/xml", "a/b; c"]) | header_values)
        case 4:
            name = draw(st.sampled_from(["x-request-id", "authorization", "accept", "content-encoding", "traceparent"]))
            headers[name] = draw(header_values)
    return Request(method, path, headers, body, operation.statuses if is_routed else None)


def _bodies(schema: Schema, document: Schema) -> st.SearchStrategy[bytes]:
    """Return bodies: as the schema wants them, with some fields wrong, of another type, and cut or spoilt JSON."""
    right = _values(schema, document)
    wrong = st.builds(_spoilt, right, st.dictionaries(_names(schema, document), anything, min_size=1, max_size=2))
    values = st.one_of(right, right, wrong, wrong, wrong, anything)
    texts = values.map(_encoded)
    cut = st.builds(lambda body, share: body[: int(len(body) * share)], texts, st.floats(0, 1))
    pierced = st.builds(
        lambda body, at, byte: body[:at] + byte + body[at + 1 :], texts, st.integers(0, 200), st.binary()
    )
    deep = st.integers(1, 3000).map(lambda depth: b'{"a":' * depth)
    return st.one_of(*[texts] * 8, cut, pierced, deep, st.binary(max_size=60))


def _values(schema: Schema, document: Schema) -> Values:
    """Return values that `schema` allows (pydantic's subset of JSON schema); beyond it, anything."""
    schema = _resolved(schema, document)
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return st.one_of([_values(one, document) for one in schema[choice]])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "object":
            return _objects(schema, document)
        case "array":
            items = _values(schema.get("items", {}), document)
            return st.lists(items, min_size=schema.get("minItems", 0), max_size=min(schema.get("maxItems", 4), 4))
        case "string":
            return st.text(min_size=schema.get("minLength", 0), max_size=min(schema.get("maxLength", 60), 60))
        case "integer":
            return st.integers(*_bounds(schema, 1)) | st.integers(*_bounds(schema, 1)).map(
                lambda value: value % 64 or 1
            )
        case "number":
            low, high = _bounds(schema, 0)
            return st.floats(low, high, allow_nan=False, exclude_min="exclusiveMinimum" in schema)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
    return anything


def _objects(schema: Schema, document: Schema) -> Values:
    fields = {name: _values(field, document) for name, field in schema.get("properties", {}).items()}
    if "model" in fields:
        fields["model"] = st.just(MODEL)
    required = {name: values for name, values in fields.items() if name in schema.get("required", ())}
    optional = {name: values for name, values in fields.items() if name not in required}
    if not fields and isinstance(schema.get("additionalProperties"), dict):
        return st.dictionaries(text, _values(schema["additionalProperties"], document), max_size=3)
    # Few at a time: with all of them, one that excludes another would spoil nearly every request.
    few = st.sets(st.sampled_from(sorted(optional)), max_size=4) if optional else st.just(set[str]())
    return few.flatmap(lambda names: st.fixed_dictionaries(required | {name: optional[name] for name in sorted(names)}))


def _names(schema: Schema, document: Schema) -> st.SearchStrategy[str]:
    properties = sorted(_resolved(schema, document).get("properties", {}))
    return st.sampled_from([*properties, "tools", "functions", "x"]) if properties else text


def _resolved(schema: Schema, document: Schema) -> Schema:
    if "$ref" not in schema:
        return schema
    target: Any = document
    for part in schema["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return _resolved(target, document)


def _bounds(schema: Schema, step: int) -> tuple[Any, Any]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        low = schema["exclusiveMinimum"] + step
    if "exclusiveMaximum" in schema:
        high = schema["exclusiveMaximum"] - step
    return low, high


def _spoilt(value: Any, wrong: dict[str, Any]) -> Any:
    return {**value, **wrong} if isinstance(value, dict) else wrong


def _encoded(value: Any) -> bytes:
    # Python's JSON knows NaN and Infinity and half surrogate pairs, so the server gets to see them.
    return json.dumps(value).encode()
