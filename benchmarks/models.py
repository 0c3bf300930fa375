"""Make the random-weight Llama checkpoints of the benchmark: m125 (128 M parameters) and b1 (1.04 B), bfloat16.

The sizes are those of the figures in docs/benchmarks.md. Speed does not depend on what the weights are, so they are
drawn at random, by the writers that make the tests' tiny models: seconds, no torch, the same bytes each time. No
end-of-sequence token is named anywhere in a checkpoint, because every engine must run to the last of its tokens.
"""

from __future__ import annotations

import itertools
import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from cluster.progress import step
from tests.support import models as tiny

Name = Literal["m125", "b1"]

VOCABULARY_SIZE = 32_000
CONTEXT = 4096
SIZES: dict[Name, dict[str, int]] = {
    "m125": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_key_value_heads": 4,
    },
    "b1": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}
SYLLABLES = [consonant + vowel for consonant in "bcdfghjklmnpqrstvwxyz" for vowel in "aeiou"]
SPACE = "Ġ"
"""A space in the alphabet of byte-level BPE."""


def config(name: Name) -> dict[str, Any]:
    """Return the content of config.json."""
    size = SIZES[name]
    return {
        **tiny.config(),
        **size,
        "head_dim": size["hidden_size"] // size["num_attention_heads"],
        "vocab_size": VOCABULARY_SIZE,
        "max_position_embeddings": CONTEXT,
        "eos_token_id": None,
    }


def checkpoint(folder: Path, name: Name) -> Path:
    """Return the folder of a checkpoint below `folder`, writing it, whole or not at all, if it is not there."""
    target = folder / name
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with step(f"making the random model {name}"), tempfile.TemporaryDirectory(dir=folder) as scratch:
        _write(Path(scratch) / name, name)
        shutil.move(Path(scratch) / name, target)
    return target


def merges() -> list[tuple[str, str]]:
    """Return the merges of the tokenizer: syllables, then " ba", " baca", and " bacada" until it is full.

    Made of rules, not trained, so that it costs nothing and any of its words is one token, whatever stands beside it.
    """
    first = [(syllable[0], syllable[1]) for syllable in SYLLABLES]
    words = [(SPACE, syllable) for syllable in SYLLABLES]
    words += [(SPACE + one, two) for one, two in itertools.product(SYLLABLES, repeat=2)]
    room = VOCABULARY_SIZE - len(tiny.SPECIAL_TOKENS) - 256 - len(first) - len(words)
    long = ((SPACE + one + two, three) for one, two, three in itertools.product(SYLLABLES, repeat=3))
    return first + words + list(itertools.islice(long, room))


def prompts(tokens: int, seed: int) -> Iterator[str]:
    """Yield prompts of exactly `tokens` tokens each, drawn at random: no two begin alike, so no cache can help."""
    words = [left.replace(SPACE, " ") + right for left, right in merges()[len(SYLLABLES) :]]
    generator = random.Random(seed)
    while True:
        # The first word has no space before it, so that a server that strips its prompts changes nothing.
        yield generator.choice(SYLLABLES) + "".join(generator.choices(words, k=tokens - 1))


def _write(folder: Path, name: Name) -> None:
    folder.mkdir(parents=True)
    model_config = config(name)
    tiny.write_json(folder / "config.json", model_config)
    tiny.write_json(
        folder / "generation_config.json",
        {"bos_token_id": 1, "pad_token_id": 2, "eos_token_id": None, "do_sample": False},
    )
    tiny.write_safetensors(
        folder / "model.safetensors",
        {key: ("BF16", tensor.shape, tiny.bfloat16_bytes(tensor)) for key, tensor in tiny.weights(model_config)},
    )
    write_tokenizer(folder)


def write_tokenizer(folder: Path) -> None:
    """Write the tokenizer of `merges` to `folder`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    learned = merges()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*tiny.SPECIAL_TOKENS, *alphabet, *(left + right for left, right in learned)]
    tokenizer = Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, learned))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(tiny.SPECIAL_TOKENS)
    tokenizer.save(str(folder / "tokenizer.json"))
    words = {"bos_token": "<|bos|>", "pad_token": "<|pad|>"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": CONTEXT, **words}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(tiny.CHAT_TEMPLATE)
