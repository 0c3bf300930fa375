"""POST /generate: the original route, with optional fields that its old clients never notice."""

from __future__ import annotations

from typing import Any

import orjson

from inference_server.web.generation import Ask, Usage
from inference_server.web.sampling import MaxTokens, Seed, Stop, StrictSchema, Temperature, TopP


class GenerateRequest(StrictSchema):
    """The body; `text`, `max_tokens` and `temperature` are the original's."""

    text: str
    max_tokens: MaxTokens | None = None
    temperature: Temperature = 0.7
    top_p: TopP = 1.0
    seed: Seed | None = None
    stop: Stop = ()
    stream: bool = False

    def ask(self) -> Ask:
        """Return what is to be generated."""
        return Ask(
            prompt=self.text,
            prompt_param="text",
            max_tokens=self.max_tokens,
            max_tokens_param="max_tokens",
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            stop=self.stop,
        )


class GenerateFormat:
    """The answer of one request, whole or in frames."""

    def __init__(self, model_id: str) -> None:
        self._model_id = model_id

    def first(self) -> bytes:
        """Return the frame that opens the stream: none here."""
        return b""

    def text(self, text: str) -> bytes:
        """Return the frame of one piece of text."""
        return b'data: {"text":' + orjson.dumps(text) + b"}\n\n"

    def last(self, finish_reason: str, usage: Usage) -> bytes:
        """Return the frame that ends a stream that went well."""
        end = {"text": "", "finish_reason": finish_reason, "usage": usage.document(), "model": self._model_id}
        return b"data: " + orjson.dumps(end) + b"\n\n"

    def whole(self, text: str, finish_reason: str, usage: Usage) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""
        return {
            "generated_text": text,
            "finish_reason": finish_reason,
            "usage": usage.document(),
            "model": self._model_id,
        }
