"""Check a checkpoint's folder before anything loads it: pure reading, no torch, nothing in it trusted.

The warm-up checks what it has downloaded; the engine checks what it is given, which may come from anybody's volume.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from inference_server.checkpoint.architectures import model_types
from inference_server.checkpoint.safetensors_header import InvalidSafetensors, Tensor, read_header

Method = Literal["nf4", "fp4", "int8", "none"]
Wanted = Literal["auto", "nf4", "fp4", "int8", "none"]
Finding = Literal["ModelInvalid", "ModelUnsupported", "QuantizationConflict", "DigestMismatch"]

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
METADATA = (
    "config.json",
    INDEX,
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
"""Everything but weights that a serving pod reads. No code, no duplicates in other formats, no documentation."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack", ".npz")

JSON_LIMIT_BYTES = {"config.json": 4 << 20, "generation_config.json": 4 << 20, INDEX: 64 << 20}
"""What a file of that name may hold: real ones stay far below, and a parser's memory is a multiple of it."""

PLAUSIBLE_MAXIMUM = {
    "num_hidden_layers": 1024,
    "hidden_size": 1 << 17,
    "intermediate_size": 1 << 20,
    "num_attention_heads": 4096,
    "num_key_value_heads": 4096,
    "vocab_size": 1 << 23,
    "max_position_embeddings": 1 << 28,
}


class CheckpointProblem(Exception):  # noqa: N818 - a finding; `reason` is what conditions.md calls it
    """The checkpoint cannot be served; the text says what to do."""

    def __init__(self, reason: Finding, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of config.json, checked.

    Raises:
        CheckpointProblem: it is missing, too large, not JSON, implausible, or of an architecture nobody here can run.
    """
    config = read_json(folder / "config.json")
    check_config(config)
    return config


def read_json(path: Path) -> dict[str, Any]:
    """Read one of the small JSON files of a checkpoint within its limit."""
    try:
        size = path.stat().st_size
        limit = JSON_LIMIT_BYTES.get(path.name, 64 << 20)
        if size > limit:
            raise CheckpointProblem("ModelInvalid", f"{path.name} has {size} bytes, more than {limit}: not a real one")
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointProblem("ModelInvalid", f"{path.name} is missing: name a folder in the hub's layout") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointProblem("ModelInvalid", f"{path.name} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointProblem("ModelInvalid", f"{path.name} is not a JSON object")
    return content


def check_config(config: Mapping[str, Any]) -> None:
    """Refuse sizes that no model has and architectures that transformers does not have."""
    for part in (config, text_config(config)):
        for name, maximum in PLAUSIBLE_MAXIMUM.items():
            value = part.get(name)
            # A list, one value for each layer, is what some families have; transformers checks those itself.
            if value is not None and not isinstance(value, list) and not _is_between(value, 1, maximum):
                raise CheckpointProblem("ModelInvalid", f"config.json: {name} {value!r} is not between 1 and {maximum}")
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise CheckpointProblem("ModelInvalid", "config.json names no model_type")
    if model_type not in model_types():
        code = " and needs code from its repository, which is never run" if "auto_map" in config else ""
        raise CheckpointProblem(
            "ModelUnsupported",
            f"choose a language model that transformers knows: model_type {model_type!r} is none{code}",
        )


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the language model's part of a config: its own, or the part of a model with more senses."""
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def own_quantization(config: Mapping[str, Any]) -> Method:
    """Return how the checkpoint's weights are stored.

    Raises:
        CheckpointProblem: quantized with something other than bitsandbytes.
    """
    quantization = config.get("quantization_config") or text_config(config).get("quantization_config")
    if not quantization:
        return "none"
    if isinstance(quantization, dict) and quantization.get("load_in_8bit"):
        return "int8"
    if isinstance(quantization, dict) and quantization.get("load_in_4bit"):
        kind = quantization.get("bnb_4bit_quant_type", "fp4")
        if kind in ("nf4", "fp4"):
            return "nf4" if kind == "nf4" else "fp4"
    kind = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
    raise CheckpointProblem(
        "ModelUnsupported", f"choose an unquantized or bitsandbytes checkpoint: this one is quantized with {kind!r}"
    )


def effective_quantization(config: Mapping[str, Any], wanted: Wanted) -> Method:
    """Return what the model runs with: `auto` is the checkpoint's own, else nf4.

    Raises:
        CheckpointProblem: the checkpoint is quantized in another way than wanted.
    """
    own = own_quantization(config)
    if wanted == "auto":
        return "nf4" if own == "none" else own
    if own not in ("none", wanted):
        raise CheckpointProblem(
            "QuantizationConflict",
            f"set quantization to Auto or {own}: the checkpoint is {own}, not {wanted}",
        )
    return wanted


def check_weights(folder: Path) -> None:
    """Check that the weights are all there and are what they say.

    Raises:
        CheckpointProblem: no safetensors, a shard missing or damaged, a tensor of the index in no shard, or an
            embedding that does not fit the config.
    """
    if not (folder / INDEX).is_file() and not (folder / WEIGHTS).is_file():
        raise CheckpointProblem("ModelInvalid", _without_weights(folder))
    _check_embedding(folder, read_headers(folder))


def read_headers(folder: Path) -> dict[str, Tensor]:
    """Return every tensor of the weights by name.

    Raises:
        CheckpointProblem: as `check_weights`.
    """
    if not (folder / INDEX).is_file():
        return _header(folder / WEIGHTS)
    weight_map = read_weight_map(folder)
    headers = {shard: _header(folder / shard) for shard in sorted(set(weight_map.values()))}
    lost = [name for name, shard in weight_map.items() if name not in headers[shard]]
    if lost:
        raise CheckpointProblem(
            "ModelInvalid", f"{weight_map[lost[0]]} lacks {lost[0]!r}, which the index says it holds"
        )
    return {name: tensor for header in headers.values() for name, tensor in header.items()}


def read_weight_map(folder: Path) -> dict[str, str]:
    """Return tensor name -> shard of the index, whose shard names lead nowhere but into this folder."""
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointProblem("ModelInvalid", f"{INDEX} has no weight_map")
    for shard in weight_map.values():
        if not isinstance(shard, str) or Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise CheckpointProblem("ModelInvalid", f"{INDEX} names {shard!r}, which is no safetensors file beside it")
    return weight_map


def _header(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointProblem("ModelInvalid", f"{path.name} is missing, the index names it: the upload is incomplete")
    try:
        return read_header(path)
    except InvalidSafetensors as error:
        raise CheckpointProblem("ModelInvalid", f"{path.name} {error}") from None


def _check_embedding(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """The config's vocabulary must be the embedding's: a mismatch otherwise shows as an index error in flight."""
    vocabulary = text_config(read_json(folder / "config.json")).get("vocab_size")
    for name, tensor in tensors.items():
        if name.endswith("embed_tokens.weight") and vocabulary and tensor.shape[0] != vocabulary:
            raise CheckpointProblem(
                "ModelInvalid", f"config.json: vocab_size {vocabulary}, but {name} has {tensor.shape[0]} rows"
            )


def _without_weights(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    if pickles := [name for name in names if name.endswith(PICKLES)]:
        return f"convert the weights to safetensors: {pickles[0]} may run code when it is read, and never is"
    if any(name.endswith(".gguf") for name in names):
        return "choose a safetensors checkpoint: GGUF files are not read here"
    return f"{WEIGHTS} is missing"


def _is_between(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
