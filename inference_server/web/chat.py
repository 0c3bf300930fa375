"""POST /v1/chat/completions: schema and wire format."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field, StrictBool, StrictInt, ValidationInfo, field_validator

from inference_server.text.tokenizer import Message, Tokenizer
from inference_server.web.ask import Ask, Chat
from inference_server.web.choice import Entry, Piece
from inference_server.web.generation import Usage, WholeChoice, usage_frame
from inference_server.web.logprobs import of_chat
from inference_server.web.sampling import MaxTokens, OpenAIFields, StrictSchema

MAX_TOP_LOGPROBS = 20


class TextPart(StrictSchema):
    """A part of a message's content; other types would need a model that reads them."""

    type: Literal["text"]
    text: str


class ChatMessage(StrictSchema):
    """One message; the roles that text models' templates know."""

    role: Literal["system", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1)]

    def message(self) -> Message:
        """Return the message with its content as one text."""
        if isinstance(self.content, str):
            return {"role": self.role, "content": self.content}
        return {"role": self.role, "content": "".join(part.text for part in self.content)}


class TextFormat(StrictSchema):
    """The one response format there is."""

    type: Literal["text"]


class ChatCompletionRequest(OpenAIFields):
    """The body. `max_completion_tokens` is OpenAI's newer name of `max_tokens`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: MaxTokens | None = None
    max_completion_tokens: MaxTokens | None = None
    logprobs: StrictBool = False
    top_logprobs: Annotated[StrictInt, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    response_format: TextFormat | None = None

    @field_validator("max_completion_tokens")
    @classmethod
    def _limits_agree(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("max_tokens") not in (None, value):
            raise ValueError("Input differs from max_tokens: give one of them")
        return value

    @field_validator("top_logprobs")
    @classmethod
    def _top_needs_logprobs(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and not info.data.get("logprobs"):
            raise ValueError("Input is only allowed when logprobs is true")
        return value

    def ask(self) -> Ask:
        """Return what is to be generated."""
        return Ask(
            prompts=Chat([message.message() for message in self.messages]),
            prompt_param="messages",
            max_tokens=self.max_completion_tokens if self.max_tokens is None else self.max_tokens,
            max_tokens_param="max_completion_tokens" if self.max_tokens is None else "max_tokens",
            sampling=self.sampling((self.top_logprobs or 0) if self.logprobs else None),
            seed=self.seed,
            stop=self.stop,
            n=self.n,
        )


class ChatFormat:
    """The answer of one request, whole or in frames; what is the same in every frame is encoded once."""

    def __init__(self, request_id: str, model_id: str, tokenizer: Tokenizer, include_usage: bool) -> None:
        self._facts = {"created": int(time.time()), "model": model_id}
        self._id = f"chatcmpl-{request_id}"
        self._tokenizer = tokenizer
        self._include_usage = include_usage
        head = orjson.dumps({"id": self._id, "object": "chat.completion.chunk", **self._facts})[:-1]
        self._chunk = b"data: " + head
        self._end = b"}]" + (b',"usage":null' if include_usage else b"") + b"}\n\n"
        self._content_end = b'},"logprobs":null,"finish_reason":null' + self._end
        self._heads: dict[int, bytes] = {}

    def first(self, choices: int) -> bytes:
        """Return the frames that open the stream: the role of each choice."""
        role = b'"role":"assistant","content":""'
        return b"".join(self._head(index) + role + self._content_end for index in range(choices))

    def piece(self, piece: Piece) -> bytes:
        """Return the frames of one piece of a choice: its text, and how it ended."""
        frames = b""
        if piece.text or piece.entries:
            content = self._head(piece.choice) + b'"content":' + orjson.dumps(piece.text)
            if not piece.entries:
                frames = content + self._content_end
            else:
                logprobs = orjson.dumps(of_chat(piece.entries, self._tokenizer))
                frames = content + b'},"logprobs":' + logprobs + b',"finish_reason":null' + self._end
        if piece.finish_reason is not None:
            reason = orjson.dumps(piece.finish_reason)
            frames += self._head(piece.choice) + b'},"logprobs":null,"finish_reason":' + reason + self._end
        return frames

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
                "message": {"role": "assistant", "content": choice.text, "refusal": None},
                "logprobs": self._logprobs(choice.entries),
                "finish_reason": choice.finish_reason,
            }
            for choice in choices
        ]
        facts = {"id": self._id, "object": "chat.completion", **self._facts}
        return {**facts, "choices": answered, "usage": usage.document()}

    def _head(self, index: int) -> bytes:
        head = self._heads.get(index)
        if head is None:
            head = self._heads[index] = self._chunk + b',"choices":[{"index":%d,"delta":{' % index
        return head

    def _logprobs(self, entries: Sequence[Entry] | None) -> dict[str, Any] | None:
        return None if entries is None else of_chat(entries, self._tokenizer)
