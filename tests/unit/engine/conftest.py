"""Tiny checkpoints, made once; torch is imported once for all tests of this folder, by the first that loads a model."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from inference_server.engine.interface import (
    EngineConfig,
    GenerationRequest,
    SamplingParams,
    SequenceOutput,
)
from inference_server.engine.transformers_engine import TransformersEngine
from tests.support.models import write_checkpoint

Generate = Callable[..., dict[str, list[int]]]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float32 checkpoint, so that two ways to the same numbers can be compared exactly."""
    return write_checkpoint(tmp_path_factory.mktemp("models") / "tiny", dtype="float32")


@pytest.fixture(scope="session")
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
