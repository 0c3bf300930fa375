"""What the engine needs of a model: one forward pass over tokens of many sequences, on KV memory in slots.

The scheduler decides which tokens go through in a step, a model computes them. Implementations: `llama.model` (our own
forward in torch), `native_model` (the same on CPU kernels of our own) and `modules_model` (transformers' modules).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

PAGE_TOKENS = 32
"""What the prefix cache shares: prompts that agree in their first 32, 64, … tokens."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive tokens of one sequence in a forward pass.

    The KV memory of `slot` holds the sequence's first `start` tokens; `token_ids` (at least one) come after them and
    are stored there too. `logits` is for how many of the chunk's last positions logits are wanted: 0 within a prompt,
    1 to sample from, `len(token_ids)` for log-probabilities of the prompt.
    """

    slot: int
    start: int
    token_ids: Sequence[int]
    logits: int


class Model(Protocol):
    """A loaded model with its KV memory: `slots` sequences of up to `max_model_len` tokens each, and `pages` pages.

    Slots hold whatever the last sequence left; a new one starts at position 0 and never sees it.
    """

    slots: int
    max_model_len: int
    pages: int
    vocabulary_size: int
    eos_token_ids: frozenset[int]

    def forward(self, chunks: Sequence[Chunk]) -> Tensor:
        """Compute `chunks`, at most one for each slot, and return the wanted logits: float32 [sum of logits, vocab].

        Rows are in the order of the chunks and, within one, of its positions. What a sequence gets depends on its own
        tokens only, up to rounding.

        Raises:
            torch.OutOfMemoryError, MemoryError, RuntimeError: memory ran out (`memory.is_out_of_memory`). Slots of
                these chunks may then hold anything from their `start` on; everything else is as before.
        """
        ...

    def store_page(self, slot: int, start: int, page: int) -> None:
        """Copy the keys and values of PAGE_TOKENS tokens from position `start` of `slot` into `page`."""
        ...

    def load_page(self, page: int, slot: int, start: int) -> None:
        """Copy `page` to position `start` of `slot`."""
        ...
