"""How often a stream gets a piece: with every token of a slow one, less often when it is fast or one of many."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support.model_server import RunningServer, chunks_of, running_server

BODY: dict[str, Any] = {"model": "tiny", "max_tokens": 100, "temperature": 0, "stream": True}


async def pieces(server: RunningServer, prompt: str, **more: Any) -> list[str]:
    chunks = chunks_of(await server.events("/v1/completions", {**BODY, "prompt": prompt, **more}))
    return [chunk["choices"][0]["text"] for chunk in chunks]


async def test_a_stream_that_is_no_faster_than_anyone_reads_gets_nearly_every_token_by_itself() -> None:
    # A machine that is busy otherwise is late by less than the tenth of a second between two tokens.
    async with running_server(fake_tokens_per_second=10.0) as server:
        assert len(await pieces(server, "hello", max_tokens=10)) > 7


async def test_a_fast_stream_gets_a_few_tokens_at_a_time_and_goes_on() -> None:
    async with running_server(fake_tokens_per_second=500.0) as server:
        assert 5 < len(await pieces(server, "hello", max_tokens=200)) < 60


async def test_many_streams_get_more_at_a_time_and_the_same_text() -> None:
    async with running_server() as server:
        alone = [await pieces(server, prompt) for prompt in ("p0", "p1")]
    # Slow enough that a busy machine, which is late now and then, still sees more than the beginning and the end.
    async with running_server(fake_tokens_per_second=100.0, max_batch_size=64) as server:
        together = await asyncio.gather(*(pieces(server, f"p{number}") for number in range(60)))
    assert ["".join(texts) for texts in together[:2]] == ["".join(texts) for texts in alone]
    assert sum(map(len, together)) < 60 * 100 / 2
    assert all(len(texts) > 2 for texts in together)


async def test_a_stream_with_a_stop_string_is_stopped_at_its_token_however_many_run() -> None:
    async with running_server(fake_tokens_per_second=200.0, max_batch_size=64) as server:
        others = [asyncio.create_task(pieces(server, f"p{number}")) for number in range(50)]
        texts = await pieces(server, "hello", stop=" then", max_tokens=5000)
        await asyncio.gather(*others)
        generated = server.metrics.registry.get_sample_value("llmservice_completion_tokens_total") or 0.0
    assert "".join(texts) == " queue still"
    assert generated < 50 * 100 + 500
