"""The engine that runs transformers' own modules; torch and transformers are imported when it loads, not before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from inference_server.checkpoint.validation import CheckpointProblem
from inference_server.engine.context import usable_context
from inference_server.engine.interface import (
    EngineConfig,
    GenerationRequest,
    LoadFailure,
    ModelInfo,
    Progress,
    StepOutput,
)
from inference_server.engine.torch_setup import prepare_torch, uncollected

if TYPE_CHECKING:
    from inference_server.engine.generation import Generation
    from inference_server.engine.loader import LoadedModel

INCURABLE = 65

SLOWEST_STEP_FACTOR = 100
"""A full prefill chunk at the end of a long context costs some ten times a rehearsal; a busy node ten times that."""
SLOWEST_STEP_AT_LEAST_SECONDS = 60.0


class TransformersEngine:
    """See `engine.interface.Engine`."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._generation: Generation | None = None

    def load(self, report: Callable[[Progress], None]) -> ModelInfo:
        """Load the model of the configuration's folder and run it once."""
        with uncollected():
            return self._load(report)

    def _load(self, report: Callable[[Progress], None]) -> ModelInfo:
        prepare_torch()
        # Only now: the import takes seconds and reads the variables that prepare_torch has set.
        from inference_server.engine.generation import Generation

        model = self._load_model(report)
        max_model_len = usable_context(model.context, self._config.max_model_len)
        self._generation = Generation(model, slots=self._config.max_batch_size)
        rehearsal_seconds = self._generation.rehearse()
        return ModelInfo(
            max_model_len=max_model_len,
            slots=self._config.max_batch_size,
            quantization=model.quantization,
            device=str(model.device),
            longest_step_seconds=max(SLOWEST_STEP_AT_LEAST_SECONDS, SLOWEST_STEP_FACTOR * rehearsal_seconds),
        )

    def _load_model(self, report: Callable[[Progress], None]) -> LoadedModel:
        from inference_server.engine.generation import is_out_of_memory
        from inference_server.engine.loader import LoadOptions, load

        config = self._config
        assert config.model_path is not None, "the settings name a folder whenever the engine is not the fake"
        options = LoadOptions(config.quantization, config.compute_dtype, config.double_quant, config.device)
        try:
            return load(Path(config.model_path), options, report)
        except CheckpointProblem as problem:
            raise LoadFailure(str(problem), reason=problem.reason, exit_code=INCURABLE) from problem
        except (MemoryError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise LoadFailure(f"give the pod more memory: {error}", reason="OutOfMemory") from error
            raise

    def add(self, request: GenerationRequest) -> None:
        """Put a sequence into the waiting line."""
        self._loaded().add(request)

    def cancel(self, request_id: str) -> None:
        """Forget a sequence."""
        self._loaded().cancel(request_id)

    def has_work(self) -> bool:
        """Whether any sequence is waiting or running."""
        return self._loaded().has_work()

    def step(self) -> StepOutput:
        """Run one forward pass for every running sequence."""
        return self._loaded().step()

    def _loaded(self) -> Generation:
        assert self._generation is not None, "load() comes first"
        return self._generation
