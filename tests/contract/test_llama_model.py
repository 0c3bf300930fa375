"""Our own forward pass says what transformers says, whatever is in the batch beside it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from inference_server.engine.interface import EngineConfig
from inference_server.models.llama.model import LlamaModel
from inference_server.models.loader import load
from inference_server.models.model import PAGE_TOKENS, Chunk, Model
from tests.support.models import Family, write_checkpoint
from tests.support.teacher import decoded, error, expected, random_texts

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
CHECKPOINTS: list[Any] = [
    pytest.param("llama", {}, id="llama"),
    pytest.param(
        "llama",
        {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False, "rope_scaling": LLAMA3},
        id="llama with every bias, a head of its own and Llama 3's rotary embedding",
    ),
    pytest.param("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}, id="llama with a linear scaling"),
    pytest.param("llama", {"num_key_value_heads": 4}, id="llama without groups"),
    pytest.param("mistral", {"sliding_window": None}, id="mistral"),
    pytest.param("qwen2", {}, id="qwen2"),
    pytest.param("qwen3", {"head_dim": 32, "rope_theta": 1e6}, id="qwen3 with narrow heads"),
    pytest.param("qwen3", {"attention_bias": True}, id="qwen3 with biases"),
]
SLOTS = 32
CLOSE = 1e-5


def loaded(folder: Path, **settings: Any) -> Model:
    settings = {"quantization": "none", "max_model_len": 200, "max_batch_size": SLOTS, **settings}
    return load(EngineConfig(model_path=str(folder), **settings), lambda progress: None).model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float32 checkpoint, so that two ways to the same numbers can be compared exactly."""
    return write_checkpoint(tmp_path_factory.mktemp("models") / "tiny", dtype="float32")


@pytest.fixture(scope="module")
def model(tiny: Path) -> Model:
    return loaded(tiny)


@pytest.mark.parametrize(("family", "changes"), CHECKPOINTS)
def test_logits_are_those_of_transformers(family: Family, changes: dict[str, Any], tmp_path: Path) -> None:
    write_checkpoint(tmp_path, family=family, dtype="float32", shards=2, changes=changes)
    model = loaded(tmp_path)
    texts = random_texts(8, model.vocabulary_size, [70, 9, 100, 33])

    found = decoded(model, texts, slots=[5, 0, 7, 1, 2, 6, 31, 30], prompt=40, chunk=16)

    assert isinstance(model, LlamaModel)
    assert max(map(error, found, expected(tmp_path, texts))) < CLOSE


@pytest.mark.parametrize("batch", [1, 8, 32])
def test_logits_do_not_depend_on_the_batch(batch: int, model: Model, tiny: Path) -> None:
    texts = random_texts(batch, model.vocabulary_size, [40, 65, 12])

    found = decoded(model, texts, slots=list(range(batch)), prompt=10)

    assert max(map(error, found, expected(tiny, texts))) < CLOSE


def test_pages_carry_a_prefix_to_another_slot(model: Model, tiny: Path) -> None:
    text = random_texts(1, model.vocabulary_size, [2 * PAGE_TOKENS + 9])[0]
    decoded(model, [text], slots=[3], prompt=len(text))
    for page in (0, 1):
        model.store_page(3, page * PAGE_TOKENS, page)
    decoded(model, [text[::-1]], slots=[4], prompt=len(text))

    for page in (0, 1):
        model.load_page(page, 4, page * PAGE_TOKENS)
    rest = model.forward([Chunk(4, 2 * PAGE_TOKENS, text[2 * PAGE_TOKENS :], 9)])

    assert error(rest, expected(tiny, [text])[0][2 * PAGE_TOKENS :]) < CLOSE


def test_what_a_broken_sequence_left_in_a_slot_does_not_reach_the_next(model: Model, tiny: Path) -> None:
    assert isinstance(model, LlamaModel)
    text = random_texts(1, model.vocabulary_size, [20])[0]
    decoded(model, [text * 3], slots=[0], prompt=60)
    for memory in (*model.memory.keys, *model.memory.values):
        memory[0, :, :60] = float("nan")

    found = decoded(model, [text], slots=[0], prompt=5)[0]

    assert error(found, expected(tiny, [text])[0]) < CLOSE


def test_rows_of_logits_are_in_the_order_of_the_chunks(model: Model) -> None:
    first, second, third = random_texts(3, model.vocabulary_size, [7, 1, 5])
    chunks = [Chunk(9, 0, first, 2), Chunk(4, 0, second, 1), Chunk(11, 0, third, 0)]

    together = model.forward(chunks)
    alone = [model.forward([chunk]) for chunk in chunks]

    assert [len(rows) for rows in alone] == [2, 1, 0]
    assert together.dtype == torch.float32
    assert error(together, torch.cat(alone)) < CLOSE


def test_greedy_tokens_are_those_of_generate(model: Model, tiny: Path) -> None:
    from transformers import AutoModelForCausalLM

    prompt = random_texts(1, model.vocabulary_size, [6])[0]
    reference = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    generated = reference.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=None)

    tokens, next_logits = list(prompt), model.forward([Chunk(0, 0, prompt, 1)])
    for _ in range(12):
        tokens.append(int(next_logits.argmax()))
        next_logits = model.forward([Chunk(0, len(tokens) - 1, tokens[-1:], 1)])

    assert tokens == generated[0].tolist()


# C25: there is no number format that a CPU cannot compute in
@pytest.mark.parametrize(("dtype", "close"), [("bfloat16", 0.03), ("float16", 0.005)])
def test_half_precision_is_as_close_as_it_can_be(dtype: str, close: float, tiny: Path) -> None:
    model = loaded(tiny, compute_dtype=dtype)
    texts = random_texts(4, model.vocabulary_size, [40, 12])

    found = decoded(model, texts, slots=[0, 1, 5, 6], prompt=20)

    assert max(map(error, found, expected(tiny, texts))) < close


def test_loading_does_not_import_transformers(tiny: Path) -> None:
    program = (
        "import sys\n"
        "from inference_server.engine.interface import EngineConfig\n"
        "from inference_server.models.loader import load\n"
        f"load(EngineConfig(model_path={str(tiny)!r}, quantization=sys.argv[1]), lambda progress: None)\n"
        "print([name for name in sys.argv[2:] if name in sys.modules])\n"
    )
    heavy = ["transformers", "accelerate", "torch._dynamo", "torch._inductor"]
    for quantization, unneeded in (("none", ["bitsandbytes", *heavy]), ("nf4", heavy), ("int8", heavy)):
        command = [sys.executable, "-c", program, quantization, *unneeded]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        assert (ran.stdout.strip(), ran.stderr) == ("[]", ""), quantization
