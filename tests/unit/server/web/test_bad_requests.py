"""Rows H01, H02, H18, H25, H26 of the catalogue of bad input, and their neighbours: status, parameter and message."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from inference_server.text.fake import VOCABULARY_SIZE
from inference_server.web.body import parse_body
from inference_server.web.errors import APIError
from inference_server.web.generate import GenerateRequest
from tests.support.model_server import RunningServer, running_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"content-type": "application/json"}
COMPLETION = {"model": "tiny", "prompt": "hello"}
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[RunningServer]:
    """One server for all: a request that it refuses changes nothing."""
    async with running_server() as running:
        yield running


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/generate"])
@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(b"", "The request body is empty: send a JSON object.", id="H01 empty body"),
        pytest.param(
            b'{"model": "tiny",\n "prompt": }',
            "The request body is not valid JSON: unexpected character, expected a JSON value at line 2 column 12.",
            id="H02 invalid JSON",
        ),
        pytest.param(b'["hello"]', "The request body must be a JSON object.", id="H04 array at the top"),
        pytest.param(b'{"a":' * 5000, "depth limit exceeded", id="H05 nesting"),
        pytest.param(b'{"temperature": NaN}', "not valid JSON", id="H07 NaN"),
        pytest.param(b'{"text": "\xff"}', "not valid JSON", id="H28 invalid UTF-8"),
        pytest.param(b'{"text": "\\ud800"}', "not valid JSON", id="H28 lone surrogate"),
    ],
)
async def test_a_body_that_is_no_json_object_is_a_400_that_says_where(
    server: RunningServer, path: str, raw: bytes, message: str
) -> None:
    answer = await server.http.post(path, content=raw, headers=JSON)
    assert answer.status_code == 400
    body = answer.json()
    assert message in (body["detail"] if path == "/generate" else body["error"]["message"])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        pytest.param("max_tokens", 0, "Input should be greater than or equal to 1", id="H25 zero"),
        pytest.param("max_tokens", -1, "Input should be greater than or equal to 1", id="H25 negative"),
        pytest.param("max_tokens", 10**12, "Input should be less than or equal to 1048576", id="H25 huge"),
        pytest.param("max_tokens", 1.5, "Input should be a valid integer", id="H25 fraction"),
        pytest.param("max_tokens", "10", "Input should be a valid integer", id="H25 text"),
        pytest.param("max_tokens", True, "Input should be a valid integer", id="a boolean"),
        pytest.param("temperature", -1, "Input should be greater than or equal to 0", id="H29 negative"),
        pytest.param("temperature", 10**9, "Input should be less than or equal to 2", id="H29 huge"),
        pytest.param("temperature", "1", "Input should be a valid number", id="H29 text"),
        pytest.param("top_p", 0, "Input should be greater than 0", id="H29 top_p"),
        pytest.param("stop", [""], "String should have at least 1 character", id="H31 empty stop"),
        pytest.param("stop", ["a"] * 1000, "Tuple should have at most 16 items", id="H31 many stops"),
        pytest.param("seed", 2**70, "Input should be a valid integer", id="H33 seed"),
    ],
)
@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/completions", COMPLETION), ("/v1/chat/completions", CHAT), ("/generate", {"text": "hello"})],
)
async def test_a_value_out_of_range_is_refused_by_name(
    server: RunningServer, path: str, body: dict[str, Any], field: str, value: Any, message: str
) -> None:
    raw = _dumps({**body, field: value})
    answer = await server.http.post(path, content=raw, headers=JSON)
    if path == "/generate":
        assert answer.status_code == 422
        (item,) = answer.json()["detail"]
        assert item["loc"][:2] == ["body", field]
        assert message in item["msg"]
    else:
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["type"] == "invalid_request_error"
        assert error["param"].split("[")[0] == field
        assert message in error["message"]


@pytest.mark.parametrize(
    ("path", "body", "param", "code"),
    [
        pytest.param("/v1/completions", {**COMPLETION, "n": 1000}, "n", "invalid_value", id="H30 many choices"),
        pytest.param("/v1/completions", {**COMPLETION, "n": 2, "best_of": 3}, "best_of", "invalid_value", id="best_of"),
        pytest.param("/v1/completions", {**COMPLETION, "logprobs": 6}, "logprobs", "invalid_value", id="H34 logprobs"),
        pytest.param("/v1/completions", {**COMPLETION, "suffix": "x"}, "suffix", "unsupported_parameter", id="suffix"),
        pytest.param(
            "/v1/completions", {**COMPLETION, "stream_options": {}}, "stream_options", "invalid_value", id="no stream"
        ),
        pytest.param(
            "/v1/completions", {**COMPLETION, "top_k": 5}, "top_k", "unsupported_parameter", id="unknown field"
        ),
        pytest.param("/v1/completions", {"model": "tiny"}, "prompt", "missing_required_parameter", id="no prompt"),
        pytest.param("/v1/completions", {"prompt": "hello"}, "model", "missing_required_parameter", id="no model"),
        pytest.param("/v1/completions", {**COMPLETION, "prompt": ""}, "prompt", "invalid_value", id="empty prompt"),
        *(
            pytest.param("/v1/completions", {**COMPLETION, "prompt": prompt}, "prompt", "invalid_value", id=name)
            for name, prompt in {
                "H38 id out of the vocabulary": [1, VOCABULARY_SIZE],
                "H38 negative id": [-1],
                "H38 fraction": [1.0],
                "H38 boolean": [True],
                "H38 huge id": [[1], [2**80]],
                "no prompt in the list": [],
                "empty list of ids": [[]],
                "text and a number": ["a", 1],
                "one of two is empty": ["a", ""],
                "an object": {"text": "a"},
            }.items()
        ),
        *(
            pytest.param("/v1/completions", {**COMPLETION, name: value}, name, "invalid_value", id=f"{name} {value}")
            for name in ("presence_penalty", "frequency_penalty")
            for value in (-2.1, 2.1, "1")
        ),
        *(
            pytest.param(
                "/v1/completions", {**COMPLETION, "logit_bias": bias}, param, "invalid_value", id=f"H32 {name}"
            )
            for name, param, bias in (
                ("negative id", "logit_bias", {"-1": 1}),
                ("id out of the vocabulary", "logit_bias", {str(VOCABULARY_SIZE): 1}),
                ("huge id", "logit_bias", {"9" * 30: 1}),
                ("no number", "logit_bias.x", {"x": 1}),
                ("huge bias", "logit_bias", {"1": 101}),
                ("many entries", "logit_bias", {str(n): 1 for n in range(301)}),
            )
        ),
        pytest.param(
            "/v1/completions",
            {**COMPLETION, "prompt_embeds": "AAAA"},
            "prompt_embeds",
            "unsupported_parameter",
            id="H39 prompt embeddings",
        ),
        pytest.param(
            "/v1/chat/completions",
            {**CHAT, "top_logprobs": 10_000, "logprobs": True},
            "top_logprobs",
            "invalid_value",
            id="H34 top_logprobs",
        ),
        pytest.param(
            "/v1/chat/completions", {**CHAT, "top_logprobs": 1}, "top_logprobs", "invalid_value", id="no logprobs"
        ),
        pytest.param(
            "/v1/chat/completions",
            {**CHAT, "max_tokens": 3, "max_completion_tokens": 4},
            "max_completion_tokens",
            "invalid_value",
            id="two limits",
        ),
        pytest.param(
            "/v1/chat/completions",
            {**CHAT, "messages": [{"role": "user", "content": None}]},
            "messages[0].content",
            "invalid_value",
            id="H22 null content",
        ),
        *(
            pytest.param("/v1/chat/completions", {**CHAT, name: value}, name, "unsupported_parameter", id=f"H41 {name}")
            for name, value in {
                "tool_choice": "auto",
                "functions": [],
                "parallel_tool_calls": True,
                "audio": {},
                "modalities": ["text"],
                "reasoning_effort": "low",
                "service_tier": "auto",
                "chat_template_kwargs": {},
                "guided_regex": "(a+)+$",
            }.items()
        ),
        pytest.param(
            "/v1/chat/completions",
            {
                **CHAT,
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {"$ref": "#"}},
                },
            },
            "response_format.type",
            "unsupported_value",
            id="H36 a schema that refers to itself",
        ),
        pytest.param(
            "/v1/chat/completions",
            {**CHAT, "tools": [{"type": "function", "function": {"name": "f", "parameters": {"pattern": "(a+)+$"}}}]},
            "tools",
            "unsupported_parameter",
            id="H35 a tool with a catastrophic pattern",
        ),
        pytest.param(
            "/v1/chat/completions", {**CHAT, "messages": []}, "messages", "invalid_value", id="H20 no message"
        ),
        pytest.param(
            "/v1/chat/completions",
            {**CHAT, "messages": [{"role": "wizard", "content": "x"}]},
            "messages[0].role",
            "unsupported_value",
            id="H21 unknown role",
        ),
        pytest.param(
            "/v1/chat/completions", {**CHAT, "chat_template": "x"}, "chat_template", "unsupported_parameter", id="H37"
        ),
        pytest.param("/v1/chat/completions", {**CHAT, "tools": []}, "tools", "unsupported_parameter", id="tools"),
        pytest.param(
            "/v1/chat/completions",
            {**CHAT, "response_format": {"type": "json_object"}},
            "response_format.type",
            "unsupported_value",
            id="response format",
        ),
    ],
)
async def test_a_field_that_would_change_the_answer_is_refused_and_never_ignored(
    server: RunningServer, path: str, body: dict[str, Any], param: str, code: str
) -> None:
    answer = await server.http.post(path, json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["param"], error["code"], error["type"]) == (param, code, "invalid_request_error")


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://169.254.169.254/", id="H23 a private address"),
        pytest.param("data:image/png;base64," + "A" * 100_000, id="H24 a data URL"),
    ],
)
async def test_an_image_is_refused_for_a_text_model_and_no_packet_leaves(server: RunningServer, url: str) -> None:
    image = {"type": "image_url", "image_url": {"url": url}}
    body = {**CHAT, "messages": [{"role": "user", "content": [image]}]}
    answer = await server.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("messages[0].content")


async def test_h18_an_unknown_model_is_a_404_that_names_the_one_there_is(server: RunningServer) -> None:
    answer = await server.http.post("/v1/completions", json={**COMPLETION, "model": "gpt-9"})
    assert answer.status_code == 404
    assert answer.json()["error"] == {
        "message": "The model 'gpt-9' does not exist. Available: 'tiny'.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"model": "tiny", "prompt": "x" * 200}),
        ("/v1/chat/completions", {"model": "tiny", "messages": [{"role": "user", "content": "x" * 183}]}),
        ("/generate", {"text": "x" * 200}),
    ],
)
async def test_h26_a_prompt_longer_than_the_context_is_a_400_with_both_counts(path: str, body: dict[str, Any]) -> None:
    async with running_server(max_model_len=128) as server:
        answer = await server.http.post(path, json=body)
    assert answer.status_code == 400
    content = answer.json()
    message = content["detail"] if path == "/generate" else content["error"]["message"]
    assert "maximum context length is 128 tokens" in message
    assert "201 tokens (200 in the prompt, 1 in the completion)" in message
    if path != "/generate":
        assert content["error"]["code"] == "context_length_exceeded"


async def test_a_completion_that_does_not_fit_is_refused_when_asked_for_and_shortened_when_it_is_the_default() -> None:
    async with running_server(max_model_len=128, max_tokens=100) as server:
        asked = await server.http.post("/v1/completions", json={**COMPLETION, "prompt": "x" * 120, "max_tokens": 9})
        default = await server.http.post("/v1/completions", json={**COMPLETION, "prompt": "x" * 120})
    assert asked.json()["error"]["param"] == "max_tokens"
    assert "129 tokens (120 in the prompt, 9 in the completion)" in asked.json()["error"]["message"]
    assert default.json()["usage"]["completion_tokens"] == 8


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b'{"text": "a", "text": "b"}', "text"),
        (b'{"text": "a", "stream_options": {"x": 1, "y": 2, "x": 3}}', "x"),
    ],
)
async def test_h06_a_field_that_is_there_twice_is_a_400(server: RunningServer, raw: bytes, name: str) -> None:
    answer = await server.http.post("/v1/completions", content=raw, headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == f"The request body has the field '{name}' twice."


async def test_h09_a_body_shorter_than_its_length_is_a_408_at_its_deadline() -> None:
    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    scope = {"type": "http", "headers": [(b"content-length", b"100")]}
    with pytest.raises(APIError) as refused:
        await parse_body(scope, receive, GenerateRequest, deadline=0.05)
    assert (refused.value.status, refused.value.code) == (408, "request_timeout")


async def test_h14_a_host_that_is_none_is_a_400_before_routing(server: RunningServer) -> None:
    for host in ("", "a/b", "a?b", "a#b", "a b", "a@b"):
        answer = await server.http.get("/health", headers={"host": host})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_host"), host
    for host in ("tiny.team.svc:8000", "[::1]:8000", "10.0.0.1"):
        assert (await server.http.get("/health", headers={"host": host})).status_code == 200, host


async def test_h19_a_model_name_of_a_mebibyte_is_refused(server: RunningServer) -> None:
    answer = await server.http.post("/v1/completions", json={**COMPLETION, "model": "x" * 2**20})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")


async def test_h46_a_compressed_body_is_a_415(server: RunningServer) -> None:
    headers = {**JSON, "content-encoding": "gzip"}
    answer = await server.http.post("/generate", content=gzip.compress(b"0" * 10**6), headers=headers)
    assert answer.status_code == 415


async def test_h48_a_preflight_of_another_site_is_denied(server: RunningServer) -> None:
    headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    answer = await server.http.options("/v1/completions", headers=headers)
    assert answer.status_code == 405
    assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize("path", ["/metrics", "/docs", "/redoc", "/openapi.json", "/internal/v1/state", "/livez"])
async def test_h49_what_is_for_operators_is_not_on_the_public_port(server: RunningServer, path: str) -> None:
    assert (await server.http.get(path)).status_code == 404


@pytest.mark.parametrize("path", ["/v1/load_lora_adapter", "/sleep", "/reset_prefix_cache", "/v1/completions/render"])
async def test_h50_there_is_nothing_to_administer_with_a_users_key(server: RunningServer, path: str) -> None:
    assert (await server.http.post(path, json={})).status_code == 404


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_h03_another_media_type_is_a_415(server: RunningServer, content_type: str) -> None:
    answer = await server.http.post("/generate", content=b"{}", headers={"content-type": content_type})
    assert answer.status_code == 415


async def test_a_body_over_two_mebibytes_is_a_413(server: RunningServer) -> None:
    known = await server.http.post("/generate", json={"text": "x" * 2**21})
    unknown = await server.http.post("/generate", content=_pieces(40), headers=JSON)
    assert (known.status_code, unknown.status_code) == (413, 413)
    assert known.headers["connection"] == "close"


async def test_unknown_paths_and_methods_get_an_error_object(server: RunningServer) -> None:
    path = await server.http.get("/v1/embeddings")
    method = await server.http.get("/v1/completions")
    assert (path.status_code, path.json()["error"]["code"]) == (404, "not_found")
    assert (method.status_code, method.json()["error"]["code"]) == (405, "method_not_allowed")


async def _pieces(count: int) -> Any:
    for _ in range(count):
        yield b"x" * 65536


def _dumps(body: dict[str, Any]) -> bytes:
    import json

    return json.dumps(body).encode()
