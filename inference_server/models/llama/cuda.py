"""What only a GPU does: attention kernels on the slots, decode steps as CUDA graphs, 4-bit weights in two residencies.

None of it was run on a GPU yet; docs/engine.md says so. Its logic runs in the tests on the CPU, with a twin of the
attention kernel and steps that are called instead of captured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import accumulate
from math import prod

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn

from inference_server.models.attention import Attend
from inference_server.models.batch import Batch
from inference_server.models.llama.linear import Projection
from inference_server.models.model import Chunk
from inference_server.models.quantized import FourBit, Quantized4Bit, Quantized8Bit, import_bitsandbytes
from inference_server.models.slots import Slots

GRAPH_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""How many rows decode steps are captured for; a step takes the next larger one."""
MEMORY_LEFT = 0.5
"""Share of the GPU's memory, beside the slots, that dequantized copies leave free for other weights and for steps."""
COMPARED_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)

Step = Callable[[], Tensor]


def attends_on_gpu(dtype: torch.dtype, width: int) -> bool:
    """Whether the attention kernel can do it; float32 and wide heads are left to torch's scaled dot products."""
    return dtype in (torch.float16, torch.bfloat16) and width <= 256 and width % 8 == 0


def varlen_attention(ordered: Sequence[Chunk], memory: Slots, device: torch.device) -> Attend:
    """Return the attention of a batch's chunks, which are in its order, in one call: each chunk to its own slot."""
    sizes = [len(chunk.token_ids) for chunk in ordered]
    used = [chunk.start + size for chunk, size in zip(ordered, sizes, strict=True)]

    def row(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int32, device=device)

    begins = row([chunk.slot * memory.length for chunk in ordered] + [(memory.slots + 1) * memory.length])
    return _attend(row([0, *accumulate(sizes)]), begins, row(used), max(sizes), max(used))


def _attend(cu_queries: Tensor, begins: Tensor, used: Tensor, most_queries: int, most_keys: int) -> Attend:
    """Chunk i has rows `cu_queries`[i] to [i + 1], and sees `used`[i] tokens from `begins`[i] of all slots in a row."""

    def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        flat_keys, flat_values = keys.transpose(1, 2).flatten(0, 1), values.transpose(1, 2).flatten(0, 1)
        # The window (-1, 0) is causal, aligned at the last query and the last token used.
        y: Tensor = varlen_attn(  # type: ignore[assignment]  # a tuple only if more is asked for
            queries,
            flat_keys,
            flat_values,
            cu_queries,
            begins,
            most_queries,
            most_keys,
            window_size=(-1, 0),
            enable_gqa=True,
            seqused_k=used,
        )
        return y

    return attend


@dataclass(frozen=True, slots=True)
class Captured:
    """A decode step of a fixed number of rows, which reads its inputs from these tensors each time it is replayed."""

    batch: Batch
    begins: Tensor
    used: Tensor
    replay: Step


