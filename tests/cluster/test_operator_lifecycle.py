"""Edits, suspension, autoscaling and deletion of an LLMService on a real API server."""

import asyncio
import json

from prometheus_client import REGISTRY

from tests.support.api import Api, Manifest, writes
from tests.support.controlplane import ControlPlane
from tests.support.running_operator import running_operator
from tests.support.stage import (
    autoscaled,
    condition,
    fail_warmup,
    finish_warmup,
    llmservice,
    make_pods_ready,
    serve,
    wait_condition,
)

RETAINED = {"reclaimPolicy": "Retain"}
COLLECTED_SECONDS = 45.0
"""The garbage collector looks for new kinds, ours among them, every 30 s; from then on it takes moments."""
QUIET_SECONDS = 3.0
FAILED = "controller_runtime_reconcile_errors_total"
OWNED_KINDS = (
    "ConfigMap",
    "Job",
    "Deployment",
    "Service",
    "ServiceAccount",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
    "NetworkPolicy",
    "Pod",
)


async def _nothing_owned(api: Api) -> bool:
    return not any([await api.all(kind) for kind in OWNED_KINDS])


async def test_deletion_leaves_nothing_but_the_retained_cache(operated: Api) -> None:
    spec = {"disruption": {"maxUnavailable": 1}, "networkPolicy": {"mode": "Restricted"}, "cache": RETAINED}
    await operated.create(llmservice("llama", scaling=autoscaled(), **spec))
    await serve(operated, "llama")
    await operated.delete("LLMService", "llama")
    await operated.eventually("everything owned is gone", lambda: _nothing_owned(operated), COLLECTED_SECONDS)
    assert [claim["metadata"]["name"] for claim in await operated.all("PersistentVolumeClaim")] == ["llama-cache"]


async def test_deletion_works_with_the_operator_gone(plane: ControlPlane, api: Api) -> None:
    async with running_operator(plane.kubeconfig, api.namespace):
        await api.create(llmservice("llama"))
        await serve(api, "llama")
    await api.delete("LLMService", "llama")
    await api.eventually("everything owned is gone", lambda: _nothing_owned(api), COLLECTED_SECONDS)


# C49
async def test_an_edit_while_deleting_creates_nothing(plane: ControlPlane, operated: Api) -> None:
    await operated.create(llmservice("llama"))
    await serve(operated, "llama")
    await operated.merge("LLMService", "llama", {"metadata": {"finalizers": ["test/hold"]}})
    await operated.delete("LLMService", "llama")
    await operated.delete("Service", "llama")
    await operated.merge("LLMService", "llama", {"spec": {"replicas": 2}})
    await wait_condition(operated, "llama", "Reconciling", "True", "Deleting")
    assert await operated.find("Service", "llama") is None
    assert (await operated.get("Deployment", "llama"))["spec"]["replicas"] == 1
    await operated.merge("LLMService", "llama", {"metadata": {"finalizers": None}})


async def test_f23_a_namespace_that_is_being_deleted_is_left_alone(plane: ControlPlane, operated: Api) -> None:
    await operated.create(llmservice("llama"))
    await serve(operated, "llama")
    held = {"name": "held", "finalizers": ["test/hold"]}
    await operated.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": held})
    failed = REGISTRY.get_sample_value(FAILED, {"controller": "llmservice"})
    before = len(writes(plane, operated.namespace))
    await asyncio.to_thread(plane.kubectl, "delete", "namespace", operated.namespace, "--wait=false")
    await operated.eventually("everything owned is gone", lambda: _nothing_owned(operated), COLLECTED_SECONDS)
    assert await operated.find("LLMService", "llama") is None
    tried = len(writes(plane, operated.namespace))
    await asyncio.sleep(QUIET_SECONDS)
    since = [line for line in writes(plane, operated.namespace)[before:] if " events " not in line]
    assert [line for line in since if line.endswith(" 201")] == []
    # The namespace's objects go one after another, and the first of them may be missed before its LLMService goes.
    assert len([line for line in since if line.endswith(" 403")]) <= 1, since
    assert len(writes(plane, operated.namespace)) == tried
    assert REGISTRY.get_sample_value(FAILED, {"controller": "llmservice"}) == failed
    await operated.merge("ConfigMap", "held", {"metadata": {"finalizers": None}})


