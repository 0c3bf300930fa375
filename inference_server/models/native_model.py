"""The Llama family on the kernels of `inference_server.kernels`: bfloat16 and 4-bit weights on a CPU.

The same model as `models.llama.model`, which stays the reference; this one reads the machine's memory at its full
bandwidth in decode and computes prompts at the speed of its matrix multiplication.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from inference_server.kernels.build import LIBRARY
from inference_server.kernels.cpu import suits_kernels
from inference_server.models.llama.config import LlamaConfig
from inference_server.models.llama.rope import frequencies
from inference_server.models.llama.weights import Layer, Linear, LlamaWeights
from inference_server.models.model import PAGE_TOKENS, Chunk
from inference_server.models.quantized import Quantized4Bit, Quantized8Bit

PANEL = 64
GATE_AND_UP = 32
"""Columns of the gate, then as many of up, share a panel: what is multiplied with each other is computed together."""
WIDEST_GROUP = 1024
"""Query heads of a key head times their width: what the kernels' scratch memory of a thread holds."""
QUANTIZATION_BLOCK = 64


class _Shape(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("hidden", "intermediate", "layers", "heads", "kv_heads", "head_dim")),
        *((name, ctypes.c_int32) for name in ("vocabulary", "slots", "max_len", "pages", "threads")),
        ("epsilon", ctypes.c_float),
    )


class NativeModel:
    """See `models.model.Model`; `threads` compute each step together."""

    def __init__(
        self, config: LlamaConfig, weights: LlamaWeights, *, slots: int, max_model_len: int, pages: int, threads: int
    ) -> None:
        self.slots, self.max_model_len, self.pages = slots, max_model_len, pages
        self.vocabulary_size, self.eos_token_ids = config.vocabulary_size, config.eos_token_ids
        self._library = _library()
        length = -(-max_model_len // PAGE_TOKENS) * PAGE_TOKENS
        angles = torch.outer(torch.arange(length, dtype=torch.float), frequencies(config.rope, config.head_dim))
        cosines, sines = angles.cos(), angles.sin()
        sizes = (config.hidden_size, config.intermediate_size, config.layers, config.heads, config.kv_heads)
        shape = _Shape(*sizes, config.head_dim, config.vocabulary_size, slots, length, pages, threads, config.rms_eps)
        self._handle = self._library.llama_create(ctypes.byref(shape), _data(cosines), _data(sines))
        if not self._handle:
            raise MemoryError("no memory for the keys and values of all slots: lower maxBatchSize or maxModelLen")
        self._put_norm(0, 4, weights.norm)
        self._put_matrix(0, 4, config.vocabulary_size, [Linear(weights.head)])
        self._embedding = None if weights.head is weights.embedding else _bfloat16(weights.embedding)
        if self._embedding is not None:
            self._library.llama_embedding(self._handle, _data(self._embedding))
        # The calls release the interpreter's lock; each layer is packed by one thread.
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(self._put_layer, range(config.layers), weights.layers))

    def __del__(self) -> None:
        """Give the memory back, and end the threads."""
        if getattr(self, "_handle", None):
            self._library.llama_destroy(self._handle)
            self._handle = None

    def forward(self, chunks: Sequence[Chunk]) -> Tensor:
        """Compute `chunks`; see `models.model.Model.forward`."""
        numbers = [(chunk.slot, chunk.start, len(chunk.token_ids), chunk.logits) for chunk in chunks]
        slots, starts, counts, wanted = (_int32(column) for column in zip(*numbers, strict=True))
        tokens = _int32([token for chunk in chunks for token in chunk.token_ids])
        logits = torch.empty(sum(number[3] for number in numbers), self.vocabulary_size)
        arguments = (self._handle, len(chunks), slots, starts, counts, wanted, tokens, _data(logits))
        if self._library.llama_forward(*arguments) != 0:
            raise MemoryError("no memory for the activations of this step")
        return logits

    def store_page(self, slot: int, start: int, page: int) -> None:
        """See `models.model.Model`."""
        self._library.llama_page(self._handle, page, slot, start, 1)

    def load_page(self, page: int, slot: int, start: int) -> None:
        """See `models.model.Model`."""
        self._library.llama_page(self._handle, page, slot, start, 0)

    def _put_layer(self, number: int, layer: Layer) -> None:
        norms = (layer.input_norm, layer.post_attention_norm, layer.q_norm, layer.k_norm)
        for which, norm in enumerate(norms):
            if norm is not None:
                self._put_norm(number, which, norm)
        self._put_matrix(number, 0, None, [layer.q, layer.k, layer.v])
        self._put_matrix(number, 1, None, [layer.o])
        self._put_matrix(number, 2, None, [layer.gate, layer.up], interleave=GATE_AND_UP)
        self._put_matrix(number, 3, None, [layer.down])

    def _put_norm(self, layer: int, which: int, weight: Tensor) -> None:
        values = weight.float().contiguous()
        self._fits(self._library.llama_norm(self._handle, layer, which, _data(values), values.numel()))

    def _put_matrix(
        self, layer: int, which: int, rows: int | None, linears: Sequence[Linear], interleave: int | None = None
    ) -> None:
        """Pack `linears`, which have one input, side by side, or in turns of `interleave` rows."""
        shapes = [_weight_shape(linear) for linear in linears]
        first = linears[0].weight
        code = _bfloat16(first.code) if isinstance(first, Quantized4Bit) else None
        outputs, inputs = rows or sum(shape[0] for shape in shapes), shapes[0][1]
        made = self._library.llama_matrix(
            self._handle, layer, which, outputs, inputs, None if code is None else _data(code)
        )
        self._fits(made)
        column = 0
        for linear, shape in zip(linears, shapes, strict=True):
            group, stride = (interleave, interleave * len(linears)) if interleave else (shape[0], 0)
            self._put_rows(layer, which, linear.weight, (column, shape[0], group, stride))
            column += interleave or shape[0]
        biases = [linear.bias.float() for linear in linears if linear.bias is not None]
        if biases:
            bias = torch.cat(biases)
            self._fits(self._library.llama_bias(self._handle, layer, which, _data(bias)))

    def _put_rows(self, layer: int, which: int, weight: object, columns: tuple[int, int, int, int]) -> None:
        if isinstance(weight, Quantized4Bit):
            packed, absmax = weight.packed.contiguous(), weight.absmax.float().contiguous()
            self._library.llama_rows(self._handle, layer, which, _data(packed), _data(absmax), *columns)
        else:
            assert isinstance(weight, Tensor), "runs_natively() has seen to it"
            values = _bfloat16(weight)
            self._library.llama_rows(self._handle, layer, which, _data(values), None, *columns)

    def _fits(self, failed: int) -> None:
        if failed:
            raise MemoryError("no memory for the packed weights")


