"""Weights quantized by bitsandbytes: what they are in memory, and in the public checkpoint format of transformers.

A 4-bit weight `w` of a checkpoint is several tensors: `w` (two weights a byte, the first in the high half),
`w.absmax`, `w.quant_map` and `w.quant_state.bitsandbytes__nf4` (JSON), and with double quantization
`w.nested_absmax` and `w.nested_quant_map`; an int8 weight `x.weight` comes with its row scales, `x.SCB`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal
from unittest.mock import patch

import torch
from torch import Tensor

FourBit = Literal["nf4", "fp4"]
BLOCKSIZE = 64
"""What transformers quantizes with: consecutive weights of a row that share a scale."""


@dataclass(frozen=True, slots=True)
class Quantized4Bit:
    """A weight [out, in] = `shape` at 4 bits, row by row.

    `packed` is uint8 [out * in / 2], two indexes into `code` (float32 [16]) a byte, the first in the high half.
    `absmax` is float32 [out * in / blocksize]: what each block of consecutive weights is multiplied with.
    """

    packed: Tensor
    absmax: Tensor
    code: Tensor
    blocksize: int
    shape: tuple[int, int]
    quant_type: FourBit

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """Return the weight [out, in] as the bitsandbytes kernels see it."""
        import_bitsandbytes()
        weight: Tensor = torch.ops.bitsandbytes.dequantize_4bit(
            self.packed, self.absmax, self.blocksize, self.quant_type, self.shape, dtype
        )
        return weight


@dataclass(frozen=True, slots=True)
class Quantized8Bit:
    """A weight [out, in] as `values` int8 [out, in]; row i is multiplied with `scales`[i] / 127 (float32 [out])."""

    values: Tensor
    scales: Tensor

    @property
    def shape(self) -> torch.Size:
        """Return [out, in]."""
        return self.values.shape

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """Return the weight [out, in]."""
        return (self.values.float() * (self.scales[:, None] / 127)).to(dtype)


@cache
def import_bitsandbytes() -> None:
    """Import bitsandbytes for the operators it registers, without torch's compiler.

    It decorates two fallbacks with torch.compile and registers its kernels as not to be compiled; either imports the
    compiler (2.7 s of CPU time at each start of a pod), and the first would look for a C++ compiler that the image
    does not have.
    """

    def undecorated(function: Any = None, **_: Any) -> Any:
        return function or (lambda decorated: decorated)

    # It asks for a package that fetches kernels from a hub at run time, which is never installed.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    with patch.object(torch, "compile", undecorated), patch.object(torch, "_disable_dynamo", undecorated):
        import bitsandbytes  # noqa: F401 - for the operators that it registers


def quantize_4bit(weight: Tensor, quant_type: FourBit, double_quant: bool) -> dict[str, Tensor]:
    """Quantize `weight` [out, in] as transformers does; returns a checkpoint's tensors by their ending ("", ".absmax").

    What is quantized at load and what the warm-up writes both come from here, so they are the same bits.
    """
    import_bitsandbytes()
    from bitsandbytes import functional

    packed, state = functional.quantize_4bit(
        weight.contiguous(), blocksize=BLOCKSIZE, compress_statistics=double_quant, quant_type=quant_type
    )
    return {"": packed} | {f".{name}": tensor for name, tensor in state.as_dict(packed=True).items()}


def read_4bit(tensors: Mapping[str, Tensor], quant_type: FourBit) -> Quantized4Bit:
    """Return the weight that a checkpoint's tensors hold, given by their ending; sizes are checked before.

    Nested scales are unfolded as bitsandbytes does: an index into a table of 256, times the scale of 256 of them.
    """
    state = read_state(tensors[state_name(quant_type)])
    absmax = tensors[".absmax"]
    if ".nested_absmax" in tensors:
        scales = tensors[".nested_absmax"].repeat_interleave(state["nested_blocksize"])[: absmax.numel()]
        absmax = tensors[".nested_quant_map"][absmax.int()] * scales + torch.tensor(float(state["nested_offset"]))
    packed = tensors[""].reshape(-1).view(torch.uint8)
    out, inner = state["shape"]
    return Quantized4Bit(packed, absmax, tensors[".quant_map"], state["blocksize"], (out, inner), quant_type)


def read_state(encoded: Tensor) -> dict[str, Any]:
    """Decode the JSON in a `quant_state` tensor, uint8 [bytes]."""
    state = json.loads(bytes(encoded.tolist()))
    if not isinstance(state, dict):
        raise TypeError("a quantization state is a JSON object")
    return state


def state_name(quant_type: FourBit) -> str:
    """Return the ending of the tensor that holds the JSON."""
    return f".quant_state.bitsandbytes__{quant_type}"


def quantize_8bit(weight: Tensor) -> Quantized8Bit:
    """Quantize `weight` [out, in] row by row; bitsandbytes does it from float16, whatever the weight was."""
    import_bitsandbytes()
    values, scales, _ = torch.ops.bitsandbytes.int8_vectorwise_quant(weight.to(torch.float16))
    return Quantized8Bit(values, scales)
