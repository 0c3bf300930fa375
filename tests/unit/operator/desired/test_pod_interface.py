"""The two programs meet in environment variables and termination messages; here both sides are asked."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from inference_server import termination
from inference_server.cache import endpoints as warmup_endpoints
from inference_server.checkpoint.shape import model_shape
from inference_server.engine.pace import PREFILL_TOKENS
from inference_server.models.context import CONTEXT_CAP
from inference_server.models.model import PAGE_TOKENS
from inference_server.settings import Settings, read_settings
from llmservice_operator.children import Children
from llmservice_operator.desired import desired, endpoints, memory_need
from llmservice_operator.diagnosis import verdict
from llmservice_operator.manifest import Manifest
from tests.support.builders import COMMIT, DIGEST, NOW, VERDICT, cached, make_llmservice, make_settings, manifest_of
from tests.support.models import write_checkpoint
from tests.support.specs import FULL_PROFILE, FULL_SPEC, HTTP_SOURCE, S3_SOURCE

ENDPOINTS = [
    "https://huggingface.co",
    "https://models.example.com",
    "http://minio.storage:9000",
    "https://s3.us-east-1.amazonaws.com",
]


def child(kind: str, spec: Manifest, profile: Manifest) -> Manifest:
    llmservice, settings = make_llmservice("llama", **spec), make_settings(profile=profile)
    return manifest_of(desired(llmservice, cached(llmservice, settings), settings, NOW).manifests, kind)


def value_of(variable: Manifest, secret: str) -> str:
    """Return what a container finds in a variable; one with neither value nor source is empty."""
    value: str = secret if "valueFrom" in variable else variable.get("value", "")
    return value


def settings_in(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return what the server reads when its process has this environment."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return read_settings()


@pytest.mark.parametrize(("spec", "profile"), [({}, {}), (FULL_SPEC, FULL_PROFILE)], ids=["minimal", "full"])
def test_the_server_takes_every_variable_of_its_config_map(
    spec: Manifest, profile: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_in(child("ConfigMap", spec, profile)["data"], monkeypatch)
    assert settings.model_path == Path("/cache", VERDICT["path"])
    assert (settings.model_revision, settings.quantization) == (COMMIT, "nf4")


@pytest.mark.parametrize(("spec", "profile"), [({}, {}), (FULL_SPEC, FULL_PROFILE)], ids=["minimal", "full"])
def test_the_warm_up_takes_every_variable_of_its_job(
    spec: Manifest, profile: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = child("Job", spec, profile)["spec"]["template"]["spec"]["containers"][0]
    environment = {item["name"]: value_of(item, secret="hf_token") for item in container["env"]}
    settings = settings_in(environment, monkeypatch)
    assert settings.hub_repo == settings.model_name
    assert (settings.hugging_face_hub_token is not None) is bool(spec)


def warmup_of(source: Manifest, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return what a warm-up reads that is to bring a model from `source`; every secret is `secret`."""
    llmservice, settings = make_llmservice(source=source), make_settings(allowedEndpoints=ENDPOINTS)
    job = manifest_of(desired(llmservice, cached(llmservice, settings), settings, NOW).manifests, "Job")
    container = job["spec"]["template"]["spec"]["containers"][0]
    return settings_in({item["name"]: value_of(item, secret="secret") for item in container["env"]}, monkeypatch)


def test_the_warm_up_takes_every_variable_of_an_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    read = warmup_of(HTTP_SOURCE, monkeypatch)
    assert (read.http_url, read.http_sha256) == (HTTP_SOURCE["http"]["url"], HTTP_SOURCE["http"]["sha256"])
    assert read.http_token is not None
    assert read.endpoints == ENDPOINTS
    assert read.model_name == "https://models.example.com/gemma-3-270m.tar.gz"


def test_the_warm_up_takes_every_variable_of_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    read = warmup_of(S3_SOURCE, monkeypatch)
    assert (read.s3_uri, read.s3_endpoint) == ("s3://models/gemma/270m", "http://minio.storage:9000")
    assert read.s3_region == "eu-west-1"
    assert None not in (read.aws_access_key_id, read.aws_secret_access_key, read.aws_session_token)
    assert read.model_name == "s3://models/gemma/270m"


def test_the_warm_up_of_a_public_bucket_asks_aws_without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    read = warmup_of({"s3": {"uri": "s3://models"}}, monkeypatch)
    assert read.s3_endpoint == "https://s3.us-east-1.amazonaws.com"
    assert (read.aws_access_key_id, read.aws_secret_access_key) == (None, None)


def test_the_server_checks_the_digest_of_files_that_no_warm_up_has_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    llmservice = make_llmservice(source={"pvc": {"claimName": "models"}}, model={"digest": DIGEST})
    config = manifest_of(desired(llmservice, Children(), make_settings(), NOW).manifests, "ConfigMap")
    assert settings_in(config["data"], monkeypatch).expected_digest == DIGEST
    assert "LLMSERVICE_EXPECTED_DIGEST" not in child("ConfigMap", {"model": {"digest": DIGEST}}, {})["data"]


@pytest.mark.parametrize(
    "url", ["https://a.example/b/c", "https://a.example/bc", "https://a.example/b/../c", "http://a.example/b"]
)
def test_both_programs_allow_the_same_addresses(url: str) -> None:
    for listed in (["https://a.example/b"], ["https://a.example"], ["http://a.example:80"]):
        assert endpoints.is_allowed(url, listed) is warmup_endpoints.is_allowed(url, listed)


def test_the_operator_reads_the_verdict_that_the_warm_up_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSERVICE_TERMINATION_LOG", str(tmp_path / "log"))
    shape = model_shape(write_checkpoint(tmp_path / "model"))
    assert shape is not None
    termination.write_verdict({**VERDICT, "shape": asdict(shape)})
    said = verdict.parse((tmp_path / "log").read_text())
    assert isinstance(said, verdict.Verdict)
    assert json.loads(said.model_dump_json()) == {**VERDICT, "shape": asdict(shape)}


def test_the_operator_counts_in_the_units_of_the_engine() -> None:
    assert memory_need.CONTEXT_CAP == CONTEXT_CAP
    assert memory_need.PAGE_TOKENS == PAGE_TOKENS
    assert memory_need.STEP_TOKENS == PREFILL_TOKENS


def test_the_operator_reads_the_failure_that_a_container_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSERVICE_TERMINATION_LOG", str(tmp_path / "log"))
    termination.write_failure("RevisionNotFound", "Change the revision")
    assert verdict.parse((tmp_path / "log").read_text()) == verdict.Failure(
        reason="RevisionNotFound", message="Change the revision"
    )
