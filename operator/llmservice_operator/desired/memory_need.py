"""How much memory a replica needs for a model: a computation from the model's shape, in the terms of the engine.

What the engine allocates stands in docs/fit.md; tests/contract/test_memory_need.py holds the two together.
"""

from dataclasses import dataclass
from typing import Final

from llmservice_operator.diagnosis.model_shape import ModelShape, Quantization

CONTEXT_CAP: Final = 8192
"""Longest sequence where nobody asks for one."""
PAGE_TOKENS: Final = 32
"""Sequences take KV memory in multiples of so many tokens, and the prefix cache has pages of them."""
SHARE_OF_PAGES: Final = 4
"""The prefix cache has pages for one in so many tokens of the sequences."""
STEP_TOKENS: Final = 1024
"""Of prompts that go through the model together."""
GPU_BASE_BYTES: Final = 1 << 30
"""CUDA context, kernels, graphs and what the allocator cannot use: an allowance."""
CPU_BASE_BYTES: Final = 512 << 20
"""Python and its libraries in both processes; the most is transformers'."""


@dataclass(frozen=True)
class Serving:
    """One way of serving a model."""

    shape: ModelShape
    quantization: Quantization
    compute_dtype: str
    """As in LLMSERVICE_COMPUTE_DTYPE."""
    max_model_len: int
    sequences: int
    is_on_gpu: bool

    @property
    def number_bytes(self) -> int:
        """Bytes of every number that is not quantized: in weights, KV memory and arithmetic."""
        # Quantized models compute in bfloat16 where nobody asks for more.
        follows_checkpoint = self.compute_dtype == "auto" and self.quantization == "none"
        return 4 if "float32" in (self.compute_dtype, self.shape.dtype if follows_checkpoint else None) else 2


@dataclass(frozen=True)
class Need:
    """Bytes of memory that one replica needs when all of its sequences are as long as they may be."""

    weights: int
    kv_cache: int
    beside: int

    @property
    def total(self) -> int:
        return self.weights + self.kv_cache + self.beside


def memory_need(serving: Serving) -> Need:
    """Return what `serving` needs at most."""
    return Need(weights=_weights(serving), kv_cache=_kv_cache(serving), beside=_beside(serving))


def _weights(serving: Serving) -> int:
    shape = serving.shape
    return _linear_bytes(serving) + shape.other_weights * serving.number_bytes


def _linear_bytes(serving: Serving) -> int:
    weights = serving.shape.linear_weights
    match serving.quantization:
        case "none":
            return weights * serving.number_bytes
        case "int8":
            return weights
        case _:
            # Half a byte each, and a float32 scale for 64: double quantization is undone when the model is loaded.
            return weights // 2 + weights // 16


def _kv_cache(serving: Serving) -> int:
    length = -(-serving.max_model_len // PAGE_TOKENS) * PAGE_TOKENS
    # On a GPU one sequence more, which takes what a padded batch writes.
    slots = serving.sequences + serving.is_on_gpu
    pages = serving.max_model_len * serving.sequences // SHARE_OF_PAGES // PAGE_TOKENS
    return (slots * length + pages * PAGE_TOKENS) * serving.shape.kv_numbers * serving.number_bytes


def _beside(serving: Serving) -> int:
    """Return what is neither weights nor KV memory: the processes, matrices in transit, and one step."""
    shape = serving.shape
    # Two matrices of one input become one, and what is quantized is unpacked to be multiplied.
    transit = 2 * shape.widest_linear * serving.number_bytes
    rows = STEP_TOKENS + serving.sequences
    step = 3 * rows * shape.row_numbers * serving.number_bytes
    # Logits are float32, and sampling makes tables of their size.
    logits = 4 * serving.sequences * shape.vocabulary * 4
    return (GPU_BASE_BYTES if serving.is_on_gpu else CPU_BASE_BYTES) + transit + step + logits
