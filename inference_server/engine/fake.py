"""The fake engine: a token clock in place of a model, deterministic and torch-free; docs/fake-engine.md describes it.

It takes the place of the real engine behind the same process, socket and interface, so overload, drain and every
failure can be tested in milliseconds and without a GPU.
"""

from __future__ import annotations

import hashlib
import heapq
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from inference_server.engine.interface import (
    EngineConfig,
    FakeConfig,
    GenerationRequest,
    LoadFailure,
    ModelInfo,
    Progress,
    SamplingParams,
    SequenceError,
    SequenceOutput,
    Started,
    StepOutput,
    TokenLogprobs,
)
from inference_server.text.fake import FIRST_WORD_ID, VOCABULARY_SIZE

DEFAULT_MAX_MODEL_LEN = 8192
LONGEST_STEP_SECONDS = 2.0
LONGEST_NAP_SECONDS = 0.02
"""A step that finds no token due returns after this long, so that a cancellation is never kept waiting."""
TOKENS_BEFORE_FAULT = 3
"""How many tokens the faulty request gets first, so that its stream is open when the fault strikes."""
CACHE_PAGE_TOKENS = 16
"""What counts as cached of a prompt is a multiple of this, as with the real engine's pages."""
FORCING_BIAS = 100.0
"""A logit bias of this much decides alone; OpenAI's words for -100 and 100 are "a ban or exclusive selection"."""
_ARROW = "→".encode()


@dataclass
class _Sequence:
    request: GenerationRequest
    tokens: Iterator[int]
    number: int
    due: float = 0.0
    emitted: int = 0
    memory: list[bytes] = field(default_factory=list)

    def __lt__(self, other: _Sequence) -> bool:
        return (self.request.priority, self.number) < (other.request.priority, other.number)

    @property
    def length(self) -> int:
        """How many tokens it holds."""
        return len(self.request.prompt_token_ids) + self.emitted


