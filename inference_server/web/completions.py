"""POST /v1/completions: schema and wire format."""

from __future__ import annotations

import time
from typing import Any, Literal

import orjson

from inference_server.web.generation import Ask, Usage
from inference_server.web.sampling import MaxTokens, OpenAIFields


class CompletionRequest(OpenAIFields):
    """The body; one prompt, as text."""

    prompt: str
    max_tokens: MaxTokens | None = None
    best_of: Literal[1] | None = None
    echo: Literal[False] | None = None
    logprobs: None = None
    suffix: None = None

    def ask(self) -> Ask:
        """Return what is to be generated."""
        return Ask(
            prompt=self.prompt,
            prompt_param="prompt",
            max_tokens=self.max_tokens,
            max_tokens_param="max_tokens",
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=self.seed,
            stop=self.stop,
        )


class CompletionFormat:
    """The answer of one request, whole or in frames; what is the same in every frame is encoded once."""

    def __init__(self, request_id: str, model_id: str, include_usage: bool) -> None:
        self._facts = {
            "id": f"cmpl-{request_id}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model_id,
        }
        self._include_usage = include_usage
        self._chunk = b"data: " + orjson.dumps(self._facts)[:-1]
        self._usage_null = b',"usage":null' if include_usage else b""
        self._text = self._chunk + b',"choices":[{"index":0,"text":'
        self._text_end = b',"logprobs":null,"finish_reason":null}]' + self._usage_null + b"}\n\n"

    def first(self) -> bytes:
        """Return the frame that opens the stream: none here."""
        return b""

    def text(self, text: str) -> bytes:
        """Return the frame of one piece of text."""
        return self._text + orjson.dumps(text) + self._text_end

    def last(self, finish_reason: str, usage: Usage) -> bytes:
        """Return the frames that end a stream that went well."""
        choice = [{"index": 0, "text": "", "logprobs": None, "finish_reason": finish_reason}]
        end = self._chunk + b',"choices":' + orjson.dumps(choice) + self._usage_null + b"}\n\n"
        if self._include_usage:
            end += self._chunk + b',"choices":[],"usage":' + orjson.dumps(usage.document()) + b"}\n\n"
        return end

    def whole(self, text: str, finish_reason: str, usage: Usage) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}
        return {**self._facts, "choices": [choice], "usage": usage.document()}
