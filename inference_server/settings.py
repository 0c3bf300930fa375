"""The settings of the server, read once from the environment by `__main__` and passed on as an argument.

The names are the operator's to render and a person's to set by hand. Whatever starts with LLMSERVICE_ and is not
known is an error: a misspelt limit that is quietly ignored shows only under load.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urljoin

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from inference_server.engine.interface import EngineConfig, FakeConfig

PREFIX = "LLMSERVICE_"

FOLDER = r"(models|quantized)(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+"
"""A model's folder below the root of the cache; no part of it starts with a dot."""

Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ConfigurationError(Exception):
    """The environment cannot be used; the text is one line that names variable, value and way out."""


class Settings(BaseSettings):
    """Every setting; the variable of a field is LLMSERVICE_ and its name in capitals, except where an alias says.

    `serve` uses all but the last group, `warmup` the model's, the log's, the management port's and the last group;
    `sweep` the log's, `cache_dir` and `cache_keep`.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", populate_by_name=True)

    model_name: Annotated[str, Field(min_length=1, validation_alias="MODEL_NAME")]
    """The model as people name it; also a local folder when the server is run by hand."""
    use_4bit: bool | None = Field(None, validation_alias="USE_4BIT")
    """The original switch: true is nf4, false is none. Counts only without `quantization`."""
    max_tokens: Annotated[int, Field(ge=1)] = Field(256, validation_alias="MAX_TOKENS")
    """Completion tokens of a request that does not say; cut to what the context leaves."""

    engine: Literal["transformers", "fake"] = "transformers"
    model_path: Path | None = None
    """Absolute folder of the model's files."""
    model_ref: str | None = None
    model_revision: str | None = None
    model_digest: str | None = None
    """What is known of the model, to be told; the next one is what its files must have, to be checked at load."""
    expected_digest: Annotated[str, Field(pattern=r"^sha256:[a-f0-9]{64}$")] | None = None
    served_name: str | None = None
    """The model's id in the API; MODEL_NAME when absent."""
    quantization: Literal["auto", "nf4", "fp4", "int8", "none"] = "auto"
    compute_dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    double_quant: bool = True
    device: Literal["auto", "cpu", "cuda"] = "auto"
    max_model_len: Annotated[int, Field(ge=128)] | None = None
    """Prompt plus completion, in tokens; None is the model's own limit, capped at 8192."""
    max_batch_size: Annotated[int, Field(ge=1, le=256)] = 8
    """Sequences that run at once."""
    max_queue_depth: Annotated[int, Field(ge=0, le=10_000)] = 64
    """Sequences that may wait beyond the running ones; one more is answered with 429."""

    drain_timeout_seconds: Annotated[int, Field(ge=0)] = 120
    """How long requests in flight may go on after SIGTERM before they are ended with an error."""
    endpoint_grace_seconds: Annotated[int, Field(ge=0)] = 5
    """How long no new request must have come after SIGTERM before the port is closed: load balancers have learned by
    then that this pod is going.
    """
    api_keys_dir: Path | None = None
    """Mounted Secret: file name = tenant, content = one key per line. None is a server without authentication."""
    verification_dir: Path | None = None
    """Mounted folder with the prompts that must be answered before this server is ready; see `verification`."""
    revision: str | None = None
    """The revision that this pod is of, for `verification` to know whether it is proven."""

    log_format: Literal["json", "text"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    host: str = "0.0.0.0"  # noqa: S104 - a pod is reached through its own network namespace; `::` where only IPv6 is
    port: Port = 8000
    management_port: Port = 9090
    termination_log: Path | None = None
    """Where `inference_server.termination` writes; None is the kubelet's default path."""

    fake_first_token_seconds: Seconds = 0.05
    fake_tokens_per_second: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 50.0
    fake_load_seconds: Seconds = 0.0
    fake_bytes_per_token: Annotated[int, Field(ge=0)] = 0
    fake_fault: Literal["none", "oom", "hang", "death", "nan", "load-failure"] = "none"
    fake_fault_after: Annotated[int, Field(ge=0)] = 0

    cache_dir: Path = Path("/cache")
    """Root of the cache volume."""
    cache_keep: Annotated[str, Field(pattern=rf"^({FOLDER}(,{FOLDER})*)?$")] | None = None
    """The folders below it that are still needed, separated by commas: all others may go where room is short. None is a
    volume of which nobody can tell, such as a shared one.
    """
    hub_repo: str | None = None
    hub_revision: str = "main"
    hub_endpoint: str = "https://huggingface.co"
    hugging_face_hub_token: SecretStr | None = Field(None, validation_alias="HUGGING_FACE_HUB_TOKEN")
    hf_token: SecretStr | None = Field(None, validation_alias="HF_TOKEN")
    http_url: str | None = None
    """The address of an archive with the model's files; it takes the place of the hub."""
    http_sha256: Annotated[str, Field(pattern=r"^[a-f0-9]{64}$")] | None = None
    """What the archive's bytes must have."""
    http_token: SecretStr | None = None
    allowed_endpoints: str = ""
    """Addresses, separated by commas, that the archive's server may redirect to; none: its own alone."""

    s3_uri: Annotated[str, Field(pattern=r"^s3://[a-z0-9]")] | None = None
    """A folder of a bucket, as s3://BUCKET/FOLDER; it takes the place of the hub."""
    s3_endpoint: str = "https://s3.us-east-1.amazonaws.com"
    s3_region: str = "us-east-1"
    aws_access_key_id: SecretStr | None = Field(None, validation_alias="AWS_ACCESS_KEY_ID")
    aws_secret_access_key: SecretStr | None = Field(None, validation_alias="AWS_SECRET_ACCESS_KEY")
    aws_session_token: SecretStr | None = Field(None, validation_alias="AWS_SESSION_TOKEN")

    @field_validator("model_path", "api_keys_dir", "verification_dir", "cache_dir")
    @classmethod
    def _is_absolute(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_absolute():
            raise ValueError("must be an absolute path")
        return path

    @model_validator(mode="after")
    def _tokens_agree(self) -> Settings:
        if len(set(self._tokens)) > 1:
            raise ValueError("token given twice: HF_TOKEN and HUGGING_FACE_HUB_TOKEN differ, set one of them")
        return self

    @model_validator(mode="after")
    def _archive_is_known(self) -> Settings:
        if (self.http_url is None) != (self.http_sha256 is None):
            raise ValueError(f"set {PREFIX}HTTP_URL and {PREFIX}HTTP_SHA256 together, or neither")
        if self.http_url is not None and self.s3_uri is not None:
            raise ValueError(f"set {PREFIX}HTTP_URL or {PREFIX}S3_URI, not both")
        return self

    @model_validator(mode="after")
    def _keys_are_pairs(self) -> Settings:
        if (self.aws_access_key_id is None) != (self.aws_secret_access_key is None):
            raise ValueError("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY together, or neither for a public bucket")
        return self

    @property
    def model_id(self) -> str:
        """The model's id in the API."""
        return self.served_name or self.model_name

    @property
    def wanted_quantization(self) -> Literal["auto", "nf4", "fp4", "int8", "none"]:
        """The quantization asked for, by `quantization` or, without it, by the original USE_4BIT."""
        if "quantization" in self.model_fields_set or self.use_4bit is None:
            return self.quantization
        return "nf4" if self.use_4bit else "none"

    @property
    def hub_token(self) -> str | None:
        """The token for the hub, trimmed; "" when a token was given and holds nothing, None when none was given."""
        return next(iter(self._tokens), None)

    @property
    def endpoints(self) -> list[str]:
        """The addresses that a warm-up with a URL may talk to."""
        given = [item.strip() for item in self.allowed_endpoints.split(",") if item.strip()]
        return given or [urljoin(self.http_url or "", "/")]

    @property
    def kept(self) -> tuple[str, ...]:
        """The folders of `cache_keep`."""
        return tuple(self.cache_keep.split(",")) if self.cache_keep else ()

    @property
    def _tokens(self) -> list[str]:
        given = (self.hugging_face_hub_token, self.hf_token)
        return [token.get_secret_value().strip() for token in given if token is not None]

    def engine_config(self) -> EngineConfig:
        """Return what the engine process needs.

        Raises:
            ConfigurationError: a real model is asked for and no folder is named.
        """
        return EngineConfig(
            engine=self.engine,
            model_path=self._model_folder(),
            expected_digest=self.expected_digest,
            quantization=self.wanted_quantization,
            compute_dtype=self.compute_dtype,
            double_quant=self.double_quant,
            device=self.device,
            max_model_len=self.max_model_len,
            max_batch_size=self.max_batch_size,
            log_format=self.log_format,
            log_level=self.log_level,
            fake=FakeConfig(
                first_token_seconds=self.fake_first_token_seconds,
                tokens_per_second=self.fake_tokens_per_second,
                load_seconds=self.fake_load_seconds,
                bytes_per_token=self.fake_bytes_per_token,
                fault=self.fake_fault,
                fault_after=self.fake_fault_after,
            ),
        )

    def _model_folder(self) -> str | None:
        if self.engine == "fake":
            return None
        folder = self.model_path or Path(self.model_name)
        if not folder.is_dir():
            raise ConfigurationError(
                f"{PREFIX}MODEL_PATH: {str(folder)!r} is no folder; fill it with `python -m inference_server warmup`, "
                "or name the folder that holds the model's files"
            )
        return str(folder.resolve())


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings from the process's environment.

    `environ` names the variables that are checked for unknown names; the values come from the process.

    Raises:
        ConfigurationError: an unknown LLMSERVICE_ variable, or a value that its setting does not take.
    """
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known_variables())
    if unknown:
        raise ConfigurationError("; ".join(_unknown(name) for name in unknown))
    try:
        return Settings()
    except ValidationError as error:
        raise ConfigurationError("; ".join(_complaint(item["loc"], item) for item in error.errors())) from None


def known_variables() -> dict[str, str]:
    """Return every variable of this server with the name of its field."""
    return {
        str(info.validation_alias) if info.validation_alias else PREFIX + name.upper(): name
        for name, info in Settings.model_fields.items()
    }


def _unknown(name: str) -> str:
    nearest = difflib.get_close_matches(name, known_variables(), n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(nearest)}?" if nearest else ""
    return f"{name}: unknown variable{hint}"


def _complaint(location: tuple[int | str, ...], item: Mapping[str, object]) -> str:
    message = str(item["msg"]).removeprefix("Value error, ")
    if not location:
        return message
    field = str(location[0])
    variable = next((known for known, name in known_variables().items() if field in (known, name)), field)
    if item["type"] == "missing":
        return f"{variable}: not set"
    if any(word in field.lower() for word in ("token", "access_key")):
        return f"{variable}: {message}"
    return f"{variable}: {message} (got {item['input']!r})"
