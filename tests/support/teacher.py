"""Teacher forcing: what a model of the engine says at every place of given texts, against what transformers says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from inference_server.models.model import Chunk, Model

Text = Sequence[int]


def expected(folder: Path, texts: Sequence[Text], attention: str = "sdpa") -> list[Tensor]:
    """Return transformers' logits of each text on its own, float32 [tokens, vocabulary]."""
    module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention)
    with torch.inference_mode():
        return [module(torch.tensor([text])).logits[0].float() for text in texts]


def random_texts(count: int, vocabulary: int, lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    """Return `count` texts of random tokens, of `lengths` in turn."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [lengths[i % len(lengths)] for i in range(count)]
    return [torch.randint(vocabulary, (size,), generator=generator).tolist() for size in sizes]


def decoded(
    model: Model, texts: Sequence[Text], slots: Sequence[int], prompt: int = 1, chunk: int = 512
) -> list[Tensor]:
    """Return the model's logits of each text in its slot: `prompt` tokens in chunks, all others one by one.

    All texts go through together; text i starts i steps after the first, so prefill and decode are mixed.
    """
    logits: list[list[Tensor]] = [[] for _ in texts]
    done = [0] * len(texts)
    step = 0
    while any(done[i] < len(text) for i, text in enumerate(texts)):
        chunks, owners = [], []
        for i, text in enumerate(texts[: step + 1]):
            if done[i] < len(text):
                size = min(chunk, prompt - done[i]) if done[i] < prompt else 1
                piece = text[done[i] : done[i] + size]
                chunks.append(Chunk(slots[i], done[i], piece, len(piece)))
                owners.append(i)
        pieces = torch.split(model.forward(chunks), [len(chunk.token_ids) for chunk in chunks])
        for i, piece_logits in zip(owners, pieces, strict=True):
            logits[i].append(piece_logits)
            done[i] += len(piece_logits)
        step += 1
    return [torch.cat(rows) for rows in logits]


def error(found: Tensor, wanted: Tensor) -> float:
    """Return the relative error of logits: the norm of the difference over the norm."""
    return float((found - wanted).norm() / wanted.norm())
