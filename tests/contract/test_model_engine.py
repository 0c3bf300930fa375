"""What the engine says with a real model, held against transformers' own `generate` and against itself."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from inference_server.engine.interface import (
    EngineConfig,
    GenerationRequest,
    LoadFailure,
    ModelInfo,
    SamplingParams,
    SequenceOutput,
    StepOutput,
    TokenLogprobs,
)
from inference_server.engine.model_engine import ModelEngine
from tests.support.models import VOCABULARY_SIZE, write_checkpoint

PROMPT = [80, 73, 300, 301, 70, 90]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float32 checkpoint, so that two ways to the same numbers can be compared closely."""
    return write_checkpoint(tmp_path_factory.mktemp("models") / "tiny", dtype="float32")


@pytest.fixture(scope="module")
def engine(tiny: Path) -> ModelEngine:
    """A loaded engine with 16 slots; every test leaves it without work."""
    return loaded(tiny, max_batch_size=16)[0]


def loaded(folder: Path, **config: Any) -> tuple[ModelEngine, ModelInfo]:
    engine = ModelEngine(EngineConfig(model_path=str(folder), **{"quantization": "none", "device": "cpu", **config}))
    return engine, engine.load(lambda progress: None)


def request(request_id: str, prompt: Sequence[int], max_tokens: int = 12, **sampling: Any) -> GenerationRequest:
    params = SamplingParams(max_tokens=max_tokens, **{"temperature": 0.0, **sampling})
    return GenerationRequest(request_id=request_id, prompt_token_ids=list(prompt), sampling=params)


def finish(engine: ModelEngine, *requests: GenerationRequest) -> tuple[dict[str, SequenceOutput], list[StepOutput]]:
    """Run `requests` together; returns each one's outputs as one, and the steps."""
    for each in requests:
        engine.add(each)
    whole = {each.request_id: SequenceOutput(request_id=each.request_id) for each in requests}
    steps = []
    while engine.has_work():
        steps.append(engine.step())
        for output in steps[-1].outputs:
            before = whole[output.request_id]
            whole[output.request_id] = SequenceOutput(
                request_id=output.request_id,
                token_ids=before.token_ids + output.token_ids,
                logprobs=before.logprobs + output.logprobs,
                prompt_logprobs=before.prompt_logprobs + output.prompt_logprobs,
                finish_reason=output.finish_reason,
                error=output.error,
            )
    return whole, steps


def text(length: int, seed: int) -> list[int]:
    return random.Random(seed).choices(range(3, VOCABULARY_SIZE), k=length)


def mixed_batch() -> list[GenerationRequest]:
    """Return every kind of request, most of them with a common beginning."""
    shared = text(70, 1)
    return [
        request("greedy", text(9, 2)),
        request("sampled", shared, temperature=1.0, seed=7),
        request("other seed", shared, temperature=1.0, seed=8),
        request("nucleus", [*shared, 5], temperature=0.8, top_p=0.9, seed=7),
        request("logprobs", shared, logprobs=5),
        request("prompt logprobs", [*shared, 9, 9], prompt_logprobs=2, logprobs=1),
        request("penalties", text(40, 3), presence_penalty=1.5, frequency_penalty=0.5, temperature=0.7, seed=3),
        request("bias", text(40, 3), logit_bias={11: 5.0, 12: 4.0}, presence_penalty=2.0),
        request("long", text(1500, 4), max_tokens=30, temperature=1.0, seed=2),
    ]


def numbers(described: list[TokenLogprobs]) -> list[float]:
    return [each.logprob for each in described]


def test_greedy_tokens_are_those_of_generate(engine: ModelEngine, tiny: Path) -> None:
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    prompts = {str(length): text(length, length) for length in (1, 6, 33, 200)}
    outputs, _ = finish(engine, *(request(name, prompt) for name, prompt in prompts.items()))

    for name, prompt in prompts.items():
        expected = reference.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)[0, len(prompt) :]
        assert outputs[name].token_ids == [token for token in expected.tolist() if token != 0]


def test_a_mixed_batch_says_what_each_request_says_alone_and_from_the_prefix_cache(engine: ModelEngine) -> None:
    alone = {each.request_id: finish(engine, each)[0][each.request_id] for each in mixed_batch()}
    together, steps = finish(engine, *mixed_batch())

    cached = {started.request_id: started.cached_tokens for step in steps for started in step.started}
    assert (cached["long"], cached["sampled"], cached["prompt logprobs"]) == (1472, 64, 0)
    for name, output in together.items():
        assert output.token_ids == alone[name].token_ids
        assert output.finish_reason == alone[name].finish_reason
        assert numbers(output.logprobs) == pytest.approx(numbers(alone[name].logprobs), abs=1e-4)
        assert numbers(output.prompt_logprobs) == pytest.approx(numbers(alone[name].prompt_logprobs), abs=1e-4)
    assert len(together["prompt logprobs"].prompt_logprobs) == 71


def test_cancelling_one_sequence_leaves_the_others_unchanged(engine: ModelEngine) -> None:
    alone = finish(engine, request("stays", PROMPT))[0]["stays"]

    engine.add(request("gone", text(50, 9), max_tokens=100))
    engine.add(request("stays", PROMPT))
    steps = [engine.step()]
    engine.cancel("gone")
    while engine.has_work():
        steps.append(engine.step())

    stays = [token for step in steps for each in step.outputs if each.request_id == "stays" for token in each.token_ids]
    assert stays == alone.token_ids
    assert not [each for step in steps[1:] for each in step.outputs if each.request_id == "gone"]


def test_what_is_known_of_a_loaded_model(tiny: Path) -> None:
    _, info = loaded(tiny, max_batch_size=3, max_model_len=128)

    assert (info.max_model_len, info.slots, info.vocabulary_size, info.kv_tokens) == (128, 3, VOCABULARY_SIZE, 384)
    assert (info.quantization, info.device) == ("none", "cpu")
    assert info.longest_step_seconds >= 60


def test_e09_a_gpu_that_is_not_there_is_a_configuration_failure(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(LoadFailure, match="no CUDA device is visible") as failure:
        loaded(tiny, device="cuda")

    assert (failure.value.reason, failure.value.exit_code) == ("EngineFailed", 78)


def test_a_broken_checkpoint_is_a_load_failure_with_its_reason(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((tiny / "config.json").read_bytes())

    with pytest.raises(LoadFailure, match=r"model\.safetensors is missing") as failure:
        loaded(tmp_path)

    assert (failure.value.reason, failure.value.exit_code) == ("ModelInvalid", 65)


@pytest.mark.parametrize("where", ["models.loader.load", "engine.batching_engine.BatchingEngine.rehearse"])
def test_a_model_that_does_not_fit_is_a_load_failure_that_says_what_to_do(
    where: str, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*arguments: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    monkeypatch.setattr(f"inference_server.{where}", too_large)

    with pytest.raises(LoadFailure, match="give the pod more memory") as failure:
        loaded(tiny)

    assert (failure.value.reason, failure.value.exit_code) == ("OutOfMemory", 70)
