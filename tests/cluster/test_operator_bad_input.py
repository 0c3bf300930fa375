"""Specs that the API server takes and the cluster cannot, or not yet, carry out: each with the condition that says so.

What needs a node stands in tests/e2e. Name conflicts (C43, C44) and edited children (C51) are in test_operator_repair,
edits while deleting (C49) and of the status (C50) in test_operator_lifecycle.
"""

from collections.abc import AsyncIterator

import pytest

from tests.support.api import Api, Manifest
from tests.support.controlplane import ControlPlane
from tests.support.running_operator import running_operator
from tests.support.stage import (
    VERDICT,
    condition,
    finish_warmup,
    llmservice,
    make_pods_ready,
    pods,
    serve,
    wait_condition,
)

SHOWN_SECONDS = 15.0
"""The operator reads events of what is older than five seconds, then every three."""


@pytest.fixture
async def api(plane: ControlPlane, namespace: str) -> AsyncIterator[Api]:
    async with Api(plane, namespace) as api, running_operator(plane.kubeconfig, namespace):
        yield api


def _types(manifest: Manifest, status: str) -> set[str]:
    return {entry["type"] for entry in manifest["status"]["conditions"] if entry["status"] == status}


async def test_c18_no_replicas_at_all_is_suspended_and_no_trouble(plane: ControlPlane, api: Api) -> None:
    await api.create(llmservice("llama", replicas=0))
    await finish_warmup(api, "llama")
    idle = await wait_condition(api, "llama", "Ready", "True", "Suspended")
    assert idle["status"]["phase"] == "Suspended"
    assert condition(idle, "Serving")["status"] == "False"
    assert _types(idle, "True").isdisjoint({"Stalled", "Degraded", "Reconciling"})
    assert (await api.get("Deployment", "llama"))["spec"]["replicas"] == 0
    plane.kubectl("scale", "llmservice", "llama", "--replicas=1", f"--namespace={api.namespace}")
    await make_pods_ready(api, "llama")
    await wait_condition(api, "llama", "Ready", "True", "AllReplicasReady")


@pytest.mark.parametrize("kind", ["requests", "limits"])
async def test_c20_memory_below_the_profiles_minimum_makes_nothing_until_it_is_raised(api: Api, kind: str) -> None:
    resources = {"requests": {"memory": "1Ki"}, kind: {"memory": "1Ki"}}
    await api.create(llmservice("llama", resources=resources))
    refused = await wait_condition(api, "llama", "ConfigurationValid", "False", "NotAllowedByProfile")
    message = condition(refused, "ConfigurationValid")["message"]
    assert "spec.resources.requests.memory" in message
    assert "64Mi" in message
    assert condition(refused, "Ready")["reason"] == condition(refused, "Stalled")["reason"] == "NotAllowedByProfile"
    for child in ("PersistentVolumeClaim", "Job", "Deployment", "Service"):
        assert await api.all(child) == []
    raised = {"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}}
    await api.merge("LLMService", "llama", {"spec": {"resources": raised}})
    await serve(api, "llama")


async def test_c20_what_serves_goes_on_serving_when_its_memory_is_edited_below_the_minimum(api: Api) -> None:
    await api.create(llmservice("llama"))
    await serve(api, "llama")
    before = await api.get("Deployment", "llama")
    await api.merge("LLMService", "llama", {"spec": {"resources": {"requests": {"memory": "1Ki"}}}})
    refused = await wait_condition(api, "llama", "ConfigurationValid", "False", "NotAllowedByProfile")
    assert condition(refused, "Ready")["status"] == "False"
    assert condition(refused, "Serving")["status"] == "True"
    after = await api.get("Deployment", "llama")
    assert after["metadata"]["generation"] == before["metadata"]["generation"]


async def test_c39_a_storage_class_that_does_not_exist_is_named_and_can_be_changed(api: Api) -> None:
    await api.create(llmservice("llama", cache={"storageClassName": "absent"}))
    stuck = await wait_condition(
        api, "llama", "ConfigurationValid", "False", "StorageClassNotFound", within_seconds=SHOWN_SECONDS
    )
    assert "absent" in condition(stuck, "ConfigurationValid")["message"]
    assert condition(stuck, "Ready")["reason"] == condition(stuck, "Stalled")["reason"] == "StorageClassNotFound"
    (stuck_pod,) = await pods(api, "llama", "warmup")
    await api.merge("LLMService", "llama", {"spec": {"cache": {"storageClassName": None}}})

    async def is_given_up() -> bool:
        return await api.find("Pod", stuck_pod["metadata"]["name"]) is None

    await api.eventually("the warm-up on the volume that never came is gone", is_given_up)
    await serve(api, "llama")
    healed = await wait_condition(api, "llama", "ConfigurationValid", "True", "Valid")
    assert "Stalled" not in _types(healed, "True")


async def test_files_with_another_digest_than_asked_for_are_not_rolled_out(api: Api) -> None:
    there, wanted = VERDICT["digest"], "sha256:" + "cd" * 32
    await api.create(llmservice("llama"))
    served = await serve(api, "llama")
    assert served["status"]["model"]["digest"] == there
    before = await api.get("Deployment", "llama")
    await api.merge("LLMService", "llama", {"spec": {"model": {"digest": wanted}}})
    refused = await wait_condition(api, "llama", "ModelCached", "False", "DigestMismatch")
    assert f"have {there}, not {wanted}" in condition(refused, "ModelCached")["message"]
    assert condition(refused, "Serving")["status"] == "True"

    await api.merge("LLMService", "llama", {"spec": {"model": {"digest": there}}})
    await wait_condition(api, "llama", "Ready", "True")
    after = await api.get("Deployment", "llama")
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