async def test_an_llmservice_of_the_same_name_starts_warm_from_the_retained_cache(operated: Api) -> None:
    await operated.create(llmservice("llama", cache=RETAINED))
    await serve(operated, "llama")
    await operated.delete("LLMService", "llama")
    await operated.eventually("everything owned is gone", lambda: _nothing_owned(operated), COLLECTED_SECONDS)
    await operated.create(llmservice("llama", cache=RETAINED))
    await make_pods_ready(operated, "llama")
    await wait_condition(operated, "llama", "Ready", "True")
    assert await operated.all("Job") == []


async def test_a_larger_cache_asked_for_before_there_is_a_volume_stops_nothing(operated: Api) -> None:
    await operated.create(llmservice("llama", cache={"size": "1Gi"}))
    await operated.eventually("the claim", lambda: operated.find("PersistentVolumeClaim", "llama-cache"))
    await operated.merge("LLMService", "llama", {"spec": {"cache": {"size": "2Gi"}}})
    ready = await serve(operated, "llama")
    assert condition(ready, "ConfigurationValid")["reason"] == "Valid"
    claim = await operated.get("PersistentVolumeClaim", "llama-cache")
    assert claim["spec"]["resources"]["requests"]["storage"] == "1Gi"


async def test_a_recreated_llmservice_waits_for_the_old_children_to_go(operated: Api) -> None:
    await operated.create(llmservice("llama"))
    await serve(operated, "llama")
    await operated.delete("LLMService", "llama")
    new = await operated.create(llmservice("llama"))
    await wait_condition(operated, "llama", "Ready", "False")

    async def has_own_service() -> bool:
        found = await operated.find("Service", "llama")
        owners = found["metadata"]["ownerReferences"] if found else []
        return [owner["uid"] for owner in owners] == [new["metadata"]["uid"]]

    await operated.eventually("a Service of the new LLMService", has_own_service, COLLECTED_SECONDS)
    assert condition(await operated.get("LLMService", "llama"), "ConfigurationValid")["reason"] == "Valid"


# C50
async def test_a_status_written_by_a_user_is_ignored_and_put_right(operated: Api) -> None:
    await operated.create(llmservice("llama"))
    await wait_condition(operated, "llama", "Ready", "False")
    lie = {"type": "Ready", "status": "True", "reason": "AllReplicasReady", "message": "trust me"}
    lie["lastTransitionTime"] = "2026-01-01T00:00:00Z"
    unchanged = await operated.merge("LLMService", "llama", {"status": {"conditions": [lie], "phase": "Serving"}})
    assert condition(unchanged, "Ready")["status"] == "False"
    await operated.merge("LLMService", "llama", {"status": {"conditions": [lie], "phase": "Serving"}}, "status")
    repaired = await wait_condition(operated, "llama", "Ready", "False", within_seconds=5)
    assert repaired["status"]["phase"] != "Serving"


async def test_handing_over_to_an_autoscaler_and_back_never_drops_replicas(operated: Api) -> None:
    await operated.create(llmservice("llama", replicas=3))
    await serve(operated, "llama", 3)
    seen: list[int] = []
    watching = asyncio.create_task(_record_replicas(operated, "llama", seen))
    await operated.merge("LLMService", "llama", {"spec": {"scaling": autoscaled(2, 5)}})
    await operated.eventually("an autoscaler", lambda: operated.find("HorizontalPodAutoscaler", "llama"))
    await operated.merge("HorizontalPodAutoscaler", "llama", {"metadata": {"annotations": {"theirs": "1"}}})
    await asyncio.sleep(1)
    assert (await operated.get("Deployment", "llama"))["spec"]["replicas"] == 3
    await operated.merge("LLMService", "llama", {"spec": {"scaling": None, "replicas": 4}})

    async def is_fixed() -> bool:
        return bool((await operated.get("Deployment", "llama"))["spec"]["replicas"] == 4)

    await operated.eventually("fixed replicas", is_fixed)
    watching.cancel()
    assert set(seen) <= {3, 4}
    assert await operated.all("HorizontalPodAutoscaler") == []


