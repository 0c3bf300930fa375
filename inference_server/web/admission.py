"""Who gets in: the states in which requests are refused, the bounds of the waiting room, prompts and their limits.

Refusals for want of room come first and cost next to nothing, before a body is read: under ten times the load that the
engine can take, nine of ten requests end here.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from starlette.types import Scope

from inference_server.engine.client import EngineClient
from inference_server.engine.interface import Delivery, GenerationRequest, ModelInfo
from inference_server.metrics import Metrics
from inference_server.rate import retry_after_seconds
from inference_server.state import ServerState
from inference_server.text.tokenizer import ChatTemplateError, Tokenizer
from inference_server.web import errors
from inference_server.web.ask import Ask, Chat, choice_seed
from inference_server.web.choice import Choice, Echo
from inference_server.web.generation import Completion
from inference_server.web.record import RequestRecord

INLINE_CHARACTERS = 2000
"""Longer prompts are encoded in a thread, so that one of them does not hold up every stream."""
STARTING_RETRY_SECONDS = 5
WAITING_REFILLS = 4
"""How often what waits may fill the KV memory: the last in line starts after so many generations at worst."""
DEADLINE_HEADER = b"x-llm-deadline-ms"
LONGEST_DEADLINE_MS = 24 * 3600 * 1000


@dataclass(frozen=True)
class _Prompt:
    """One prompt as token ids; `text` is what was given, None where the ids were."""

    token_ids: Sequence[int]
    text: str | None


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
        self.last_client_at = float("-inf")
        """When the last request or socket came, by the monotonic clock; probes do not count."""
        self._default_max_tokens = default_max_tokens
        self._max_queue_depth = max_queue_depth
        self._engine = engine
        self._metrics = metrics

    @property
    def loaded_tokenizer(self) -> Tokenizer:
        """The tokenizer of a server that is ready."""
        assert self.tokenizer is not None, "ensure_ready() comes first"
        return self.tokenizer

    def let_in(self) -> None:
        """Note that clients are still sent here, and refuse them as `ensure_ready` does.

        Raises:
            APIError: requests cannot be answered now.
        """
        self.last_client_at = time.monotonic()
        self.ensure_ready()

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

    def ensure_room(self, deadline_seconds: float | None = None, sequences: int = 1, tokens: int = 1) -> None:
        """Refuse what would have to wait outside the waiting room, or beyond its deadline.

        Raises:
            APIError: 429 with Retry-After.
        """
        load = self._engine.load()
        model = self._engine.model
        assert model is not None, "ensure_ready() comes first"
        too_many = self._engine.in_flight + sequences > load.slots + self._max_queue_depth
        most_tokens = (1 + WAITING_REFILLS) * model.kv_tokens
        too_long = self._engine.in_flight > 0 and self._engine.tokens_in_flight + tokens > most_tokens
        ahead = self._engine.in_flight + sequences - load.slots
        wait = self._engine.wait_seconds(ahead) if ahead > 0 else 0.0
        if too_many or too_long:
            raise self._refusal(errors.queue_full(retry_after_seconds(wait)))
        if deadline_seconds is not None and wait is not None and wait >= deadline_seconds:
            raise self._refusal(errors.deadline_unreachable(retry_after_seconds(wait)))

    async def complete(self, ask: Ask, record: RequestRecord, deadline_seconds: float | None = None) -> Completion:
        """Admit one request to the engine.

        Raises:
            APIError: the prompt cannot be used or does not fit, or there is no room.
        """
        tokenizer, model = self.loaded_tokenizer, self._engine.model
        assert model is not None, "ensure_ready() comes first"
        prompts = await _encoded(tokenizer, ask)
        _check_token_ids(ask, prompts, model.vocabulary_size)
        self._check_count(len(prompts) * ask.n, model)
        requests = [request for prompt in prompts for request in self._requests(ask, prompt, record, model)]
        # Others may have taken the last place while this prompt was being encoded.
        tokens = sum(len(request.prompt_token_ids) + request.sampling.max_tokens for request in requests)
        self.ensure_room(deadline_seconds, len(requests), tokens)
        wants_logprobs = ask.sampling.logprobs is not None
        choices = {}
        for index, request in enumerate(requests):
            prompt = prompts[index // ask.n]
            echo = Echo(prompt.text, prompt.token_ids) if ask.echo else None
            choices[request.request_id] = Choice(
                index,
                tokenizer,
                ask.stop,
                echo=echo,
                wants_logprobs=wants_logprobs,
                keeps_tokens=ask.max_tokens != 0,
            )
        record.prompt_tokens = sum(len(prompt.token_ids) for prompt in prompts)
        record.choices = len(requests)
        self._metrics.prompts_admitted(record.prompt_tokens)
        generation = self._engine.generate(*requests)
        return Completion(self._engine, generation, choices, ask.n, record.prompt_tokens, record, deadline_seconds)

    def _requests(self, ask: Ask, prompt: _Prompt, record: RequestRecord, model: ModelInfo) -> list[GenerationRequest]:
        max_tokens = _max_tokens(ask, len(prompt.token_ids), model.max_model_len, self._default_max_tokens)
        return [
            GenerationRequest(
                request_id=secrets.token_hex(12),
                prompt_token_ids=list(prompt.token_ids),
                sampling=msgspec.structs.replace(
                    ask.sampling, max_tokens=max_tokens, seed=choice_seed(ask.seed, choice)
                ),
                tenant=record.tenant or "",
                delivery=_delivery(ask, record),
            )
            for choice in range(ask.n)
        ]

    def _check_count(self, sequences: int, model: ModelInfo) -> None:
        most = model.slots + self._max_queue_depth
        if sequences > most:
            message = (
                f"The request asks for {sequences} completions, prompts times n; this server takes {most} at most."
            )
            raise errors.invalid_request(message, param="n", code="invalid_value")

    def _refusal(self, error: errors.APIError) -> errors.APIError:
        self._metrics.request_rejected(error.headers["x-llm-drop-reason"])
        return error


def _delivery(ask: Ask, record: RequestRecord) -> Delivery:
    """A stop string must be found while its sequence runs; otherwise only a stream needs tokens before the end."""
    return "step" if ask.stop else "stream" if record.stream else "end"


def deadline_of(scope: Scope) -> float | None:
    """Return how many seconds the client gives its request, from now; None for as long as it takes.

    Raises:
        APIError: 400, the header is not a number of milliseconds.
    """
    for name, value in scope["headers"]:
        if name == DEADLINE_HEADER:
            if value.isdigit() and len(value) <= 9 and 0 < int(value) <= LONGEST_DEADLINE_MS:
                return int(value) / 1000
            message = f"x-llm-deadline-ms must be a whole number from 1 to {LONGEST_DEADLINE_MS}."
            raise errors.invalid_request(message, param="x-llm-deadline-ms", code="invalid_value")
    return None


async def _encoded(tokenizer: Tokenizer, ask: Ask) -> list[_Prompt]:
    if isinstance(ask.prompts, Chat):
        prompts = [_Prompt(await _encoded_chat(tokenizer, ask.prompts, ask.prompt_param), None)]
    else:
        prompts = [await _encoded_prompt(tokenizer, prompt) for prompt in ask.prompts]
    if not all(prompt.token_ids for prompt in prompts):
        raise errors.invalid_request("The prompt has no tokens.", param=ask.prompt_param, code="invalid_value")
    return prompts


async def _encoded_prompt(tokenizer: Tokenizer, prompt: str | Sequence[int]) -> _Prompt:
    if not isinstance(prompt, str):
        return _Prompt(prompt, None)
    if len(prompt) <= INLINE_CHARACTERS:
        return _Prompt(tokenizer.encode(prompt), prompt)
    return _Prompt(await asyncio.to_thread(tokenizer.encode, prompt), prompt)


async def _encoded_chat(tokenizer: Tokenizer, chat: Chat, param: str) -> list[int]:
    if not tokenizer.has_chat_template:
        raise errors.invalid_request(
            "The model has no chat template, so it cannot chat: use /v1/completions.", code="chat_template_missing"
        )
    try:
        return await asyncio.to_thread(tokenizer.encode_chat, chat.messages)
    except ChatTemplateError as error:
        raise errors.invalid_request(str(error)[:500], param=param, code="invalid_value") from error


def _check_token_ids(ask: Ask, prompts: Sequence[_Prompt], vocabulary_size: int) -> None:
    """Refuse ids that the model does not have, in prompts and in the bias: an engine indexes with them."""
    given = [(ask.prompt_param, max(prompt.token_ids)) for prompt in prompts if prompt.text is None]
    if ask.sampling.logit_bias:
        given.append(("logit_bias", max(ask.sampling.logit_bias)))
    for param, largest in given:
        if largest >= vocabulary_size:
            message = f"There is no token {largest}: this model's vocabulary has {vocabulary_size}."
            raise errors.invalid_request(message, param=param, code="invalid_value")


def _max_tokens(ask: Ask, prompt_tokens: int, limit: int, default: int) -> int:
    """Return how many tokens may be generated.

    Raises:
        APIError: the prompt leaves no room for one token, or for as many as were asked for.
    """
    wanted = max(ask.max_tokens, 1) if ask.max_tokens is not None else 1
    if prompt_tokens + wanted > limit:
        param = ask.prompt_param if prompt_tokens >= limit else ask.max_tokens_param
        raise errors.context_length_exceeded(limit, prompt_tokens, wanted, param)
    return wanted if ask.max_tokens is not None else min(default, limit - prompt_tokens)
