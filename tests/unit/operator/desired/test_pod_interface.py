"""The two programs meet in environment variables and termination messages; here both sides are asked."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from inference_server import termination
from inference_server.checkpoint.shape import model_shape
from inference_server.engine.pace import PREFILL_TOKENS
from inference_server.models.context import CONTEXT_CAP
from inference_server.models.model import PAGE_TOKENS
from inference_server.settings import Settings, read_settings
from llmservice_operator.desired import desired, memory_need
from llmservice_operator.diagnosis import verdict
from llmservice_operator.manifest import Manifest
from tests.support.builders import COMMIT, NOW, VERDICT, cached, make_llmservice, make_settings, manifest_of
from tests.support.models import write_checkpoint
from tests.support.specs import FULL_PROFILE, FULL_SPEC


def child(kind: str, spec: Manifest, profile: Manifest) -> Manifest:
    llmservice, settings = make_llmservice("llama", **spec), make_settings(profile=profile)
    return manifest_of(desired(llmservice, cached(llmservice, settings), settings, NOW).manifests, kind)


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
    environment = {item["name"]: item.get("value", "hf_token") for item in container["env"]}
    settings = settings_in(environment, monkeypatch)
    assert settings.hub_repo == settings.model_name
    assert (settings.hugging_face_hub_token is not None) is bool(spec)


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
