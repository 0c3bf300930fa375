"""Make tiny checkpoints of the Llama family with random weights, for tests and for `make demo MODEL=tiny`.

    python -m tests.support.models tiny OUT_FOLDER

Written with numpy and tokenizers alone, so that a checkpoint costs well under a second instead of an import of torch.
The same arguments give the same bytes. The weights are random: the text is nonsense, and the quality of a quantization
cannot be judged with it.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

Dtype = Literal["float32", "bfloat16"]
Family = Literal["llama", "mistral", "qwen2", "qwen3"]
Array = npt.NDArray[np.float32]

VOCABULARY_SIZE = 512
SPECIAL_TOKENS = ["<|eos|>", "<|bos|>", "<|pad|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

# What the tokenizer learns its merges from. Characters outside it fall apart into single bytes, as tests of
# detokenization want it.
TRAINING_TEXT = """
The operator turns a six-line resource into a served language model. It fills the cache of the model before any pod
asks for an accelerator, tells the truth in its conditions, and takes a broken upgrade back by itself. A team writes
the resource, applies it, watches the phase go from caching to serving, and sends requests to the service that appears.
When a client leaves, its sequence is freed at the next step. When the queue is full, the answer says when to come back.
Once upon a time there was a small model with random weights. It spoke nonsense, but it spoke it fast, and it always
said the same thing when it was asked the same question with the same seed. Nobody could learn anything from its words,
and yet everybody learned something from the way in which they arrived: one token after the other, none of them lost.
"""


def config(
    *, family: Family = "llama", layers: int = 2, dtype: Dtype = "bfloat16", tie_word_embeddings: bool = True
) -> dict[str, Any]:
    """Return the content of config.json. Sizes are multiples of 64, the block of a 4-bit quantization."""
    return {
        "architectures": [f"{family.capitalize()}ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "dtype": dtype,
        "eos_token_id": 0,
        "head_dim": 64,
        "hidden_act": "silu",
        "hidden_size": 256,
        "initializer_range": 0.04,
        "intermediate_size": 512,
        "max_position_embeddings": 2048,
        "mlp_bias": False,
        "model_type": family,
        "num_attention_heads": 4,
        "num_hidden_layers": layers,
        "num_key_value_heads": 2,
        "pad_token_id": 2,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "tie_word_embeddings": tie_word_embeddings,
        "vocab_size": VOCABULARY_SIZE,
    }


def weights(config: Mapping[str, Any], seed: int = 0) -> Iterator[tuple[str, Array]]:
    """Yield the tensors of a model of the family by name, drawn from one generator in a fixed order."""
    generator = np.random.default_rng(seed)
    hidden, inner, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    attention_bias = config["attention_bias"] or config["model_type"] == "qwen2"
    output_bias = config["attention_bias"] and config["model_type"] != "qwen2"

    def normal(*shape: int) -> Array:
        return generator.standard_normal(shape, dtype=np.float32) * np.float32(config["initializer_range"])

    def ones() -> Array:
        return np.ones(hidden, dtype=np.float32)

    def linear(name: str, rows: int, columns: int, bias: bool) -> Iterator[tuple[str, Array]]:
        yield f"{name}.weight", normal(rows, columns)
        if bias:
            yield f"{name}.bias", normal(rows)

    yield "model.embed_tokens.weight", normal(config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.input_layernorm.weight", ones()
        yield from linear(f"{prefix}.self_attn.q_proj", queries, hidden, attention_bias)
        yield from linear(f"{prefix}.self_attn.k_proj", keys, hidden, attention_bias)
        yield from linear(f"{prefix}.self_attn.v_proj", keys, hidden, attention_bias)
        yield from linear(f"{prefix}.self_attn.o_proj", hidden, queries, output_bias)
        if config["model_type"] == "qwen3":
            yield f"{prefix}.self_attn.q_norm.weight", 1 + normal(head)
            yield f"{prefix}.self_attn.k_norm.weight", 1 + normal(head)
        yield f"{prefix}.post_attention_layernorm.weight", ones()
        yield from linear(f"{prefix}.mlp.gate_proj", inner, hidden, config["mlp_bias"])
        yield from linear(f"{prefix}.mlp.up_proj", inner, hidden, config["mlp_bias"])
        yield from linear(f"{prefix}.mlp.down_proj", hidden, inner, config["mlp_bias"])
    yield "model.norm.weight", ones()
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", normal(config["vocab_size"], hidden)


def write_checkpoint(
    folder: Path,
    *,
    family: Family = "llama",
    layers: int = 2,
    dtype: Dtype = "bfloat16",
    shards: int = 1,
    seed: int = 0,
    changes: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Write a complete checkpoint (config, weights, tokenizer, chat template) to `folder`, and return it.

    `changes` are put over the content of config.json before the weights are drawn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model_config = {**config(family=family, layers=layers, dtype=dtype), **changes}
    write_json(folder / "config.json", model_config)
    write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 2})
    _write_weights(folder, dict(weights(model_config, seed)), dtype, shards)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    """Train a byte-level BPE tokenizer on TRAINING_TEXT and write it with its chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TRAINING_TEXT], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|eos|>",
        "bos_token": "<|bos|>",
        "pad_token": "<|pad|>",
        "model_max_length": 2048,
        "clean_up_tokenization_spaces": False,
    }
    write_json(folder / "tokenizer_config.json", tokenizer_config)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def _write_weights(folder: Path, tensors: Mapping[str, Array], dtype: Dtype, shards: int) -> None:
    if shards == 1:
        _write_safetensors(folder / "model.safetensors", tensors, dtype)
        return
    names = sorted(tensors)
    files = {name: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, name in enumerate(names)}
    for file in sorted(set(files.values())):
        _write_safetensors(folder / file, {name: tensors[name] for name in names if files[name] == file}, dtype)
    total = sum(tensor.size for tensor in tensors.values()) * (2 if dtype == "bfloat16" else 4)
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": files})


def _write_safetensors(path: Path, tensors: Mapping[str, Array], dtype: Dtype) -> None:
    encode = bfloat16_bytes if dtype == "bfloat16" else np.ndarray.tobytes
    code = "BF16" if dtype == "bfloat16" else "F32"
    write_safetensors(path, {name: (code, tensor.shape, encode(tensor)) for name, tensor in tensors.items()})


def write_safetensors(path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]]) -> None:
    """Write `tensors` (name: dtype, shape, bytes) in the safetensors format: header length, JSON header, data.

    By hand, because the library's writer moved to raw pointers, and because tests of hostile files need the parts.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        file.writelines(data for _, _, data in tensors.values())


def bfloat16_bytes(tensor: Array) -> bytes:
    """Round to the nearest even bfloat16: the upper half of a float32 (numpy has no such type)."""
    bits = tensor.view(np.uint32)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    return (rounded >> 16).astype(np.uint16).tobytes()


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or arguments[0] != "tiny":
        print("usage: python -m tests.support.models tiny OUT_FOLDER", file=sys.stderr)  # noqa: T201
        return 2
    write_checkpoint(Path(arguments[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
