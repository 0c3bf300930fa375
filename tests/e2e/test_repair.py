"""Whatever somebody edits or deletes by hand is as it was within five seconds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from demo.kubectl import Kubectl, Manifest, condition, wait_for
from demo.watch import is_ready
from tests.e2e.conftest import llmservice

REPAIR_SECONDS = 5
AUTOSCALED = {
    "provider": "HPA",
    "maxReplicas": 2,
    "metrics": [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}
    ],
}


def config_map_name(kubectl: Kubectl) -> str:
    deployment = kubectl.get("deployment", "model")
    assert deployment is not None
    name: str = deployment["spec"]["template"]["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["name"]
    return name


def facts(manifest: Manifest | None) -> Any:
    """What a person would call the content of a child: without the server's bookkeeping."""
    if manifest is None:
        return None
    kept = copy.deepcopy(manifest)
    kept.pop("status", None)
    labels, owners = kept["metadata"].get("labels"), kept["metadata"].get("ownerReferences")
    spec = kept.get("spec") or {}
    for drawn in ("clusterIP", "clusterIPs", "volumeName"):
        spec.pop(drawn, None)
    for port in spec.get("ports", []):
        port.pop("nodePort", None)
    return kept.get("data"), spec, labels, owners


@pytest.mark.timeout(240)
def test_every_child_is_repaired_after_a_hand_edit_and_after_a_deletion(kubectl: Kubectl) -> None:
    kubectl.apply(llmservice("model", profile="fake", scaling=AUTOSCALED, rollout={"drainTimeoutSeconds": 0}))
    wait_for(lambda: is_ready(kubectl.get("llmservice", "model")), seconds=90, what="the service is Ready")
    edits: dict[tuple[str, str], Callable[[], Any]] = {
        ("deployment", "model"): lambda: kubectl.run(
            "set", "image", "deployment/model", "server=registry.example.com/other:1"
        ),
        ("service", "model"): lambda: kubectl.run(
            "patch", "service", "model", "--type=merge", "-p", '{"spec":{"sessionAffinity":"ClientIP"}}'
        ),
        ("horizontalpodautoscaler", "model"): lambda: kubectl.run(
            "patch", "hpa", "model", "--type=merge", "-p", '{"spec":{"maxReplicas":9}}'
        ),
        ("persistentvolumeclaim", "model-cache"): lambda: kubectl.run(
            "label", "pvc", "model-cache", "app.kubernetes.io/managed-by-"
        ),
        ("configmap", config_map_name(kubectl)): lambda: kubectl.run(
            "label", "configmap", config_map_name(kubectl), "app.kubernetes.io/instance=other", "--overwrite"
        ),
    }
    for (kind, name), edit in edits.items():
        before = facts(kubectl.get(kind, name))
        edit()
        wait_for(
            lambda: facts(kubectl.get(kind, name)) == before,  # noqa: B023 - asked within this round only
            seconds=REPAIR_SECONDS,
            what=f"{kind} {name} is as it was",
        )
    for kind, name in edits:
        if kind == "persistentvolumeclaim":
            continue
        found = kubectl.get(kind, name)
        assert found is not None
        old_uid = found["metadata"]["uid"]
        kubectl.delete(kind, name, wait=False)
        wait_for(
            lambda: (kubectl.get(kind, name) or {"metadata": {"uid": old_uid}})["metadata"]["uid"] != old_uid,  # noqa: B023
            seconds=REPAIR_SECONDS,
            what=f"{kind} {name} was made again",
        )


def test_a_deleted_volume_in_use_stays_until_its_pods_go_and_a_condition_says_so(kubectl: Kubectl) -> None:
    kubectl.apply(llmservice("model", profile="fake", rollout={"drainTimeoutSeconds": 0}))
    wait_for(lambda: is_ready(kubectl.get("llmservice", "model")), seconds=90, what="the service is Ready")
    kubectl.delete("persistentvolumeclaim", "model-cache", wait=False)
    said = wait_for(
        lambda: (c := condition(kubectl.get("llmservice", "model"), "ModelCached"))["status"] == "False" and c,
        seconds=REPAIR_SECONDS,
        what="ModelCached turned False",
    )
    assert "model-cache" in said["message"]
    assert condition(kubectl.get("llmservice", "model"), "Serving")["status"] == "True"
