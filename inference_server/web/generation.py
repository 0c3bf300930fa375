"""From a prompt to pieces of text: admission, tokens in, tokens out, stop strings, usage. One path for every route."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from inference_server.engine.client import EngineClient, Generation, GenerationAborted
from inference_server.engine.interface import GenerationRequest, SamplingParams, SequenceError, SequenceOutput
from inference_server.metrics import Metrics
from inference_server.rate import retry_after_seconds
from inference_server.state import ServerState
from inference_server.text.stop import StopScanner
from inference_server.text.tokenizer import ChatTemplateError, Message, Tokenizer
from inference_server.web import errors
from inference_server.web.record import RequestRecord

IDLE_SECONDS = 10.0
"""After this long without a token a stream sends its headers, and then comments: proxies give up on silence."""
INLINE_CHARACTERS = 2000
"""Longer prompts are encoded in a thread, so that one of them does not hold up every stream."""
STARTING_RETRY_SECONDS = 5


@dataclass(frozen=True)
class Ask:
    """What a route wants generated. `prompt_param` and `max_tokens_param` are what its errors name.

    `max_tokens` None is the server's default, cut to what the context leaves.
    """

    prompt: str | Sequence[Message]
    prompt_param: str
    max_tokens: int | None
    max_tokens_param: str
    temperature: float
    top_p: float
    seed: int | None
    stop: Sequence[str]


@dataclass(frozen=True)
class Usage:
    """Token counts; the token that completed a stop string counts, an end-of-sequence token does not."""

    prompt_tokens: int
    completion_tokens: int

    def document(self) -> dict[str, int]:
        """Return the counts as the API shows them."""
        total = self.prompt_tokens + self.completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": total,
        }


@dataclass(frozen=True)
class Piece:
    """A piece of a completion; both fields empty when nothing has come for a while."""

    text: str
    finish_reason: str | None


class Completion:
    """One admitted request, and the only consumer of its `Generation`; whoever was given it must `close` it."""

    def __init__(
        self,
        engine: EngineClient,
        generation: Generation,
        tokenizer: Tokenizer,
        stop: Sequence[str],
        metrics: Metrics,
        record: RequestRecord,
    ) -> None:
        self._engine = engine
        self._generation = generation
        self._decoder = tokenizer.decoder()
        self._scanner = StopScanner(stop)
        self._metrics = metrics
        self._record = record
        self._first_token_at: float | None = None
        self._completion_tokens = 0

    @property
    def usage(self) -> Usage:
        """The counts so far."""
        return Usage(self._record.prompt_tokens or 0, self._completion_tokens)

    async def pieces(self) -> AsyncIterator[Piece]:
        """Yield the text as it comes; the last piece has a finish reason.

        Raises:
            APIError: the engine could not finish the sequence.
        """
        try:
            async for outputs in self._generation.outputs(IDLE_SECONDS):
                piece, error = self._absorb(outputs)
                # What came may all be held back: half a character, or the beginning of a stop string.
                if piece.text or piece.finish_reason or not outputs:
                    yield piece
                if error is not None:
                    raise errors.engine_failure(error.code, error.message)
                if piece.finish_reason is not None:
                    return
        except GenerationAborted as aborted:
            raise errors.interrupted(aborted.code, str(aborted)) from aborted

    def close(self) -> None:
        """Free the slot if the sequence is still in flight, and write down what it came to."""
        self._engine.cancel(self._generation)
        self._record.completion_tokens = self._completion_tokens
        if self._first_token_at is not None:
            first = self._first_token_at - self._generation.arrived
            self._record.first_token_seconds = first
            self._metrics.sequence_ended(first, time.monotonic() - self._first_token_at, self._completion_tokens)

    async def whole(self) -> tuple[str, str]:
        """Return the complete text and its finish reason.

        Raises:
            APIError: the engine could not finish the sequence.
        """
        texts = []
        finish_reason = ""
        async for piece in self.pieces():
            texts.append(piece.text)
            finish_reason = piece.finish_reason or ""
        return "".join(texts), finish_reason

    def _absorb(self, outputs: Sequence[SequenceOutput]) -> tuple[Piece, SequenceError | None]:
        """Turn outputs into one piece, token by token, because a stop string may be complete at any of them."""
        text: list[str] = []
        if self._first_token_at is None and any(output.token_ids for output in outputs):
            self._first_token_at = time.monotonic()
        for output in outputs:
            for token_id in output.token_ids:
                self._completion_tokens += 1
                text.append(self._scanner.push(self._decoder.push(token_id)))
                if self._scanner.stopped:
                    return Piece("".join(text), "stop"), None
            if output.finish_reason is not None:
                text.append(self._scanner.push(self._decoder.finish()))
                if self._scanner.stopped:
                    return Piece("".join(text), "stop"), None
                text.append(self._scanner.finish())
                finish_reason = None if output.error else output.finish_reason
                return Piece("".join(text), finish_reason), output.error
        return Piece("".join(text), None), None


class ModelServer:
    """The served model as the routes see it; ready once `tokenizer` is set and the engine has loaded."""

    def __init__(
        self,
        model_id: str,
        default_max_tokens: int,
        max_queue_depth: int,
        state: ServerState,
        engine: EngineClient,
        metrics: Metrics,
    ) -> None:
        self.model_id = model_id
        self.state = state
        self.tokenizer: Tokenizer | None = None
        self._default_max_tokens = default_max_tokens
        self._max_queue_depth = max_queue_depth
        self._engine = engine
        self._metrics = metrics

    def ensure_ready(self) -> None:
        """Refuse with 503 while the model loads or after the engine has failed; a draining server still answers.

        Raises:
            APIError: requests cannot be answered now.
        """
        if self.state.phase in ("Ready", "Draining"):
            return
        progress = self.state.progress
        eta = progress.eta_seconds if progress else None
        seconds = min(max(round(eta), 1), 120) if eta is not None else STARTING_RETRY_SECONDS
        if self.state.phase == "Failed":
            raise self._refusal(
                errors.not_ready("server_is_failing", "The model server failed.", seconds, "no_capacity")
            )
        message = f"The model is still being loaded. Try again in {seconds} s."
        raise self._refusal(errors.not_ready("model_starting", message, seconds, "no_capacity"))

    def ensure_model(self, name: str) -> None:
        """Refuse a model that is not the one served.

        Raises:
            APIError: 404.
        """
        if name != self.model_id:
            raise errors.model_not_found(name, self.model_id)

    async def complete(self, ask: Ask, record: RequestRecord) -> Completion:
        """Admit one request to the engine.

        Raises:
            APIError: the prompt cannot be used or does not fit, or the waiting room is full.
        """
        tokenizer, model = self.tokenizer, self._engine.model
        assert tokenizer is not None, "ensure_ready() comes first"
        assert model is not None, "ensure_ready() comes first"
        self._ensure_room()
        prompt = await _encode(tokenizer, ask)
        if not prompt:
            raise errors.invalid_request("The prompt has no tokens.", param=ask.prompt_param, code="invalid_value")
        max_tokens = _max_tokens(ask, len(prompt), model.max_model_len, self._default_max_tokens)
        # Others may have taken the last place while this prompt was being encoded.
        self._ensure_room()
        sampling = SamplingParams(
            max_tokens=max_tokens, temperature=ask.temperature, top_p=ask.top_p, seed=_unsigned(ask.seed)
        )
        request = GenerationRequest(request_id=secrets.token_hex(12), prompt_token_ids=prompt, sampling=sampling)
        record.prompt_tokens = len(prompt)
        self._metrics.prompt_admitted(len(prompt))
        generation = self._engine.generate(request)
        return Completion(self._engine, generation, tokenizer, ask.stop, self._metrics, record)

    def _ensure_room(self) -> None:
        load = self._engine.load()
        if self._engine.in_flight >= load.slots + self._max_queue_depth:
            seconds = retry_after_seconds(load.waiting + 1, self._engine.finished_per_second())
            raise self._refusal(errors.queue_full(seconds))

    def _refusal(self, error: errors.APIError) -> errors.APIError:
        self._metrics.request_rejected(error.headers["x-llm-drop-reason"])
        return error


async def _encode(tokenizer: Tokenizer, ask: Ask) -> list[int]:
    if isinstance(ask.prompt, str):
        if len(ask.prompt) <= INLINE_CHARACTERS:
            return tokenizer.encode(ask.prompt)
        return await asyncio.to_thread(tokenizer.encode, ask.prompt)
    if not tokenizer.has_chat_template:
        raise errors.invalid_request(
            "The model has no chat template, so it cannot chat: use /v1/completions.", code="chat_template_missing"
        )
    try:
        return await asyncio.to_thread(tokenizer.encode_chat, ask.prompt)
    except ChatTemplateError as error:
        raise errors.invalid_request(str(error)[:500], param=ask.prompt_param, code="invalid_value") from error


def _max_tokens(ask: Ask, prompt_tokens: int, limit: int, default: int) -> int:
    """Return how many tokens may be generated.

    Raises:
        APIError: the prompt leaves no room for one token, or for as many as were asked for.
    """
    wanted = ask.max_tokens if ask.max_tokens is not None else 1
    if prompt_tokens + wanted > limit:
        param = ask.prompt_param if prompt_tokens >= limit else ask.max_tokens_param
        raise errors.context_length_exceeded(limit, prompt_tokens, wanted, param)
    return ask.max_tokens if ask.max_tokens is not None else min(default, limit - prompt_tokens)


def _unsigned(seed: int | None) -> int | None:
    return None if seed is None else seed & (2**64 - 1)
