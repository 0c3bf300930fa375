"""Rotary position embeddings (Su et al. 2021, arXiv:2104.09864), with the scalings that the family has."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from inference_server.models.llama.config import Rope


def tables(rope: Rope, width: int, length: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return cosines and sines, [length, 1, width] each, for `rotated`; the first half of the sines is negated."""
    angles = torch.outer(torch.arange(length, dtype=torch.float), frequencies(rope, width))
    cosines, sines = angles.cos(), angles.sin()
    both = torch.cat([cosines, cosines], dim=-1), torch.cat([-sines, sines], dim=-1)
    return both[0][:, None].to(device, dtype), both[1][:, None].to(device, dtype)


def rotated(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotate `x` [tokens, heads, width] by the tables' rows of its tokens, halves paired as transformers does."""
    return x * cosines + x.roll(x.shape[-1] // 2, dims=-1) * sines


def frequencies(rope: Rope, width: int) -> Tensor:
    """Return the frequencies, float32 [width / 2], highest first."""
    plain = 1.0 / (rope.theta ** (torch.arange(0, width, 2, dtype=torch.float) / width))
    if rope.original_context is None:
        return plain / rope.factor
    assert rope.low_frequency_factor is not None, "the three come together"
    assert rope.high_frequency_factor is not None, "the three come together"
    # As Llama 3.1 scales: long waves are stretched, short ones kept, those in between blended.
    wavelengths = 2 * math.pi / plain
    low, high = rope.low_frequency_factor, rope.high_frequency_factor
    share = ((rope.original_context / wavelengths - low) / (high - low)).clamp(0, 1)
    return (1 - share) * plain / rope.factor + share * plain
