import json
from pathlib import Path
from typing import Any

import pytest

from inference_server.checkpoint.validation import (
    CheckpointProblem,
    check_config,
    check_weights,
    effective_quantization,
    read_config,
)
from tests.support.models import config, write_checkpoint

BITSANDBYTES_NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
BITSANDBYTES_INT8 = {"quant_method": "bitsandbytes", "load_in_8bit": True, "load_in_4bit": False}


def test_a_whole_checkpoint_passes(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, shards=3)

    read_config(tmp_path)
    check_weights(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "config.json is missing", id="missing"),
        pytest.param(b"{", "config.json is not JSON", id="invalid"),
        pytest.param(b"[]", "config.json is not a JSON object", id="not an object"),
        pytest.param(b" " * (5 << 20), "more than", id="too large"),
    ],
)
def test_m09_a_config_that_cannot_be_read_is_invalid(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)

    with pytest.raises(CheckpointProblem, match=message) as problem:
        read_config(tmp_path)

    assert problem.value.reason == "ModelInvalid"


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        pytest.param({"num_hidden_layers": 10**9}, "ModelInvalid", "num_hidden_layers 1000000000", id="M12 layers"),
        pytest.param({"hidden_size": -64}, "ModelInvalid", "hidden_size -64", id="M12 negative"),
        pytest.param({"vocab_size": "many"}, "ModelInvalid", "vocab_size 'many'", id="M12 text"),
        pytest.param({"text_config": {"vocab_size": 0}}, "ModelInvalid", "vocab_size 0", id="M12 in the text part"),
        pytest.param({"model_type": None}, "ModelInvalid", "names no model_type", id="no type"),
        pytest.param({"model_type": "bert_of_mine"}, "ModelUnsupported", "'bert_of_mine' is none", id="M11 unknown"),
        pytest.param(
            {"model_type": "mine", "auto_map": {"AutoModelForCausalLM": "modeling_mine.Mine"}},
            "ModelUnsupported",
            "code from its repository, which is never run",
            id="M10 only repository code knows it",
        ),
    ],
)
def test_a_config_nobody_can_run_is_refused(change: dict[str, Any], reason: str, message: str) -> None:
    with pytest.raises(CheckpointProblem, match=message) as problem:
        check_config({**config(), **change})

    assert problem.value.reason == reason


@pytest.mark.parametrize(
    ("own", "wanted", "effective"),
    [
        pytest.param(None, "auto", "nf4", id="auto of a plain checkpoint is nf4"),
        pytest.param(None, "none", "none", id="none stays none"),
        pytest.param(None, "int8", "int8", id="as wanted"),
        pytest.param(BITSANDBYTES_NF4, "auto", "nf4", id="auto is the checkpoint's own"),
        pytest.param(BITSANDBYTES_INT8, "auto", "int8", id="auto is the checkpoint's own int8"),
        pytest.param(BITSANDBYTES_NF4, "nf4", "nf4", id="wanted and own agree"),
    ],
)
def test_the_effective_quantization(own: dict[str, Any] | None, wanted: Any, effective: str) -> None:
    assert effective_quantization({"quantization_config": own}, wanted) == effective


@pytest.mark.parametrize(
    ("own", "wanted", "reason"),
    [
        pytest.param(BITSANDBYTES_NF4, "int8", "QuantizationConflict", id="M25 nf4 weights, int8 wanted"),
        pytest.param(BITSANDBYTES_INT8, "none", "QuantizationConflict", id="M25 int8 weights, none wanted"),
        pytest.param({"quant_method": "gptq", "bits": 4}, "auto", "ModelUnsupported", id="gptq"),
    ],
)
def test_a_quantization_that_cannot_be_had_is_refused(own: dict[str, Any], wanted: Any, reason: str) -> None:
    with pytest.raises(CheckpointProblem) as problem:
        effective_quantization({"quantization_config": own}, wanted)

    assert problem.value.reason == reason


def test_m07_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, shards=3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()

    with pytest.raises(CheckpointProblem, match=r"model-00002-of-00003\.safetensors is missing"):
        check_weights(tmp_path)


def test_m06_a_truncated_shard_is_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    shard = tmp_path / "model.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])

    with pytest.raises(CheckpointProblem, match=r"model\.safetensors holds"):
        check_weights(tmp_path)


def test_a_tensor_of_the_index_that_is_in_no_shard_is_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, shards=2)
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["model.extra.weight"] = "model-00001-of-00002.safetensors"
    index.write_text(json.dumps(content))

    with pytest.raises(CheckpointProblem, match=r"lacks 'model\.extra\.weight'"):
        check_weights(tmp_path)


@pytest.mark.parametrize("shard", ["../other/model.safetensors", "/etc/passwd", "model.bin", 5])
def test_m15_an_index_that_names_files_elsewhere_is_refused(shard: Any, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, shards=2)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": shard}}))

    with pytest.raises(CheckpointProblem, match="no safetensors file beside it"):
        check_weights(tmp_path)


def test_a_vocabulary_that_is_not_the_embeddings_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config(), "vocab_size": 999}))

    with pytest.raises(CheckpointProblem, match="vocab_size 999"):
        check_weights(tmp_path)


def test_m01_a_folder_with_pickles_only_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")

    with pytest.raises(CheckpointProblem, match="convert the weights to safetensors"):
        check_weights(tmp_path)
