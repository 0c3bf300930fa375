"""What only a GPU does."""

from __future__ import annotations

import torch
from torch import Tensor

from inference_server.engine.llama.linear import Projection
from inference_server.engine.quantized import Quantized4Bit


def four_bit(weight: Quantized4Bit, bias: Tensor | None, dtype: torch.dtype, device: torch.device) -> Projection:
    """Later."""
    raise NotImplementedError
