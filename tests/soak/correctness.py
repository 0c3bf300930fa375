"""Thousands of mixed requests in one batch, and each of them alone: the same tokens, whatever ran beside.

In float32. Where rounding differs by batch, two runs may part only where it can decide: greedy where the two best
logits lie closer than 1e-4, drawn where the draw lies within 1e-5 of a boundary between two tokens.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inference_server.engine import process
from inference_server.engine.interface import Engine, EngineConfig, GenerationRequest, SamplingParams
from tests.soak.report import Report
from tests.support.models import VOCABULARY_SIZE, write_checkpoint

SLOTS = 32
CLOSEST_LOGITS = 1e-4
CLOSEST_DRAW = 1e-5
FIRST_ORDINARY_ID = 3


@dataclass(frozen=True)
class Case:
    """One request; its client leaves after `leaves_after` tokens, or never."""

    request: GenerationRequest
    leaves_after: int | None


@dataclass
class Run:
    """What came of one case."""

    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    cached_tokens: int = 0


def cases(count: int, seed: int) -> Iterator[Case]:
    """Yield requests of every kind, many of which begin alike."""
    chance = random.Random(seed)
    beginnings = [_token_ids(chance, length) for length in (0, 0, 40, 70, 130, 200)]
    for number in range(count):
        max_tokens = chance.randrange(1, 25)
        is_greedy = chance.random() < 0.5
        sampling = SamplingParams(
            max_tokens=max_tokens,
            temperature=0.0 if is_greedy else chance.choice([0.3, 0.7, 1.0, 1.5]),
            top_p=chance.choice([1.0, 1.0, 0.9, 0.5]),
            seed=chance.getrandbits(64),
            presence_penalty=chance.choice([0, 0, 0, 0.5, -1.0]),
            frequency_penalty=chance.choice([0, 0, 0, 0.5, 2.0]),
            logit_bias={chance.randrange(VOCABULARY_SIZE): chance.uniform(-5, 5)} if chance.random() < 0.1 else {},
            ignore_eos=chance.random() < 0.5,
            logprobs=chance.choice([None, None, 0, 5]),
            prompt_logprobs=0 if chance.random() < 0.03 else None,
        )
        request = GenerationRequest(
            request_id=str(number),
            prompt_token_ids=[*chance.choice(beginnings), *_token_ids(chance, chance.randrange(1, 40))],
            sampling=sampling,
            priority=chance.choice([0, 0, 1]),
            tenant=chance.choice(["", "team-a"]),
        )
        yield Case(request, chance.randrange(max_tokens) if chance.random() < 0.1 else None)


def batched_as_alone(folder: Path, count: int, seed: int = 0) -> Report:
    """Run `count` cases in one engine of SLOTS slots with a prefix cache, and each alone in one without."""
    model = write_checkpoint(folder / "model", dtype="float32")
    asked = list(cases(count, seed))
    began = time.monotonic()
    batched = _together(_engine(model, SLOTS, prefix_cache=True), asked, random.Random(seed))
    together_seconds = time.monotonic() - began
    engine = _engine(model, 1, prefix_cache=False)
    alone = {case.request.request_id: _alone(engine, case.request) for case in asked}
    report = Report(
        {
            "requests": count,
            "tokens": sum(len(run.token_ids) for run in batched.values()),
            "left": sum(case.leaves_after is not None for case in asked),
            "prefix_hits": sum(run.cached_tokens > 0 for run in batched.values()),
            "together_seconds": round(together_seconds, 1),
            "alone_seconds": round(time.monotonic() - began - together_seconds, 1),
            "close_logits": 0,
            "close_draws": 0,
        }
    )
    reference = _Reference(model)
    for case in asked:
        _compare(case, batched[case.request.request_id], alone[case.request.request_id], reference, report)
    report.expect(report.figures["prefix_hits"] > count / 20, "hardly any prompt was found in the prefix cache")
    return report


def _compare(case: Case, batched: Run, alone: Run, reference: _Reference, report: Report) -> None:
    expected = alone.token_ids if case.leaves_after is None else alone.token_ids[: len(batched.token_ids)]
    if batched.token_ids == expected and (
        case.leaves_after is not None or batched.finish_reason == alone.finish_reason
    ):
        return
    pairs = zip(batched.token_ids, expected, strict=False)
    shorter = min(len(batched.token_ids), len(expected))
    index = next((place for place, (one, other) in enumerate(pairs) if one != other), shorter)
    distance, close = reference.distance(case.request, expected[:index])
    kind = "close_logits" if case.request.sampling.temperature == 0 else "close_draws"
    report.figures[kind] += distance < close
    report.expect(
        distance < close,
        f"request {case.request.request_id} parts at token {index} ({distance:.2g} from a boundary): {case.request}",
    )


def _engine(model: Path, slots: int, prefix_cache: bool) -> Engine:
    config = EngineConfig(
        model_path=str(model),
        quantization="none",
        compute_dtype="float32",
        device="cpu",
        max_model_len=512,
        max_batch_size=slots,
        prefix_cache=prefix_cache,
    )
    engine = process.create(config)
    engine.load(lambda progress: None)
    return engine


def _together(engine: Engine, asked: Sequence[Case], chance: random.Random) -> dict[str, Run]:
    """Run all, arriving in bursts between steps, with a line that is now empty and now long."""
    runs = {case.request.request_id: Run() for case in asked}
    leaving = {case.request.request_id: case.leaves_after for case in asked if case.leaves_after is not None}
    arriving = list(reversed(asked))
    while arriving or engine.has_work():
        for _ in range(chance.choice([0, 1, 1, 2, 5, 40]) if engine.has_work() else 1):
            if arriving:
                engine.add(arriving.pop().request)
        for output in _stepped(engine, runs):
            limit = leaving.get(output)
            if limit is not None and len(runs[output].token_ids) >= limit and runs[output].finish_reason is None:
                engine.cancel(output)
                runs[output].finish_reason = "cancelled"
    return runs


def _alone(engine: Engine, request: GenerationRequest) -> Run:
    runs = {request.request_id: Run()}
    engine.add(request)
    while engine.has_work():
        list(_stepped(engine, runs))
    return runs[request.request_id]


def _stepped(engine: Engine, runs: Mapping[str, Run]) -> Iterator[str]:
    """Run one step, and yield the ids of the sequences that got something."""
    step = engine.step()
    for started in step.started:
        runs[started.request_id].cached_tokens = started.cached_tokens
    for output in step.outputs:
        assert output.error is None, output.error
        run = runs[output.request_id]
        assert run.finish_reason is None, f"{output.request_id} goes on after its end"
        run.token_ids += output.token_ids
        run.finish_reason = output.finish_reason
        yield output.request_id


class _Reference:
    """transformers' own logits, for the places where two runs part."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._module: Any = None

    def distance(self, request: GenerationRequest, completion: Sequence[int]) -> tuple[float, float]:
        """Return how far the choice after `completion` is from another one, and what counts as close."""
        import torch

        from inference_server.engine.sampler import uniform

        logits = self._logits(request, completion)
        sampling = request.sampling
        if sampling.temperature == 0:
            best, second = logits.topk(2).values.tolist()
            return best - second, CLOSEST_LOGITS
        likely = (logits / sampling.temperature).softmax(-1)
        ordered, order = likely.sort(descending=True)
        mass = ordered.cumsum(-1)
        edge = 1.0
        if sampling.top_p < 1:
            edge = float((mass - sampling.top_p).abs().min())
            kept = torch.zeros_like(likely)
            inside = order[: int((mass < sampling.top_p).sum()) + 1]
            kept[inside] = likely[inside]
            likely = kept / kept.sum()
        assert sampling.seed is not None
        drawn = uniform(sampling.seed, len(request.prompt_token_ids) + len(completion))
        return min(edge, float((likely.cumsum(-1) - drawn).abs().min())), CLOSEST_DRAW

    def _logits(self, request: GenerationRequest, completion: Sequence[int]) -> Any:
        import torch
        from transformers import AutoModelForCausalLM

        if self._module is None:
            self._module = AutoModelForCausalLM.from_pretrained(self._folder, dtype=torch.float32)
        with torch.inference_mode():
            ids = torch.tensor([[*request.prompt_token_ids, *completion]])
            logits = self._module(ids).logits[0, -1].double()
        for token, bias in request.sampling.logit_bias.items():
            logits[token] += bias
        for token in set(completion):
            logits[token] -= request.sampling.presence_penalty
            logits[token] -= request.sampling.frequency_penalty * list(completion).count(token)
        return logits


def _token_ids(chance: random.Random, length: int) -> list[int]:
    return [chance.randrange(FIRST_ORDINARY_ID, VOCABULARY_SIZE) for _ in range(length)]
