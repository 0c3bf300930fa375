"""The engine that runs a real model: loads it, then batches; torch is imported when it loads, not before."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from inference_server.checkpoint.validation import CheckpointProblem
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
    from inference_server.engine.batching_engine import BatchingEngine

INCURABLE = 65

SLOWEST_STEP_FACTOR = 200
"""A full step at the end of a long context costs some twenty times a rehearsal; a busy node ten times that."""
SLOWEST_STEP_AT_LEAST_SECONDS = 60.0


class ModelEngine:
    """See `engine.interface.Engine`."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._batching: BatchingEngine | None = None

    def load(self, report: Callable[[Progress], None]) -> ModelInfo:
        """Load the model of the configuration's folder and run it once."""
        with uncollected():
            prepare_torch()
            # Only now: the import takes seconds and reads the variables that prepare_torch has set.
            from inference_server.engine.memory import is_out_of_memory

            try:
                return self._load(report)
            except CheckpointProblem as problem:
                raise LoadFailure(str(problem), reason=problem.reason, exit_code=INCURABLE) from problem
            except (MemoryError, RuntimeError) as error:
                if is_out_of_memory(error):
                    raise LoadFailure(f"give the pod more memory: {error}", reason="OutOfMemory") from error
                raise

    def _load(self, report: Callable[[Progress], None]) -> ModelInfo:
        from inference_server.engine.batching_engine import BatchingEngine
        from inference_server.models.loader import load

        loaded = load(self._config, report)
        self._batching = BatchingEngine(loaded.model)
        rehearsal_seconds = self._batching.rehearse()
        return ModelInfo(
            max_model_len=loaded.model.max_model_len,
            slots=loaded.model.slots,
            quantization=loaded.quantization,
            device=loaded.device,
            longest_step_seconds=max(SLOWEST_STEP_AT_LEAST_SECONDS, SLOWEST_STEP_FACTOR * rehearsal_seconds),
            vocabulary_size=loaded.model.vocabulary_size,
            kv_tokens=loaded.model.slots * loaded.model.max_model_len,
        )

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
        """Run one forward pass for all running sequences."""
        return self._loaded().step()

    def _loaded(self) -> BatchingEngine:
        assert self._batching is not None, "load() comes first"
        return self._batching
