"""The weights of a Llama-family checkpoint in a plain structure, checked against the config before one byte is read.

They are views on the mapped files, as they lie there; `llama.linear` and the native kernels pack them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inference_server.checkpoint.validation import CheckpointProblem, Method
from inference_server.engine.interface import Progress
from inference_server.models.llama.config import LlamaConfig
from inference_server.models.mapped_file import MappedCheckpoint
from inference_server.models.quantized import (
    FourBit,
    Quantized4Bit,
    Quantized8Bit,
    quantize_4bit,
    quantize_8bit,
    read_4bit,
    read_state,
    state_name,
)

Report = Callable[[Progress], None]

BLOCKSIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
STATE_LIMIT_BYTES = 4096
PACKED = ("U8", "I8", "BF16", "F16", "F32")
"""What transformers may store packed 4-bit weights as: the bytes are the same."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A projection: `weight` is [out, in], plain or quantized, `bias` [out]."""

    weight: Tensor | Quantized4Bit | Quantized8Bit
    bias: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """One block. The norms are [hidden], those of queries and keys (Qwen3) [head_dim]."""

    q: Linear
    k: Linear
    v: Linear
    o: Linear
    gate: Linear
    up: Linear
    down: Linear
    input_norm: Tensor
    post_attention_norm: Tensor
    q_norm: Tensor | None
    k_norm: Tensor | None


@dataclass(frozen=True, slots=True)
class LlamaWeights:
    """A whole model; `head` is the embedding itself where they are tied, both are [vocabulary, hidden]."""

    embedding: Tensor
    layers: list[Layer]
    norm: Tensor
    head: Tensor


@dataclass(frozen=True, slots=True)
class Projection:
    """Where a projection is in a checkpoint, and its sizes."""

    field: str
    name: str
    out: int
    inner: int
    has_bias: bool


def projections(config: LlamaConfig) -> list[Projection]:
    """Return the linear projections of each layer, by their names below `layers.<n>.`; these are what is quantized."""
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    return [
        Projection("q", "self_attn.q_proj", queries, hidden, config.qkv_bias),
        Projection("k", "self_attn.k_proj", keys, hidden, config.qkv_bias),
        Projection("v", "self_attn.v_proj", keys, hidden, config.qkv_bias),
        Projection("o", "self_attn.o_proj", hidden, queries, config.output_bias),
        Projection("gate", "mlp.gate_proj", inner, hidden, config.mlp_bias),
        Projection("up", "mlp.up_proj", inner, hidden, config.mlp_bias),
        Projection("down", "mlp.down_proj", hidden, inner, config.mlp_bias),
    ]


def read_weights(folder: Path, config: LlamaConfig) -> LlamaWeights:
    """Map the weights in `folder`.

    Raises:
        CheckpointProblem: a tensor is missing, or of another shape or dtype than the config asks for.
    """
    file = MappedCheckpoint(folder)
    prefix = _checked_prefix(file, config)

    def layer(number: int) -> Layer:
        at = f"{prefix}layers.{number}."
        linears: dict[str, Any] = {
            projection.field: _linear(file, at + projection.name, projection) for projection in projections(config)
        }
        norms = {name.split(".")[-2]: file.tensor(at + name) for name in _norms(config)}
        return Layer(
            **linears,
            input_norm=norms["input_layernorm"],
            post_attention_norm=norms["post_attention_layernorm"],
            q_norm=norms.get("q_norm"),
            k_norm=norms.get("k_norm"),
        )

    embedding = file.tensor(f"{prefix}embed_tokens.weight")
    return LlamaWeights(
        embedding=embedding,
        layers=[layer(number) for number in range(config.layers)],
        norm=file.tensor(f"{prefix}norm.weight"),
        head=embedding if config.tied_embeddings else file.tensor("lm_head.weight"),
    )


def quantized(
    weights: LlamaWeights, method: Method, dtype: torch.dtype, double_quant: bool, report: Report
) -> LlamaWeights:
    """Quantize the projections, from their values in `dtype`."""

    def one(linear: Linear) -> Linear:
        assert isinstance(linear.weight, Tensor), "a quantized checkpoint is not quantized again"
        weight = linear.weight.to(dtype)
        if method == "int8":
            return replace(linear, weight=quantize_8bit(weight))
        assert method != "none", "there is something to quantize"
        return replace(linear, weight=read_4bit(quantize_4bit(weight, method, double_quant), method))

    layers = []
    for number, layer in enumerate(weights.layers):
        report(Progress(done=number, total=len(weights.layers), unit="layers"))
        values = ((field.name, getattr(layer, field.name)) for field in fields(Layer))
        linears: dict[str, Any] = {name: one(value) for name, value in values if isinstance(value, Linear)}
        layers.append(replace(layer, **linears))
    return replace(weights, layers=layers)