async def _record_replicas(api: Api, name: str, seen: list[int]) -> None:
    while True:
        seen.append((await api.get("Deployment", name))["spec"]["replicas"])
        await asyncio.sleep(0.02)


async def test_an_autoscaler_keeps_what_it_set(operated: Api) -> None:
    await operated.create(llmservice("llama", scaling=autoscaled(1, 5)))
    await serve(operated, "llama")
    await operated.merge("Deployment", "llama", {"spec": {"replicas": 4}}, "scale")
    await operated.merge("LLMService", "llama", {"spec": {"engine": {"maxModelLen": 512}}})

    async def is_rendered() -> bool:
        return len(await operated.all("ConfigMap")) == 2

    await operated.eventually("the edit is applied", is_rendered)
    await asyncio.sleep(1)
    assert (await operated.get("Deployment", "llama"))["spec"]["replicas"] == 4


async def test_suspend_and_resume(operated: Api) -> None:
    await operated.create(llmservice("llama", scaling=autoscaled(2, 5)))
    await serve(operated, "llama", 1)
    await operated.merge("LLMService", "llama", {"spec": {"suspend": True}})
    suspended = await wait_condition(operated, "llama", "Ready", "True", "Suspended")
    assert suspended["status"]["phase"] == "Suspended"
    assert (await operated.get("Deployment", "llama"))["spec"]["replicas"] == 0
    assert await operated.all("HorizontalPodAutoscaler") == []
    await operated.merge("LLMService", "llama", {"spec": {"suspend": False}})

    async def is_up() -> bool:
        return bool((await operated.get("Deployment", "llama"))["spec"]["replicas"] == 2)

    await operated.eventually("minReplicas again", is_up)


async def test_a_paused_llmservice_is_left_as_it_is(plane: ControlPlane, operated: Api) -> None:
    await operated.create(llmservice("llama"))
    await serve(operated, "llama")
    await operated.merge("LLMService", "llama", {"spec": {"paused": True}})
    await wait_condition(operated, "llama", "Paused", "True")
    await operated.merge("Service", "llama", {"spec": {"sessionAffinity": "ClientIP"}})
    await asyncio.sleep(1)
    assert (await operated.get("Service", "llama"))["spec"]["sessionAffinity"] == "ClientIP"
    await operated.merge("LLMService", "llama", {"spec": {"paused": False}})

    async def is_repaired() -> bool:
        return bool((await operated.get("Service", "llama"))["spec"]["sessionAffinity"] == "None")

    await operated.eventually("repair after the pause", is_repaired, 5)


async def test_a_quota_that_forbids_a_child_is_said_and_heals(operated: Api) -> None:
    quota: Manifest = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}}
    quota["spec"] = {"hard": {"persistentvolumeclaims": "0"}}
    await operated.create(quota)

    async def is_enforced() -> bool:
        return "hard" in (await operated.get("ResourceQuota", "none")).get("status", {})

    await operated.eventually("the quota is enforced", is_enforced)
    await operated.create(llmservice("llama"))
    refused = await wait_condition(operated, "llama", "Ready", "False", "QuotaExceeded")
    assert condition(refused, "Stalled")["status"] == "True"
    await operated.delete("ResourceQuota", "none")
    await operated.eventually("the claim", lambda: operated.find("PersistentVolumeClaim", "llama-cache"), 20)


async def test_a_failed_warmup_is_said_with_its_reason(operated: Api) -> None:
    await operated.create(llmservice("llama"))
    await fail_warmup(operated, "llama", "RevisionNotFound", 65)
    await wait_condition(operated, "llama", "ModelCached", "False", "RevisionNotFound")
    await wait_condition(operated, "llama", "Stalled", "True", "RevisionNotFound")
    assert await operated.all("Deployment") == []


async def test_the_first_status_of_a_new_llmservice_comes_at_once(plane: ControlPlane, operated: Api) -> None:
    await operated.create(llmservice("llama"))
    await wait_condition(operated, "llama", "Ready", "False", within_seconds=2)
    await finish_warmup(operated, "llama")
    status_writes = [line for line in writes(plane, operated.namespace) if "llmservices/status" in line]
    assert all(line.endswith(" 200") for line in status_writes), json.dumps(status_writes)
