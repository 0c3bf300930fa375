"""OpenAI's own Python client against our server: it must not notice a difference."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.support.server_process import ServerProcess, eventually_is, ready_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROMPT = "Once upon a time"
MESSAGES: list[dict[str, str]] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPT}]


@asynccontextmanager
async def client_of(server: ServerProcess, **options: object) -> AsyncIterator[AsyncOpenAI]:
    """Yield a client that retries nothing unless told to."""
    given = {"api_key": "unused", "max_retries": 0, "timeout": 30.0, **options}
    async with AsyncOpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", **given) as client:  # type: ignore[arg-type]
        yield client


async def test_the_model_is_listed_and_found(server: ServerProcess) -> None:
    async with client_of(server) as client:
        listed = [model.id async for model in await client.models.list()]
        found = await client.models.retrieve("tiny")
        with pytest.raises(openai.NotFoundError) as missing:
            await client.models.retrieve("gpt-4")
    assert listed == [found.id] == ["tiny"]
    assert missing.value.code == "model_not_found"


async def test_a_streamed_completion_is_the_whole_one_in_pieces(server: ServerProcess) -> None:
    async with client_of(server) as client:
        whole = await client.completions.create(model="tiny", prompt=PROMPT, max_tokens=20, temperature=0)
        stream = await client.completions.create(
            model="tiny",
            prompt=PROMPT,
            max_tokens=20,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.text for choice in choices) == whole.choices[0].text
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == [whole.choices[0].finish_reason]
    assert chunks[-1].usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


async def test_a_streamed_chat_is_the_whole_one_in_pieces(server: ServerProcess) -> None:
    asked: dict[str, Any] = {"model": "tiny", "messages": MESSAGES, "max_completion_tokens": 20, "temperature": 0}
    async with client_of(server) as client:
        long = (await client.chat.completions.create(**asked)).choices[0].message.content
        # The client's own stream helper takes an answer that was cut at its length for an error.
        stop = long[8:11]
        whole = await client.chat.completions.create(**asked, stop=stop)
        async with client.chat.completions.stream(**asked, stop=stop) as stream:
            final = await stream.get_final_completion()
    assert final.choices[0].message.content == whole.choices[0].message.content == long[: long.index(stop)]
    assert final.choices[0].message.role == whole.choices[0].message.role == "assistant"
    assert final.choices[0].finish_reason == whole.choices[0].finish_reason == "stop"


async def test_a_stop_string_ends_the_text_before_it(server: ServerProcess) -> None:
    async with client_of(server) as client:
        whole = (await client.completions.create(model="tiny", prompt=PROMPT, max_tokens=20, temperature=0)).choices[0]
        stop = whole.text[5:8]
        answer = await client.completions.create(
            model="tiny", prompt=PROMPT, max_tokens=20, temperature=0, stop=[stop, "never said"]
        )
    assert answer.choices[0].text == whole.text[: whole.text.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


async def test_a_seed_decides_the_text(server: ServerProcess) -> None:
    async def text(client: AsyncOpenAI, seed: int) -> str:
        answer = await client.completions.create(model="tiny", prompt=PROMPT, max_tokens=16, temperature=1, seed=seed)
        return answer.choices[0].text

    async with client_of(server) as client:
        first, again, other = await asyncio.gather(text(client, 7), text(client, 7), text(client, 8))
    assert first == again
    assert first != other


async def test_n_choices_come_with_their_index_whole_and_streamed(server: ServerProcess) -> None:
    async with client_of(server) as client:
        whole = await client.completions.create(
            model="tiny", prompt=PROMPT, max_tokens=8, temperature=1, seed=3, n=2, stream=False
        )
        stream = await client.completions.create(
            model="tiny", prompt=PROMPT, max_tokens=8, temperature=1, seed=3, n=2, stream=True
        )
        texts = ["", ""]
        async for chunk in stream:
            for choice in chunk.choices:
                texts[choice.index] += choice.text
    assert [choice.index for choice in whole.choices] == [0, 1]
    assert texts == [choice.text for choice in whole.choices]
    assert texts[0] != texts[1]


async def test_log_probabilities_of_a_completion_line_up_with_its_text(tiny: ServerProcess) -> None:
    async with client_of(tiny) as client:
        answer = await client.completions.create(model="tiny", prompt=PROMPT, max_tokens=8, temperature=0, logprobs=3)
    found = answer.choices[0].logprobs
    assert found is not None
    assert found.tokens is not None
    assert found.token_logprobs is not None
    assert found.top_logprobs is not None
    assert "".join(found.tokens) == answer.choices[0].text
    assert len(found.token_logprobs) == len(found.top_logprobs) == len(found.tokens)
    for logprob, top in zip(found.token_logprobs, found.top_logprobs, strict=True):
        assert top is not None
        assert logprob == pytest.approx(max(top.values()))


async def test_log_probabilities_of_a_chat_line_up_with_its_text(tiny: ServerProcess) -> None:
    async with client_of(tiny) as client:
        answer = await client.chat.completions.create(
            model="tiny",
            messages=MESSAGES,  # type: ignore[arg-type]
            max_tokens=8,
            temperature=0,
            logprobs=True,
            top_logprobs=2,
        )
    found = answer.choices[0].logprobs
    assert found is not None
    assert found.content is not None
    assert b"".join(bytes(token.bytes or ()) for token in found.content).decode(errors="replace") == (
        answer.choices[0].message.content
    )
    assert all(token.logprob == pytest.approx(token.top_logprobs[0].logprob) for token in found.content)


async def test_a_biased_token_is_said_and_a_penalty_ends_repetition(tiny: ServerProcess) -> None:
    async with client_of(tiny) as client:
        biased = await client.completions.create(
            model="tiny", prompt=PROMPT, max_tokens=4, temperature=0, logit_bias={"80": 100}
        )
        varied = await client.completions.create(
            model="tiny",
            prompt=PROMPT,
            max_tokens=12,
            temperature=0,
            logit_bias={"80": 2},
            presence_penalty=2,
            frequency_penalty=2,
            logprobs=0,
        )
    assert len(set(biased.choices[0].text)) == 1
    assert varied.choices[0].logprobs is not None
    tokens = varied.choices[0].logprobs.tokens or []
    assert len(set(tokens)) == len(tokens) > 4


async def test_prompts_may_be_several_and_may_be_tokens(server: ServerProcess) -> None:
    async with client_of(server) as client:
        several = await client.completions.create(model="tiny", prompt=[PROMPT, "A team"], max_tokens=6, temperature=0)
        second = await client.completions.create(model="tiny", prompt="A team", max_tokens=6, temperature=0)
        tokens = await client.completions.create(model="tiny", prompt=[65, 66, 67], max_tokens=6, temperature=0)
    assert [choice.index for choice in several.choices] == [0, 1]
    assert several.choices[1].text == second.choices[0].text
    assert tokens.usage is not None
    assert tokens.usage.prompt_tokens == 3


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("temperature", 3, "invalid_value"),
        ("max_tokens", 0, "invalid_value"),
        ("max_tokens", 1_000_000, "context_length_exceeded"),
        ("tools", [{"type": "function", "function": {"name": "f"}}], "unsupported_parameter"),
        ("response_format", {"type": "json_object"}, None),
        ("messages", [], "invalid_value"),
    ],
)
async def test_a_wrong_field_is_a_bad_request_that_names_it(
    server: ServerProcess, field: str, value: object, code: str | None
) -> None:
    body: dict[str, Any] = {"messages": MESSAGES, "max_tokens": 5, field: value}
    async with client_of(server) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model="tiny", **body)
    assert refused.value.param is not None
    assert refused.value.param.startswith(field)
    assert code is None or refused.value.code == code
    assert refused.value.request_id


async def test_a_wrong_key_is_an_authentication_error(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "team-a").write_text("sk-right")
    async with ready_server(tmp_path, LLMSERVICE_API_KEYS_DIR=keys) as server:
        async with client_of(server, api_key="sk-wrong") as client:
            with pytest.raises(openai.AuthenticationError):
                await client.models.list()
        async with client_of(server, api_key="sk-right") as client:
            assert (await client.models.list()).data


async def test_a_full_queue_is_a_rate_limit_error_and_a_client_that_retries_gets_through(tmp_path: Path) -> None:
    async with (
        ready_server(tmp_path, LLMSERVICE_MAX_BATCH_SIZE=1, LLMSERVICE_MAX_QUEUE_DEPTH=0) as server,
        client_of(server) as client,
        client_of(server, max_retries=5) as patient,
    ):
        stream = await client.completions.create(model="tiny", prompt=PROMPT, max_tokens=8000, stream=True)
        await anext(aiter(stream))
        with pytest.raises(openai.RateLimitError) as refused:
            await client.completions.create(model="tiny", prompt=PROMPT, max_tokens=5)
        waiting = asyncio.create_task(patient.completions.create(model="tiny", prompt=PROMPT, max_tokens=5))
        await asyncio.sleep(0)
        await stream.close()
        answer = await waiting
    assert int(refused.value.response.headers["retry-after"]) >= 1
    assert answer.choices[0].finish_reason == "length"


async def test_a_request_without_memory_is_a_server_error_that_may_be_retried(tmp_path: Path) -> None:
    async with ready_server(tmp_path, LLMSERVICE_FAKE_FAULT="oom") as server, client_of(server) as client:
        with pytest.raises(openai.InternalServerError) as failed:
            await client.completions.create(model="tiny", prompt=PROMPT, max_tokens=5)
        assert (await client.completions.create(model="tiny", prompt=PROMPT, max_tokens=5)).choices
    assert failed.value.status_code == 503
    assert failed.value.code == "out_of_memory"


@pytest.mark.parametrize("how", ["the stream is closed", "the task is cancelled", "the client times out"])
async def test_a_client_that_leaves_frees_its_slot(server: ServerProcess, how: str) -> None:
    options = {"timeout": 0.3} if how == "the client times out" else {}
    # Without an end of sequence, which the tiny model may come to before the client is gone.
    long: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "max_tokens": 1900, "logit_bias": {"0": -100}}
    async with client_of(server, **options) as client:
        match how:
            case "the stream is closed":
                stream = await client.completions.create(**long, stream=True)
                await anext(aiter(stream))
                await stream.close()
            case "the task is cancelled":
                asking = asyncio.create_task(client.completions.create(**long))
                await eventually_is(lambda: _is_running(server))
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
            case "the client times out":
                with pytest.raises(openai.APITimeoutError):
                    await client.completions.create(**long)
    await eventually_is(lambda: _is_idle(server))


async def test_a_sequence_that_fails_in_mid_stream_raises_and_never_passes_for_a_short_answer(tmp_path: Path) -> None:
    async with ready_server(tmp_path, LLMSERVICE_FAKE_FAULT="nan") as server, client_of(server) as client:
        received, error = await _received(client)
    assert received
    assert isinstance(error, openai.APIError)
    assert not isinstance(error, openai.APIConnectionError)
    assert error.code == "non_finite_logits"


async def test_a_killed_engine_raises_in_every_stream(tmp_path: Path) -> None:
    async with ready_server(tmp_path, LLMSERVICE_FAKE_TOKENS_PER_SECOND=50) as server, client_of(server) as client:
        asking = [asyncio.create_task(_received(client)) for _ in range(4)]
        await eventually_is(lambda: _is_running(server, 4))
        os.kill(server.engine_pid(), signal.SIGKILL)
        errors = [error for _, error in await asyncio.gather(*asking)]
    assert all(isinstance(error, openai.APIError) for error in errors)
    assert {getattr(error, "code", None) for error in errors} == {"worker_lost"}


async def test_a_killed_server_is_a_connection_error(tmp_path: Path) -> None:
    async with ready_server(tmp_path, LLMSERVICE_FAKE_TOKENS_PER_SECOND=50) as server, client_of(server) as client:
        asking = asyncio.create_task(_received(client))
        await eventually_is(lambda: _is_running(server))
        server.process.kill()
        _, error = await asking
    assert isinstance(error, openai.APIConnectionError)


async def test_a_drained_server_ends_its_streams_with_an_error(tmp_path: Path) -> None:
    variables = {"LLMSERVICE_FAKE_TOKENS_PER_SECOND": 50, "LLMSERVICE_DRAIN_TIMEOUT_SECONDS": 1}
    async with ready_server(tmp_path, **variables) as server, client_of(server) as client:
        asking = asyncio.create_task(_received(client))
        await eventually_is(lambda: _is_running(server))
        server.terminate()
        _, error = await asking
    assert isinstance(error, openai.APIError)
    assert error.code == "stream_interrupted"


async def _received(client: AsyncOpenAI) -> tuple[str, Exception | None]:
    """Return the text of a long stream, and what it raised at its end."""
    text = ""
    try:
        stream = await client.completions.create(model="tiny", prompt=PROMPT, max_tokens=1500, stream=True)
        async for chunk in stream:
            text += chunk.choices[0].text
    except openai.APIError as error:
        return text, error
    return text, None


async def _is_running(server: ServerProcess, sequences: int = 1) -> bool:
    return int((await server.state())["load"]["running"]) == sequences


async def _is_idle(server: ServerProcess) -> bool:
    load = (await server.state())["load"]
    return bool(load["running"] + load["waiting"] == 0)