def runs_natively(config: LlamaConfig, weights: LlamaWeights, dtype: torch.dtype, library: Path = LIBRARY) -> bool:
    """Whether the kernels can compute this model, and this machine the kernels."""
    return (
        dtype == torch.bfloat16
        and library.is_file()
        and suits_kernels()
        and not (config.output_bias or config.mlp_bias)
        and all(size % PANEL == 0 for size in (config.hidden_size, config.intermediate_size, config.head_dim))
        and config.heads // config.kv_heads * config.head_dim <= WIDEST_GROUP
        and all(_is_packable(layer) for layer in weights.layers)
    )


def _weight_shape(linear: Linear) -> tuple[int, int]:
    weight = linear.weight
    out, inner = weight.values.shape if isinstance(weight, Quantized8Bit) else weight.shape
    return out, inner


def _is_packable(layer: Layer) -> bool:
    """Whether what shares a matrix is stored alike, and 4-bit blocks are those the kernels know."""
    matrices = ((layer.q, layer.k, layer.v), (layer.o,), (layer.gate, layer.up), (layer.down,))
    return all(len({_storage(linear) for linear in matrix}) == 1 for matrix in matrices) and all(
        _storage(linear) != "other" for matrix in matrices for linear in matrix
    )


def _storage(linear: Linear) -> str:
    weight = linear.weight
    if isinstance(weight, Tensor):
        return "plain"
    if isinstance(weight, Quantized4Bit) and weight.blocksize == QUANTIZATION_BLOCK:
        return weight.quant_type
    return "other"


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(LIBRARY))
    handle, array, number = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int
    library.llama_create.restype = handle
    library.llama_create.argtypes = [ctypes.c_void_p, array, array]
    library.llama_destroy.restype = None
    library.llama_destroy.argtypes = [handle]
    library.llama_norm.argtypes = [handle, number, number, array, number]
    library.llama_embedding.restype = None
    library.llama_embedding.argtypes = [handle, array]
    library.llama_matrix.argtypes = [handle, number, number, number, number, array]
    library.llama_bias.argtypes = [handle, number, number, array]
    library.llama_rows.restype = None
    library.llama_rows.argtypes = [handle, number, number, array, array, number, number, number, number]
    library.llama_forward.argtypes = [handle, number, array, array, array, array, array, array]
    library.llama_page.restype = None
    library.llama_page.argtypes = [handle, number, number, number, number]
    return library


def _int32(numbers: Sequence[int]) -> ctypes.Array[ctypes.c_int32]:
    return (ctypes.c_int32 * len(numbers))(*numbers)


def _bfloat16(tensor: Tensor) -> Tensor:
    return tensor.to(torch.bfloat16).contiguous()


def _data(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
