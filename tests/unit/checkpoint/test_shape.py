"""What is read of a model's need for memory, from headers alone."""

import json
from math import prod
from pathlib import Path
from typing import Any

import pytest

from inference_server.checkpoint.shape import ModelShape, model_shape
from tests.support.models import write_checkpoint, write_json, write_safetensors

LINEAR = 2 * (2 * 256 * 256 + 2 * 128 * 256 + 3 * 512 * 256)
OTHER = 512 * 256 + 5 * 256
"""Embedding and norms of the tiny Llama."""

Entries = dict[str, tuple[str, tuple[int, ...]]]


def shape_of(folder: Path) -> ModelShape:
    shape = model_shape(folder)
    assert shape is not None
    return shape


def written(folder: Path, tensors: Entries, **config: Any) -> Path:
    """Write a checkpoint of these tensors, all zeros, whose config has `config` over a small Llama's."""
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100}
    write_json(folder / "config.json", {"model_type": "llama", **sizes, **config})
    item_bytes = {"U8": 1, "I8": 1, "BF16": 2, "F32": 4}
    content = {name: (dtype, shape, bytes(prod(shape) * item_bytes[dtype])) for name, (dtype, shape) in tensors.items()}
    write_safetensors(folder / "model.safetensors", content)
    return folder


@pytest.mark.parametrize("shards", [1, 3])
def test_a_llama_is_counted_by_what_quantization_shrinks_and_the_rest(shards: int, tmp_path: Path) -> None:
    assert shape_of(write_checkpoint(tmp_path, shards=shards)) == ModelShape(
        linear_weights=LINEAR,
        widest_linear=512 * 256,
        other_weights=OTHER,
        quantization="none",
        dtype="bfloat16",
        kv_numbers=2 * 2 * 2 * 64,
        context=2048,
        vocabulary=512,
        row_numbers=256 + 512,
    )


@pytest.mark.parametrize(("is_tied", "heads"), [(True, 0), (False, 1)])
def test_an_output_head_counts_unless_the_embedding_is_used_for_it(is_tied: bool, heads: int, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, changes={"tie_word_embeddings": False})
    config = json.loads((tmp_path / "config.json").read_text())
    write_json(tmp_path / "config.json", {**config, "tie_word_embeddings": is_tied})
    assert shape_of(tmp_path).other_weights == OTHER + heads * 512 * 256


@pytest.mark.parametrize(
    ("tensors", "config", "linear", "other"),
    [
        pytest.param(
            {"transformer.h.0.attn.c_attn.weight": ("BF16", (64, 192)), "transformer.wpe.weight": ("BF16", (50, 64))},
            {},
            64 * 192,
            50 * 64,
            id="other names",
        ),
        pytest.param(
            {
                "model.layers.0.mlp.experts.0.w1.weight": ("BF16", (32, 64)),
                "model.layers.0.mlp.shared_experts.w1.weight": ("BF16", (16, 64)),
            },
            {},
            16 * 64,
            32 * 64,
            id="experts are not quantized",
        ),
        pytest.param(
            {
                "model.layers.0.mlp.down_proj.weight": ("U8", (1024, 1)),
                "model.layers.0.mlp.down_proj.weight.absmax": ("F32", (32,)),
                "model.layers.0.mlp.down_proj.weight.quant_map": ("F32", (16,)),
                "model.norm.weight": ("BF16", (64,)),
            },
            {"quantization_config": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}},
            2048,
            64,
            id="4 bits: two weights in a byte",
        ),
        pytest.param(
            {
                "model.layers.0.mlp.down_proj.weight": ("I8", (64, 32)),
                "model.layers.0.mlp.down_proj.SCB": ("F32", (64,)),
            },
            {"quantization_config": {"load_in_8bit": True}},
            2048,
            0,
            id="8 bits",
        ),
    ],
)
def test_what_counts_as_a_matrix(
    tensors: Entries, config: dict[str, Any], linear: int, other: int, tmp_path: Path
) -> None:
    shape = shape_of(written(tmp_path, tensors, **config))
    assert (shape.linear_weights, shape.other_weights) == (linear, other)


@pytest.mark.parametrize(
    ("config", "numbers"),
    [
        pytest.param({}, 2 * 2 * 64, id="every head its own keys and values"),
        pytest.param({"num_key_value_heads": 1}, 2 * 2 * 16, id="heads share"),
        pytest.param({"num_key_value_heads": 1, "head_dim": 32}, 2 * 2 * 32, id="head width named"),
        pytest.param(
            {"qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16}, 2 * 4 * 40, id="latent attention"
        ),
    ],
)
def test_keys_and_values_of_a_token(config: dict[str, Any], numbers: int, tmp_path: Path) -> None:
    assert shape_of(written(tmp_path, {}, **config)).kv_numbers == numbers


@pytest.mark.parametrize("config", [{"num_attention_heads": None}, {"num_attention_heads": [4, 8]}])
def test_a_config_with_other_names_or_sizes_for_each_layer_has_no_shape(config: dict[str, Any], tmp_path: Path) -> None:
    assert model_shape(written(tmp_path, {}, **config)) is None
