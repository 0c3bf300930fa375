"""Request bodies: read within bounds of size and time, parsed strictly, and errors named by parameter."""

from __future__ import annotations

import asyncio
import json
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from inference_server.web.errors import APIError, invalid_request

LIMIT_BYTES = 2 * 1024 * 1024
LIMIT_MESSAGES = 16 * 1024
"""Pieces of a chunked body; one byte a piece costs far more than its size."""
INLINE_BYTES = 64 * 1024
"""Larger bodies are decoded in a thread: two megabytes of token ids would hold up every stream for 70 ms."""
DEADLINE_SECONDS = 30.0
CLOSE = {"Connection": "close"}
TAGS = frozenset(("str", "TextFormat"))
"""What pydantic adds to a location to tell the members of a union apart."""

Schema = TypeVar("Schema", bound=BaseModel)


async def parse_body(
    scope: Scope, receive: Receive, schema: type[Schema], deadline: float = DEADLINE_SECONDS
) -> Schema:
    """Read, decode and validate the JSON body of a request.

    Raises:
        APIError: 400, 408, 413 or 415, or 422 on /generate.
        ClientDisconnect: the client left before its body was complete.
    """
    _check_headers(scope)
    try:
        async with asyncio.timeout(deadline):
            raw = await _read(receive)
    except TimeoutError:
        message = f"The request body did not arrive within {deadline:g} s."
        raise APIError(408, "timeout_error", "request_timeout", message, headers=CLOSE) from None
    if len(raw) <= INLINE_BYTES:
        return validated(schema, _decoded(raw))
    return await asyncio.to_thread(lambda: validated(schema, _decoded(raw)))


def _check_headers(scope: Scope) -> None:
    headers = dict(scope["headers"])
    media_type = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    # Without the header the body is taken for JSON: `curl -d @file` users who set `-H content-type:` mean that.
    if media_type not in (b"", b"application/json") and not media_type.endswith(b"+json"):
        shown = media_type.decode("ascii", "replace")[:100]
        raise invalid_request(
            f"Unsupported media type {shown!r}: send application/json.", code="unsupported_media_type", status=415
        )
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise invalid_request(
            "Send the body without content-encoding.", code="unsupported_content_encoding", status=415
        )
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > LIMIT_BYTES:
        raise _too_large()


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    for _ in range(LIMIT_MESSAGES):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > LIMIT_BYTES:
            raise _too_large()
        if not message.get("more_body", False):
            return bytes(body)
    raise _too_large()


def _too_large() -> APIError:
    message = f"The request body is larger than {LIMIT_BYTES} bytes."
    return invalid_request(message, code="request_too_large", status=413, headers=CLOSE)


def _decoded(raw: bytes) -> Any:
    if not raw.strip():
        raise invalid_request("The request body is empty: send a JSON object.", code="invalid_json")
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        message = f"The request body is not valid JSON: {error.msg} at line {error.lineno} column {error.colno}."
        raise invalid_request(message, code="invalid_json") from None
    if not isinstance(value, dict):
        raise invalid_request("The request body must be a JSON object.", code="invalid_json")
    _refuse_duplicates(raw)
    return value


def _refuse_duplicates(raw: bytes) -> None:
    """Refuse an object with two fields of one name: which of them counts differs from parser to parser."""
    try:
        json.loads(raw, object_pairs_hook=_distinct)
    except RecursionError:
        raise invalid_request("The request body is nested too deeply.", code="invalid_json") from None


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        message = f"The request body has the field '{twice[:100]}' twice."
        raise invalid_request(message, param=twice[:200], code="invalid_json")


def validated(schema: type[Schema], value: Any) -> Schema:
    """Return `value` as `schema`.

    Raises:
        APIError: 400 with the name of the first field that is wrong.
    """
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        first = found[0]
        param = _dotted(first["loc"])
        detail = [{**item, "loc": ["body", *item["loc"]]} for item in found]
        message, code = _explain(first["type"], param, first["msg"])
        raise invalid_request(message, param=param or None, code=code, detail=detail) from None


def _explain(kind: str, param: str, message: str) -> tuple[str, str | None]:
    match kind:
        case "missing":
            return f"Missing required parameter: '{param}'.", "missing_required_parameter"
        case "extra_forbidden":
            return f"Unsupported parameter: '{param}'.", "unsupported_parameter"
        case "literal_error" | "none_required":
            return f"Unsupported value for '{param}': {message}.", "unsupported_value"
    return f"Invalid value for '{param}': {message.removeprefix('Value error, ')}.", "invalid_value"


def _dotted(location: tuple[int | str, ...]) -> str:
    """Return `messages[0].content` for ("messages", 0, "content"); tags of unions are no part of the body."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.isidentifier() and part not in TAGS:
            path += f".{part}" if path else part
    return path[:200]
