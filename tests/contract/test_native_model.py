"""The CPU kernels compute what the torch forward computes, whatever is in the batch beside it."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from inference_server.checkpoint.validation import Method, read_config
from inference_server.kernels.build import LIBRARY
from inference_server.kernels.cpu import suits_kernels
from inference_server.models.llama.config import LlamaConfig, llama_config
from inference_server.models.llama.model import LlamaModel
from inference_server.models.llama.weights import LlamaWeights, quantized, read_weights
from inference_server.models.model import PAGE_TOKENS, Chunk
from inference_server.models.native_model import NativeModel, runs_natively
from tests.support.models import Family, write_checkpoint
from tests.support.teacher import decoded, error, random_texts

pytestmark = pytest.mark.skipif(
    not (suits_kernels() and LIBRARY.is_file()), reason="this CPU has no AVX512-BF16, or the kernels are not built"
)

SLOTS, LENGTH, PAGES = 33, 200, 4
ROUNDING = 0.015
"""Weights and inputs of products have 8 bits of mantissa; sums and the residual stream are float32."""

Storage = Literal["none", "nf4", "fp4"]


def weights_in(folder: Path, family: Family = "llama", **changes: Any) -> tuple[LlamaConfig, LlamaWeights]:
    """Write a bfloat16 checkpoint and return what is in it, so that both models compute with the same numbers."""
    write_checkpoint(folder, family=family, dtype="bfloat16", changes=changes)
    read = llama_config(read_config(folder), None)
    assert read is not None
    return read, read_weights(folder, read)


def stored(weights: LlamaWeights, method: Method) -> LlamaWeights:
    if method == "none":
        return weights
    return quantized(weights, method, torch.bfloat16, True, lambda progress: None)


def native(read: LlamaConfig, weights: LlamaWeights, threads: int = 2) -> NativeModel:
    assert runs_natively(read, weights, torch.bfloat16)
    return NativeModel(read, weights, slots=SLOTS, max_model_len=LENGTH, pages=PAGES, threads=threads)


def reference(read: LlamaConfig, weights: LlamaWeights) -> LlamaModel:
    sizes = {"slots": SLOTS, "max_model_len": LENGTH, "pages": PAGES}
    return LlamaModel(read, weights, **sizes, dtype=torch.float32, device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        pytest.param("llama", {}, id="llama"),
        pytest.param("llama", {"tie_word_embeddings": False}, id="llama with a head of its own"),
        pytest.param("llama", {"head_dim": 128, "num_attention_heads": 6}, id="llama with wide heads in threes"),
        pytest.param("llama", {"vocab_size": 500}, id="llama with a vocabulary that fills no panel"),
        pytest.param("mistral", {"sliding_window": None}, id="mistral"),
        pytest.param("qwen2", {}, id="qwen2"),
        pytest.param("qwen3", {}, id="qwen3"),
    ],
)
@pytest.mark.parametrize("storage", ["none", "nf4", "fp4"])
def test_logits_are_those_of_the_torch_forward(
    family: Family, changes: dict[str, Any], storage: Storage, tmp_path: Path
) -> None:
    read, plain = weights_in(tmp_path, family, **changes)
    weights = stored(plain, storage)
    texts = random_texts(8, read.vocabulary_size, [70, 9, 50, 33])

    found = decoded(native(read, weights), texts, slots=[5, 0, 7, 1, 2, 6, 31, 32], prompt=40, chunk=17)
    torch_model = reference(read, weights)
    whole = [torch_model.forward([Chunk(0, 0, text, len(text))]) for text in texts]

    assert max(map(error, found, whole)) < ROUNDING


@pytest.mark.parametrize("storage", ["none", "nf4"])
@pytest.mark.parametrize("batch", [1, 3, 8, 32])
def test_a_sequence_does_not_depend_on_the_batch(batch: int, storage: Storage, tmp_path: Path) -> None:
    read, plain = weights_in(tmp_path)
    model = native(read, stored(plain, storage))
    texts = random_texts(batch, read.vocabulary_size, [20, 45, 12])

    together = decoded(model, texts, slots=list(range(batch)), prompt=10)
    alone = [decoded(model, [text], slots=[20], prompt=10)[0] for text in texts]

    assert max(map(error, together, alone)) < ROUNDING


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads_computes_the_same(threads: int, tmp_path: Path) -> None:
    read, weights = weights_in(tmp_path)
    texts = random_texts(5, read.vocabulary_size, [120, 31])

    found, single = (decoded(native(read, weights, count), texts, range(5), prompt=100) for count in (threads, 1))

    assert all(torch.equal(one, other) for one, other in zip(found, single, strict=True))


def test_a_long_prompt_in_one_chunk_is_that_prompt_token_by_token(tmp_path: Path) -> None:
    read, weights = weights_in(tmp_path)
    model, texts = native(read, weights), random_texts(1, read.vocabulary_size, [190])

    whole = decoded(model, texts, [0], prompt=190)
    stepwise = decoded(model, texts, [1], prompt=1)

    assert error(whole[0], stepwise[0]) < ROUNDING


def test_pages_carry_a_prefix_to_another_slot(tmp_path: Path) -> None:
    read, weights = weights_in(tmp_path)
    model = native(read, weights)
    text, other = random_texts(2, read.vocabulary_size, [2 * PAGE_TOKENS + 9])
    whole = decoded(model, [text], [3], prompt=len(text))[0]
    decoded(model, [other], [4], prompt=len(other))

    for page in (0, 1):
        model.store_page(3, page * PAGE_TOKENS, page + 1)
    for page in (0, 1):
        model.load_page(page + 1, 4, page * PAGE_TOKENS)
    rest = model.forward([Chunk(4, 2 * PAGE_TOKENS, text[2 * PAGE_TOKENS :], 9)])

    assert error(rest, whole[2 * PAGE_TOKENS :]) < ROUNDING


def test_what_a_broken_sequence_left_in_a_slot_does_not_reach_the_next(tmp_path: Path) -> None:
    read, weights = weights_in(tmp_path)
    embedding = weights.embedding.clone()
    embedding[7] = float("nan")
    model = native(read, replace(weights, embedding=embedding, head=embedding.clone()))
    text = [token for token in random_texts(1, read.vocabulary_size, [61])[0] if token != 7]
    clean = decoded(model, [text], [1], prompt=5)[0]

    broken = decoded(model, [[7] * 90], [0], prompt=90)[0]
    found = decoded(model, [text], [0], prompt=5)[0]

    assert broken.isnan().any(dim=-1).all()
    assert torch.equal(found[:, :7], clean[:, :7])


@pytest.mark.parametrize("projection", ["q", "k", "v", "o", "gate", "up", "down"])
def test_a_weight_that_is_no_number_shows_in_the_logits(projection: str, tmp_path: Path) -> None:
    read, weights = weights_in(tmp_path)
    linear = getattr(weights.layers[0], projection)
    broken = replace(linear, weight=torch.full_like(linear.weight, float("nan")))
    layers = [replace(weights.layers[0], **{projection: broken}), *weights.layers[1:]]

    logits = native(read, replace(weights, layers=layers)).forward([Chunk(0, 0, [5, 6, 7], 1)])

    assert logits.isnan().any()


def test_chunks_without_wanted_logits_only_fill_the_slot(tmp_path: Path) -> None:
    read, weights = weights_in(tmp_path)
    model = native(read, weights)
    text = random_texts(1, read.vocabulary_size, [50])[0]

    nothing = model.forward([Chunk(2, 0, text[:30], 0)])
    rest = model.forward([Chunk(2, 30, text[30:], 2)])

    assert nothing.shape == (0, read.vocabulary_size)
    assert error(rest, decoded(model, [text], [3], prompt=50)[0][-2:]) < ROUNDING


@pytest.mark.parametrize(
    ("changes", "method", "dtype"),
    [
        pytest.param({"head_dim": 32}, "none", torch.bfloat16, id="heads narrower than a panel"),
        pytest.param({"attention_bias": True}, "none", torch.bfloat16, id="a bias of the output projection"),
        pytest.param({}, "int8", torch.bfloat16, id="int8"),
        pytest.param({}, "none", torch.float32, id="float32"),
    ],
)
def test_what_the_kernels_cannot_compute_is_left_to_torch(
    changes: dict[str, Any], method: Method, dtype: torch.dtype, tmp_path: Path
) -> None:
    read, plain = weights_in(tmp_path, **changes)
    weights = stored(plain, method)

    assert not runs_natively(read, weights, dtype)
