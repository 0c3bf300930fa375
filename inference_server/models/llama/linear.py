"""Linear projections, packed for the device: several of one input become one, in the layout that its kernel wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from inference_server.models.llama.weights import Linear
from inference_server.models.quantized import Quantized4Bit, Quantized8Bit, import_bitsandbytes

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
    eight = [weight for weight in weights if isinstance(weight, Quantized8Bit)]
    if len(eight) == len(weights):
        values = torch.cat([weight.values.to(device) for weight in eight])
        return int8(Quantized8Bit(values, torch.cat([weight.scales.to(device) for weight in eight])), bias, dtype)
    four = [weight for weight in weights if isinstance(weight, Quantized4Bit)]
    if len(four) == len(weights) and (len(four) == 1 or _can_be_one(four)):
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


def four_bit(
    weights: Sequence[Quantized4Bit], bias: Tensor | None, dtype: torch.dtype, device: torch.device
) -> Projection:
    """Return the projection by 4-bit weights side by side, by the fused kernel of the device where it has one."""
    if device.type == "cuda":
        from inference_server.models.llama.cuda import four_bit_on_gpu

        return four_bit_on_gpu(_joined(weights), bias, dtype, device)
    import_bitsandbytes()
    if not (dtype == torch.bfloat16 and _has_fused_kernel() and all(map(_suits_fused_kernel, weights))):
        joined = _joined(weights)
        return lambda x: functional.linear(x, joined.dequantized(dtype), bias)
    blocked, absmax = packed_for_cpu(weights)
    shape, code, blocksize = (len(blocked), weights[0].shape[1]), weights[0].code, weights[0].blocksize

    def project(x: Tensor) -> Tensor:
        y: Tensor = torch.ops.bitsandbytes.gemv_4bit(x, blocked, shape, absmax, code, blocksize)
        return y if bias is None else y + bias

    return project


def packed_for_cpu(weights: Sequence[Quantized4Bit]) -> tuple[Tensor, Tensor]:
    """Return `weights` in the layout of bitsandbytes' fused CPU kernel: uint8 [out, in / 2], bfloat16 [blocks, out].

    As its `_convert_weight_packed_for_cpu`, which takes ten times as long: in groups of 32 rows, each pair of columns
    becomes 32 bytes, first rows 0 to 15, two bytes each, in the low halves and rows 16 to 31 in the high halves.
    """
    out, (_, inner) = sum(weight.shape[0] for weight in weights), weights[0].shape
    blocked = torch.empty(out // FUSED_ROWS, inner // 2, FUSED_ROWS // 2, 2, dtype=torch.uint8)
    begin = 0
    for weight in weights:
        rows = weight.packed.view(-1, 2, FUSED_ROWS // 2, inner // 2)
        low, high, into = rows[:, 0], rows[:, 1], blocked[begin : begin + len(rows)]
        into[..., 0] = ((low >> 4) | (high & 0xF0)).transpose(1, 2)
        into[..., 1] = ((low & 0x0F) | (high << 4)).transpose(1, 2)
        begin += len(rows)
    absmax = torch.cat([weight.absmax for weight in weights]).view(out, -1).t().to(torch.bfloat16).contiguous()
    return blocked.view(out, inner // 2), absmax


def _suits_fused_kernel(weight: Quantized4Bit) -> bool:
    return weight.shape[0] % FUSED_ROWS == 0 and weight.shape[1] % weight.blocksize == 0


def _can_be_one(weights: Sequence[Quantized4Bit]) -> bool:
    """Whether the weights are of one kind, and each row is blocks of its own."""
    first = weights[0]
    alike = all((w.blocksize, w.quant_type) == (first.blocksize, first.quant_type) for w in weights)
    return alike and first.shape[1] % first.blocksize == 0


def _joined(weights: Sequence[Quantized4Bit]) -> Quantized4Bit:
    if len(weights) == 1:
        return weights[0]
    return replace(
        weights[0],
        packed=torch.cat([weight.packed for weight in weights]),
        absmax=torch.cat([weight.absmax for weight in weights]),
        shape=(sum(weight.shape[0] for weight in weights), weights[0].shape[1]),
    )


def int8(weight: Quantized8Bit, bias: Tensor | None, dtype: torch.dtype) -> Projection:
    """Return the projection by int8 rows, from activations as they are.

    bitsandbytes' own way also rounds the activations, in one scale for a row and by columns that depend on what else
    is in the batch; then a text would depend on its neighbours.
    """
    device = weight.values.device
    if device.type == "cuda":
        from inference_server.models.llama.cuda import has_room

        if has_room(weight, dtype, device):
            return dense(weight.dequantized(dtype), bias)
    values, scales = weight.values, weight.scales / 127
    ones = torch.ones(len(values), dtype=dtype, device=device)

    def project(x: Tensor) -> Tensor:
        if len(x) <= FEW_ROWS and device.type == "cpu":
            y = torch._weight_int8pack_mm(x, values, ones)
        else:
            y = functional.linear(x, values.to(dtype))
        y = (y * scales).to(dtype)
        return y if bias is None else y + bias

    return project


def _has_fused_kernel() -> bool:
    from bitsandbytes.functional import has_avx512bf16

    return bool(has_avx512bf16())
