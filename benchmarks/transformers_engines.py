"""What transformers offers in process, to measure against: `generate`, a padded static batch, continuous batching.

    python -m benchmarks.transformers_engines generate|static-batch|transformers-cb MODEL_FOLDER

A worker as `bare_engine`: the same questions, the same answers.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, StoppingCriteria
from transformers.generation import ContinuousBatchingConfig

from benchmarks.bare_engine import FIRST_WORD
from benchmarks.questions import answer, claim_stdout

Result = dict[str, Any]


class Clock(StoppingCriteria):  # type: ignore[misc]
    """Notes when each token of a batch came; never stops it."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        self.times.append(perf_counter())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool)


def generate(model: Any, question: dict[str, Any]) -> Result:
    """Answer one request after the other, as the lock of the original design makes it; all came at the beginning."""
    return _batches(model, question, 1)


def static_batch(model: Any, question: dict[str, Any]) -> Result:
    """Answer `concurrency` requests together; the next ones start when the last of these is done."""
    return _batches(model, question, question["concurrency"])


def continuous_batching(model: Any, question: dict[str, Any]) -> Result:
    """Answer with transformers' continuous batching, its manager started before the clock and stopped after it.

    A manager that idles polls, which would disturb the others.
    """
    config = ContinuousBatchingConfig(num_blocks=128, max_batch_tokens=1024)
    generation = GenerationConfig(max_new_tokens=question["new_tokens"], do_sample=False, pad_token_id=2)
    manager = model.init_continuous_batching(generation_config=generation, continuous_batching_config=config)
    manager.start()
    try:
        _continuous(manager, question | {"requests": 1, "concurrency": 1, "seed": -1})
        return _continuous(manager, question)
    finally:
        manager.stop(block=True)


def _batches(model: Any, question: dict[str, Any], size: int) -> Result:
    prompts = _prompts(model, question)
    config = GenerationConfig(max_new_tokens=question["new_tokens"], do_sample=False, pad_token_id=2)
    began, ttft, tokens = perf_counter(), [], 0
    for first in range(0, len(prompts), size):
        clock, batch = Clock(), torch.tensor(prompts[first : first + size])
        output = model.generate(batch, generation_config=config, stopping_criteria=[clock])
        tokens += output[:, batch.shape[1] :].numel()
        ttft += [clock.times[0] - began] * len(batch)
    return {"tokens": tokens, "seconds": perf_counter() - began, "ttft_seconds": sorted(ttft)}


def _continuous(manager: Any, question: dict[str, Any]) -> Result:
    left = iter(_prompts(manager.model, question))
    sent: dict[str, float] = {}
    ttft: dict[str, float] = {}
    tokens = done = 0

    def send() -> None:
        if prompt := next(left, None):
            at = perf_counter()
            sent[manager.add_request(prompt, max_new_tokens=question["new_tokens"], streaming=True)] = at

    began = perf_counter()
    for _ in range(question["concurrency"]):
        send()
    while done < question["requests"]:
        result = manager.get_result(timeout=120)
        if result is None or result.error:
            raise RuntimeError(f"continuous batching: {result and result.error}")
        ttft.setdefault(result.request_id, perf_counter() - sent[result.request_id])
        if result.is_finished():
            done += 1
            tokens += len(result.generated_tokens)
            send()
    return {"tokens": tokens, "seconds": perf_counter() - began, "ttft_seconds": sorted(ttft.values())}


def _prompts(model: Any, question: dict[str, Any]) -> list[list[int]]:
    generator = random.Random(question["seed"])
    length = range(question["prompt_tokens"])
    size = model.config.vocab_size
    return [[generator.randrange(FIRST_WORD, size) for _ in length] for _ in range(question["requests"])]


ENGINES: dict[str, Callable[[Any, dict[str, Any]], Result]] = {
    "generate": generate,
    "static-batch": static_batch,
    "transformers-cb": continuous_batching,
}


def main(name: str, folder: str) -> None:
    """Load and answer."""
    out = claim_stdout()
    torch.set_grad_enabled(False)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    answer(out, {}, lambda question: ENGINES[name](model, question))


if __name__ == "__main__":
    main(*sys.argv[1:])
