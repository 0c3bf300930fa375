"""Specs that the API server takes and the cluster cannot, or not yet, carry out: each with the condition that says so.

What needs a node stands in tests/e2e. Name conflicts (C43, C44) and edited children (C51) are in test_operator_repair,
edits while deleting (C49) and of the status (C50) in test_operator_lifecycle.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.api import Api, Manifest, writes
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


async def _warned(api: Api, reason: str) -> Manifest:
    """Return the one event that warns of something odd about llama; it follows the status."""

    async def found() -> list[Manifest]:
        events = await api.all("Event", "")
        return [event for event in events if (event["type"], event["reason"]) == ("Warning", reason)]

    (event,) = await api.eventually(f"an event {reason}", found)
    return dict(event)


async def _wait_warnings(api: Api, *reasons: str) -> None:
    async def are_said() -> bool:
        said = (await api.get("LLMService", "llama"))["status"].get("warnings", ())
        return tuple(warning["reason"] for warning in said) == reasons

    await api.eventually(f"status.warnings says {reasons}", are_said)


async def test_c52_a_misspelt_annotation_is_warned_of_once_until_it_is_corrected(api: Api) -> None:
    manifest = llmservice("llama")
    manifest["metadata"]["annotations"] = {"llmservice.dev/restrt": "1"}
    await api.create(manifest)
    await _wait_warnings(api, "UnknownAnnotation")
    await serve(api, "llama")
    await api.merge("LLMService", "llama", {"metadata": {"annotations": {"llmservice.dev/restrt": "2"}}})
    await api.merge("LLMService", "llama", {"metadata": {"labels": {"another": "edit"}}})
    corrected = {"llmservice.dev/restrt": None, "llmservice.dev/restart": "2"}
    await api.merge("LLMService", "llama", {"metadata": {"annotations": corrected}})
    await _wait_warnings(api)
    event = await _warned(api, "UnknownAnnotation")
    assert "did you mean llmservice.dev/restart?" in event["note"]
    assert "series" not in event


async def test_c58_a_service_that_is_open_to_everybody_is_warned_of_and_shown(plane: ControlPlane, api: Api) -> None:
    await api.create(llmservice("llama", service={"type": "NodePort"}, auth={"mode": "Anonymous"}))
    await _wait_warnings(api, "OpenToEverybody")
    shown = plane.kubectl("get", "llmservice", "llama", "--output=wide", f"--namespace={api.namespace}")
    assert "Anonymous" in shown
    assert (await _warned(api, "OpenToEverybody"))["note"].startswith("Set spec.auth.mode to APIKey")
    await api.merge("LLMService", "llama", {"spec": {"service": {"type": "ClusterIP"}}})
    await _wait_warnings(api)


async def test_c53_nonsense_in_annotations_of_an_llmservice_is_nobodys_memory(
    plane: ControlPlane, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = llmservice("llama")
    remembered = ("kopf.zalando.org/last-handled-configuration", "llmservice.dev/last-handled-configuration")
    kopfs = dict.fromkeys((*remembered, "kopf.zalando.org/seen", "llmservice.dev/kopf-managed"), "{[")
    restart = "llmservice.dev/restart"
    # As much as the API server takes of annotations: a child has others beside it.
    room = 2**18 - sum(len(name) + len(value) for name, value in {**kopfs, restart: ""}.items())
    manifest["metadata"]["annotations"] = {**kopfs, restart: "x" * room}
    await api.create(manifest)
    await serve(api, "llama")
    before = await api.get("Deployment", "llama")
    await api.merge("LLMService", "llama", {"metadata": {"annotations": {restart: "x" * (room - 1) + "y"}}})

    async def is_restarted() -> bool:
        template = (await api.get("Deployment", "llama"))["spec"]["template"]
        return bool(template != before["spec"]["template"])

    await api.eventually("another value of 256 KiB rolls the pods", is_restarted)
    kept = (await api.get("LLMService", "llama"))["metadata"]["annotations"]
    assert {name: kept[name] for name in kopfs} == kopfs
    assert [write for write in writes(plane, api.namespace) if " llmservices llama" in write] == []
    assert [record.getMessage() for record in caplog.records if record.name.startswith("kopf")] == []


@pytest.mark.parametrize("value", ["{{ x", "[" * 200_000, "x" * 250_000], ids=["no JSON", "brackets", "250 kB"])
async def test_c53_what_the_operator_remembers_on_a_volume_is_written_again(api: Api, value: str) -> None:
    await api.create(llmservice("llama"))
    await serve(api, "llama")
    before = await api.get("PersistentVolumeClaim", "llama-cache")
    nonsense = {"metadata": {"annotations": {"llmservice.dev/cached": value}}}
    await api.merge("PersistentVolumeClaim", "llama-cache", nonsense)

    async def is_written_again() -> bool:
        after = await api.get("PersistentVolumeClaim", "llama-cache")
        return bool(after["metadata"]["annotations"] == before["metadata"]["annotations"])

    await api.eventually("the verdict is back", is_written_again)
    assert condition(await api.get("LLMService", "llama"), "Serving")["status"] == "True"


@pytest.mark.parametrize("character", ["x", "🦙", "\u0001"], ids=["letters", "four bytes each", "escaped in JSON"])
async def test_c47_the_longest_prompts_that_are_accepted_reach_the_replicas(api: Api, character: str) -> None:
    prompts = [{"prompt": character * 8192} for _ in range(8)]
    await api.create(llmservice("llama", rollout={"verification": {"prompts": prompts}}))
    await finish_warmup(api, "llama")
    await make_pods_ready(api, "llama")
    await wait_condition(api, "llama", "Scheduled", "True", within_seconds=SHOWN_SECONDS)
    texts: list[Any] = [json.dumps(config["data"]) for config in await api.all("ConfigMap") if "data" in config]
    assert max(map(len, texts)) > len(prompts) * 8192
