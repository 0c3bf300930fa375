"""What the engine says, held against transformers' own `generate` and against itself."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from inference_server.engine import generation, loader
from inference_server.engine.interface import (
    EngineConfig,
    GenerationRequest,
    LoadFailure,
    SamplingParams,
    SequenceOutput,
)
from inference_server.engine.transformers_engine import TransformersEngine
from tests.support.models import write_checkpoint

PROMPT = [80, 73, 300, 301, 70, 90]
OTHER = [400, 41, 42]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float32 checkpoint, so that two ways to the same numbers can be compared exactly."""
    return write_checkpoint(tmp_path_factory.mktemp("models") / "tiny", dtype="float32")


@pytest.fixture(scope="module")
def engine(tiny: Path) -> TransformersEngine:
    """A loaded engine with two slots; every test leaves it without work."""
    return loaded(tiny, quantization="none", max_batch_size=2)


def loaded(folder: Path, **config: object) -> TransformersEngine:
    engine = TransformersEngine(EngineConfig(model_path=str(folder), **config))  # type: ignore[arg-type]
    engine.load(lambda progress: None)
    return engine


def request(request_id: str, prompt: Sequence[int], max_tokens: int = 12, **sampling: float) -> GenerationRequest:
    params = SamplingParams(max_tokens=max_tokens, **{"temperature": 0.0, **sampling})  # type: ignore[arg-type]
    return GenerationRequest(request_id=request_id, prompt_token_ids=list(prompt), sampling=params)


def finish(engine: TransformersEngine) -> dict[str, list[SequenceOutput]]:
    """Step until there is no work, and return every sequence's outputs."""
    outputs: dict[str, list[SequenceOutput]] = {}
    while engine.has_work():
        for output in engine.step().outputs:
            outputs.setdefault(output.request_id, []).append(output)
    return outputs


def tokens(outputs: list[SequenceOutput]) -> list[int]:
    return [token for output in outputs for token in output.token_ids]


def test_greedy_tokens_are_those_of_generate(engine: TransformersEngine, tiny: Path) -> None:
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    expected = reference.generate(torch.tensor([PROMPT]), max_new_tokens=12, do_sample=False)[0, len(PROMPT) :]

    engine.add(request("a", PROMPT))

    assert tokens(finish(engine)["a"]) == [token for token in expected.tolist() if token != 0]


def test_every_step_streams_one_token_and_the_last_says_why_it_ended(engine: TransformersEngine) -> None:
    engine.add(request("a", PROMPT, max_tokens=3))

    outputs = finish(engine)["a"]

    assert [len(output.token_ids) for output in outputs] == [1, 1, 1]
    assert [output.finish_reason for output in outputs] == [None, None, "length"]


def test_an_end_of_sequence_token_ends_with_stop_and_is_not_sent(engine: TransformersEngine) -> None:
    engine.add(request("a", PROMPT, max_tokens=1))
    first = tokens(finish(engine)["a"])[0]
    model = engine._loaded().model
    engine._loaded().model = loader.LoadedModel(**{**vars(model), "eos_token_ids": frozenset([first])})
    try:
        engine.add(request("b", PROMPT))
        outputs = finish(engine)["b"]
    finally:
        engine._loaded().model = model

    assert [(output.token_ids, output.finish_reason) for output in outputs] == [([], "stop")]


def test_one_seed_gives_one_text_whatever_runs_beside_it(engine: TransformersEngine) -> None:
    engine.add(request("alone", PROMPT, temperature=1.0, top_p=0.9, seed=7))
    alone = tokens(finish(engine)["alone"])

    engine.add(request("other", OTHER, temperature=1.5, seed=1))
    engine.add(request("beside", PROMPT, temperature=1.0, top_p=0.9, seed=7))
    engine.add(request("reseeded", PROMPT, temperature=1.0, top_p=0.9, seed=8))
    together = finish(engine)

    assert tokens(together["beside"]) == alone
    assert tokens(together["reseeded"]) != alone


def test_cancelling_one_sequence_leaves_the_others_unchanged(engine: TransformersEngine) -> None:
    engine.add(request("alone", OTHER))
    alone = tokens(finish(engine)["alone"])

    engine.add(request("gone", PROMPT, max_tokens=100))
    engine.add(request("stays", OTHER))
    engine.step()
    engine.cancel("gone")
    outputs = finish(engine)

    assert set(outputs) == {"stays"}
    assert tokens(outputs["stays"]) == alone


def test_a_waiting_sequence_starts_when_a_slot_is_free(engine: TransformersEngine) -> None:
    for name in ("a", "b", "c"):
        engine.add(request(name, PROMPT, max_tokens=2))

    started = []
    while engine.has_work():
        started.append(engine.step().started)

    assert started == [["a"], ["b"], ["c"], []]


def test_a_chunked_prefill_says_what_a_whole_one_says(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.add(request("whole", PROMPT * 5))
    whole = tokens(finish(engine)["whole"])

    monkeypatch.setattr(generation, "PREFILL_CHUNK_TOKENS", 4)
    engine.add(request("chunked", PROMPT * 5))

    assert tokens(finish(engine)["chunked"]) == whole


def test_logits_that_are_no_numbers_fail_the_request_and_nothing_else(engine: TransformersEngine) -> None:
    weight = engine._loaded().model.module.model.norm.weight
    healthy = weight.clone()
    weight.fill_(float("nan"))
    engine.add(request("broken", PROMPT))
    broken = finish(engine)["broken"]
    weight.copy_(healthy)
    engine.add(request("next", PROMPT, max_tokens=2))

    assert [output.error.code for output in broken if output.error] == ["non_finite_logits"]
    assert [output.finish_reason for output in broken] == ["error"]
    assert len(tokens(finish(engine)["next"])) == 2


def test_running_out_of_memory_fails_the_request_and_nothing_else(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = engine._loaded()._forward

    def short_of_memory(sequence: generation.Sequence) -> torch.Tensor:
        if sequence.request.request_id == "large":
            torch.empty(1 << 60)
        return forward(sequence)

    monkeypatch.setattr(engine._loaded(), "_forward", short_of_memory)
    engine.add(request("large", PROMPT))
    engine.add(request("small", PROMPT, max_tokens=2))
    outputs = finish(engine)

    assert [output.error.code for output in outputs["large"] if output.error] == ["out_of_memory"]
    assert len(tokens(outputs["small"])) == 2


@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_a_prequantized_checkpoint_says_what_quantizing_at_load_says(method: str, tiny: Path, tmp_path: Path) -> None:
    at_load = loaded(tiny, quantization=method)
    at_load._loaded().model.module.save_pretrained(tmp_path)
    prequantized = loaded(tmp_path, quantization="auto")

    for engine in (at_load, prequantized):
        engine.add(request("a", PROMPT))

    assert prequantized._loaded().model.quantization == method
    assert tokens(finish(prequantized)["a"]) == tokens(finish(at_load)["a"])


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
