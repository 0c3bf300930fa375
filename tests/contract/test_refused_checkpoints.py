"""Checkpoints whose tensors are not what their config says are refused by name, before anything is read or computed."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from inference_server.checkpoint.validation import CheckpointProblem
from inference_server.engine.interface import EngineConfig, LoadFailure
from inference_server.models.loader import load, planned
from inference_server.models.quantize import write_quantized
from tests.support.families import write_family
from tests.support.models import write_checkpoint, write_json, write_safetensors

Stored = dict[str, tuple[str, tuple[int, ...], bytes]]
Q = "model.layers.1.self_attn.q_proj.weight"
STATE = f"{Q}.quant_state.bitsandbytes__nf4"


def loading(folder: Path, **settings: Any) -> None:
    settings = {"quantization": "auto", "max_model_len": 64, "max_batch_size": 2, **settings}
    load(EngineConfig(model_path=str(folder), **settings), lambda progress: None)


def stored(folder: Path) -> Stored:
    """Read the tensors of a checkpoint as they lie there."""
    content = (folder / "model.safetensors").read_bytes()
    end = 8 + struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:end])
    return {
        name: (entry["dtype"], tuple(entry["shape"]), content[end:][slice(*entry["data_offsets"])])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def reshaped(name: str, *shape: int) -> Callable[[Stored], None]:
    def change(tensors: Stored) -> None:
        tensors[name] = (tensors[name][0], shape, tensors[name][2])

    return change


def retyped(name: str, dtype: str) -> Callable[[Stored], None]:
    def change(tensors: Stored) -> None:
        tensors[name] = (dtype, *tensors[name][1:])

    return change


def resized(name: str, dtype: str, size: int) -> Callable[[Stored], None]:
    def change(tensors: Stored) -> None:
        tensors[name] = (dtype, (size,), bytes(size * (4 if dtype == "F32" else 1)))

    return change


def removed(name: str) -> Callable[[Stored], None]:
    return lambda tensors: tensors.pop(name) and None


def described(**changes: Any) -> Callable[[Stored], None]:
    def change(tensors: Stored) -> None:
        state = json.dumps({**json.loads(tensors[STATE][2]), **changes}).encode()
        tensors[STATE] = ("U8", (len(state),), state)

    return change


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("models") / "plain")


@pytest.fixture(scope="module")
def nf4(tmp_path_factory: pytest.TempPathFactory, plain: Path) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_quantized(planned(EngineConfig(model_path=str(plain), quantization="nf4")), folder)
    return folder


def changed(source: Path, target: Path, change: Callable[[Stored], None]) -> Path:
    tensors = stored(source)
    change(tensors)
    (target / "config.json").write_bytes((source / "config.json").read_bytes())
    write_safetensors(target / "model.safetensors", tensors)
    return target


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        pytest.param(removed(Q), "ModelInvalid", f"weights lack '{Q}'", id="a missing projection"),
        pytest.param(removed("model.norm.weight"), "ModelInvalid", "lack 'model.norm.weight'", id="a missing norm"),
        pytest.param(reshaped(Q, 128, 512), "ModelInvalid", r"has shape \[128, 512\].*\[256, 256\]", id="a shape"),
        pytest.param(reshaped(Q, 65536), "ModelInvalid", r"has shape \[65536\]", id="a flat shape"),
        pytest.param(retyped(Q, "I16"), "ModelUnsupported", "is I16, expected BF16 or F16 or F32", id="a dtype"),
    ],
)
def test_m12_a_tensor_that_is_not_what_the_config_says_is_named(
    change: Callable[[Stored], None], reason: str, message: str, plain: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointProblem, match=message) as problem:
        loading(changed(plain, tmp_path, change), quantization="none")

    assert problem.value.reason == reason


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(resized(Q, "U8", 100), r"has 100 bytes, \[256, 256\] at 4 bits is 32768", id="packed weights"),
        pytest.param(resized(f"{Q}.absmax", "U8", 7), r"absmax' has shape \[7\].*\[1024\]", id="scales"),
        pytest.param(removed(f"{Q}.absmax"), "lack .*absmax", id="no scales"),
        pytest.param(resized(f"{Q}.quant_map", "F32", 8), r"quant_map' has shape \[8\]", id="code table"),
        pytest.param(resized(f"{Q}.nested_quant_map", "F32", 255), r"has shape \[255\]", id="nested code table"),
        pytest.param(resized(f"{Q}.nested_absmax", "F32", 3), r"has shape \[3\].*\[4\]", id="nested scales"),
        pytest.param(described(shape=[512, 256]), "does not describe", id="another shape"),
        pytest.param(described(blocksize=0), "does not describe", id="no block size"),
        pytest.param(described(nested_blocksize=-1), "does not describe", id="negative block size"),
        pytest.param(described(nested_offset="much"), "does not describe", id="an offset that is none"),
        pytest.param(described(shape=None), "does not describe", id="no shape"),
        pytest.param(resized(STATE, "U8", 5000), "more than 4096 bytes", id="an endless description"),
        pytest.param(resized(STATE, "U8", 50), "does not describe", id="a description that is no JSON"),
    ],
)
def test_4_bit_weights_whose_parts_do_not_fit_are_refused(
    change: Callable[[Stored], None], message: str, nf4: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointProblem, match=message) as problem:
        loading(changed(nf4, tmp_path, change))

    assert problem.value.reason == "ModelInvalid"


def test_int8_weights_without_their_scales_are_refused(plain: Path, tmp_path: Path) -> None:
    (int8 := tmp_path / "int8").mkdir()
    write_quantized(planned(EngineConfig(model_path=str(plain), quantization="int8")), int8)
    scales = Q.removesuffix("weight") + "SCB"

    for change, message in ((resized(scales, "F32", 5), r"SCB' has shape \[5\]"), (removed(scales), f"'{Q}' is I8")):
        with pytest.raises(CheckpointProblem, match=message):
            loading(changed(int8, int8, change))


def test_m18_weights_that_are_no_numbers_are_refused(plain: Path, tmp_path: Path) -> None:
    def broken(tensors: Stored) -> None:
        down = "model.layers.1.mlp.down_proj.weight"
        tensors[down] = (*tensors[down][:2], b"\xff" * len(tensors[down][2]))

    with pytest.raises(CheckpointProblem, match="not a number"):
        loading(changed(plain, tmp_path, broken), quantization="none")


def test_absurd_sizes_are_refused_before_memory_is_asked_for(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, changes={})
    config = json.loads((tmp_path / "config.json").read_text())
    write_json(tmp_path / "config.json", {**config, "intermediate_size": 1 << 20, "num_hidden_layers": 1024})

    with pytest.raises(CheckpointProblem, match=r"gate_proj.weight' has shape \[512, 256\].*\[1048576, 256\]"):
        loading(tmp_path, quantization="none")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(removed("model.layers.1.mlp.gate_proj.weight"), "weights lack 'model.layers.1.mlp", id="missing"),
        pytest.param(reshaped("model.layers.1.mlp.gate_proj.weight", 64, 128), r"has shape \[64, 128\]", id="a shape"),
    ],
)
def test_a_tensor_of_another_family_is_never_made_up(
    change: Callable[[Stored], None], message: str, tmp_path: Path
) -> None:
    gemma = {"num_key_value_heads": 2, "head_dim": 16}
    source = write_family(tmp_path / "gemma", "gemma3_text", gemma)

    with pytest.raises(CheckpointProblem, match=message) as problem:
        loading(changed(source, tmp_path, change), quantization="none")

    assert problem.value.reason == "ModelInvalid"


def test_e09_a_gpu_that_is_not_there_is_a_configuration_failure(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(LoadFailure, match="no CUDA device is visible") as failure:
        loading(plain, device="cuda")

    assert (failure.value.reason, failure.value.exit_code) == ("EngineFailed", 78)


def test_files_with_another_digest_than_asked_for_are_refused(plain: Path) -> None:
    with pytest.raises(CheckpointProblem, match=r"correct spec\.model\.digest") as problem:
        loading(plain, quantization="none", expected_digest="sha256:" + "ab" * 32)

    assert problem.value.reason == "DigestMismatch"