def stored_quantized(
    folder: Path, config: LlamaConfig, method: Method, dtype: torch.dtype, double_quant: bool, report: Report
) -> dict[str, Tensor]:
    """Return the tensors of a quantized checkpoint by name, made of the plain one in `folder`.

    Raises:
        CheckpointProblem: as `read_weights`.
    """
    file = MappedCheckpoint(folder)
    prefix = _checked_prefix(file, config)
    shared = ["embed_tokens.weight", "norm.weight"]
    tensors = {f"{prefix}{name}": file.tensor(f"{prefix}{name}").to(dtype) for name in shared}
    if not config.tied_embeddings:
        tensors["lm_head.weight"] = file.tensor("lm_head.weight").to(dtype)
    for number in range(config.layers):
        report(Progress(done=number, total=config.layers, unit="layers"))
        at = f"{prefix}layers.{number}."
        tensors |= {f"{at}{name}": file.tensor(f"{at}{name}").to(dtype) for name in _norms(config)}
        for projection in projections(config):
            name = at + projection.name
            if projection.has_bias:
                tensors[f"{name}.bias"] = file.tensor(f"{name}.bias").to(dtype)
            weight = file.tensor(f"{name}.weight").to(dtype)
            if method == "int8":
                eight = quantize_8bit(weight)
                tensors |= {f"{name}.weight": eight.values, f"{name}.SCB": eight.scales}
                tensors[f"{name}.weight_format"] = torch.tensor(0, dtype=torch.uint8)
            elif method != "none":
                stored = quantize_4bit(weight, method, double_quant)
                tensors |= {f"{name}.weight{ending}": tensor for ending, tensor in stored.items()}
    return tensors


def _checked_prefix(file: MappedCheckpoint, config: LlamaConfig) -> str:
    """Check every tensor, and return what names of the model itself begin with."""
    prefix = "model." if "model.embed_tokens.weight" in file else ""
    hidden = config.hidden_size
    file.check(f"{prefix}embed_tokens.weight", (config.vocabulary_size, hidden))
    file.check(f"{prefix}norm.weight", (hidden,))
    if not config.tied_embeddings:
        file.check("lm_head.weight", (config.vocabulary_size, hidden))
    for number in range(config.layers):
        at = f"{prefix}layers.{number}."
        for name, width in _norms(config).items():
            file.check(at + name, (width,))
        for projection in projections(config):
            _check_projection(file, at + projection.name, projection)
    return prefix


def _norms(config: LlamaConfig) -> dict[str, int]:
    """Return the norms of each layer and their widths, by their names below `layers.<n>.`."""
    norms = {"input_layernorm.weight": config.hidden_size, "post_attention_layernorm.weight": config.hidden_size}
    if config.qk_norm:
        norms |= {"self_attn.q_norm.weight": config.head_dim, "self_attn.k_norm.weight": config.head_dim}
    return norms


def _check_projection(file: MappedCheckpoint, name: str, projection: Projection) -> None:
    if projection.has_bias:
        file.check(f"{name}.bias", (projection.out,))
    weight = f"{name}.weight"
    if quant_type := _four_bit(file, weight):
        _check_4bit(file, weight, projection, quant_type)
    elif f"{name}.SCB" in file:
        file.check(weight, (projection.out, projection.inner), ("I8",))
        file.check(f"{name}.SCB", (projection.out,), ("F32",))
    else:
        file.check(weight, (projection.out, projection.inner))


def _four_bit(file: MappedCheckpoint, weight: str) -> FourBit | None:
    if weight + state_name("nf4") in file:
        return "nf4"
    return "fp4" if weight + state_name("fp4") in file else None


def _check_4bit(file: MappedCheckpoint, weight: str, projection: Projection, quant_type: FourBit) -> None:
    """Every size follows from the shape and two block sizes; a wrong one would read beyond its tensor."""
    encoded = weight + state_name(quant_type)
    if file.check(encoded, None, ("U8",))[0] > STATE_LIMIT_BYTES:
        raise CheckpointProblem("ModelInvalid", f"{encoded!r} has more than {STATE_LIMIT_BYTES} bytes")
    shape = [projection.out, projection.inner]
    nested = f"{weight}.nested_absmax" in file
    try:
        state = read_state(file.tensor(encoded))
        blocksize, outer = state["blocksize"], state["nested_blocksize"] if nested else None
        fits = state["shape"] == shape and blocksize in BLOCKSIZES and (outer is None or outer in BLOCKSIZES)
        if nested:
            float(state["nested_offset"])
    except (ValueError, TypeError, KeyError):
        fits = False
    if not fits or projection.inner % 2:
        raise CheckpointProblem("ModelInvalid", f"{encoded!r} does not describe a 4-bit weight of shape {shape}")
    blocks = -(-projection.out * projection.inner // blocksize)
    file.check(f"{weight}.quant_map", (16,), ("F32",))
    file.check(f"{weight}.absmax", (blocks,), ("U8",) if nested else ("F32",))
    if nested:
        file.check(f"{weight}.nested_quant_map", (256,), ("F32",))
        file.check(f"{weight}.nested_absmax", (-(-blocks // outer),), ("F32",))
    file.check(weight, None, PACKED)
    packed_bytes, expected = file.tensor(weight).nbytes, projection.out * projection.inner // 2
    if packed_bytes != expected:
        raise CheckpointProblem("ModelInvalid", f"{weight!r} has {packed_bytes} bytes, {shape} at 4 bits is {expected}")


def _linear(file: MappedCheckpoint, name: str, projection: Projection) -> Linear:
    bias = file.tensor(f"{name}.bias") if projection.has_bias else None
    weight = f"{name}.weight"
    if quant_type := _four_bit(file, weight):
        endings = ("", ".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map", state_name(quant_type))
        tensors = {ending: file.tensor(weight + ending) for ending in endings if weight + ending in file}
        return Linear(read_4bit(tensors, quant_type), bias)
    if f"{name}.SCB" in file:
        return Linear(Quantized8Bit(file.tensor(weight), file.tensor(f"{name}.SCB")), bias)
    return Linear(file.tensor(weight), bias)
