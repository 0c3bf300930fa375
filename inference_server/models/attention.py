"""Attention of a batch to the slots, by torch's scaled dot products; a GPU's own kernels are in `llama.cuda`.

Rows of one token each, in slots side by side, share one call on a view of the slots; every other chunk has its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from inference_server.models.model import Chunk

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From queries [tokens, heads, width] and a layer's keys and values in the slots to [tokens, heads, width].

The keys and values of the batch itself have been written there before.
"""

ROUNDED_TO = 32
"""Rows of different lengths look at a multiple of this many positions, and mask what is too many."""


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that attend in one call to the first `length` positions of `slots`: row j sees those up to `last[j]`.

    Either one row in each of several slots, or several in one; `is_start` if those are the first of a sequence.
    """

    rows: slice
    slots: slice
    length: int
    last: Tensor
    is_decode: bool
    is_start: bool = False


@dataclass(slots=True)
class SlotAttention:
    """The attention of one batch. Masks are made once for each sliding window and serve all layers."""

    groups: Sequence[Group]
    dtype: torch.dtype
    _masks: dict[int | None, list[Tensor | None]] = field(default_factory=dict)

    def __call__(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        scale: float | None = None,
        window: int | None = None,
        softcap: float | None = None,
    ) -> Tensor:
        """Attend (see `Attend`); `window` is how many positions a query sees at most, itself included.

        `scale` is 1 / sqrt(width) if None; `softcap` bends the scores to below it (Gemma 2).
        """
        tokens, heads, _ = queries.shape
        kv_heads, width = keys.shape[1], values.shape[-1]
        out = queries.new_empty(tokens, heads, width)
        for group, mask in zip(self.groups, self._masked(window), strict=True):
            q, k, v = queries[group.rows], keys[group.slots, :, : group.length], values[group.slots, :, : group.length]
            if softcap is not None:
                out[group.rows] = _capped(q, k, v, group, mask, scale, softcap)
            elif group.is_decode:
                # The query heads of one KV head become the query's length: nothing is repeated.
                q = q.reshape(len(q), kv_heads, heads // kv_heads, -1)
                y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
                out[group.rows] = y.flatten(1, 2)
            else:
                y = functional.scaled_dot_product_attention(
                    q.transpose(0, 1)[None], k, v, mask, is_causal=mask is None, scale=scale, enable_gqa=True
                )
                out[group.rows] = y[0].transpose(0, 1)
        return out

    def _masked(self, window: int | None) -> list[Tensor | None]:
        if window not in self._masks:
            self._masks[window] = [self._mask(group, window) for group in self.groups]
        return self._masks[window]

    def _mask(self, group: Group, window: int | None) -> Tensor | None:
        """Return what is added to the scores: [slots, 1, 1, length], or [tokens, length], None for plainly causal."""
        if group.is_start and (window is None or window >= group.length):
            return None
        positions = torch.arange(group.length, device=group.last.device)[None]
        unseen = positions > group.last[:, None]
        if window is not None:
            unseen |= positions <= group.last[:, None] - window
        mask = torch.zeros(unseen.shape, dtype=self.dtype, device=unseen.device).masked_fill_(unseen, float("-inf"))
        return mask[:, None, None] if group.is_decode else mask


def slot_attention(ordered: Sequence[Chunk], dtype: torch.dtype, device: torch.device) -> SlotAttention:
    """Return the attention of a batch's chunks, which are in its order."""
    decoding = [chunk for chunk in ordered if len(chunk.token_ids) == 1]
    cuts = [i for i, chunk in enumerate(decoding) if i == 0 or chunk.slot != decoding[i - 1].slot + 1]
    ends = [*cuts[1:], len(decoding)]
    groups = [_decoding(decoding[begin:end], begin, device) for begin, end in zip(cuts, ends, strict=False)]
    begin = len(decoding)
    for chunk in ordered[len(decoding) :]:
        groups.append(_prefilling(chunk, begin, device))
        begin += len(chunk.token_ids)
    return SlotAttention(groups, dtype)


def _decoding(chunks: Sequence[Chunk], begin: int, device: torch.device) -> Group:
    length = -(-(max(chunk.start for chunk in chunks) + 1) // ROUNDED_TO) * ROUNDED_TO
    return Group(
        rows=slice(begin, begin + len(chunks)),
        slots=slice(chunks[0].slot, chunks[0].slot + len(chunks)),
        length=length,
        last=torch.tensor([chunk.start for chunk in chunks], device=device),
        is_decode=True,
    )


def _prefilling(chunk: Chunk, begin: int, device: torch.device) -> Group:
    length = chunk.start + len(chunk.token_ids)
    return Group(
        rows=slice(begin, begin + len(chunk.token_ids)),
        slots=slice(chunk.slot, chunk.slot + 1),
        length=length,
        last=torch.arange(chunk.start, length, device=device),
        is_decode=False,
        is_start=chunk.start == 0,
    )


def _capped(
    q: Tensor, k: Tensor, v: Tensor, group: Group, mask: Tensor | None, scale: float | None, softcap: float
) -> Tensor:
    """Attend with bent scores, which torch's kernels do not know: `q` [rows, heads, width] to [rows, heads, width]."""
    q = q[:, :, None] if group.is_decode else q.transpose(0, 1)[None]
    repeats = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeats, dim=1), v.repeat_interleave(repeats, dim=1)
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    scores = softcap * torch.tanh(scores / softcap)
    if mask is None:
        mask = torch.full(scores.shape[-2:], float("-inf"), dtype=q.dtype, device=q.device).triu_(1)
    y = torch.softmax(scores + mask, dim=-1, dtype=torch.float32).to(v.dtype) @ v
    return y[:, :, 0] if group.is_decode else y[0].transpose(0, 1)
