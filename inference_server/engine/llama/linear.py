"""Linear projections, packed for the device: several of one input become one, in the layout that its kernel wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from inference_server.engine.llama.weights import Linear
from inference_server.engine.quantized import Quantized4Bit, Quantized8Bit, import_bitsandbytes

Projection = Callable[[Tensor], Tensor]
"""From [rows, in] to [rows, out]."""

FUSED_ROWS = 32
"""The 4-bit kernel for CPUs packs output rows in groups of this many."""
FEW_ROWS = 32
"""Up to here torch's int8 kernel, which reads int8 once for each row, is faster than dequantizing first."""
PACKED_FOR_ROWS = 32


def packed(linears: Sequence[Linear], dtype: torch.dtype, device: torch.device) -> Projection:
    """Return one projection for all of `linears`, which have one input; its output has theirs side by side."""
    weights = [linear.weight for linear in linears]
    biases = [linear.bias for linear in linears if linear.bias is not None]
    bias = torch.cat(biases).to(device, dtype) if biases else None
    if all(isinstance(weight, Tensor) for weight in weights):
        whole = torch.cat([weight.to(device, dtype) for weight in weights if isinstance(weight, Tensor)])
        return dense(whole, bias)
    if all(isinstance(weight, Quantized8Bit) for weight in weights):
        eight = [weight for weight in weights if isinstance(weight, Quantized8Bit)]
        values = torch.cat([weight.values.to(device) for weight in eight])
        return _int8(values, torch.cat([weight.scales.to(device) for weight in eight]), bias, dtype)
    if (four := _joined([weight for weight in weights if isinstance(weight, Quantized4Bit)], len(weights))) is not None:
        return four_bit(four, bias, dtype, device)
    # Some quantized and some not, or 4-bit blocks that go on from one row to the next.
    each = [packed([linear], dtype, device) for linear in linears]
    return lambda x: torch.cat([projection(x) for projection in each], dim=-1)


def dense(weight: Tensor, bias: Tensor | None) -> Projection:
    """Return the projection by a plain `weight` [out, in]; bfloat16 on a CPU goes into oneDNN's blocked layout."""
    if weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        reordered = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), PACKED_FOR_ROWS)

        def project(x: Tensor) -> Tensor:
            y: Tensor = torch.ops.mkldnn._linear_pointwise(x, reordered, bias, "none", [], "")
            return y

        return project
    return lambda x: functional.linear(x, weight, bias)


def four_bit(weight: Quantized4Bit, bias: Tensor | None, dtype: torch.dtype, device: torch.device) -> Projection:
    """Return the projection by a 4-bit weight, by the fused kernel of the device where it has one."""
    if device.type == "cuda":
        from inference_server.engine.llama import cuda

        return cuda.four_bit(weight, bias, dtype, device)
    import_bitsandbytes()
    out, inner = weight.shape
    if not (
        dtype == torch.bfloat16 and _has_fused_kernel() and out % FUSED_ROWS == 0 and inner % weight.blocksize == 0
    ):
        return lambda x: functional.linear(x, weight.dequantized(dtype), bias)
    blocked, absmax = packed_for_cpu(weight)

    def project(x: Tensor) -> Tensor:
        y: Tensor = torch.ops.bitsandbytes.gemv_4bit(x, blocked, weight.shape, absmax, weight.code, weight.blocksize)
        return y if bias is None else y + bias

    return project


def packed_for_cpu(weight: Quantized4Bit) -> tuple[Tensor, Tensor]:
    """Return `weight` in the layout of bitsandbytes' fused CPU kernel: uint8 [out, in / 2], bfloat16 [blocks, out].

    As its `_convert_weight_packed_for_cpu`, which takes ten times as long: in groups of 32 rows, each pair of columns
    becomes 32 bytes, first rows 0 to 15, two bytes each, in the low halves and rows 16 to 31 in the high halves.
    """
    out, inner = weight.shape
    rows = weight.packed.view(out // FUSED_ROWS, 2, FUSED_ROWS // 2, inner // 2)
    low, high = rows[:, 0], rows[:, 1]
    blocked = torch.empty(out // FUSED_ROWS, inner // 2, FUSED_ROWS // 2, 2, dtype=torch.uint8)
    blocked[..., 0] = ((low >> 4) | (high & 0xF0)).transpose(1, 2)
    blocked[..., 1] = ((low & 0x0F) | (high << 4)).transpose(1, 2)
    absmax = weight.absmax.view(out, inner // weight.blocksize).t().to(torch.bfloat16).contiguous()
    return blocked.view(out, inner // 2), absmax


def _joined(weights: Sequence[Quantized4Bit], wanted: int) -> Quantized4Bit | None:
    """Return 4-bit weights as one, if there are `wanted` of a kind and each row is blocks of its own."""
    if len(weights) != wanted:
        return None
    first, inner = weights[0], weights[0].shape[1]
    alike = all((w.blocksize, w.quant_type) == (first.blocksize, first.quant_type) for w in weights)
    if wanted == 1 or not alike or inner % first.blocksize:
        return first if wanted == 1 else None
    return Quantized4Bit(
        torch.cat([weight.packed for weight in weights]),
        torch.cat([weight.absmax for weight in weights]),
        first.code,
        first.blocksize,
        (sum(weight.shape[0] for weight in weights), inner),
        first.quant_type,
    )


def _int8(values: Tensor, scales: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Projection:
    """Return the projection by int8 rows, from activations as they are.

    bitsandbytes' own way also rounds the activations, in one scale for a row and by columns that depend on what else
    is in the batch; then a text would depend on its neighbours.
    """
    ones = torch.ones(len(values), dtype=dtype, device=values.device)
    scales = scales / 127

    def project(x: Tensor) -> Tensor:
        if len(x) <= FEW_ROWS and x.device.type == "cpu":
            y = torch._weight_int8pack_mm(x, values, ones)
        else:
            y = functional.linear(x, values.to(dtype))
        y = (y * scales).to(dtype)
        return y if bias is None else y + bias

    return project


def _has_fused_kernel() -> bool:
    from bitsandbytes.functional import has_avx512bf16

    return bool(has_avx512bf16())
