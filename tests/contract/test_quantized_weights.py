"""Weights quantized by bitsandbytes: our projections by them, and the checkpoint format that transformers reads too."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from inference_server.engine.interface import EngineConfig
from inference_server.models.llama.linear import packed, packed_for_cpu
from inference_server.models.llama.weights import Linear, read_weights
from inference_server.models.loader import load, planned
from inference_server.models.model import Chunk
from inference_server.models.quantize import write_quantized
from inference_server.models.quantized import Quantized4Bit, quantize_4bit, quantize_8bit, read_4bit
from tests.support.models import Family, write_checkpoint
from tests.support.teacher import error, random_texts

CPU = torch.device("cpu")
METHODS: list[Any] = [
    pytest.param("nf4", True, id="nf4"),
    pytest.param("nf4", False, id="nf4 with plain scales"),
    pytest.param("fp4", True, id="fp4"),
    pytest.param("int8", False, id="int8"),
]


def weight(out: int, inner: int, seed: int = 0) -> Tensor:
    return torch.randn(out, inner, generator=torch.Generator().manual_seed(seed)) * 0.05


def config(folder: Path, method: str = "auto", double_quant: bool = True, **settings: Any) -> EngineConfig:
    settings = {"quantization": method, "max_model_len": 200, "max_batch_size": 4, **settings}
    return EngineConfig(model_path=str(folder), double_quant=double_quant, **settings)


@pytest.mark.parametrize(("method", "double_quant"), METHODS)
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 0.01)])
@pytest.mark.parametrize("rows", [1, 8, 40])
@pytest.mark.parametrize("sizes", [(96, 128), (50, 128), (64, 96)], ids=["even", "odd rows", "blocks over rows"])
def test_a_projection_is_the_product_with_the_dequantized_weights(
    method: Any, double_quant: bool, dtype: torch.dtype, close: float, rows: int, sizes: tuple[int, int]
) -> None:
    linears, dense = [], []
    for seed in range(2):
        plain = weight(*sizes, seed)
        if method == "int8":
            quantized: Any = quantize_8bit(plain)
        else:
            quantized = read_4bit(quantize_4bit(plain, method, double_quant), method)
        linears.append(Linear(quantized, weight(1, sizes[0])[0]))
        dense.append(quantized.dequantized(torch.float32))
    x = weight(rows, sizes[1], seed=9).to(dtype)

    found = packed(linears, dtype, CPU)(x)

    bias = weight(1, sizes[0])[0].to(dtype).float()
    wanted = torch.cat([x.float() @ each.t() + bias for each in dense], dim=1)
    assert error(found.float(), wanted) < close


@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
def test_our_packing_for_the_fused_kernel_is_that_of_bitsandbytes(quant_type: Any) -> None:
    from bitsandbytes.functional import QuantState, _convert_weight_packed_for_cpu

    ours = read_4bit(quantize_4bit(weight(96, 256), quant_type, double_quant=False), quant_type)
    state = QuantState(
        ours.absmax.clone(), torch.Size(ours.shape), ours.code, ours.blocksize, quant_type, torch.bfloat16
    )

    theirs, state = _convert_weight_packed_for_cpu(ours.packed.clone(), state)

    blocked, absmax = packed_for_cpu([ours])
    assert torch.equal(blocked, theirs)
    assert torch.equal(absmax, state.absmax)


@pytest.mark.parametrize(("method", "double_quant"), METHODS)
def test_a_prequantized_checkpoint_is_what_quantizing_at_load_gives(
    method: Any, double_quant: bool, tmp_path: Path
) -> None:
    source, target = write_checkpoint(tmp_path / "source"), tmp_path / "target"
    target.mkdir()
    at_load = load(config(source, method, double_quant), lambda progress: None)
    write_quantized(planned(config(source, method, double_quant)), target)

    from_file = load(config(target), lambda progress: None)

    text = random_texts(1, 512, [50])[0]
    assert (at_load.quantization, from_file.quantization) == (method, method)
    chunk = Chunk(0, 0, text, len(text))
    assert torch.equal(at_load.model.forward([chunk]), from_file.model.forward([chunk]))


@pytest.mark.parametrize(("method", "double_quant"), METHODS)
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_transformers_writes_and_reads_the_same_quantized_checkpoint(
    family: Family, method: Any, double_quant: bool, tmp_path: Path
) -> None:
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    source = write_checkpoint(tmp_path / "source", family=family, changes={"tie_word_embeddings": family == "llama"})
    (ours := tmp_path / "ours").mkdir()
    write_quantized(planned(config(source, method, double_quant)), ours)
    options = BitsAndBytesConfig(
        load_in_8bit=method == "int8",
        load_in_4bit=method != "int8",
        bnb_4bit_quant_type=method if method != "int8" else "nf4",
        bnb_4bit_use_double_quant=double_quant,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    reference = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16, quantization_config=options)
    reference.save_pretrained(tmp_path / "theirs")

    mine, theirs = load_file(ours / "model.safetensors"), load_file(tmp_path / "theirs" / "model.safetensors")

    assert mine.keys() == theirs.keys()
    assert all(mine[name].dtype == theirs[name].dtype for name in mine)
    assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []
    text = torch.tensor(random_texts(1, 512, [30]))
    read_back = AutoModelForCausalLM.from_pretrained(ours, dtype=torch.bfloat16)
    with torch.inference_mode():
        assert torch.equal(read_back(text).logits, reference(text).logits)


@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_a_quantized_model_says_what_transformers_says_with_it(method: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    source = write_checkpoint(tmp_path / "source")
    (target := tmp_path / "target").mkdir()
    write_quantized(planned(config(source, method)), target)
    text = random_texts(1, 512, [40])[0]

    found = load(config(target), lambda progress: None).model.forward([Chunk(0, 0, text, len(text))])

    module = AutoModelForCausalLM.from_pretrained(target, dtype=torch.bfloat16)
    with torch.inference_mode():
        wanted = module(torch.tensor([text])).logits[0].float()
    # int8 is the farther one because bitsandbytes also rounds the activations to int8 there.
    assert error(found, wanted) < (0.03 if method == "nf4" else 0.06)


def test_raw_weights_stay_reachable(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source")
    (target := tmp_path / "target").mkdir()
    write_quantized(planned(config(source, "nf4")), target)
    plan = planned(config(target))
    assert plan.llama is not None

    found = read_weights(target, plan.llama).layers[0].down.weight

    assert isinstance(found, Quantized4Bit)
    assert found.shape == (256, 512)
    assert (found.packed.shape, found.packed.dtype) == ((256 * 512 // 2,), torch.uint8)
    assert (found.absmax.shape, found.absmax.dtype) == ((256 * 512 // 64,), torch.float32)
    assert (found.code.shape, found.code.dtype) == ((16,), torch.float32)
