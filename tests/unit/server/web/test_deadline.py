"""The header x-llm-deadline-ms: refused at once when the line is longer, ended when the time is over."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.support.model_server import events_of, eventually, running_server

BODY = {"model": "tiny", "prompt": "hello", "max_tokens": 5000}


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "99999999999"])
async def test_a_deadline_that_is_no_number_of_milliseconds_is_a_400(value: str) -> None:
    async with running_server() as server:
        answer = await server.http.post("/v1/completions", json=BODY, headers={"x-llm-deadline-ms": value})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "x-llm-deadline-ms"


async def test_a_request_within_its_deadline_is_answered() -> None:
    async with running_server() as server:
        headers = {"x-llm-deadline-ms": "10000"}
        answer = await server.http.post("/v1/completions", json={**BODY, "max_tokens": 5}, headers=headers)
    assert answer.status_code == 200


async def test_a_deadline_that_passes_is_a_408_that_official_clients_do_not_repeat_and_frees_the_slot() -> None:
    async with running_server(fake_tokens_per_second=50.0) as server:
        answer = await server.http.post("/v1/completions", json=BODY, headers={"x-llm-deadline-ms": "100"})
        in_flight = server.client.in_flight
    assert answer.status_code == 408
    assert (answer.json()["error"]["type"], answer.json()["error"]["code"]) == ("timeout_error", "deadline_exceeded")
    assert answer.headers["x-should-retry"] == "false"
    assert in_flight == 0


async def test_a_deadline_that_passes_in_a_stream_is_its_last_event() -> None:
    async with running_server(fake_tokens_per_second=50.0) as server:
        body = {**BODY, "stream": True}
        answer = await server.http.post("/v1/completions", json=body, headers={"x-llm-deadline-ms": "200"})
    events = events_of(answer.text)
    assert json.loads(events[-1])["error"]["code"] == "deadline_exceeded"
    assert len(events) > 1
    assert "[DONE]" not in answer.text


async def test_a_deadline_shorter_than_the_measured_line_is_refused_at_once() -> None:
    async with running_server(max_batch_size=1, fake_tokens_per_second=50.0) as server:
        # One sequence holds its slot for 0.5 s, so the next in line after two others waits about 1 s.
        await server.http.post("/v1/completions", json={**BODY, "max_tokens": 25})
        others = [asyncio.create_task(server.http.post("/v1/completions", json=BODY)) for _ in range(2)]
        await eventually(lambda: server.client.in_flight == 2)
        refused = await server.http.post("/v1/completions", json=BODY, headers={"x-llm-deadline-ms": "300"})
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "deadline_unreachable"
    assert refused.headers["x-llm-drop-reason"] == "deadline"
    assert int(refused.headers["retry-after"]) >= 1
