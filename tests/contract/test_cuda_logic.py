"""What only a GPU does, on the CPU: with a twin of its attention kernel, and decode steps called, not captured."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from inference_server.engine.interface import EngineConfig
from inference_server.models.batch import batch
from inference_server.models.llama import cuda
from inference_server.models.llama import model as llama_model
from inference_server.models.llama.model import LlamaModel
from inference_server.models.loader import load
from inference_server.models.model import Chunk
from tests.support.models import write_checkpoint
from tests.support.teacher import error, random_texts

CPU = torch.device("cpu")


def varlen_twin(
    query: Tensor, key: Tensor, value: Tensor, cu_q: Tensor, cu_k: Tensor, max_q: int, max_k: int, **options: Any
) -> Tensor:
    """Compute what torch.nn.attention.varlen documents, sequence by sequence."""
    assert options.pop("window_size") == (-1, 0)
    assert options.pop("enable_gqa")
    used = options.pop("seqused_k")
    assert not options
    out = torch.empty_like(query)
    for i in range(len(used)):
        rows, begin, length = slice(int(cu_q[i]), int(cu_q[i + 1])), int(cu_k[i]), int(used[i])
        tokens = rows.stop - rows.start
        assert tokens <= max_q
        assert length <= max_k
        q, k, v = query[rows], key[begin : begin + length], value[begin : begin + length]
        mask = torch.ones(tokens, length, dtype=torch.bool).tril(length - tokens)
        q, k, v = (each.transpose(0, 1)[None] for each in (q, k, v))
        out[rows] = scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)[0].transpose(0, 1)
    return out


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LlamaModel:
    monkeypatch.setattr(cuda, "varlen_attn", varlen_twin)
    write_checkpoint(tmp_path, dtype="float32")
    settings = EngineConfig(model_path=str(tmp_path), quantization="none", max_model_len=96, max_batch_size=6)
    found = load(settings, lambda progress: None).model
    assert isinstance(found, LlamaModel)
    return found


def test_the_slots_have_their_memory_before_copies_of_weights_take_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []

    def noting(name: str) -> None:
        original = getattr(llama_model, name)

        def noted(*given: Any, **named: Any) -> Any:
            taken.append(name)
            return original(*given, **named)

        monkeypatch.setattr(llama_model, name, noted)

    noting("Slots")
    noting("packed")
    write_checkpoint(tmp_path, dtype="float32")
    load(EngineConfig(model_path=str(tmp_path), quantization="none", max_model_len=96), lambda progress: None)
    assert taken[:2] == ["Slots", "packed"]


def called(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    return step


def test_the_attention_kernel_is_given_each_chunk_with_its_own_slot(model: LlamaModel) -> None:
    first, second, third = random_texts(3, model.vocabulary_size, [20, 9, 40])
    chunks = [Chunk(4, 0, first, 3), Chunk(0, 0, second[:8], 1), Chunk(2, 0, third[:30], 1)]
    later = [Chunk(0, 8, second[8:], 1), Chunk(2, 30, third[30:], 10), Chunk(4, 20, [7], 1)]
    expected = [model.forward(chunks), model.forward(later)]

    with torch.inference_mode():
        for chunked, wanted in zip((chunks, later), expected, strict=True):
            step = batch(chunked, CPU)
            found = model.logits(step, cuda.varlen_attention(step.chunks, model.memory, CPU))
            assert error(found, wanted) < 1e-5


def test_a_decode_step_is_padded_and_says_the_same(model: LlamaModel) -> None:
    texts = random_texts(6, model.vocabulary_size, [20, 9, 40])
    model.forward([Chunk(slot, 0, text, 0) for slot, text in enumerate(texts)])
    decoding = [Chunk(slot, len(texts[slot]), [slot + 3], 1) for slot in (5, 0, 3)]
    expected = model.forward(decoding)
    with torch.inference_mode():
        graphs = cuda.DecodeGraphs(model.logits, model.memory, CPU, called)

        found, alone, whole = (
            graphs.logits(decoding),
            graphs.logits(decoding[:1]),
            graphs.logits([Chunk(slot, len(text), [7], 1) for slot, text in enumerate(texts)]),
        )

    assert found is not None
    assert alone is not None
    assert whole is not None
    assert error(found, expected) < 1e-5
    assert error(alone, expected[:1]) < 1e-5
    assert whole.shape == (6, model.vocabulary_size)


def test_only_decode_steps_are_captured(model: LlamaModel) -> None:
    with torch.inference_mode():
        graphs = cuda.DecodeGraphs(model.logits, model.memory, CPU, called)

        assert graphs.logits([Chunk(0, 0, [1, 2], 1)]) is None
        assert graphs.logits([Chunk(0, 0, [1], 0)]) is None
        assert graphs.logits([]) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_says_what_the_cpu_says(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, dtype="bfloat16")
    settings: dict[str, Any] = {"model_path": str(tmp_path), "max_model_len": 96, "max_batch_size": 6}
    text = random_texts(1, 512, [40])[0]
    for quantization in ("none", "nf4", "int8"):
        logits = []
        for device in ("cpu", "cuda"):
            config = EngineConfig(device=device, quantization=quantization, **settings)
            model = load(config, lambda progress: None).model
            prompt = model.forward([Chunk(1, 0, text, len(text))])
            decoded = model.forward([Chunk(1, len(text), [9], 1)])
            logits.append(torch.cat([prompt, decoded]).cpu())
        assert error(logits[1], logits[0]) < 0.03
