"""What the operator computes from headers is what an engine process takes, on the CPU.

Compared is what the model adds to a process: weights, KV memory of every sequence at its longest, and a step. What any
model brings along, Python and its libraries, is measured with a tiny one and must be within the operator's allowance.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from inference_server.checkpoint.shape import model_shape
from inference_server.engine.interface import EngineConfig
from inference_server.models.loader import planned
from inference_server.models.quantize import write_quantized
from llmservice_operator.desired.memory_need import CPU_BASE_BYTES, Serving, memory_need
from llmservice_operator.diagnosis.model_shape import ModelShape
from tests.support.engine_memory import engine_bytes
from tests.support.families import write_family
from tests.support.models import write_checkpoint

pytestmark = pytest.mark.timeout(300)

LEAST, MOST = 0.85, 1.25
"""Estimate by measurement."""
LEAST_OF_MODULES = 0.65
"""In bfloat16 transformers' modules leave behind what their matrices were packed from; the allocator keeps it."""
WEB_BYTES = 48 << 20
"""What the web process takes; 44 MiB were measured."""
SEQUENCES, LENGTH = 4, 1024
LLAMA: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "vocab_size": 16_000,
}
GEMMA: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "num_hidden_layers": 8,
    "head_dim": 64,
    "vocab_size": 16_000,
    "max_position_embeddings": 2048,
}


def write_llama(folder: Path) -> Path:
    return write_checkpoint(folder, layers=6, changes=LLAMA)


def write_gemma(folder: Path) -> Path:
    return write_family(folder, "gemma3_text", GEMMA, torch.bfloat16)


@pytest.fixture(scope="module")
def native_base(tmp_path_factory: pytest.TempPathFactory) -> int:
    tiny = write_checkpoint(tmp_path_factory.mktemp("models") / "tiny")
    return engine_bytes(model_path=str(tiny), quantization="none", max_model_len=128, max_batch_size=1)


@pytest.fixture(scope="module")
def modules_base(tmp_path_factory: pytest.TempPathFactory) -> int:
    tiny = write_family(tmp_path_factory.mktemp("models") / "tiny", "gemma3_text", {"num_key_value_heads": 2})
    return engine_bytes(model_path=str(tiny), quantization="none", max_model_len=128, max_batch_size=1)


def prequantized(folder: Path, method: Any, dtype: Any) -> Path:
    """Write what the warm-up would leave beside `folder`, and return it."""
    if method == "none":
        return folder
    target = folder.with_name(f"{folder.name}-{method}")
    target.mkdir()
    config = EngineConfig(model_path=str(folder), quantization=method, compute_dtype=dtype, device="cpu")
    write_quantized(planned(config), target)
    return target


@pytest.mark.parametrize(
    ("write", "base", "quantization", "compute_dtype", "least"),
    [
        pytest.param(write_llama, "native_base", "none", "auto", LEAST, id="llama in bfloat16"),
        pytest.param(write_llama, "native_base", "nf4", "auto", LEAST, id="llama in 4 bits"),
        pytest.param(write_llama, "native_base", "int8", "auto", LEAST, id="llama in 8 bits"),
        pytest.param(write_llama, "native_base", "none", "float32", LEAST, id="llama in float32"),
        pytest.param(write_gemma, "modules_base", "none", "auto", LEAST_OF_MODULES, id="gemma, transformers' modules"),
        pytest.param(write_gemma, "modules_base", "nf4", "auto", LEAST, id="gemma in 4 bits"),
    ],
)
def test_the_estimate_is_what_an_engine_takes(
    write: Callable[[Path], Path],
    base: str,
    quantization: Any,
    compute_dtype: str,
    least: float,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    folder, base_bytes = write(tmp_path / "model"), request.getfixturevalue(base)
    shape = model_shape(folder)
    assert shape is not None
    serving = Serving(
        shape=ModelShape.model_validate(asdict(shape)),
        quantization=quantization,
        compute_dtype=compute_dtype,
        max_model_len=LENGTH,
        sequences=SEQUENCES,
        is_on_gpu=False,
    )

    taken = engine_bytes(
        model_path=str(prequantized(folder, quantization, compute_dtype)),
        quantization=quantization,
        compute_dtype=compute_dtype,
        max_model_len=LENGTH,
        max_batch_size=SEQUENCES,
    )

    assert base_bytes + WEB_BYTES <= CPU_BASE_BYTES
    assert least <= (memory_need(serving).total - CPU_BASE_BYTES) / (taken - base_bytes) <= MOST
