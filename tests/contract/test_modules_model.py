"""transformers' modules on our slots say what they say on their own, or are refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from inference_server.checkpoint.validation import CheckpointProblem
from inference_server.engine.interface import EngineConfig
from inference_server.models.loader import LoadedModel, load
from inference_server.models.model import PAGE_TOKENS, Chunk
from inference_server.models.modules_model import ModulesModel
from tests.support.families import write_family
from tests.support.teacher import decoded, error, expected, random_texts

GROUPED = {"num_key_value_heads": 2, "head_dim": 16}
SLIDING = {"sliding_window": 16}
GEMMA3 = {
    **GROUPED,
    **SLIDING,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
    "query_pre_attn_scalar": 32,
}
LFM2 = {"num_key_value_heads": 2, "layer_types": ["conv", "full_attention"] * 2}
CLOSE = 1e-5


def loaded(folder: Path, **settings: Any) -> LoadedModel:
    settings = {"quantization": "none", "max_model_len": 200, "max_batch_size": 32, **settings}
    return load(EngineConfig(model_path=str(folder), **settings), lambda progress: None)


@pytest.mark.parametrize(
    ("model_type", "changes"),
    [
        pytest.param("gemma3_text", GEMMA3, id="gemma3"),
        pytest.param("gemma2", {**GROUPED, **SLIDING}, id="gemma2, whose scores are capped"),
        pytest.param("gpt_neox", {}, id="gpt_neox"),
        pytest.param("phi3", {**SLIDING, "num_key_value_heads": 2}, id="phi3"),
        pytest.param("opt", {"ffn_dim": 128, "word_embed_proj_dim": 64}, id="opt, whose positions are learned"),
        pytest.param("mixtral", {"num_key_value_heads": 2, "num_local_experts": 4}, id="mixtral"),
        pytest.param("mistral", {**SLIDING, "num_key_value_heads": 2}, id="mistral with a window"),
    ],
)
def test_logits_are_those_of_transformers(model_type: str, changes: dict[str, Any], tmp_path: Path) -> None:
    write_family(tmp_path, model_type, changes)
    model = loaded(tmp_path).model
    texts = random_texts(8, 512, [70, 9, 100, 33])

    found = decoded(model, texts, slots=[5, 0, 7, 1, 2, 6, 31, 30], prompt=40, chunk=16)

    assert isinstance(model, ModulesModel)
    # Gemma 2's capped scores are right in transformers' eager attention only.
    assert max(map(error, found, expected(tmp_path, texts, attention="eager"))) < CLOSE


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_family(tmp_path_factory.mktemp("models") / "gemma", "gemma3_text", GEMMA3)


@pytest.mark.parametrize("batch", [1, 32])
def test_logits_do_not_depend_on_the_batch(batch: int, gemma: Path) -> None:
    texts = random_texts(batch, 512, [40, 25, 12])

    found = decoded(loaded(gemma).model, texts, slots=list(range(batch)), prompt=10)

    assert max(map(error, found, expected(gemma, texts))) < CLOSE


def test_a_piece_of_a_prompt_that_nobody_samples_from_gives_no_logits(gemma: Path) -> None:
    model = loaded(gemma, compute_dtype="bfloat16").model

    assert model.forward([Chunk(0, 0, [1, 2, 3], 0)]).shape == (0, 512)


def test_pages_carry_a_prefix_to_another_slot(gemma: Path) -> None:
    model = loaded(gemma).model
    text = random_texts(1, 512, [PAGE_TOKENS + 9])[0]
    decoded(model, [text], slots=[3], prompt=len(text))

    model.store_page(3, 0, 7)
    model.load_page(7, 4, 0)
    rest = model.forward([Chunk(4, PAGE_TOKENS, text[PAGE_TOKENS:], 9)])

    assert error(rest, expected(gemma, [text])[0][PAGE_TOKENS:]) < CLOSE


@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_a_prequantized_checkpoint_is_what_quantizing_at_load_gives(method: Any, gemma: Path, tmp_path: Path) -> None:
    from inference_server.models.loader import planned
    from inference_server.models.quantize import write_quantized

    settings = EngineConfig(model_path=str(gemma), quantization=method, max_model_len=200)
    write_quantized(planned(settings), tmp_path)
    text = random_texts(1, 512, [30])[0]

    at_load, from_file = loaded(gemma, quantization=method), loaded(tmp_path, quantization="auto")

    assert (at_load.quantization, from_file.quantization) == (method, method)
    chunk = Chunk(0, 0, text, len(text))
    assert torch.equal(at_load.model.forward([chunk]), from_file.model.forward([chunk]))


@pytest.mark.parametrize(
    ("model_type", "changes", "why"),
    [
        pytest.param("falcon", {}, "'falcon' has attention of its own", id="not on the attention interface"),
        pytest.param("mamba", {}, "'mamba' takes no positions", id="no attention at all"),
        pytest.param("bart", {}, "'bart' takes no positions", id="positions that are not passed in"),
        pytest.param("lfm2", LFM2, "'lfm2' has layers of conv", id="convolutions between tokens"),
        pytest.param("llama4_text", {**GROUPED, "num_local_experts": 2}, "layers of chunked_attention", id="chunks"),
        pytest.param("qwen3_next", {}, "layers of linear_attention", id="recurrent state"),
    ],
)
def test_a_family_that_cannot_be_batched_is_refused(
    model_type: str, changes: dict[str, Any], why: str, tmp_path: Path
) -> None:
    write_family(tmp_path, model_type, changes)

    with pytest.raises(CheckpointProblem, match=why) as problem:
        loaded(tmp_path)

    assert problem.value.reason == "ModelUnsupported"
