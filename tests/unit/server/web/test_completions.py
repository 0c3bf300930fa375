"""POST /v1/completions and GET /v1/models."""

from __future__ import annotations

from tests.support.model_server import chunks_of, running_server

BODY = {"model": "tiny", "prompt": "hello", "max_tokens": 4, "temperature": 0}


NOT_CACHED = {"prompt_tokens_details": {"cached_tokens": 0}}


async def test_answers_with_an_openai_text_completion() -> None:
    async with running_server() as server:
        answer = await server.http.post("/v1/completions", json=BODY, headers={"x-request-id": "me-1"})
    body = answer.json()
    assert isinstance(body.pop("created"), int)
    assert body == {
        "id": "cmpl-me-1",
        "object": "text_completion",
        "model": "tiny",
        "choices": [{"index": 0, "text": " queue still then of", "logprobs": None, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9, **NOT_CACHED},
    }
    assert answer.headers["x-request-id"] == "me-1"


async def test_a_stream_has_usage_only_when_asked_and_then_in_a_last_chunk_without_choices() -> None:
    async with running_server() as server:
        plain = chunks_of(await server.events("/v1/completions", {**BODY, "stream": True}))
        asked = chunks_of(
            await server.events("/v1/completions", {**BODY, "stream": True, "stream_options": {"include_usage": True}})
        )
    assert not any("usage" in chunk for chunk in plain)
    assert [chunk["usage"] for chunk in asked[:-1]] == [None] * (len(asked) - 1)
    assert asked[-1]["choices"] == []
    assert asked[-1]["usage"] == {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9, **NOT_CACHED}


async def test_the_chunks_of_a_stream_share_id_and_model_and_only_the_last_has_a_finish_reason() -> None:
    async with running_server() as server:
        chunks = chunks_of(await server.events("/v1/completions", {**BODY, "stream": True}))
    assert len({(chunk["id"], chunk["object"], chunk["model"], chunk["created"]) for chunk in chunks}) == 1
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["length"]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == " queue still then of"


async def test_the_defaults_that_clients_send_are_taken() -> None:
    defaults = {"n": 1, "best_of": 1, "echo": False, "logprobs": None, "presence_penalty": 0, "user": "someone"}
    async with running_server() as server:
        answer = await server.http.post("/v1/completions", json={**BODY, **defaults, "logit_bias": {}, "stop": None})
    assert answer.status_code == 200


async def test_the_model_is_listed_under_its_served_name() -> None:
    async with running_server(served_name="team/model-a") as server:
        listed = (await server.http.get("/v1/models")).json()
        one = await server.http.get("/v1/models/team/model-a")
        other = await server.http.get("/v1/models/team/model-b")
    assert [card["id"] for card in listed["data"]] == ["team/model-a"]
    assert one.json() == listed["data"][0]
    assert (other.status_code, other.json()["error"]["code"]) == (404, "model_not_found")
