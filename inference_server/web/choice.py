"""One sequence on its way to the client: tokens in, pieces of text and log-probabilities out, cut at stop strings."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from inference_server.engine.interface import SequenceError, SequenceOutput, TokenLogprobs
from inference_server.text.stop import StopScanner
from inference_server.text.tokenizer import Tokenizer


class Entry(NamedTuple):
    """A token with its log-probability; `offset` is where its text begins in the choice's text, in characters.

    `logprob` is None for the first token of a prompt, which nothing comes before.
    """

    token_id: int
    offset: int
    logprob: float | None
    top: Sequence[tuple[int, float]]


class Piece(NamedTuple):
    """What became certain of one choice since its last piece; `entries` is None where none were asked for."""

    choice: int
    text: str
    finish_reason: str | None
    entries: Sequence[Entry] | None


@dataclass(frozen=True)
class Echo:
    """The prompt, as the answer is to begin with it; `text` None is what its tokens say."""

    text: str | None
    token_ids: Sequence[int]


class Choice:
    """Fed with every output of its sequence, and asked for a `piece` after each round of them.

    `keeps_tokens` False is for a request of no tokens at all, where the engine generates one nevertheless.
    """

    def __init__(
        self,
        index: int,
        tokenizer: Tokenizer,
        stop: Sequence[str],
        *,
        echo: Echo | None = None,
        wants_logprobs: bool = False,
        keeps_tokens: bool = True,
    ) -> None:
        self.index = index
        self.completion_tokens = 0
        self.finish_reason: str | None = None
        self.error: SequenceError | None = None
        self.first_token_at: float | None = None
        self._tokenizer = tokenizer
        self._decoder = tokenizer.decoder()
        self._scanner = StopScanner(stop)
        self._echo = echo
        self._keeps_tokens = keeps_tokens
        self._text = ""
        self._released = 0
        self._offset = 0
        self._prompt_logprobs: list[TokenLogprobs] = []
        self._entries: list[Entry] | None = [] if wants_logprobs else None

    @property
    def has_ended(self) -> bool:
        """Whether no more pieces come."""
        return self.finish_reason is not None or self.error is not None

    def take(self, output: SequenceOutput) -> None:
        """Take what one step has added, token by token, because a stop string may be complete at any of them."""
        if self.has_ended:
            return
        if output.prompt_logprobs:
            self._prompt_logprobs += output.prompt_logprobs
        if output.token_ids and self.first_token_at is None:
            self.first_token_at = time.monotonic()
        if self._echo is not None and (output.token_ids or output.finish_reason is not None):
            self._say_prompt(self._echo)
            self._echo = None
        if self._keeps_tokens:
            for place, token_id in enumerate(output.token_ids):
                self.completion_tokens += 1
                if self._entries is not None:
                    found = output.logprobs[place]
                    self._entries.append(Entry(token_id, self._offset, found.logprob, found.top))
                if self._say(self._decoder.push(token_id)):
                    return
        if output.finish_reason is not None and not self._say(self._decoder.finish()):
            self._text += self._scanner.finish()
            self.error = output.error
            self.finish_reason = None if output.error is not None else output.finish_reason

    def piece(self) -> Piece | None:
        """Return what is new, or None: all that came may be half a character or the beginning of a stop string."""
        entries = None if self._entries is None else self._certain()
        if not self._text and self.finish_reason is None and not entries:
            return None
        piece = Piece(self.index, self._text, self.finish_reason, entries)
        self._released += len(self._text)
        self._text = ""
        return piece

    def _say(self, text: str) -> bool:
        """Add text; return whether it completed a stop string."""
        self._offset += len(text)
        self._text += self._scanner.push(text)
        if self._scanner.stopped:
            self.finish_reason = "stop"
        return self._scanner.stopped

    def _say_prompt(self, echo: Echo) -> None:
        decoder = self._tokenizer.decoder()
        texts = []
        for place, token_id in enumerate(echo.token_ids):
            if self._entries is not None:
                found = self._prompt_logprobs[place - 1] if place else None
                entry = (found.logprob, found.top) if found is not None else (None, ())
                self._entries.append(Entry(token_id, self._offset, *entry))
            texts.append(decoder.push(token_id))
            self._offset += len(texts[-1])
        texts.append(decoder.finish())
        # No stop string cuts a prompt.
        self._text = "".join(texts) if echo.text is None else echo.text
        self._offset = len(self._text)

    def _certain(self) -> list[Entry]:
        """Return the entries whose text is certain to be kept, and forget those that a stop string has cut off."""
        assert self._entries is not None
        end = self._released + len(self._text)
        if self.finish_reason == "stop" and self._scanner.stopped:
            certain, self._entries = [entry for entry in self._entries if entry.offset < end], []
        elif self.has_ended:
            certain, self._entries = self._entries, []
        else:
            count = next((n for n, entry in enumerate(self._entries) if entry.offset >= end), len(self._entries))
            certain, self._entries = self._entries[:count], self._entries[count:]
        return certain
