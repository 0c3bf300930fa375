"""One admitted request: the outputs of its sequences as they come, turned into pieces of its choices, and its usage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from inference_server.engine.client import EngineClient, Generation, GenerationAborted
from inference_server.engine.interface import SequenceOutput
from inference_server.web import errors
from inference_server.web.choice import Choice, Entry, Piece
from inference_server.web.record import RequestRecord

IDLE_SECONDS = 10.0
"""After this long without a token a stream sends its headers, and then comments: proxies give up on silence."""


@dataclass(frozen=True)
class Usage:
    """Token counts; the token that completed a stop string counts, an end-of-sequence token does not.

    A prompt counts once however many choices it has; `cached_tokens` of the prompts came from the prefix cache.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    def counts(self) -> dict[str, int]:
        """Return the three counts of the original API."""
        total = self.prompt_tokens + self.completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": total,
        }

    def document(self) -> dict[str, Any]:
        """Return the counts as OpenAI's API shows them."""
        return {**self.counts(), "prompt_tokens_details": {"cached_tokens": self.cached_tokens}}


def usage_frame(chunk: bytes, usage: Usage) -> bytes:
    """Return OpenAI's last frame before the end, with the usage of the whole request; `chunk` opens every frame."""
    return chunk + b',"choices":[],"usage":' + orjson.dumps(usage.document()) + b"}\n\n"


@dataclass(frozen=True)
class WholeChoice:
    """A complete choice; `entries` is None where no log-probabilities were asked for."""

    index: int
    text: str
    finish_reason: str
    entries: Sequence[Entry] | None


class Completion:
    """The only consumer of its `Generation`; whoever was given it must `close` it."""

    def __init__(
        self,
        engine: EngineClient,
        generation: Generation,
        choices: Mapping[str, Choice],
        n: int,
        prompt_tokens: int,
        record: RequestRecord,
        deadline_seconds: float | None = None,
    ) -> None:
        self._engine = engine
        self._generation = generation
        self._choices = choices
        self._n = n
        self._prompt_tokens = prompt_tokens
        self._record = record
        self._open = len(choices)
        self._deadline: asyncio.TimerHandle | None = None
        if deadline_seconds is not None:
            late = GenerationAborted("deadline_exceeded", "The deadline given with the request has passed.")
            self._deadline = asyncio.get_running_loop().call_later(deadline_seconds, generation.abort, late)

    @property
    def usage(self) -> Usage:
        """The counts so far."""
        completion_tokens = sum(choice.completion_tokens for choice in self._choices.values())
        return Usage(self._prompt_tokens, completion_tokens, self._cached_tokens())

    @property
    def choice_count(self) -> int:
        """How many choices there are."""
        return len(self._choices)

    @property
    def has_ended(self) -> bool:
        """Whether the last piece of every choice has come."""
        return not self._open

    async def pieces(self) -> AsyncIterator[list[Piece]]:
        """Yield what is new of every choice; the last piece of each has a finish reason, [] is a sign of life.

        Raises:
            APIError: the engine could not finish a sequence.
        """
        try:
            async for outputs in self._generation.outputs(IDLE_SECONDS):
                pieces = self._absorb(outputs)
                if pieces or not outputs:
                    yield pieces
                self._raise_errors(outputs)
                if not self._open:
                    return
        except GenerationAborted as aborted:
            raise errors.interrupted(aborted.code, str(aborted)) from aborted

    async def whole(self) -> list[WholeChoice]:
        """Return all choices when they are complete.

        Raises:
            APIError: the engine could not finish a sequence.
        """
        collected: dict[int, list[Piece]] = {choice.index: [] for choice in self._choices.values()}
        async for pieces in self.pieces():
            for piece in pieces:
                collected[piece.choice].append(piece)
        return [_joined(index, pieces) for index, pieces in sorted(collected.items())]

    def close(self) -> None:
        """Free the slots of what is still in flight, and write down what it came to."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._engine.cancel(self._generation)
        self._record.completion_tokens = sum(choice.completion_tokens for choice in self._choices.values())
        self._record.cached_tokens = self._cached_tokens()
        self._record.queue_seconds = self._generation.queue_seconds
        begun = [choice.first_token_at for choice in self._choices.values() if choice.first_token_at is not None]
        if begun:
            self._record.first_token_seconds = min(begun) - self._generation.arrived
            self._record.decode_seconds = time.monotonic() - min(begun)

    def _absorb(self, outputs: Sequence[SequenceOutput]) -> list[Piece]:
        touched = {}
        for output in outputs:
            choice = touched[output.request_id] = self._choices[output.request_id]
            choice.take(output)
        pieces = []
        for request_id, choice in touched.items():
            if (piece := choice.piece()) is not None:
                pieces.append(piece)
                if piece.finish_reason is not None:
                    self._end(request_id, piece.finish_reason)
        return pieces

    def _end(self, request_id: str, finish_reason: str) -> None:
        self._open -= 1
        self._record.finish_reason = finish_reason
        # The engine knows nothing of the stop string that may have ended this.
        self._engine.cancel(self._generation, request_id)

    def _raise_errors(self, outputs: Sequence[SequenceOutput]) -> None:
        for output in outputs:
            if output.error is not None and (error := self._choices[output.request_id].error) is not None:
                raise errors.engine_failure(error.code, error.message)

    def _cached_tokens(self) -> int:
        """Return what the prefix cache spared the first choice of each prompt: the others share its prompt."""
        cached = self._generation.cached_tokens
        return sum(cached.get(name, 0) for name, choice in self._choices.items() if choice.index % self._n == 0)


def _joined(index: int, pieces: Sequence[Piece]) -> WholeChoice:
    has_entries = any(piece.entries is not None for piece in pieces)
    return WholeChoice(
        index,
        "".join(piece.text for piece in pieces),
        next((piece.finish_reason for piece in reversed(pieces) if piece.finish_reason is not None), ""),
        [entry for piece in pieces for entry in piece.entries or ()] if has_entries else None,
    )
