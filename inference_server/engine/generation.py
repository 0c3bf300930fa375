"""Generate with a loaded model, one forward pass for one sequence at a time.

Sequences take turns, each with a KV cache of its own, so that none of them can change what another one says. Prompts
are prefilled in chunks: what runs keeps its pace, and a cancellation never waits for a long prompt.
"""

from __future__ import annotations

import gc
import inspect
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import structlog
import torch
from torch import Tensor
from transformers import DynamicCache

from inference_server.engine.interface import (
    FinishReason,
    GenerationRequest,
    SamplingParams,
    SequenceError,
    SequenceOutput,
    StepOutput,
)
from inference_server.engine.loader import LoadedModel

PREFILL_CHUNK_TOKENS = 512
REHEARSAL_TOKENS = 64

logger = structlog.get_logger(__name__)


class NonFiniteLogits(Exception):  # noqa: N818 - the fact, as the client and the tests name it
    """The largest logit is NaN or infinite: the weights or their quantization are broken."""


def generator(params: SamplingParams) -> torch.Generator:
    """Return the random numbers of one sequence: its own, so that one seed gives one text whatever runs beside it."""
    seed = secrets.randbits(64) if params.seed is None else params.seed
    return torch.Generator().manual_seed(seed)


def sample(logits: Tensor, params: SamplingParams, generator: torch.Generator) -> int:
    """Draw the next token from `logits`, float [vocab], of one position.

    Greedy at temperature 0. Nucleus filtering as in Holtzman et al. 2020, arXiv:1904.09751: the smallest set of most
    likely tokens that holds `top_p` of the mass. The draw inverts the cumulative distribution in order of likelihood,
    one uniform number for each token.

    Raises:
        NonFiniteLogits: there is nothing to choose from.
    """
    logits = logits.float()
    if not torch.isfinite(logits.max()):
        raise NonFiniteLogits
    if params.temperature == 0:
        return int(logits.argmax())
    # Shifted before the division: a tiny temperature then gives -inf for all but the best instead of inf - inf.
    probabilities = torch.softmax((logits - logits.max()) / params.temperature, dim=-1)
    likely, tokens = probabilities.sort(descending=True, stable=True)
    mass = likely.double().cumsum(dim=-1)
    if params.top_p < 1:
        kept = int(torch.searchsorted(mass, params.top_p).clamp(max=mass.numel() - 1)) + 1
        mass = mass[:kept]
    uniform = torch.rand((), generator=generator, dtype=torch.float64).to(mass.device)
    drawn = torch.searchsorted(mass, uniform * mass[-1], right=True).clamp(max=mass.numel() - 1)
    return int(tokens[drawn])


@dataclass
class Sequence:
    """A request in the waiting line or running: `pending` are the tokens the cache has not seen."""

    request: GenerationRequest
    pending: list[int]
    random: torch.Generator
    cache: Any = None
    generated: int = 0


@dataclass
class Generation:
    """Steps `model` for up to `slots` sequences; see `engine.interface.Engine` for the methods' contract."""

    model: LoadedModel
    slots: int
    _waiting: OrderedDict[str, Sequence] = field(default_factory=OrderedDict)
    _running: OrderedDict[str, Sequence] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        parameters = inspect.signature(self.model.module.forward).parameters
        # Most families can leave out the logits of all positions but the last, which are most of a prefill's memory.
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}

    def add(self, request: GenerationRequest) -> None:
        self._waiting[request.request_id] = Sequence(
            request, list(request.prompt_token_ids), generator(request.sampling)
        )

    def cancel(self, request_id: str) -> None:
        self._waiting.pop(request_id, None)
        self._running.pop(request_id, None)

    def has_work(self) -> bool:
        return bool(self._waiting or self._running)

    def step(self) -> StepOutput:
        """Give every running sequence one forward pass, after taking in one more if there is room."""
        started = []
        if self._waiting and len(self._running) < self.slots and not self._is_prefilling():
            request_id, sequence = self._waiting.popitem(last=False)
            self._running[request_id] = sequence
            started.append(request_id)
        outputs = [output for sequence in list(self._running.values()) if (output := self._advance(sequence))]
        for output in outputs:
            if output.finish_reason is not None:
                del self._running[output.request_id]
        return StepOutput(outputs=outputs, started=started)

    def _is_prefilling(self) -> bool:
        # One prompt at a time: several chunks in one step would hold up everybody who is already reading.
        return any(sequence.generated == 0 for sequence in self._running.values())

    def _advance(self, sequence: Sequence) -> SequenceOutput | None:
        """Run one forward pass for one sequence; None while its prompt is not through."""
        request = sequence.request
        try:
            logits = self._forward(sequence)
            if sequence.pending:
                return None
            token = sample(logits, request.sampling, sequence.random)
        except NonFiniteLogits:
            logger.error("logits are not finite", request_id=request.request_id)  # noqa: TRY400 - a trace says no more
            return self._failed(sequence, "non_finite_logits", "the model computed something that is not a number")
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            return self._accept(sequence, token)
        # Outside of the handler: the exception's traceback keeps the tensors of the failed pass alive.
        logger.warning("out of memory", request_id=request.request_id, prompt_tokens=len(request.prompt_token_ids))
        output = self._failed(sequence, "out_of_memory", "not enough memory for this request: shorten it, or try later")
        gc.collect()
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        return output

    def _forward(self, sequence: Sequence) -> Tensor:
        """Feed the next chunk of pending tokens; returns the logits of its last position, [vocab]."""
        if sequence.cache is None:
            sequence.cache = DynamicCache(config=self.model.module.config)
        chunk = sequence.pending[:PREFILL_CHUNK_TOKENS]
        ids = torch.tensor([chunk], device=self.model.device)
        with torch.inference_mode():
            output = self.model.module(
                input_ids=ids, past_key_values=sequence.cache, use_cache=True, return_dict=True, **self._last_only
            )
        del sequence.pending[: len(chunk)]
        logits: Tensor = output.logits[0, -1]
        return logits

    def _accept(self, sequence: Sequence, token: int) -> SequenceOutput:
        request_id, params = sequence.request.request_id, sequence.request.sampling
        if token in self.model.eos_token_ids:
            return SequenceOutput(request_id=request_id, finish_reason="stop")
        sequence.generated += 1
        sequence.pending = [token]
        finish: FinishReason | None = "length" if sequence.generated >= params.max_tokens else None
        return SequenceOutput(request_id=request_id, token_ids=[token], finish_reason=finish)

    def _failed(self, sequence: Sequence, code: Any, message: str) -> SequenceOutput:
        sequence.cache = None
        error = SequenceError(code=code, message=message)
        return SequenceOutput(request_id=sequence.request.request_id, finish_reason="error", error=error)

    def rehearse(self) -> float:
        """Run a short prompt through and return how long a chunk of REHEARSAL_TOKENS took, in seconds.

        The first pass packs quantized weights and fills allocators: after it, the first request is like any other.
        """
        request = GenerationRequest(request_id="", prompt_token_ids=[], sampling=SamplingParams(max_tokens=1))
        sequence = Sequence(request, [], generator(request.sampling))
        for tokens in (8, 1, REHEARSAL_TOKENS):
            began = time.monotonic()
            sequence.pending = [0] * tokens
            self._forward(sequence)
        return time.monotonic() - began


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out; on the CPU, torch says so in words only."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
