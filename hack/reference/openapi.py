"""docs/openapi.json: the public API as OpenAPI 3.1, from the schemas that check the requests.

The server does not serve it: one more thing to authenticate. It is complete enough for schema-driven fuzzing: every
body, every answer, and the error object of every status.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic.json_schema import models_json_schema

from inference_server.web import answers
from inference_server.web.admission import DEADLINE_HEADER, LONGEST_DEADLINE_MS
from inference_server.web.chat import ChatCompletionRequest
from inference_server.web.completions import CompletionRequest
from inference_server.web.generate import GenerateRequest

Json = dict[str, Any]

_REFERENCE = "#/components/schemas/{model}"
_ERRORS = {
    400: "The request is wrong; `param` names the field.",
    401: "No API key, or not one of this server's.",
    404: "The model is not the one served here.",
    408: "The body or the answer was later than its deadline.",
    413: "The body is over 2 MiB.",
    415: "The body is not JSON.",
    429: "The waiting room is full, or longer than the request's deadline. `Retry-After` says when to try again.",
    500: "The server has an error of its own.",
    503: "The model is being loaded, the server stops, or there is not enough memory for this request.",
}


def render() -> str:
    """Return the content of docs/openapi.json."""
    return json.dumps(document(), indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def document() -> Json:
    """Return the OpenAPI document."""
    requests = (CompletionRequest, ChatCompletionRequest, GenerateRequest)
    _, definitions = models_json_schema(
        [*((model, "validation") for model in requests), *((model, "validation") for model in answers.ALL)],
        ref_template=_REFERENCE,
    )
    schemas = definitions["$defs"]
    for model in (CompletionRequest, ChatCompletionRequest):
        _allow_null(schemas[model.__name__])
    return {
        "openapi": "3.1.0",
        "info": {"title": "LLMService inference server", "version": "v1alpha1"},
        "security": [{"apiKey": []}, {}],
        "paths": {
            "/health": {"get": _health()},
            "/generate": {"post": _post("The original route.", "GenerateRequest", "Generated", "GenerateError", 422)},
            "/v1/models": {"get": _get("The model served here.", "ModelList", 401, 503)},
            "/v1/models/{model}": {"get": {**_get("One model.", "ModelCard", 401, 404, 503), **_model_parameter()}},
            "/v1/completions": {"post": _post("Complete text.", "CompletionRequest", "Completion", "Error")},
            "/v1/chat/completions": {"post": _post("Chat.", "ChatCompletionRequest", "ChatCompletion", "Error")},
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer"}},
        },
    }


def _allow_null(schema: Json) -> None:
    """Write down that null is a field that was not given."""
    for name, field in schema["properties"].items():
        if name not in schema["required"] and {"type": "null"} not in field.get("anyOf", ()):
            schema["properties"][name] = {"anyOf": [field, {"type": "null"}]}


def _post(summary: str, body: str, answer: str, error: str, *more_statuses: int) -> Json:
    stream = {"schema": {"type": "string", "description": "Server-sent events; the last is `data: [DONE]`."}}
    content = {"application/json": {"schema": _reference(answer)}, "text/event-stream": stream}
    statuses = (*_ERRORS, *more_statuses)
    return {
        "summary": summary,
        "parameters": [_deadline()],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _reference(body)}}},
        "responses": {
            "200": {"description": "The answer; a stream where `stream` is true.", "content": content},
            **{str(status): _error(status, error) for status in sorted(statuses)},
        },
    }


def _get(summary: str, answer: str, *statuses: int) -> Json:
    found = {"description": summary, "content": {"application/json": {"schema": _reference(answer)}}}
    return {"summary": summary, "responses": {"200": found, **{str(each): _error(each, "Error") for each in statuses}}}


def _health() -> Json:
    content = {"application/json": {"schema": _reference("Health")}}
    return {
        "summary": "Whether requests are welcome.",
        "security": [{}],
        "responses": {
            "200": {"description": "They are.", "content": content},
            "503": {"description": "Not now.", "content": content},
        },
    }


def _deadline() -> Json:
    return {
        "name": DEADLINE_HEADER.decode(),
        "in": "header",
        "required": False,
        "description": "Milliseconds in which the whole answer must be there.",
        "schema": {"type": "integer", "minimum": 1, "maximum": LONGEST_DEADLINE_MS},
    }


def _model_parameter() -> Json:
    return {"parameters": [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}]}


def _error(status: int, schema: str) -> Json:
    description = _ERRORS.get(status, "The request is wrong; `detail` lists each field.")
    return {"description": description, "content": {"application/json": {"schema": _reference(schema)}}}


def _reference(model: str) -> Json:
    return {"$ref": _REFERENCE.format(model=model)}
