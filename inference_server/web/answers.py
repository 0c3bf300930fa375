"""The shapes of answers, for the API's description and for tests that hold answers against it.

The routes write these by hand (`web.chat`, `web.completions`, `web.generate`): a pydantic object for each token costs
fifty times a prebuilt frame.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

FinishReason = Literal["stop", "length"]


class Answer(BaseModel):
    """An answer holds what is said here and nothing else."""

    model_config = ConfigDict(extra="forbid")


class PromptTokensDetails(Answer):
    """How much of the prompts came from the prefix cache."""

    cached_tokens: int


class Usage(Answer):
    """Token counts of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class GenerateUsage(Answer):
    """Token counts of a request to /generate."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionLogprobs(Answer):
    """Four lists of one length; None at the first token of a prompt."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(Answer):
    """One choice of a completion."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason


class Completion(Answer):
    """The answer of /v1/completions."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage


class TopToken(Answer):
    """One of the most likely tokens at a place."""

    token: str
    logprob: float
    bytes: list[int]


class ChatToken(Answer):
    """One token of a chat's answer; `bytes` is its part of UTF-8."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopToken]


class ChatLogprobs(Answer):
    """The tokens of a chat's answer."""

    content: list[ChatToken]
    refusal: None


class AnsweredMessage(Answer):
    """What the model says."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(Answer):
    """One choice of a chat."""

    index: int
    message: AnsweredMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(Answer):
    """The answer of /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class Generated(Answer):
    """The answer of /generate."""

    generated_text: str
    finish_reason: FinishReason
    usage: GenerateUsage
    model: str


class ModelCard(Answer):
    """The model served here."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(Answer):
    """The list of the one model."""

    object: Literal["list"]
    data: list[ModelCard]


class Health(Answer):
    """`healthy`, or the phase the server is in."""

    status: str


class ErrorObject(Answer):
    """OpenAI's error object; `code` is stable, `message` is for people."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(Answer):
    """Every answer that is not a success, and the last event of a stream that failed."""

    error: ErrorObject


class GenerateError(Answer):
    """The errors of /generate: FastAPI's shape, as the original had it."""

    detail: str | list[dict[str, Any]]


ALL = (Completion, ChatCompletion, Generated, ModelCard, ModelList, Health, Error, GenerateError)