class FakeEngine:
    """Runs up to `max_batch_size` sequences at once, each by its own token clock."""

    def __init__(
        self,
        config: EngineConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._config = config
        self._fake = config.fake or FakeConfig()
        self._clock = clock
        self._sleep = sleep
        self._waiting: list[_Sequence] = []
        """A heap."""
        self._running: dict[str, _Sequence] = {}
        self._requests = 0
        self._last_prompts: dict[str, list[int]] = {}
        """The prompt that ran last for each tenant: all that the fake prefix cache holds."""

    def load(self, report: Callable[[Progress], None]) -> ModelInfo:
        """Count to a hundred in `load_seconds`.

        Raises:
            LoadFailure: the fault is `load-failure`.
        """
        seconds = self._fake.load_seconds
        for done in range(100 if seconds else 0):
            report(Progress(done=done, total=100, unit="tensors", eta_seconds=round(seconds * (100 - done) / 100, 1)))
            self._sleep(seconds / 100)
        if self._fake.fault == "load-failure":
            raise LoadFailure("set LLMSERVICE_FAKE_FAULT=none: the fake engine was told to fail its load")
        max_model_len = self._config.max_model_len or DEFAULT_MAX_MODEL_LEN
        return ModelInfo(
            max_model_len=max_model_len,
            slots=self._config.max_batch_size,
            quantization="none" if self._config.quantization == "auto" else self._config.quantization,
            device="none",
            longest_step_seconds=LONGEST_STEP_SECONDS,
            vocabulary_size=VOCABULARY_SIZE,
            kv_tokens=self._config.max_batch_size * max_model_len,
        )

    def add(self, request: GenerationRequest) -> None:
        """Put a sequence into the waiting line."""
        self._requests += 1
        heapq.heappush(self._waiting, _Sequence(request, _tokens(request), self._requests))

    def cancel(self, request_id: str) -> None:
        """Forget a sequence."""
        self._running.pop(request_id, None)
        self._waiting = [waiting for waiting in self._waiting if waiting.request.request_id != request_id]
        heapq.heapify(self._waiting)

    def has_work(self) -> bool:
        """Whether any sequence is waiting or running."""
        return bool(self._waiting or self._running)

    def step(self) -> StepOutput:
        """Wait for the next due token, `LONGEST_NAP_SECONDS` at most, and emit all that are due."""
        started, prefill_tokens = self._start()
        earliest = min(sequence.due for sequence in self._running.values())
        self._sleep(min(max(earliest - self._clock(), 0.0), LONGEST_NAP_SECONDS))
        now = self._clock()
        outputs = [self._advance(sequence, now) for sequence in list(self._running.values()) if sequence.due <= now]
        for output in outputs:
            if output.finish_reason is not None:
                del self._running[output.request_id]
        return StepOutput(
            outputs=outputs,
            started=started,
            prefill_tokens=prefill_tokens,
            decode_tokens=sum(bool(output.token_ids) for output in outputs),
            kv_tokens=sum(sequence.length for sequence in self._running.values()),
        )

    def _start(self) -> tuple[list[Started], int]:
        """Move waiting sequences into free slots; return them, and how many prompt tokens no cache has spared."""
        started, prefill_tokens = [], 0
        while self._waiting and len(self._running) < self._config.max_batch_size:
            sequence = heapq.heappop(self._waiting)
            prompt = sequence.request.prompt_token_ids
            sequence.due = self._clock() + self._fake.first_token_seconds
            sequence.memory.append(b"\x01" * (self._fake.bytes_per_token * len(prompt)))
            self._running[sequence.request.request_id] = sequence
            cached = self._cached_tokens(sequence.request)
            prefill_tokens += len(prompt) - cached
            started.append(Started(sequence.request.request_id, cached))
        return started, prefill_tokens

    def _cached_tokens(self, request: GenerationRequest) -> int:
        """Return how much of the prompt is cached, and cache the prompt."""
        last = self._last_prompts.get(request.tenant, [])
        self._last_prompts[request.tenant] = prompt = request.prompt_token_ids
        if not self._config.prefix_cache or request.sampling.prompt_logprobs is not None:
            return 0
        # The last token of a prompt always goes through the model: the first new one comes out of it.
        shared = _shared(last, prompt[:-1])
        return shared - shared % CACHE_PAGE_TOKENS

    def _advance(self, sequence: _Sequence, now: float) -> SequenceOutput:
        """Emit the tokens of `sequence` that are due by `now`, at least one."""
        request_id, sampling = sequence.request.request_id, sequence.request.sampling
        token_ids: list[int] = []
        of_prompt = sequence.request.prompt_token_ids[1:] if sequence.emitted == 0 else []
        while sequence.due <= now and sequence.emitted < sampling.max_tokens:
            if token_ids and sequence.emitted == TOKENS_BEFORE_FAULT and self._is_faulty(sequence):
                # They go out before the fault strikes, or a late step would swallow the stream's beginning.
                break
            if (error := self._fault(sequence)) is not None:
                return SequenceOutput(request_id=request_id, finish_reason="error", error=error)
            token_ids.append(next(sequence.tokens))
            sequence.memory.append(b"\x01" * self._fake.bytes_per_token)
            sequence.emitted += 1
            sequence.due += 1 / self._fake.tokens_per_second
        return SequenceOutput(
            request_id=request_id,
            token_ids=token_ids,
            logprobs=_logprobs(token_ids, sampling.logprobs),
            prompt_logprobs=_logprobs(of_prompt, sampling.prompt_logprobs),
            finish_reason="length" if sequence.emitted == sampling.max_tokens else None,
        )

    def _is_faulty(self, sequence: _Sequence) -> bool:
        return self._fake.fault != "none" and sequence.number == self._fake.fault_after + 1

    def _fault(self, sequence: _Sequence) -> SequenceError | None:
        """Let the configured fault strike the one request it is meant for."""
        if not self._is_faulty(sequence):
            return None
        if self._fake.fault == "oom" and sequence.emitted == 0:
            return SequenceError(code="out_of_memory", message="not enough memory for this request")
        if sequence.emitted < TOKENS_BEFORE_FAULT:
            return None
        match self._fake.fault:
            case "nan":
                return SequenceError(code="non_finite_logits", message="the model produced no valid next token")
            case "death":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                threading.Event().wait()
        return None


def _tokens(request: GenerationRequest) -> Iterator[int]:
    """Yield the completion of a request without end: words, and now and then an arrow, which is three byte tokens.

    Prompt, temperature, seed, penalties and logit bias decide all of it; at temperature 0 the seed has no say, as in
    greedy decoding.
    """
    sampling = request.sampling
    seed = sampling.seed if sampling.temperature > 0 else None
    drawn = random.getrandbits(64) if sampling.temperature > 0 and seed is None else seed
    prompt = ",".join(map(str, request.prompt_token_ids))
    source = random.Random(hashlib.sha256(f"{prompt}|{drawn}{_leaning(sampling)}".encode()).digest())  # noqa: S311 - not a secret
    forced = [token_id for token_id, bias in sorted(sampling.logit_bias.items()) if bias >= FORCING_BIAS]
    banned = {token_id for token_id, bias in sampling.logit_bias.items() if bias <= -FORCING_BIAS}
    words = [token_id for token_id in range(FIRST_WORD_ID, VOCABULARY_SIZE) if token_id not in banned] or [0]
    while True:
        if forced:
            yield forced[0]
        elif source.random() < 1 / 16 and banned.isdisjoint(_ARROW):
            yield from _ARROW
        else:
            yield words[source.randrange(len(words))]


def _leaning(sampling: SamplingParams) -> str:
    """Return what of the penalties and the bias makes another text, as another seed does."""
    if not (sampling.presence_penalty or sampling.frequency_penalty or sampling.logit_bias):
        return ""
    return f"|{sampling.presence_penalty}|{sampling.frequency_penalty}|{sorted(sampling.logit_bias.items())}"


def _logprobs(token_ids: Sequence[int], count: int | None) -> list[TokenLogprobs]:
    """Return the same odds at every place: the token that came, and after it those that follow it by number."""
    if count is None:
        return []
    return [
        TokenLogprobs(
            token_id, -0.5, [((token_id + rank) % VOCABULARY_SIZE, -0.5 - 1.0 * rank) for rank in range(count)]
        )
        for token_id in token_ids
    ]


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens the two have in common from their beginning."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
