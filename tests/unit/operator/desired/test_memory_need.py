"""The computation by itself; tests/contract/test_memory_need.py compares it with what the engine takes."""

from dataclasses import replace
from typing import Any

import pytest

from llmservice_operator.desired.memory_need import Serving, memory_need
from llmservice_operator.diagnosis.model_shape import ModelShape
from tests.support.builders import SHAPE

LLAMA = Serving(
    shape=ModelShape.model_validate(SHAPE),
    quantization="nf4",
    compute_dtype="auto",
    max_model_len=8192,
    sequences=8,
    is_on_gpu=True,
)
LINEAR, OTHER, KV = SHAPE["linear_weights"], SHAPE["other_weights"], SHAPE["kv_numbers"]


@pytest.mark.parametrize(
    ("changes", "dtype", "weights"),
    [
        pytest.param({"quantization": "nf4"}, "bfloat16", LINEAR * 9 // 16 + OTHER * 2, id="4 bits and a scale for 64"),
        pytest.param({"quantization": "fp4"}, "bfloat16", LINEAR * 9 // 16 + OTHER * 2, id="fp4 alike"),
        pytest.param({"quantization": "int8"}, "bfloat16", LINEAR + OTHER * 2, id="8 bits"),
        pytest.param({"quantization": "none"}, "bfloat16", (LINEAR + OTHER) * 2, id="as they are"),
        pytest.param({"quantization": "none"}, "float32", (LINEAR + OTHER) * 4, id="as they are, in float32"),
        pytest.param({"quantization": "nf4"}, "float32", LINEAR * 9 // 16 + OTHER * 2, id="quantized in bfloat16"),
        pytest.param(
            {"quantization": "nf4", "compute_dtype": "float32"}, "bfloat16", LINEAR * 9 // 16 + OTHER * 4, id="float32"
        ),
        pytest.param(
            {"quantization": "none", "compute_dtype": "float16"}, "float32", (LINEAR + OTHER) * 2, id="narrowed"
        ),
        pytest.param({"quantization": "none"}, None, (LINEAR + OTHER) * 2, id="a config that names no dtype"),
    ],
)
def test_weights(changes: dict[str, Any], dtype: str | None, weights: int) -> None:
    shape = LLAMA.shape.model_copy(update={"dtype": dtype})
    assert memory_need(replace(LLAMA, shape=shape, **changes)).weights == weights


@pytest.mark.parametrize(
    ("changes", "tokens"),
    [
        pytest.param({"is_on_gpu": False}, 8 * 8192 + 8 * 8192 // 4, id="every sequence, and a quarter for prefixes"),
        pytest.param({}, 9 * 8192 + 8 * 8192 // 4, id="on a GPU one sequence more"),
        pytest.param({"is_on_gpu": False, "max_model_len": 1000, "sequences": 1}, 1024 + 7 * 32, id="in whole pages"),
    ],
)
def test_kv_cache(changes: dict[str, Any], tokens: int) -> None:
    assert memory_need(replace(LLAMA, **changes)).kv_cache == tokens * KV * 2


def test_float32_doubles_the_kv_cache() -> None:
    twice = memory_need(replace(LLAMA, compute_dtype="float32"))
    assert twice.kv_cache == 2 * memory_need(LLAMA).kv_cache


def test_the_whole_need_of_llama_3b_in_4_bits() -> None:
    need = memory_need(replace(LLAMA, max_model_len=4096, sequences=4))
    assert need.total == need.weights + need.kv_cache + need.beside
    assert 5.5 < need.total / 2**30 < 6.5
