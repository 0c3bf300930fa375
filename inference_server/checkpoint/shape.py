"""What of a checkpoint decides how much memory it needs: read from its config and its headers, in milliseconds.

The warm-up puts it into its verdict, and the operator computes from it whether a spec fits, before any pod is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from inference_server.checkpoint.context import context_of
from inference_server.checkpoint.safetensors_header import Tensor
from inference_server.checkpoint.validation import Method, own_quantization, read_config, read_headers, text_config

FLOATS = ("BF16", "F16", "F32")
DTYPES = ("bfloat16", "float16", "float32")


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes that no spec changes; numbers are counts, of whatever bytes a spec gives each of them."""

    linear_weights: int
    """Numbers in the matrices that quantization stores in fewer bits."""
    widest_linear: int
    """Numbers in the largest of these."""
    other_weights: int
    """Numbers in everything else: embeddings, the output head, norms, biases."""
    quantization: Method
    """How the matrices are stored already; only "none" can be quantized otherwise."""
    dtype: str | None
    """What the config names."""
    kv_numbers: int
    """Numbers that the KV memory holds of a token, in all layers."""
    context: int
    """Tokens that the model has learned to see."""
    vocabulary: int
    row_numbers: int
    """Numbers that a layer computes of a token, beside each other."""


def model_shape(folder: Path) -> ModelShape | None:
    """Return the shape of a checkpoint that was checked, or None where its config has other names for its sizes.

    Raises:
        CheckpointProblem: it cannot be read.
    """
    config = read_config(folder)
    text = text_config(config)
    hidden = _size(text, "hidden_size", "n_embd", "d_model")
    layers = _size(text, "num_hidden_layers", "n_layer", "num_layers")
    heads = _size(text, "num_attention_heads", "n_head", "num_heads")
    if hidden is None or layers is None or heads is None:
        return None
    tensors = read_headers(folder)
    counts = {name: _linear_weights(name, tensors) for name in tensors}
    is_tied = bool(text.get("tie_word_embeddings", True))
    other = [
        prod(tensor.shape)
        for name, tensor in tensors.items()
        if not counts[name] and tensor.dtype in FLOATS and not _is_left_out(name, is_tied)
    ]
    return ModelShape(
        linear_weights=sum(counts.values()),
        widest_linear=max(counts.values(), default=0),
        other_weights=sum(other),
        quantization=own_quantization(config),
        dtype=_dtype(config),
        kv_numbers=layers * _kv_numbers(text, hidden, heads),
        context=context_of(config),
        vocabulary=int(text.get("vocab_size") or 0),
        row_numbers=hidden + (_size(text, "intermediate_size", "ffn_dim", "n_inner") or 4 * hidden),
    )


def _linear_weights(name: str, tensors: Mapping[str, Tensor]) -> int:
    """Return how many weights of a matrix that is quantized, or can be, a tensor holds; 0 if it is something else.

    Outside of the numbered layers are tables, which stay as they are. So do experts: transformers keeps all of a layer
    in one tensor, which bitsandbytes does not see.
    """
    tensor = tensors[name]
    if f"{name}.absmax" in tensors:
        return 2 * (tensor.end - tensor.begin)
    is_int8 = tensor.dtype == "I8" and f"{name.removesuffix('weight')}SCB" in tensors
    is_matrix = len(tensor.shape) == 2 and tensor.dtype in FLOATS and not _is_scale(name)
    is_in_layer = any(part.isdecimal() for part in name.split(".")) and ".experts." not in name
    return prod(tensor.shape) if is_int8 or (is_matrix and is_in_layer) else 0


def _is_left_out(name: str, is_tied: bool) -> bool:
    """Whether a tensor is counted with the matrix it belongs to, or not loaded."""
    return _is_scale(name) or (is_tied and name == "lm_head.weight")


def _is_scale(name: str) -> bool:
    return ".weight." in name or name.endswith(".SCB")


def _kv_numbers(text: Mapping[str, Any], hidden: int, heads: int) -> int:
    """Return how many numbers one layer stores of a token: keys and values of each KV head.

    Multi-head latent attention stores them of every head, the keys wider than the values.
    """
    rope, plain, value = (_size(text, f"{part}_head_dim") for part in ("qk_rope", "qk_nope", "v"))
    if rope is not None and plain is not None and value is not None:
        return heads * (rope + plain + value)
    width = _size(text, "head_dim") or hidden // heads
    return 2 * (_size(text, "num_key_value_heads") or heads) * width


def _dtype(config: Mapping[str, Any]) -> str | None:
    named = config.get("dtype") or config.get("torch_dtype") or text_config(config).get("dtype")
    return named if named in DTYPES else None


def _size(text: Mapping[str, Any], *names: str) -> int | None:
    """Return the first of these sizes that the config has, None if it has none, or one for each layer."""
    found = next((text[name] for name in names if text.get(name) is not None), None)
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else None
