"""The children as a real API server takes them: stored with the very values we render, unmoved by an equal apply."""

import json
from pathlib import Path
from typing import Any

import pytest

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.desired import desired
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService, parse
from llmservice_operator.settings import Settings
from tests.support.builders import NOW, cached, make_settings
from tests.support.controlplane import ControlPlane
from tests.support.specs import FULL_PROFILE, FULL_SPEC, HTTP_SOURCE, IMAGE_SOURCE, S3_SOURCE, SCALING

HUB = {"huggingFace": {"repo": "google/gemma-3-270m"}}
MINIMAL: dict[str, Any] = {"model": {"source": HUB}}
LISTED = make_settings(
    allowedEndpoints=["https://huggingface.co", "https://models.example.com", "http://minio.storage:9000"]
)
NODE_PORT = {"type": "NodePort", "sessionAffinity": "ClientIP"}


def created(plane: ControlPlane, namespace: str, spec: Manifest, folder: Path) -> LLMService:
    """Return an LLMService that is really there, so that its children are not collected."""
    body = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": "gemma", "namespace": namespace},
        "spec": spec,
    }
    return parse(applied(plane, body, folder))


def applied(plane: ControlPlane, manifest: Manifest, folder: Path) -> Manifest:
    """Return what the API server stores after a server-side apply in the operator's name."""
    path = folder / "manifest.json"
    path.write_text(json.dumps(manifest))
    how = ("--server-side", "--force-conflicts", f"--field-manager={names.FIELD_MANAGER}", "--show-managed-fields")
    said = plane.kubectl("apply", *how, "--output=json", f"--filename={path}")
    stored: Manifest = json.loads(said)
    return stored


def ours(stored: Manifest) -> list[Manifest]:
    """Return the operator's part of the managed fields, with the time of its last change."""
    return [entry for entry in stored["metadata"]["managedFields"] if entry["manager"] == names.FIELD_MANAGER]


def missing(wanted: Any, live: Any, path: str = "") -> list[str]:
    """Return the paths where `live` does not have the very value of `wanted`."""
    if isinstance(wanted, dict) and isinstance(live, dict):
        return [place for key in wanted for place in missing(wanted[key], live.get(key), f"{path}.{key}")]
    if isinstance(wanted, list) and isinstance(live, list) and len(wanted) == len(live):
        pairs = enumerate(zip(wanted, live, strict=True))
        return [place for index, (one, other) in pairs for place in missing(one, other, f"{path}[{index}]")]
    return [] if wanted == live else [f"{path}: {wanted!r} is {live!r}"]


@pytest.mark.parametrize(
    ("spec", "settings"),
    [
        pytest.param(MINIMAL, make_settings(), id="minimal"),
        pytest.param(FULL_SPEC, make_settings(profile=FULL_PROFILE), id="full"),
        pytest.param({**MINIMAL, "scaling": SCALING}, make_settings(), id="autoscaled"),
        pytest.param(
            {**MINIMAL, "service": NODE_PORT, "auth": {"mode": "Anonymous"}, "resources": {"gpu": {"count": 1}}},
            make_settings(),
            id="node port",
        ),
        pytest.param({"model": {"source": {"pvc": {"claimName": "models"}}}}, make_settings(), id="source pvc"),
        pytest.param({"model": {"source": IMAGE_SOURCE}}, make_settings(), id="source image"),
        pytest.param({"model": {"source": HTTP_SOURCE}}, LISTED, id="source http"),
        pytest.param({"model": {"source": S3_SOURCE}}, LISTED, id="source s3"),
        pytest.param({**MINIMAL, "networkPolicy": {"mode": "Offline"}}, make_settings(), id="offline"),
    ],
)
def test_every_child_is_stored_as_it_is_rendered_and_an_equal_apply_changes_nothing(
    plane: ControlPlane, namespace: str, tmp_path: Path, spec: Manifest, settings: Settings
) -> None:
    llmservice = created(plane, namespace, spec, tmp_path)
    is_mounted = {"pvc", "image"} & spec["model"]["source"].keys()
    before = Children() if is_mounted else cached(llmservice, settings)
    for manifest in desired(llmservice, before, settings, NOW).manifests:
        stored = applied(plane, manifest, tmp_path)
        assert missing(manifest, stored) == [], manifest["kind"]
        assert ours(applied(plane, manifest, tmp_path)) == ours(stored)


def test_session_affinity_can_be_taken_back(plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    def service(affinity: str) -> Manifest:
        spec = {**MINIMAL, "service": {"sessionAffinity": affinity}}
        llmservice = created(plane, namespace, spec, tmp_path)
        wanted = desired(llmservice, Children(), make_settings(), NOW).manifests
        return applied(plane, wanted[-1], tmp_path)

    assert service("ClientIP")["spec"]["sessionAffinity"] == "ClientIP"
    assert service("None")["spec"]["sessionAffinity"] == "None"
