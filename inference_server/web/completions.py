"""POST /v1/completions: schema and wire format."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from msgspec import structs
from pydantic import Field, PlainValidator, StrictBool, StrictInt, ValidationInfo, field_validator

from inference_server.text.tokenizer import Tokenizer
from inference_server.web.ask import MAX_CHOICES, Ask
from inference_server.web.choice import Entry, Piece
from inference_server.web.generation import Usage, WholeChoice, usage_frame
from inference_server.web.logprobs import of_completion
from inference_server.web.sampling import OpenAIFields

MAX_LOGPROBS = 5


def _prompts(value: Any) -> tuple[str | list[int], ...]:
    """Return the prompts, of which a body may hold one or a list, each as text or as token ids."""
    if isinstance(value, str) or _are_token_ids(value):
        return (value,)
    if isinstance(value, list) and value and all(isinstance(item, str) or _are_token_ids(item) for item in value):
        return tuple(value)
    raise ValueError("Input should be a string, a list of strings, a list of token ids or a list of such lists")


def _are_token_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int and item >= 0 for item in value)


_TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
_PromptSchema = (
    str | Annotated[list[str], Field(min_length=1)] | _TokenIds | Annotated[list[_TokenIds], Field(min_length=1)]
)


class CompletionRequest(OpenAIFields):
    """The body. `max_tokens` 0 goes with `echo`: the prompt alone, and what the model thinks of it."""

    prompt: Annotated[tuple[str | list[int], ...], PlainValidator(_prompts, json_schema_input_type=_PromptSchema)]
    echo: StrictBool = False
    max_tokens: Annotated[StrictInt, Field(le=2**20, json_schema_extra={"minimum": 0})] | None = None
    best_of: Annotated[StrictInt, Field(json_schema_extra={"minimum": 1, "maximum": MAX_CHOICES})] | None = None
    logprobs: Annotated[StrictInt, Field(ge=0, le=MAX_LOGPROBS)] | None = None

    @field_validator("max_tokens")
    @classmethod
    def _none_only_with_echo(cls, value: int | None, info: ValidationInfo) -> int | None:
        least = 0 if info.data.get("echo") else 1
        if value is not None and value < least:
            raise ValueError(f"Input should be greater than or equal to {least}")
        return value

    @field_validator("best_of")
    @classmethod
    def _all_are_returned(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value != info.data.get("n"):
            raise ValueError("Input should be equal to n")
        return value

    def ask(self) -> Ask:
        """Return what is to be generated."""
        sampling = self.sampling(self.logprobs)
        if self.echo and self.logprobs is not None:
            # Who scores a prompt counts on one entry for the one token it had to ask for, so no end of sequence
            # may take its place.
            ignore_eos = self.ignore_eos or self.max_tokens in (0, 1)
            sampling = structs.replace(sampling, prompt_logprobs=self.logprobs, ignore_eos=ignore_eos)
        return Ask(
            prompts=self.prompt,
            prompt_param="prompt",
            max_tokens=self.max_tokens,
            max_tokens_param="max_tokens",
            sampling=sampling,
            seed=self.seed,
            stop=self.stop,
            n=self.n,
            echo=self.echo,
        )


class CompletionFormat:
    """The answer of one request, whole or in frames; what is the same in every frame is encoded once."""

    def __init__(self, request_id: str, model_id: str, tokenizer: Tokenizer, include_usage: bool) -> None:
        self._facts = {
            "id": f"cmpl-{request_id}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model_id,
        }
        self._tokenizer = tokenizer
        self._include_usage = include_usage
        self._chunk = b"data: " + orjson.dumps(self._facts)[:-1]
        self._end = b"}]" + (b',"usage":null' if include_usage else b"") + b"}\n\n"
        self._text_end = b',"logprobs":null,"finish_reason":null' + self._end
        self._heads: dict[int, bytes] = {}

    def first(self, choices: int) -> bytes:
        """Return the frames that open the stream: none here."""
        return b""

    def piece(self, piece: Piece) -> bytes:
        """Return the frame of one piece of a choice."""
        text = self._head(piece.choice) + orjson.dumps(piece.text)
        if piece.finish_reason is None and piece.entries is None:
            return text + self._text_end
        logprobs, finish_reason = orjson.dumps(self._logprobs(piece.entries)), orjson.dumps(piece.finish_reason)
        return text + b',"logprobs":' + logprobs + b',"finish_reason":' + finish_reason + self._end

    def last(self, usage: Usage) -> bytes:
        """Return the frame that ends a stream that went well."""
        if not self._include_usage:
            return b""
        return usage_frame(self._chunk, usage)

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""
        answered = [
            {
                "index": choice.index,
                "text": choice.text,
                "logprobs": self._logprobs(choice.entries),
                "finish_reason": choice.finish_reason,
            }
            for choice in choices
        ]
        return {**self._facts, "choices": answered, "usage": usage.document()}

    def _head(self, index: int) -> bytes:
        head = self._heads.get(index)
        if head is None:
            head = self._heads[index] = self._chunk + b',"choices":[{"index":%d,"text":' % index
        return head

    def _logprobs(self, entries: Sequence[Entry] | None) -> dict[str, Any] | None:
        return None if entries is None else of_completion(entries, self._tokenizer)
