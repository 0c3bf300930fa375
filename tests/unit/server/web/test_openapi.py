"""What docs/openapi.json promises is what the server answers."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from inference_server.web.access import ROUTES
from reference import openapi
from tests.support.model_server import running_server

COMPLETION = {"model": "tiny", "prompt": "hello", "max_tokens": 3}
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
DOCUMENT = openapi.document()


def check(answer: Any, path: str, status: int, body: Any) -> None:
    operation = DOCUMENT["paths"][path]["post" if body is not None else "get"]
    schema = operation["responses"][str(status)]["content"]["application/json"]["schema"]
    jsonschema.validate(answer, {**schema, "components": DOCUMENT["components"]})


def test_every_route_is_described() -> None:
    assert {path.removesuffix("/{model}") for path in DOCUMENT["paths"]} == ROUTES - {"/ws/generate"}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/health", None, 200),
        ("/v1/models", None, 200),
        ("/v1/completions", COMPLETION, 200),
        ("/v1/completions", {**COMPLETION, "logprobs": 2, "echo": True, "n": 2}, 200),
        ("/v1/completions", {**COMPLETION, "n": 99}, 400),
        ("/v1/completions", {**COMPLETION, "model": "other"}, 404),
        ("/v1/chat/completions", CHAT, 200),
        ("/v1/chat/completions", {**CHAT, "logprobs": True, "top_logprobs": 3}, 200),
        ("/generate", {"text": "hello", "max_tokens": 3}, 200),
        ("/generate", {"text": "hello", "max_tokens": -3}, 422),
        ("/generate", {"text": "x" * 9000}, 400),
    ],
)
async def test_answers_have_the_described_shape(path: str, body: Any, status: int) -> None:
    async with running_server() as server:
        answer = await server.http.request("GET" if body is None else "POST", path, json=body)
    assert answer.status_code == status
    check(answer.json(), path, status, body)
