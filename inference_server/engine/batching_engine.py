"""Generate for many sequences at once: carry out what the scheduler plans, on any model, and sample from its logits.

Each step is one forward pass over the next token of every running sequence and the next chunks of prompts.
"""

from __future__ import annotations

import gc
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import structlog
import torch

from inference_server.engine import scheduler
from inference_server.engine.interface import (
    FinishReason,
    GenerationRequest,
    SequenceError,
    SequenceOutput,
    StepOutput,
    TokenLogprobs,
)
from inference_server.engine.memory import is_out_of_memory
from inference_server.engine.pace import Pace
from inference_server.engine.sampler import Choice, Row, prompt_logprobs, sample
from inference_server.engine.scheduler import PageCopy, Scheduler, Sequence, Work
from inference_server.models.model import Chunk, Model

REHEARSAL_TOKENS = 32
"""Of the prompt that is measured before the first request; each start waits for it."""
MESSAGES = {
    "out_of_memory": "not enough memory for this request: shorten it, or try later",
    "non_finite_logits": "the model computed something that is not a number",
}

logger = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Result:
    """What the model says about one chunk: the next token, if it is to be chosen (None: it cannot be), and the rest."""

    choice: Choice | None = None
    prompt: list[TokenLogprobs] | None = field(default_factory=list)


