"""KV memory: a slot for each running sequence, and pages that the prefix cache shares."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from inference_server.models.model import PAGE_TOKENS


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What a layer stores of a token: `heads` keys of `key_width` numbers and as many values of `value_width`."""

    heads: int
    key_width: int
    value_width: int


class Slots:
    """Keys and values of `slots` sequences of up to `length` tokens in every layer, and of `pages` pages.

    `keys` and `values` have one tensor [slots + 1, heads, length, width] for each layer; the slot too many takes what
    a padded batch writes. On a GPU they are views on memory that has a token's heads side by side, as its attention
    kernels want it.
    """

    def __init__(
        self,
        layers: Sequence[LayerShape],
        *,
        slots: int,
        max_model_len: int,
        pages: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.slots, self.pages = slots, pages
        self.length = -(-max_model_len // PAGE_TOKENS) * PAGE_TOKENS
        self._written = [0] * (slots + 1)

        def memory(count: int, length: int, heads: int, width: int) -> Tensor:
            if device.type == "cuda":
                return torch.zeros(count, length, heads, width, dtype=dtype, device=device).transpose(1, 2)
            return _zeros_on_demand((count, heads, length, width), dtype)

        self.keys = [memory(slots + 1, self.length, layer.heads, layer.key_width) for layer in layers]
        self.values = [memory(slots + 1, self.length, layer.heads, layer.value_width) for layer in layers]
        self._page_keys = [memory(pages, PAGE_TOKENS, layer.heads, layer.key_width) for layer in layers]
        self._page_values = [memory(pages, PAGE_TOKENS, layer.heads, layer.value_width) for layer in layers]

    @torch.inference_mode()
    def extend(self, slot: int, end: int) -> None:
        """Note that `slot` is about to hold `end` tokens, and zero what an earlier sequence left behind them.

        Attention masks what lies beyond a sequence, but zero times a NaN, left by a model that overflowed, is NaN.
        """
        if (stale := self._written[slot]) > end:
            for memory in (*self.keys, *self.values):
                memory[slot, :, end:stale].zero_()
        self._written[slot] = end

    @torch.inference_mode()
    def store_page(self, slot: int, start: int, page: int) -> None:
        """Copy PAGE_TOKENS tokens from position `start` of `slot` into `page`."""
        for pages, slots in ((self._page_keys, self.keys), (self._page_values, self.values)):
            for into, of in zip(pages, slots, strict=True):
                into[page] = of[slot, :, start : start + PAGE_TOKENS]

    @torch.inference_mode()
    def load_page(self, page: int, slot: int, start: int) -> None:
        """Copy `page` to position `start` of `slot`."""
        self.extend(slot, start + PAGE_TOKENS)
        for pages, slots in ((self._page_keys, self.keys), (self._page_values, self.values)):
            for of, into in zip(pages, slots, strict=True):
                into[slot, :, start : start + PAGE_TOKENS] = of[page]


def _zeros_on_demand(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return zeros that take no memory before they are written; torch.zeros writes them at once."""
    count = prod(shape)
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    buffer = mmap.mmap(-1, count * dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(buffer, dtype=dtype).view(shape)