class DecodeGraphs:
    """Decode steps, captured once for each size; a step of fewer rows is padded with rows in the slot too many."""

    def __init__(
        self,
        logits: Callable[[Batch, Attend], Tensor],
        memory: Slots,
        device: torch.device,
        capture: Callable[[Step], Step],
    ) -> None:
        self._memory, self._device = memory, device
        sizes = [size for size in GRAPH_SIZES if size < memory.slots] + [memory.slots]
        # The largest first: the smaller ones fit into its memory.
        self._captured = {size: self._capture(size, logits, capture) for size in sorted(sizes, reverse=True)}

    def logits(self, chunks: Sequence[Chunk]) -> Tensor | None:
        """Return the logits of `chunks`, float32 [chunks, vocab], if they are a decode step; else None."""
        if not chunks or any(len(chunk.token_ids) != 1 or chunk.logits != 1 for chunk in chunks):
            return None
        size = min(size for size in self._captured if size >= len(chunks))
        step, padding = self._captured[size], size - len(chunks)
        slots = [chunk.slot for chunk in chunks] + [self._memory.slots] * padding
        positions = [chunk.start for chunk in chunks] + [0] * padding
        token_ids = [chunk.token_ids[0] for chunk in chunks] + [0] * padding
        # One copy to the device for all of them.
        rows = torch.tensor([token_ids, positions, slots], dtype=torch.int64).to(self._device, non_blocking=True)
        step.batch.token_ids.copy_(rows[0])
        step.batch.positions.copy_(rows[1])
        step.batch.slots.copy_(rows[2])
        step.begins[:size].copy_(rows[2] * self._memory.length)
        step.used.copy_(rows[1] + 1)
        return step.replay()[: len(chunks)].clone()

    def _capture(
        self, size: int, logits: Callable[[Batch, Attend], Tensor], capture: Callable[[Step], Step]
    ) -> Captured:
        rows = torch.arange(size, device=self._device)
        batch = Batch(
            (), torch.zeros_like(rows), torch.zeros_like(rows), torch.full_like(rows, self._memory.slots), rows
        )
        ends = torch.arange(size + 1, dtype=torch.int32, device=self._device)
        begins = torch.full_like(ends, self._memory.slots * self._memory.length)
        used = torch.ones(size, dtype=torch.int32, device=self._device)
        attend = _attend(ends, begins, used, 1, self._memory.length)
        return Captured(batch, begins, used, capture(lambda: logits(batch, attend)))


def captured_on_gpu(step: Step) -> Step:
    """Capture `step` as a CUDA graph, after running it until nothing is allocated or tuned any more."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = step()

    def replay() -> Tensor:
        graph.replay()
        return output

    return replay


def four_bit_on_gpu(weight: Quantized4Bit, bias: Tensor | None, dtype: torch.dtype, device: torch.device) -> Projection:
    """Return the projection by a 4-bit weight: fused for few rows and, where memory allows, dense for many.

    bitsandbytes' own dispatch dequantizes for each call from small batches on; a dequantized copy of the same numbers
    reads less memory then.
    """
    import_bitsandbytes()
    out, inner = weight.shape
    there = replace(weight, packed=weight.packed.to(device), absmax=weight.absmax.to(device))

    def fused(x: Tensor) -> Tensor:
        y: Tensor = torch.ops.bitsandbytes.gemm_4bit(
            x, there.packed.view(-1, 1), (out, inner), there.absmax, there.blocksize, there.quant_type, bias=bias
        )
        return y

    if not has_room(weight, dtype, device):
        return fused
    copy = there.dequantized(dtype)
    few = _rows_for_fused(weight.shape, weight.blocksize, weight.quant_type, dtype)
    return lambda x: fused(x) if len(x) <= few else functional.linear(x, copy, bias)


def has_room(weight: Quantized4Bit | Quantized8Bit, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a dequantized copy of `weight` fits beside it and everything else."""
    free, total = torch.cuda.mem_get_info(device)
    return free - prod(weight.shape) * dtype.itemsize >= MEMORY_LEFT * total


@cache
def _rows_for_fused(shape: tuple[int, int], blocksize: int, quant_type: FourBit, dtype: torch.dtype) -> int:
    """Return up to how many rows the fused kernel is the faster one; 0 if it never is."""
    out, inner = shape
    packed = torch.randint(256, (out * inner // 2, 1), dtype=torch.uint8, device="cuda")
    absmax = torch.ones(-(-out * inner // blocksize), device="cuda")
    copy = torch.randn(out, inner, dtype=dtype, device="cuda")
    few = 0
    for rows in COMPARED_ROWS:
        x = torch.randn(rows, inner, dtype=dtype, device="cuda")
        fused = partial(torch.ops.bitsandbytes.gemm_4bit, x, packed, shape, absmax, blocksize, quant_type)
        if _milliseconds(fused) > _milliseconds(partial(functional.linear, x, copy)):
            break
        few = rows
    return few


def _milliseconds(work: Callable[[], object]) -> float:
    for _ in range(3):
        work()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begin.record()
    for _ in range(10):
        work()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 10
