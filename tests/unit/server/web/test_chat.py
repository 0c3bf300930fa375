"""POST /v1/chat/completions."""

from __future__ import annotations

from tests.support.model_server import chunks_of, running_server

BODY = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "temperature": 0}


NOT_CACHED = {"prompt_tokens_details": {"cached_tokens": 0}}


async def test_answers_with_an_openai_chat_completion() -> None:
    async with running_server() as server:
        body = (await server.http.post("/v1/chat/completions", json=BODY)).json()
    assert body["object"] == "chat.completion"
    assert body["id"].startswith("chatcmpl-")
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": " tree quiet token for and", "refusal": None},
            "logprobs": None,
            "finish_reason": "length",
        }
    ]
    assert body["usage"] == {"prompt_tokens": 19, "completion_tokens": 5, "total_tokens": 24, **NOT_CACHED}


async def test_a_stream_opens_with_the_role_and_carries_the_same_text() -> None:
    async with running_server() as server:
        whole = (await server.http.post("/v1/chat/completions", json=BODY)).json()
        chunks = chunks_of(await server.events("/v1/chat/completions", {**BODY, "stream": True}))
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}


async def test_content_in_text_parts_is_the_same_as_content_in_one_text() -> None:
    parts = [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]
    async with running_server() as server:
        plain = (await server.http.post("/v1/chat/completions", json=BODY)).json()
        split = (
            await server.http.post(
                "/v1/chat/completions", json={**BODY, "messages": [{"role": "user", "content": parts}]}
            )
        ).json()
    assert split["choices"] == plain["choices"]


async def test_max_completion_tokens_is_another_name_of_max_tokens() -> None:
    body = {key: value for key, value in BODY.items() if key != "max_tokens"}
    async with running_server() as server:
        answer = await server.http.post("/v1/chat/completions", json={**body, "max_completion_tokens": 3})
        both = await server.http.post("/v1/chat/completions", json={**BODY, "max_completion_tokens": 3})
    assert answer.json()["usage"]["completion_tokens"] == 3
    assert both.status_code == 400


async def test_a_model_without_a_chat_template_refuses_to_chat_and_still_completes() -> None:
    async with running_server(has_chat_template=False) as server:
        chat = await server.http.post("/v1/chat/completions", json=BODY)
        completion = await server.http.post("/v1/completions", json={"model": "tiny", "prompt": "hi", "max_tokens": 2})
    assert chat.status_code == 400
    assert chat.json()["error"] == {
        "message": "The model has no chat template, so it cannot chat: use /v1/completions.",
        "type": "invalid_request_error",
        "param": None,
        "code": "chat_template_missing",
    }
    assert completion.status_code == 200
