"""The sizes and flags of a Llama-family model, read from config.json without torch and without transformers.

What is missing there has the default of the family's class in transformers, and what this forward pass cannot compute
exactly as transformers does is not ours: the loader then takes transformers' modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inference_server.checkpoint.validation import CheckpointProblem

FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "llama": {"max_position_embeddings": 2048, "eos_token_id": 2},
    "mistral": {
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
        "eos_token_id": 2,
    },
    "qwen2": {"vocab_size": 151936, "intermediate_size": 22016, "num_key_value_heads": 32},
    "qwen3": {"vocab_size": 151936, "intermediate_size": 22016, "num_key_value_heads": 32, "head_dim": 128},
}
DEFAULTS: Mapping[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
WIDEST_HEAD = 1024
ORIGINAL = "original_max_position_embeddings"


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding: plain, linearly scaled, or scaled as Llama 3.1 does. `factor` 1 is unscaled.

    The three others are for Llama 3's way only: which wavelengths are kept, blended and stretched.
    """

    theta: float
    factor: float = 1.0
    low_frequency_factor: float | None = None
    high_frequency_factor: float | None = None
    original_context: int | None = None


@dataclass(frozen=True, slots=True)
class LlamaConfig:
    """A model of the family. `kv_heads` divides `heads`; `context` is in tokens."""

    vocabulary_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    rms_eps: float
    rope: Rope
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    qk_norm: bool
    tied_embeddings: bool
    context: int
    eos_token_ids: frozenset[int]


def llama_config(
    config: Mapping[str, Any], generation_config: Mapping[str, Any] | None, max_model_len: int | None = None
) -> LlamaConfig | None:
    """Return what config.json says, or None if transformers' modules must run it.

    `max_model_len` is how many tokens a sequence will have at most; a sliding window at least that wide is none.

    Raises:
        CheckpointProblem: sizes that do not fit each other or are no sizes.
    """
    family = str(config.get("model_type"))
    if family not in FAMILIES:
        return None
    values = {**DEFAULTS, **FAMILIES[family], **{name: value for name, value in config.items() if value is not None}}
    served = max_model_len or values["max_position_embeddings"]
    rope = _rope(values)
    if rope is None or values["hidden_act"] != "silu" or _has_window(family, config, values, served):
        return None
    attention_bias = family == "qwen2" or (family != "mistral" and bool(values.get("attention_bias")))
    heads = _size(values, "num_attention_heads")
    kv_heads = _size(values, "num_key_value_heads") if values.get("num_key_value_heads") is not None else heads
    return LlamaConfig(
        vocabulary_size=_size(values, "vocab_size"),
        hidden_size=_size(values, "hidden_size"),
        intermediate_size=_size(values, "intermediate_size"),
        layers=_size(values, "num_hidden_layers"),
        heads=heads,
        kv_heads=_divisor(kv_heads, heads),
        head_dim=_head_dim(values, heads),
        rms_eps=_positive(values, "rms_norm_eps"),
        rope=rope,
        qkv_bias=attention_bias,
        output_bias=attention_bias and family != "qwen2",
        mlp_bias=family == "llama" and bool(values.get("mlp_bias")),
        qk_norm=family == "qwen3",
        tied_embeddings=bool(values["tie_word_embeddings"]),
        context=_size(values, "max_position_embeddings"),
        eos_token_ids=eos_token_ids(values, generation_config),
    )


def eos_token_ids(config: Mapping[str, Any], generation_config: Mapping[str, Any] | None) -> frozenset[int]:
    """Return the tokens that end a text: generation_config.json's where there is one, as `generate` does it."""
    for source in (generation_config, config):
        if source is not None:
            found = source.get("eos_token_id")
            listed = found if isinstance(found, list) else [] if found is None else [found]
            if all(isinstance(token, int) for token in listed):
                return frozenset(listed)
    return frozenset()


def _rope(values: Mapping[str, Any]) -> Rope | None:
    """Read both spellings: `rope_theta` with `rope_scaling`, and transformers 5's `rope_parameters`."""
    parameters = values.get("rope_scaling") or values.get("rope_parameters") or {}
    if not isinstance(parameters, Mapping):
        raise CheckpointProblem("ModelInvalid", f"config.json: {parameters!r} describes no rotary embedding")
    merged = {"rope_theta": 10000.0, **values, **parameters}
    if merged.get("partial_rotary_factor", 1.0) != 1.0:
        return None
    theta = _positive(merged, "rope_theta")
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    if kind == "default":
        return Rope(theta)
    if kind == "linear":
        return Rope(theta, _positive(merged, "factor"))
    if kind != "llama3":
        return None
    return Rope(
        theta,
        _positive(merged, "factor"),
        _positive(merged, "low_freq_factor"),
        _positive(merged, "high_freq_factor"),
        _size({ORIGINAL: values["max_position_embeddings"], **parameters, **values}, ORIGINAL),
    )


def _has_window(family: str, config: Mapping[str, Any], values: Mapping[str, Any], served: int) -> bool:
    """Whether some layer sees less than `served` tokens. Mistral's null means none, an absent value its default."""
    kinds = values.get("layer_types")
    if kinds is not None and kinds != ["full_attention"] * values["num_hidden_layers"]:
        return True
    if family == "mistral":
        window = config.get("sliding_window", values["sliding_window"])
    else:
        window = values.get("sliding_window", 4096) if values.get("use_sliding_window") and kinds is None else None
    return window is not None and _size({"sliding_window": window}, "sliding_window") < served


def _head_dim(values: Mapping[str, Any], heads: int) -> int:
    hidden = _size(values, "hidden_size")
    if values.get("head_dim") is None and hidden % heads:
        raise CheckpointProblem("ModelInvalid", f"config.json: {heads} heads do not divide hidden_size {hidden}")
    width = _size({"head_dim": hidden // heads, **values}, "head_dim")
    if width % 2 or width > WIDEST_HEAD:
        raise CheckpointProblem("ModelInvalid", f"config.json: head_dim {width} is odd or above {WIDEST_HEAD}")
    return width


def _divisor(kv_heads: int, heads: int) -> int:
    if heads % kv_heads:
        raise CheckpointProblem(
            "ModelInvalid", f"config.json: num_key_value_heads {kv_heads} does not divide num_attention_heads {heads}"
        )
    return kv_heads


def _size(values: Mapping[str, Any], name: str) -> int:
    value = values[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointProblem("ModelInvalid", f"config.json: {name} {value!r} is no size")
    return value


def _positive(values: Mapping[str, Any], name: str) -> float:
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise CheckpointProblem("ModelInvalid", f"config.json: {name} {value!r} is no positive number")
    return float(value)
