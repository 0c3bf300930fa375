"""Messages survive their way over a socket, in pieces and in both directions."""

from __future__ import annotations

import asyncio
import socket

import pytest

from inference_server.engine import protocol
from inference_server.engine.interface import (
    EngineConfig,
    FakeConfig,
    GenerationRequest,
    ModelInfo,
    Progress,
    SamplingParams,
    SequenceError,
    SequenceOutput,
    Started,
    TokenLogprobs,
)

TO_ENGINE: list[protocol.ToEngine] = [
    protocol.Load(EngineConfig(engine="fake", max_model_len=512, fake=FakeConfig(fault="oom"))),
    GenerationRequest(request_id="a", prompt_token_ids=[1, 2], sampling=SamplingParams(max_tokens=3, seed=2**64 - 1)),
    protocol.Cancel("a"),
    protocol.Ping(7),
]
FROM_ENGINE: list[protocol.FromEngine] = [
    protocol.Loading(Progress(done=1, total=2, unit="tensors", eta_seconds=1.5)),
    protocol.Loaded(
        ModelInfo(
            max_model_len=512,
            slots=4,
            quantization="nf4",
            device="cpu",
            longest_step_seconds=60.0,
            vocabulary_size=32_000,
            kv_tokens=2048,
        )
    ),
    protocol.Stepped(
        outputs=[
            SequenceOutput(
                request_id="a",
                token_ids=[5, 6],
                logprobs=[TokenLogprobs(5, -0.5, [(5, -0.5), (7, -1.5)]), TokenLogprobs(6, -2.0)],
            ),
            SequenceOutput(
                request_id="b",
                finish_reason="error",
                error=SequenceError(code="out_of_memory", message="not enough memory"),
            ),
        ],
        started=[Started("a", cached_tokens=16)],
        steps=[protocol.Step(seconds=0.25, tokens=2, prefill_tokens=3, decode_tokens=2, kv_tokens=7)],
        began=12.5,
    ),
    protocol.Pong(7),
    protocol.Failed("EngineFailed", "no accelerator", 78),
]


def test_the_engine_reads_what_the_web_process_writes() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"".join(protocol.frame(message) for message in TO_ENGINE))
        assert [protocol.receive(theirs) for _ in TO_ENGINE] == TO_ENGINE
        ours.close()
        assert protocol.receive(theirs) is None


@pytest.mark.parametrize("piece", [1, 3, 7, 100_000])
async def test_the_web_process_reads_what_the_engine_writes_in_pieces_of_any_size(piece: int) -> None:
    stream = asyncio.StreamReader()
    raw = b"".join(protocol.frame(message) for message in FROM_ENGINE)
    for start in range(0, len(raw), piece):
        stream.feed_data(raw[start : start + piece])
    stream.feed_eof()
    assert [await protocol.read(stream) for _ in FROM_ENGINE] == FROM_ENGINE
    assert await protocol.read(stream) is None


async def test_an_engine_that_dies_within_a_frame_is_gone_and_not_half_a_message() -> None:
    stream = asyncio.StreamReader()
    stream.feed_data(protocol.frame(FROM_ENGINE[0])[:-1])
    stream.feed_eof()
    assert await protocol.read(stream) is None


async def test_an_absurd_length_is_an_error() -> None:
    stream = asyncio.StreamReader()
    stream.feed_data(b"\xff\xff\xff\xff")
    with pytest.raises(ValueError, match="a frame of 4294967295 bytes"):
        await protocol.read(stream)
