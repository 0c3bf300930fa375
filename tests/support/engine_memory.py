"""`python -m tests.support.engine_memory CONFIG`: what an engine process takes with every sequence at its longest.

CONFIG is the JSON of an EngineConfig. Prints the anonymous memory of this process in bytes, after the model was loaded,
all of its KV memory was written, and a prompt went through it.
"""

import json
import os
import subprocess
import sys
from typing import Any

import torch

from inference_server.engine.batching_engine import BatchingEngine
from inference_server.engine.interface import EngineConfig, GenerationRequest, SamplingParams
from inference_server.engine.torch_setup import prepare_torch
from inference_server.models.loader import load
from inference_server.models.model import PAGE_TOKENS, Model
from tests.soak.footprint import anonymous_bytes

PROMPT_TOKENS = 400


def engine_bytes(**config: Any) -> int:
    """Return what a process of its own prints for an engine on the CPU."""
    command = [sys.executable, "-m", "tests.support.engine_memory", json.dumps({"device": "cpu", **config})]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(ran.stdout.split()[-1])


def _fill(model: Model) -> None:
    with torch.inference_mode():
        for page in range(model.pages):
            model.store_page(0, 0, page)
        for slot in range(model.slots):
            for start in range(0, model.max_model_len - PAGE_TOKENS + 1, PAGE_TOKENS):
                model.load_page(0, slot, start)


def _generate(model: Model) -> None:
    engine = BatchingEngine(model)
    prompt = [token % model.vocabulary_size for token in range(min(PROMPT_TOKENS, model.max_model_len - 2))]
    sampling = SamplingParams(max_tokens=2, ignore_eos=True)
    engine.add(GenerationRequest(request_id="one", prompt_token_ids=prompt, sampling=sampling))
    while engine.has_work():
        engine.step()


def main() -> None:
    """Load, fill, generate and print."""
    prepare_torch()
    model = load(EngineConfig(**json.loads(sys.argv[1])), lambda progress: None).model
    _fill(model)
    _generate(model)
    print(anonymous_bytes(os.getpid()))  # noqa: T201 - for the process that asked


if __name__ == "__main__":
    main()
