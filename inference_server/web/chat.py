"""POST /v1/chat/completions: schema and wire format."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field, model_validator

from inference_server.text.tokenizer import Message
from inference_server.web.generation import Ask, Usage
from inference_server.web.sampling import MaxTokens, OpenAIFields, StrictSchema


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


class ChatCompletionRequest(OpenAIFields):
    """The body. `max_completion_tokens` is OpenAI's newer name of `max_tokens`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: MaxTokens | None = None
    max_completion_tokens: MaxTokens | None = None
    logprobs: Literal[False] | None = None
    response_format: TextFormat | None = None

    @model_validator(mode="after")
    def _limits_agree(self) -> ChatCompletionRequest:
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens and max_completion_tokens differ: give one of them")
        return self

    def ask(self) -> Ask:
        """Return what is to be generated."""
        return Ask(
            prompt=[message.message() for message in self.messages],
            prompt_param="messages",
            max_tokens=self.max_completion_tokens if self.max_tokens is None else self.max_tokens,
            max_tokens_param="max_completion_tokens" if self.max_tokens is None else "max_tokens",
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=self.seed,
            stop=self.stop,
        )


class TextFormat(StrictSchema):
    """The one response format there is."""

    type: Literal["text"]


class ChatFormat:
    """The answer of one request, whole or in frames; what is the same in every frame is encoded once."""

    def __init__(self, request_id: str, model_id: str, include_usage: bool) -> None:
        self._id = f"chatcmpl-{request_id}"
        self._model_id = model_id
        self._created = int(time.time())
        self._include_usage = include_usage
        head = orjson.dumps({"id": self._id, "object": "chat.completion.chunk", **self._facts()})[:-1]
        self._chunk = b"data: " + head
        self._usage_null = b',"usage":null' if include_usage else b""
        self._content = self._chunk + b',"choices":[{"index":0,"delta":{"content":'
        self._content_end = b'},"logprobs":null,"finish_reason":null}]' + self._usage_null + b"}\n\n"

    def first(self) -> bytes:
        """Return the frame that opens the stream: the role."""
        choice = (
            b',"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]'
        )
        return self._chunk + choice + self._usage_null + b"}\n\n"

    def text(self, text: str) -> bytes:
        """Return the frame of one piece of text."""
        return self._content + orjson.dumps(text) + self._content_end

    def last(self, finish_reason: str, usage: Usage) -> bytes:
        """Return the frames that end a stream that went well."""
        choice = [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": finish_reason}]
        end = self._chunk + b',"choices":' + orjson.dumps(choice) + self._usage_null + b"}\n\n"
        if self._include_usage:
            end += self._chunk + b',"choices":[],"usage":' + orjson.dumps(usage.document()) + b"}\n\n"
        return end

    def whole(self, text: str, finish_reason: str, usage: Usage) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
        facts = {"id": self._id, "object": "chat.completion", **self._facts()}
        return {**facts, "choices": [choice], "usage": usage.document()}

    def _facts(self) -> dict[str, Any]:
        return {"created": self._created, "model": self._model_id}
