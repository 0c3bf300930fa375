"""Lay the chunks of a step out as one batch of tokens: what a model computes on all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from inference_server.models.model import Chunk


@dataclass(frozen=True, slots=True)
class Batch:
    """Tokens of a step, int64 [tokens] each: `chunks` one after the other, and where each token is stored.

    `wanted` are the rows whose logits are asked for, in the order in which the caller gave the chunks.
    """

    chunks: Sequence[Chunk]
    token_ids: Tensor
    positions: Tensor
    slots: Tensor
    wanted: Tensor


def batch(chunks: Sequence[Chunk], device: torch.device) -> Batch:
    """Lay out `chunks`, at most one for each slot: those of one token first, in the order of their slots."""
    order = sorted(range(len(chunks)), key=lambda i: (len(chunks[i].token_ids) > 1, chunks[i].slot))
    ordered = [chunks[i] for i in order]
    ends = dict(zip(order, accumulate(len(chunk.token_ids) for chunk in ordered), strict=True))

    def row(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=device)

    return Batch(
        chunks=ordered,
        token_ids=row([token for chunk in ordered for token in chunk.token_ids]),
        positions=row([chunk.start + i for chunk in ordered for i in range(len(chunk.token_ids))]),
        slots=row([chunk.slot for chunk in ordered for _ in chunk.token_ids]),
        wanted=row([row for i, chunk in enumerate(chunks) for row in range(ends[i] - chunk.logits, ends[i])]),
    )