class BatchingEngine:
    """`engine.interface.Engine` on a `model` that is loaded, so without `load`; the methods' contract is there."""

    def __init__(self, model: Model, clock: Callable[[], float] = time.perf_counter) -> None:
        self._model = model
        self._clock = clock
        self._pace = Pace()
        self._scheduler = Scheduler(model.slots, model.pages, model.vocabulary_size, self._pace)

    def add(self, request: GenerationRequest) -> None:
        """Put a sequence into the waiting line."""
        tokens = len(request.prompt_token_ids) + request.sampling.max_tokens
        assert 0 < tokens <= self._model.max_model_len, "the web process has checked the length"
        seed = request.sampling.seed
        self._scheduler.add(Sequence(request, secrets.randbits(64) if seed is None else seed))

    def cancel(self, request_id: str) -> None:
        """Forget a sequence; what its slot holds of a prompt and a completion stays in the prefix cache."""
        if (sequence := self._scheduler.find(request_id)) is not None:
            self._store(self._scheduler.leave(sequence, keep=True))

    def has_work(self) -> bool:
        """Whether any sequence is waiting or running."""
        return self._scheduler.has_work()

    @torch.inference_mode()
    def step(self) -> StepOutput:
        """Run one forward pass for all running sequences, several if memory does not suffice for one."""
        began = self._clock()
        plan = self._scheduler.plan()
        for slot, start, page in plan.loads:
            self._model.load_page(page, slot, start)
        outputs: list[SequenceOutput] = []
        prefill_tokens = decode_tokens = 0
        attempts, parts = 0, [plan.work]
        while parts:
            # A long chunk in two parts is left out if its sequence has failed at the first.
            work = [each for each in parts.pop() if each.sequence.slot >= 0]
            if not work:
                continue
            attempts += 1
            if (results := self._attempt(work)) is None:
                parts.extend(reversed(self._smaller(work, outputs)))
                continue
            for each, result in zip(work, results, strict=True):
                prefill_tokens += len(each.chunk.token_ids) if each.is_prefill else 0
                decode_tokens += not each.is_prefill
                outputs.extend(self._accept(each, result))
        if attempts == 1:
            self._pace.measured(prefill_tokens, decode_tokens, self._clock() - began)
        return StepOutput(
            outputs=outputs,
            started=plan.started,
            prefill_tokens=prefill_tokens,
            decode_tokens=decode_tokens,
            kv_tokens=self._scheduler.kv_tokens(),
        )

    @torch.inference_mode()
    def rehearse(self) -> float:
        """Run a prompt and a token through slot 0, and return how long the prompt took in seconds.

        It tells the pace what to expect, so the model must have run once. To be called before any sequence is there.
        """
        tokens = min(REHEARSAL_TOKENS, self._model.max_model_len - 1)
        began = self._clock()
        self._model.forward([Chunk(0, 0, [0] * tokens, 1)]).tolist()
        prefilled = self._clock()
        self._model.forward([Chunk(0, tokens, [0], 1)]).tolist()
        self._pace.rehearsed(tokens, prefilled - began, self._clock() - prefilled)
        return prefilled - began

    def _attempt(self, work: list[Work]) -> list[_Result] | None:
        """Compute `work` and sample from it; None if memory ran out, and then nothing has changed."""
        try:
            return self._compute(work)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        # Only here is the exception gone, and with its traceback the tensors of the failed pass.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None

    def _compute(self, work: list[Work]) -> list[_Result]:
        logits = self._model.forward([each.chunk for each in work])
        results = [_Result() for _ in work]
        sampling, rows, last, end = [], [], [], 0
        for result, each in zip(results, work, strict=True):
            sequence, chunk = each
            params = sequence.request.sampling
            start, end = end, end + chunk.logits
            if each.is_prefill and params.prompt_logprobs is not None:
                following = sequence.token_ids[chunk.start + 1 : chunk.start + chunk.logits + 1]
                positions = logits[start : start + len(following)]
                result.prompt = prompt_logprobs(positions, following, params.prompt_logprobs, sequence.shifts)
            if each.samples:
                sampling.append(result)
                rows.append(Row(params, sequence.seed, len(sequence.token_ids), sequence.shifts))
                last.append(end - 1)
        if rows:
            logits = logits if len(rows) == end else logits[last]
            for result, choice in zip(sampling, sample(logits, rows), strict=True):
                result.choice = choice
        return results

    def _smaller(self, work: list[Work], outputs: list[SequenceOutput]) -> list[list[Work]]:
        """Return parts of `work` to try one after the other; what cannot be parted fails, and with it its rest."""
        self._pace.ran_out_of_memory(sum(len(each.chunk.token_ids) for each in work if each.is_prefill))
        parts = scheduler.pieces(work)
        if not parts:
            outputs.append(self._failed(work[0].sequence, "out_of_memory"))
        return parts

    def _accept(self, work: Work, result: _Result) -> Iterable[SequenceOutput]:
        """Take a result into the sequence; yields what it adds to it, if anything."""
        sequence = work.sequence
        if result.prompt is None or (work.samples and result.choice is None):
            yield self._failed(sequence, "non_finite_logits")
            return
        self._store(self._scheduler.computed(work))
        if result.choice is not None:
            yield self._chosen(sequence, result.choice, result.prompt)
        elif result.prompt:
            yield SequenceOutput(request_id=sequence.request.request_id, prompt_logprobs=result.prompt)

    def _chosen(self, sequence: Sequence, choice: Choice, prompt: list[TokenLogprobs]) -> SequenceOutput:
        request_id, params = sequence.request.request_id, sequence.request.sampling
        if choice.token_id in self._model.eos_token_ids and not params.ignore_eos:
            self._store(self._scheduler.leave(sequence, keep=True))
            return SequenceOutput(request_id=request_id, prompt_logprobs=prompt, finish_reason="stop")
        sequence.append(choice.token_id)
        finish: FinishReason | None = None
        if sequence.generated >= params.max_tokens:
            finish = "length"
            self._store(self._scheduler.leave(sequence, keep=True))
        return SequenceOutput(
            request_id=request_id,
            token_ids=[choice.token_id],
            logprobs=[choice.logprobs] if choice.logprobs is not None else [],
            prompt_logprobs=prompt,
            finish_reason=finish,
        )

    def _failed(self, sequence: Sequence, code: Literal["out_of_memory", "non_finite_logits"]) -> SequenceOutput:
        self._store(self._scheduler.leave(sequence, keep=False))
        request = sequence.request
        logger.warning("sequence failed", request_id=request.request_id, code=code, tokens=len(sequence.token_ids))
        error = SequenceError(code=code, message=MESSAGES[code])
        return SequenceOutput(request_id=request.request_id, finish_reason="error", error=error)

    def _store(self, copies: list[PageCopy]) -> None:
        for slot, start, page in copies:
            self._model.store_page(slot, start, page)
