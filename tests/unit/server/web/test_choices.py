"""Several choices and several prompts in one request: each as if it had been asked for alone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.model_server import RunningServer, chunks_of, eventually, running_server

BODY: dict[str, Any] = {"model": "tiny", "prompt": "hello", "max_tokens": 12}
CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 12}


async def texts(server: RunningServer, **body: Any) -> list[str]:
    answer = await server.http.post("/v1/completions", json={**BODY, **body})
    assert answer.status_code == 200, answer.text
    choices = answer.json()["choices"]
    assert [choice["index"] for choice in choices] == list(range(len(choices)))
    return [choice["text"] for choice in choices]


async def test_the_first_choice_is_what_the_same_seed_gives_alone_and_the_others_differ() -> None:
    async with running_server() as server:
        (alone,) = await texts(server, seed=7)
        three = await texts(server, seed=7, n=3)
        again = await texts(server, seed=7, n=3)
        (neighbour,) = await texts(server, seed=8)
    assert three[0] == alone
    assert three == again
    assert len({*three, neighbour}) == 4


async def test_choices_of_a_list_of_prompts_are_numbered_prompt_by_prompt() -> None:
    async with running_server() as server:
        together = await texts(server, prompt=["one", "two"], n=2, seed=3)
        one, two = await texts(server, prompt="one", n=2, seed=3), await texts(server, prompt="two", n=2, seed=3)
    assert together == one + two


@pytest.mark.parametrize(
    "prompt",
    [
        pytest.param("hi", id="text"),
        pytest.param(["hi"], id="list of texts"),
        pytest.param([104, 105], id="token ids"),
        pytest.param([[104, 105]], id="list of token ids"),
    ],
)
async def test_a_prompt_may_come_in_four_shapes(prompt: Any) -> None:
    async with running_server() as server:
        assert await texts(server, prompt=prompt, temperature=0) == await texts(server, prompt="hi", temperature=0)


@pytest.mark.parametrize(("path", "body"), [("/v1/completions", BODY), ("/v1/chat/completions", CHAT)])
async def test_a_stream_carries_all_choices_each_with_its_own_end(path: str, body: dict[str, Any]) -> None:
    asked = {**body, "n": 3, "seed": 1, "stop": "the"}
    async with running_server() as server:
        whole = (await server.http.post(path, json=asked)).json()
        chunks = chunks_of(await server.events(path, {**asked, "stream": True}))
    said, ended = {0: "", 1: "", 2: ""}, {}
    for (choice,) in (chunk["choices"] for chunk in chunks):
        assert choice["index"] not in ended
        said[choice["index"]] += choice["delta"].get("content", "") if "delta" in choice else choice["text"]
        if choice["finish_reason"]:
            ended[choice["index"]] = choice["finish_reason"]
    expected = [choice["message"]["content"] if "message" in choice else choice["text"] for choice in whole["choices"]]
    assert list(said.values()) == expected
    assert ended == {choice["index"]: choice["finish_reason"] for choice in whole["choices"]}


async def test_a_prompt_counts_once_and_its_cached_part_is_told() -> None:
    async with running_server() as server:
        body = {**BODY, "prompt": "x" * 40, "n": 3, "max_tokens": 5}
        first = (await server.http.post("/v1/completions", json=body)).json()["usage"]
        second = (await server.http.post("/v1/completions", json=body)).json()["usage"]
    assert (first["prompt_tokens"], first["completion_tokens"], first["total_tokens"]) == (40, 15, 55)
    assert first["prompt_tokens_details"] == {"cached_tokens": 0}
    assert second["prompt_tokens_details"] == {"cached_tokens": 32}


async def test_one_stopped_choice_frees_its_slot_while_the_others_go_on() -> None:
    body = {**BODY, "n": 2, "temperature": 0, "prompt": ["hello", "other"], "max_tokens": 2000, "stop": " then"}
    async with running_server(fake_tokens_per_second=200.0) as server:
        request = asyncio.create_task(server.http.post("/v1/completions", json={**body, "n": 1}))
        await eventually(lambda: server.client.in_flight == 2)
        await eventually(lambda: server.client.in_flight == 1)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
        await eventually(lambda: server.client.in_flight == 0)


async def test_more_completions_than_the_server_has_places_for_are_a_400_and_not_a_429() -> None:
    async with running_server(max_batch_size=2, max_queue_depth=3) as server:
        answer = await server.http.post("/v1/completions", json={**BODY, "prompt": ["a", "b"], "n": 3})
        fits = await server.http.post("/v1/completions", json={**BODY, "n": 5})
    assert answer.status_code == 400
    assert "6 completions, prompts times n; this server takes 5 at most" in answer.json()["error"]["message"]
    assert fits.status_code == 200


async def test_penalties_bias_and_seed_reach_the_engine() -> None:
    async with running_server() as server:
        plain = await texts(server, temperature=0)
        assert await texts(server, temperature=0, presence_penalty=0.0, logit_bias={}, ignore_eos=True) == plain
        assert await texts(server, temperature=0, presence_penalty=1.5) != plain
        assert await texts(server, temperature=0, frequency_penalty=-0.5) != plain
        assert await texts(server, temperature=0, logit_bias={"300": 5}) != plain
        assert await texts(server, temperature=0, logit_bias={"65": 100}, max_tokens=3) == ["AAA"]


async def test_null_is_a_field_that_was_not_given() -> None:
    names = ("temperature", "top_p", "n", "seed", "stop", "logprobs", "echo", "logit_bias", "stream", "user", "best_of")
    async with running_server() as server:
        answer = await server.http.post("/v1/completions", json={**BODY, **dict.fromkeys(names)})
    assert answer.status_code == 200
