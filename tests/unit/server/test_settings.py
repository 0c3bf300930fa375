"""Settings: rows E01 to E06 of the catalogue, the original variables, and the whole list of names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from inference_server.settings import ConfigurationError, Settings, known_variables, read_settings

_NAMES = """
MODEL_NAME USE_4BIT MAX_TOKENS HUGGING_FACE_HUB_TOKEN HF_TOKEN LLMSERVICE_ENGINE LLMSERVICE_MODEL_PATH
LLMSERVICE_MODEL_REF LLMSERVICE_MODEL_REVISION LLMSERVICE_MODEL_DIGEST LLMSERVICE_SERVED_NAME LLMSERVICE_QUANTIZATION
LLMSERVICE_COMPUTE_DTYPE LLMSERVICE_DOUBLE_QUANT LLMSERVICE_DEVICE LLMSERVICE_MAX_MODEL_LEN LLMSERVICE_MAX_BATCH_SIZE
LLMSERVICE_MAX_QUEUE_DEPTH LLMSERVICE_DRAIN_TIMEOUT_SECONDS LLMSERVICE_ENDPOINT_GRACE_SECONDS LLMSERVICE_API_KEYS_DIR
LLMSERVICE_VERIFICATION_DIR LLMSERVICE_REVISION LLMSERVICE_LOG_FORMAT LLMSERVICE_LOG_LEVEL LLMSERVICE_PORT
LLMSERVICE_MANAGEMENT_PORT LLMSERVICE_HOST
LLMSERVICE_TERMINATION_LOG LLMSERVICE_FAKE_FIRST_TOKEN_SECONDS LLMSERVICE_FAKE_TOKENS_PER_SECOND
LLMSERVICE_FAKE_LOAD_SECONDS LLMSERVICE_FAKE_BYTES_PER_TOKEN LLMSERVICE_FAKE_FAULT LLMSERVICE_FAKE_FAULT_AFTER
LLMSERVICE_CACHE_DIR LLMSERVICE_CACHE_KEEP LLMSERVICE_HUB_REPO LLMSERVICE_HUB_REVISION LLMSERVICE_HUB_ENDPOINT
LLMSERVICE_EXPECTED_DIGEST
LLMSERVICE_HTTP_URL LLMSERVICE_HTTP_SHA256 LLMSERVICE_HTTP_TOKEN LLMSERVICE_ALLOWED_ENDPOINTS LLMSERVICE_S3_URI
LLMSERVICE_S3_ENDPOINT LLMSERVICE_S3_REGION AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN
"""


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return a setter for an environment that holds nothing of ours but MODEL_NAME."""
    for name in known_variables():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MODEL_NAME", "org/model")
    return monkeypatch


def test_these_variables_and_no_others_are_read() -> None:
    assert sorted(known_variables()) == sorted(_NAMES.split())


def test_model_name_alone_is_enough(environment: pytest.MonkeyPatch) -> None:
    settings = read_settings(os.environ)
    assert (settings.model_id, settings.engine, settings.max_tokens) == ("org/model", "transformers", 256)
    assert (settings.port, settings.management_port, settings.max_batch_size) == (8000, 9090, 8)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        pytest.param(
            "LLMSERVICE_MAX_BATCHSIZE",
            "8",
            "LLMSERVICE_MAX_BATCHSIZE: unknown variable; did you mean LLMSERVICE_MAX_BATCH_SIZE or ",
            id="E01 unknown variable",
        ),
        pytest.param("LLMSERVICE_PORT", "http", "LLMSERVICE_PORT: Input should be a valid integer", id="E02 no number"),
        pytest.param(
            "LLMSERVICE_PORT", "70000", "LLMSERVICE_PORT: Input should be less than or equal", id="port range"
        ),
        pytest.param(
            "LLMSERVICE_DRAIN_TIMEOUT_SECONDS",
            "-1",
            "LLMSERVICE_DRAIN_TIMEOUT_SECONDS: Input should be greater than or equal to 0",
            id="E03 negative timeout",
        ),
        pytest.param(
            "LLMSERVICE_LOG_LEVEL",
            "loud",
            "LLMSERVICE_LOG_LEVEL: Input should be 'debug', 'info', 'warning' or 'error' (got 'loud')",
            id="E06 unknown log level",
        ),
        pytest.param("LLMSERVICE_MODEL_PATH", "models/x", "LLMSERVICE_MODEL_PATH: must be an absolute path", id="path"),
        pytest.param("MODEL_NAME", "", "MODEL_NAME: String should have at least 1 character", id="empty name"),
        pytest.param("USE_4BIT", "perhaps", "USE_4BIT: Input should be a valid boolean", id="no boolean"),
        pytest.param("LLMSERVICE_FAKE_TOKENS_PER_SECOND", "inf", "LLMSERVICE_FAKE_TOKENS_PER_SECOND: ", id="infinity"),
    ],
)
def test_a_bad_variable_is_one_line_that_names_it(
    environment: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    environment.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        read_settings(os.environ)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_missing_model_name_is_named(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("MODEL_NAME")
    with pytest.raises(ConfigurationError, match=r"^MODEL_NAME: not set$"):
        read_settings(os.environ)


def test_e04_two_tokens_that_differ_are_refused_without_showing_them(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HF_TOKEN", "hf_one")
    environment.setenv("HUGGING_FACE_HUB_TOKEN", "hf_two")
    with pytest.raises(ConfigurationError, match="token given twice") as caught:
        read_settings(os.environ)
    assert "hf_" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "token"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"HUGGING_FACE_HUB_TOKEN": "hf_one\n"}, "hf_one", id="trailing newline"),
        pytest.param({"HF_TOKEN": "hf_one", "HUGGING_FACE_HUB_TOKEN": "hf_one\n"}, "hf_one", id="the same twice"),
        pytest.param({"HF_TOKEN": " \n"}, "", id="nothing in it"),
        pytest.param({"HUGGING_FACE_HUB_TOKEN": ""}, "", id="empty"),
    ],
)
def test_the_token_is_trimmed(environment: pytest.MonkeyPatch, given: dict[str, str], token: str | None) -> None:
    for name, value in given.items():
        environment.setenv(name, value)
    settings = read_settings(os.environ)
    assert settings.hub_token == token
    assert "hf_one" not in repr(settings)


@pytest.mark.parametrize(
    ("given", "quantization"),
    [
        pytest.param({}, "auto", id="neither"),
        pytest.param({"USE_4BIT": "true"}, "nf4", id="USE_4BIT true"),
        pytest.param({"USE_4BIT": "false"}, "none", id="USE_4BIT false"),
        pytest.param({"USE_4BIT": "true", "LLMSERVICE_QUANTIZATION": "int8"}, "int8", id="both"),
    ],
)
def test_use_4bit_counts_only_without_the_quantization(
    environment: pytest.MonkeyPatch, given: dict[str, str], quantization: str
) -> None:
    for name, value in given.items():
        environment.setenv(name, value)
    assert read_settings(os.environ).wanted_quantization == quantization


def test_a_real_engine_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="LLMSERVICE_MODEL_PATH: 'org/model' is no folder"):
        Settings(model_name="org/model").engine_config()
    assert Settings(model_name=str(tmp_path)).engine_config().model_path == str(tmp_path.resolve())
