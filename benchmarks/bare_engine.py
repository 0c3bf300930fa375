"""Our engine without HTTP, text or sockets: the same load, driven step by step in a process of its own.

    python -m benchmarks.bare_engine MODEL_FOLDER [QUANTIZATION [SMALL_FOLDER]]

It is loaded as the engine process loads it, and says in its first line how long that took; SMALL_FOLDER is loaded
before, off the clock, to have every import done. Then it answers questions of `concurrency`, `requests`,
`prompt_tokens`, `new_tokens` and `seed`.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from time import perf_counter
from typing import Any

from benchmarks.questions import answer, claim_stdout
from inference_server.engine.interface import Engine, EngineConfig, GenerationRequest, SamplingParams
from inference_server.engine.process import create

SLOTS = 32
FIRST_WORD = 300
"""Tokens below are special ones and single bytes."""


def closed_loop(engine: Engine, requests: Iterator[GenerationRequest], concurrency: int) -> dict[str, Any]:
    """Run `requests`, `concurrency` of them at a time, and return tokens, seconds and times to first token."""
    sent: dict[str, float] = {}
    ttft: dict[str, float] = {}
    tokens = 0

    def send() -> None:
        if request := next(requests, None):
            sent[request.request_id] = perf_counter()
            engine.add(request)

    began = perf_counter()
    for _ in range(concurrency):
        send()
    while engine.has_work():
        outputs = engine.step().outputs
        now = perf_counter()
        for output in outputs:
            if output.error is not None:
                raise RuntimeError(output.error.message)
            tokens += len(output.token_ids)
            if output.token_ids:
                ttft.setdefault(output.request_id, now - sent[output.request_id])
            if output.finish_reason is not None:
                send()
    return {"tokens": tokens, "seconds": perf_counter() - began, "ttft_seconds": sorted(ttft.values())}


def random_requests(question: dict[str, Any], vocabulary_size: int) -> Iterator[GenerationRequest]:
    """Yield the requests that `question` asks for; no two prompts begin alike."""
    generator = random.Random(question["seed"])
    sampling = SamplingParams(max_tokens=question["new_tokens"], temperature=0.0, ignore_eos=True)
    for number in range(question["requests"]):
        prompt = [generator.randrange(FIRST_WORD, vocabulary_size) for _ in range(question["prompt_tokens"])]
        yield GenerationRequest(request_id=str(number), prompt_token_ids=prompt, sampling=sampling)


def main(folder: str, quantization: Any = "none", *smaller: str) -> None:
    """Load and answer."""
    out = claim_stdout()
    for path in (*smaller, folder):
        engine = create(EngineConfig(model_path=path, quantization=quantization, max_batch_size=SLOTS))
        began = perf_counter()
        vocabulary_size = engine.load(lambda progress: None).vocabulary_size
        ready = {"load_seconds": perf_counter() - began}
    answer(out, ready, lambda asked: closed_loop(engine, random_requests(asked, vocabulary_size), asked["concurrency"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
