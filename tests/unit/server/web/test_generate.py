"""POST /generate, the original route."""

from __future__ import annotations

from tests.support.model_server import chunks_of, running_server


async def test_answers_as_the_original_did() -> None:
    async with running_server() as server:
        answer = await server.http.post("/generate", json={"text": "hello", "max_tokens": 6, "temperature": 0})
    assert answer.status_code == 200
    assert answer.json() == {
        "generated_text": " queue still then of and open",
        "finish_reason": "length",
        "usage": {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11},
        "model": "tiny",
    }


async def test_text_alone_is_enough_and_max_tokens_is_the_configured_default() -> None:
    async with running_server(max_tokens=17) as server:
        answer = await server.http.post("/generate", json={"text": "hello"})
    assert answer.json()["usage"]["completion_tokens"] == 17


async def test_one_seed_gives_one_text_and_another_seed_another() -> None:
    async with running_server() as server:
        texts = []
        for seed in (7, 7, 8):
            answer = await server.http.post("/generate", json={"text": "hello", "max_tokens": 20, "seed": seed})
            texts.append(answer.json()["generated_text"])
    assert texts[0] == texts[1] != texts[2]


async def test_a_stop_string_cuts_the_text_and_counts_the_token_that_completed_it() -> None:
    async with running_server() as server:
        body = {"text": "hello", "max_tokens": 50, "temperature": 0, "stop": "then"}
        answer = await server.http.post("/generate", json=body)
    assert answer.json()["generated_text"] == " queue still "
    assert answer.json()["finish_reason"] == "stop"
    assert answer.json()["usage"]["completion_tokens"] == 3


async def test_a_stream_carries_the_same_text_and_ends_with_reason_usage_and_done() -> None:
    body = {"text": "hello", "max_tokens": 40, "temperature": 0}
    async with running_server() as server:
        whole = (await server.http.post("/generate", json=body)).json()
        chunks = chunks_of(await server.events("/generate", {**body, "stream": True}))
    assert "".join(chunk["text"] for chunk in chunks) == whole["generated_text"]
    assert chunks[-1] == {"text": "", "finish_reason": "length", "usage": whole["usage"], "model": "tiny"}


async def test_a_stream_never_shows_the_beginning_of_a_stop_string() -> None:
    body = {"text": "hello", "max_tokens": 50, "temperature": 0, "stop": ["then of and"], "stream": True}
    async with running_server(fake_tokens_per_second=20.0) as server:
        chunks = chunks_of(await server.events("/generate", body))
    assert "".join(chunk["text"] for chunk in chunks) == " queue still "
    assert len(chunks) > 2
