"""A model whose logits are a hash of everything its KV memory holds for a sequence, so that a wrong slot, page or
position changes what is said, while batch and chunks change nothing, not even a rounding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from inference_server.models.model import PAGE_TOKENS, Chunk

VOCABULARY_SIZE = 192
OFFENDER = 189
"""Means nothing to the model: tests begin prompts with it that they let fail."""
POISON = 190
"""From this token on, a sequence's logits are NaN."""
EOS = 0


class PrefixModel:
    """`models.model.Model`.

    `fault` gets all tokens of each sequence in a pass and may raise; the slots then hold rubbish, as the protocol
    allows. `forwards` are the slots of every pass that went through, in order.
    """

    def __init__(self, *, slots: int = 32, max_model_len: int = 512, pages: int = 0) -> None:
        self.slots, self.max_model_len, self.pages = slots, max_model_len, pages
        self.vocabulary_size = VOCABULARY_SIZE
        self.eos_token_ids = frozenset([EOS])
        self.fault: Callable[[list[list[int]]], None] = lambda sequences: None
        self.forwards: list[list[int]] = []
        self._kv = np.full((slots, max_model_len), -1, dtype=np.int64)
        self._pages = np.full((pages, PAGE_TOKENS), -1, dtype=np.int64)

    def forward(self, chunks: Sequence[Chunk]) -> Tensor:
        used = [chunk.slot for chunk in chunks]
        assert chunks, "there is nothing to compute"
        assert len(set(used)) == len(used), "two chunks in one slot"
        try:
            self.fault([self._tokens(chunk) for chunk in chunks])
        except Exception:
            for chunk in chunks:
                self._kv[chunk.slot, chunk.start :] = -2
            raise
        rows = [row for chunk in chunks for row in self._rows(chunk)]
        self.forwards.append(used)
        return torch.from_numpy(np.stack(rows)) if rows else torch.empty(0, VOCABULARY_SIZE)

    def store_page(self, slot: int, start: int, page: int) -> None:
        self._pages[page] = self._kv[slot, start : start + PAGE_TOKENS]

    def load_page(self, page: int, slot: int, start: int) -> None:
        self._kv[slot, start : start + PAGE_TOKENS] = self._pages[page]

    def _tokens(self, chunk: Chunk) -> list[int]:
        return [*(self._kv[chunk.slot, : chunk.start] // 1000).tolist(), *chunk.token_ids]

    def _rows(self, chunk: Chunk) -> list[np.ndarray[tuple[int], np.dtype[np.float32]]]:
        end = chunk.start + len(chunk.token_ids)
        assert 0 <= chunk.logits <= len(chunk.token_ids)
        assert len(chunk.token_ids) >= 1
        held = self._kv[chunk.slot]
        # The position goes into the memory too: a page at a wrong place is a wrong page.
        held[chunk.start : end] = [token * 1000 + place for place, token in enumerate(chunk.token_ids, chunk.start)]
        return [_logits(held[: place + 1]) for place in range(end - chunk.logits, end)]


def _logits(
    held: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    if np.any(held // 1000 == POISON):
        return np.full(VOCABULARY_SIZE, np.nan, dtype=np.float32)
    seed = int.from_bytes(blake2b(held.tobytes(), digest_size=8).digest(), "little")
    logits = np.random.default_rng(seed).standard_normal(VOCABULARY_SIZE, dtype=np.float32) * np.float32(2)
    logits[POISON:] = -np.inf
    logits[EOS] -= 2
    return logits
