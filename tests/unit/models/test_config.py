from typing import Any

import pytest

from inference_server.checkpoint.validation import CheckpointProblem
from inference_server.models.llama.config import LlamaConfig, Rope, llama_config
from tests.support.models import Family, config

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 1024,
}


def read(max_model_len: int | None = None, family: Family = "llama", **changes: Any) -> LlamaConfig | None:
    return llama_config({**config(family=family), **changes}, None, max_model_len)


def ours(**changes: Any) -> LlamaConfig:
    found = read(**changes)
    assert found is not None
    return found


def test_a_whole_config_is_read() -> None:
    assert read() == LlamaConfig(
        vocabulary_size=512,
        hidden_size=256,
        intermediate_size=512,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=64,
        rms_eps=1e-05,
        rope=Rope(10000.0),
        qkv_bias=False,
        output_bias=False,
        mlp_bias=False,
        qk_norm=False,
        tied_embeddings=True,
        context=2048,
        eos_token_ids=frozenset([0]),
    )


@pytest.mark.parametrize(
    ("family", "changes", "flags"),
    [
        pytest.param("llama", {}, (False, False, False, False), id="llama"),
        pytest.param(
            "llama", {"attention_bias": True, "mlp_bias": True}, (True, True, True, False), id="llama, biased"
        ),
        pytest.param("mistral", {"attention_bias": True, "sliding_window": None}, (False,) * 4, id="mistral has none"),
        pytest.param("qwen2", {}, (True, False, False, False), id="qwen2"),
        pytest.param("qwen3", {}, (False, False, False, True), id="qwen3"),
        pytest.param("qwen3", {"attention_bias": True}, (True, True, False, True), id="qwen3, biased"),
    ],
)
def test_the_flags_of_each_family(family: Family, changes: dict[str, Any], flags: tuple[bool, ...]) -> None:
    found = ours(family=family, **changes)

    assert (found.qkv_bias, found.output_bias, found.mlp_bias, found.qk_norm) == flags


@pytest.mark.parametrize(
    ("changes", "rope"),
    [
        pytest.param({"rope_theta": 5e5}, Rope(5e5), id="theta alone"),
        pytest.param(
            {"rope_scaling": {"type": "linear", "factor": 2.0}}, Rope(10000.0, 2.0), id="linear, old spelling"
        ),
        pytest.param({"rope_scaling": LLAMA3}, Rope(10000.0, 8.0, 1.0, 4.0, 1024), id="llama3, old spelling"),
        pytest.param({"rope_parameters": {**LLAMA3, "rope_theta": 5e5}}, Rope(5e5, 8.0, 1.0, 4.0, 1024), id="llama3"),
        pytest.param({"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}, Rope(7.0), id="new spelling"),
    ],
)
def test_both_spellings_of_the_rotary_embedding(changes: dict[str, Any], rope: Rope) -> None:
    assert ours(**changes).rope == rope


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"model_type": "gemma3_text"}, id="another family"),
        pytest.param({"hidden_act": "gelu"}, id="another activation"),
        pytest.param({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, id="yarn"),
        pytest.param({"rope_parameters": {"rope_type": "dynamic", "factor": 4.0}}, id="dynamic"),
        pytest.param({"partial_rotary_factor": 0.5}, id="partial rotary embedding"),
        pytest.param({"family": "mistral", "sliding_window": 1024}, id="mistral with a window below its context"),
        pytest.param({"family": "qwen2", "use_sliding_window": True, "sliding_window": 1024}, id="qwen2 with a window"),
        pytest.param({"family": "qwen3", "layer_types": ["full_attention", "sliding_attention"]}, id="mixed layers"),
    ],
)
def test_what_this_forward_pass_cannot_compute_is_left_to_transformers(changes: dict[str, Any]) -> None:
    assert read(**changes) is None


def test_a_window_as_wide_as_what_is_served_is_none() -> None:
    assert ours(family="mistral", sliding_window=1024, max_model_len=1024).context == 2048


def test_end_of_sequence_tokens_are_those_of_the_generation_config() -> None:
    llama = {"eos_token_id": 0, **config()}

    for generation_config, expected in [(None, {0}), ({"eos_token_id": [5, 6]}, {5, 6}), ({}, set())]:
        found = llama_config(llama, generation_config)
        assert found is not None
        assert found.eos_token_ids == expected


def test_m24_an_invalid_generation_config_is_ignored() -> None:
    found = llama_config(config(), {"eos_token_id": ["</s>"]})

    assert found is not None
    assert found.eos_token_ids == {0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"num_key_value_heads": 3}, "num_key_value_heads 3 does not divide", id="groups of heads"),
        pytest.param({"head_dim": None, "num_attention_heads": 6}, "6 heads do not divide hidden_size", id="heads"),
        pytest.param({"head_dim": 63}, "head_dim 63 is odd", id="odd head"),
        pytest.param({"head_dim": 1 << 20}, "head_dim 1048576 is odd or above", id="wide head"),
        pytest.param({"rms_norm_eps": -1}, "rms_norm_eps -1 is no positive number", id="epsilon"),
        pytest.param({"rope_theta": "big"}, "rope_theta 'big' is no positive number", id="theta"),
        pytest.param({"rope_scaling": {"type": "linear"}}, "factor None is no positive number", id="factor"),
        pytest.param({"rope_scaling": "linear"}, "describes no rotary embedding", id="scaling"),
        pytest.param({"num_hidden_layers": 1.5}, "num_hidden_layers 1.5 is no size", id="layers"),
    ],
)
def test_m12_sizes_that_do_not_fit_are_invalid(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointProblem, match=message) as problem:
        read(**changes)

    assert problem.value.reason == "ModelInvalid"
