"""POST /generate: the original route, with optional fields that its old clients never notice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from inference_server.engine.interface import SamplingParams
from inference_server.web.ask import Ask
from inference_server.web.choice import Piece
from inference_server.web.generation import Usage, WholeChoice
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
            prompts=(self.text,),
            prompt_param="text",
            max_tokens=self.max_tokens,
            max_tokens_param="max_tokens",
            sampling=SamplingParams(max_tokens=1, temperature=self.temperature, top_p=self.top_p),
            seed=self.seed,
            stop=self.stop,
        )


class GenerateFormat:
    """The answer of one request, whole or in frames."""

    def __init__(self, model_id: str) -> None:
        self._model_id = model_id
        self._finish_reason = ""

    def first(self, choices: int) -> bytes:
        """Return the frame that opens the stream: none here."""
        return b""

    def piece(self, piece: Piece) -> bytes:
        """Return the frame of one piece; how it ended goes into the last frame."""
        self._finish_reason = piece.finish_reason or ""
        return b'data: {"text":' + orjson.dumps(piece.text) + b"}\n\n" if piece.text else b""

    def last(self, usage: Usage) -> bytes:
        """Return the frame that ends a stream that went well."""
        end = {"text": "", "finish_reason": self._finish_reason, "usage": usage.counts(), "model": self._model_id}
        return b"data: " + orjson.dumps(end) + b"\n\n"

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""
        (choice,) = choices
        return {
            "generated_text": choice.text,
            "finish_reason": choice.finish_reason,
            "usage": usage.counts(),
            "model": self._model_id,
        }
