"""What clients see when the engine fails them: typed errors, in band after the headers and never followed by [DONE]."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from inference_server.engine.client import EngineFailed, GenerationAborted
from tests.support.model_server import events_of, eventually, running_server

STREAM: dict[str, Any] = {"model": "tiny", "prompt": "hello", "max_tokens": 1000, "stream": True}


async def test_out_of_memory_before_the_first_token_is_a_503_for_that_request_alone() -> None:
    async with running_server(fake_fault="oom", fake_fault_after=1) as server:
        body = {"model": "tiny", "prompt": "hello", "max_tokens": 3}
        answers = [await server.http.post("/v1/completions", json=body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 503, 200]
    assert answers[1].json()["error"] == {
        "message": "not enough memory for this request",
        "type": "service_unavailable_error",
        "param": None,
        "code": "out_of_memory",
    }


async def test_a_fault_in_the_middle_of_a_stream_is_its_last_event() -> None:
    async with running_server(fake_fault="nan", fake_tokens_per_second=200.0) as server:
        answer = await server.http.post("/v1/completions", json=STREAM)
        after = await server.http.post("/v1/completions", json={**STREAM, "max_tokens": 3})
    events = events_of(answer.text)
    assert json.loads(events[-1])["error"]["code"] == "non_finite_logits"
    assert "[DONE]" not in answer.text
    assert len(events) > 1
    assert events_of(after.text)[-1] == "[DONE]"


async def test_the_death_of_the_engine_ends_every_stream_with_a_typed_error() -> None:
    async with running_server(fake_tokens_per_second=100.0) as server:
        streams = [asyncio.create_task(server.http.post("/v1/completions", json=STREAM)) for _ in range(4)]
        await eventually(lambda: server.begun == 4)
        server.engine.die()
        answers = await asyncio.gather(*streams)
        await eventually(lambda: bool(server.failures))
    for answer in answers:
        assert json.loads(events_of(answer.text)[-1])["error"]["code"] == "worker_lost"
        assert "[DONE]" not in answer.text
    assert isinstance(server.failures[0], EngineFailed)
    assert str(server.failures[0]) == "the engine process ended: killed by signal 9"


async def test_the_death_of_the_engine_before_the_first_token_is_a_503() -> None:
    async with running_server(fake_first_token_seconds=60.0) as server:
        request = asyncio.create_task(server.http.post("/v1/completions", json=STREAM))
        await eventually(lambda: server.client.load().running == 1)
        server.engine.die()
        answer = await request
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "worker_lost"


async def test_an_end_of_the_drain_is_told_apart_from_a_failure() -> None:
    async with running_server(fake_tokens_per_second=100.0) as server:
        stream = asyncio.create_task(server.http.post("/v1/completions", json=STREAM))
        await eventually(lambda: server.begun == 1)
        server.client.abort_all(GenerationAborted("stream_interrupted", "The server is shutting down. Try again."))
        events = events_of((await stream).text)
    assert json.loads(events[-1])["error"]["code"] == "stream_interrupted"


async def test_a_bug_of_ours_is_a_500_without_its_text() -> None:
    async with running_server() as server:
        server.model_server.tokenizer = None
        answer = await server.http.post("/v1/completions", json=STREAM)
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "ensure_ready" not in answer.text
