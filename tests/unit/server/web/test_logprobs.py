"""Log-probabilities and echo, on the fake engine: the token that came has -0.5, those after it by number follow."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.model_server import RunningServer, chunks_of, running_server

BODY: dict[str, Any] = {"model": "tiny", "prompt": "hi", "max_tokens": 3, "temperature": 0}
ARROW = {"prompt": "hi", "logit_bias": {"226": 100}, "max_tokens": 2}


async def first_choice(server: RunningServer, **body: Any) -> dict[str, Any]:
    answer = await server.http.post("/v1/completions", json={**BODY, **body})
    assert answer.status_code == 200, answer.text
    choice: dict[str, Any] = answer.json()["choices"][0]
    return choice


async def test_a_completion_has_four_lists_of_one_length_and_offsets_into_its_text() -> None:
    async with running_server() as server:
        choice = await first_choice(server, logprobs=2)
    logprobs = choice["logprobs"]
    assert "".join(logprobs["tokens"]) == choice["text"]
    assert logprobs["token_logprobs"] == [-0.5] * 3
    for token, offset, top in zip(logprobs["tokens"], logprobs["text_offset"], logprobs["top_logprobs"], strict=True):
        assert choice["text"][offset:].startswith(token)
        assert list(top.values()) == [-0.5, -1.5]
        assert next(iter(top)) == token


async def test_without_alternatives_the_token_itself_is_the_only_one() -> None:
    async with running_server() as server:
        choice = await first_choice(server, logprobs=0)
    assert choice["logprobs"]["top_logprobs"] == [{token: -0.5} for token in choice["logprobs"]["tokens"]]


async def test_a_part_of_a_character_has_its_bytes_for_a_name() -> None:
    async with running_server() as server:
        choice = await first_choice(server, logprobs=1, **ARROW)
    assert choice["logprobs"]["tokens"] == ["bytes:\\xe2", "bytes:\\xe2"]


async def test_a_chat_lists_tokens_with_their_bytes() -> None:
    chat = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2, "temperature": 0}
    async with running_server() as server:
        asked = {**chat, "logprobs": True, "top_logprobs": 3}
        choice = (await server.http.post("/v1/chat/completions", json=asked)).json()["choices"][0]
        plain = (await server.http.post("/v1/chat/completions", json=chat)).json()["choices"][0]
        chunks = chunks_of(await server.events("/v1/chat/completions", {**asked, "stream": True}))
    content = choice["logprobs"]["content"]
    assert "".join(token["token"] for token in content) == choice["message"]["content"]
    assert all(bytes(token["bytes"]).decode() == token["token"] for token in content)
    assert [len(token["top_logprobs"]) for token in content] == [3, 3]
    assert content[0]["top_logprobs"][0]["logprob"] == content[0]["logprob"] == -0.5
    assert plain["logprobs"] is None
    streamed = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    assert [token for logprobs in streamed if logprobs for token in logprobs["content"]] == content


@pytest.mark.parametrize(
    "prompt", [pytest.param("hello", id="text"), pytest.param([104, 101, 108, 108, 111], id="ids")]
)
async def test_an_echo_begins_with_the_prompt_and_its_log_probabilities(prompt: Any) -> None:
    async with running_server() as server:
        choice = await first_choice(server, prompt=prompt, echo=True, logprobs=1, max_tokens=1)
        alone = await first_choice(server, prompt=prompt, max_tokens=1)
    logprobs = choice["logprobs"]
    assert choice["text"] == "hello" + alone["text"]
    assert logprobs["tokens"] == ["h", "e", "l", "l", "o", alone["text"]]
    assert logprobs["token_logprobs"] == [None, *[-0.5] * 5]
    assert logprobs["top_logprobs"][:2] == [None, {"e": -0.5}]
    assert logprobs["text_offset"] == [0, 1, 2, 3, 4, 5]


async def test_an_echo_of_no_tokens_is_the_prompt_alone() -> None:
    async with running_server() as server:
        body = {**BODY, "prompt": ["ab", "cde"], "echo": True, "logprobs": 1, "max_tokens": 0}
        answer = (await server.http.post("/v1/completions", json=body)).json()
    assert [choice["text"] for choice in answer["choices"]] == ["ab", "cde"]
    assert [choice["logprobs"]["tokens"] for choice in answer["choices"]] == [["a", "b"], ["c", "d", "e"]]
    assert [choice["finish_reason"] for choice in answer["choices"]] == ["length", "length"]
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (5, 0)


@pytest.mark.parametrize(
    "more", [{}, {"echo": True}, {"stop": " then"}, {"stop": "il"}, {"echo": True, "max_tokens": 0}]
)
async def test_a_stream_carries_the_same_log_probabilities_as_the_whole_answer(more: dict[str, Any]) -> None:
    body = {**BODY, "prompt": "hello", "max_tokens": 40, "logprobs": 2, **more}
    async with running_server() as server:
        whole = await first_choice(server, **body)
        chunks = chunks_of(await server.events("/v1/completions", {**body, "stream": True}))
    choices = [chunk["choices"][0] for chunk in chunks]
    assert "".join(choice["text"] for choice in choices) == whole["text"]
    for name, values in whole["logprobs"].items():
        assert [value for choice in choices for value in choice["logprobs"][name]] == values


async def test_tokens_that_a_stop_string_cuts_off_have_no_entry() -> None:
    async with running_server() as server:
        choice = await first_choice(server, prompt="hello", max_tokens=50, logprobs=0, stop="ll then")
    assert choice["text"] == " queue sti"
    assert choice["logprobs"]["tokens"] == [" queue", " still"]
