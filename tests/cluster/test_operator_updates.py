"""Another version of the operator, or another profile, takes over services that run, on a real API server.

Faults F54 and F55: in the middle of a rollout, and from a newer version than its own.
"""

import json
from typing import Any

from tests.support.api import Api, Manifest
from tests.support.controlplane import ControlPlane
from tests.support.running_operator import running_operator
from tests.support.stage import (
    begin_rollout,
    condition,
    llmservice,
    make_ready,
    pods,
    serve,
    server_uids,
    wait_condition,
)

REVISION = "llmservice.dev/revision"
LONGER = {"spec": {"engine": {"maxModelLen": 2048}}}
CHANGED = {"maxTokens": 512, "requests": {"cpu": "3", "memory": "8Gi"}}


async def test_an_upgrade_replaces_no_pod_until_somebody_asks_for_it(plane: ControlPlane, namespace: str) -> None:
    async with Api(plane, namespace) as api:
        async with running_operator(plane.kubeconfig, namespace):
            await api.create(llmservice("llama"))
            await serve(api, "llama")
        before = await server_uids(api, "llama")
        async with running_operator(plane.kubeconfig, namespace, profile=CHANGED):
            pending = await wait_condition(api, "llama", "UpdatePending", "True", "OperatorUpgraded")
            fields = pending["status"]["operator"]["pendingSummary"]
            assert fields == "spec.containers[server].resources.requests.cpu, environment.MAX_TOKENS"
            await wait_condition(api, "llama", "Ready", "True")
            assert await server_uids(api, "llama") == before
            await api.merge("LLMService", "llama", {"metadata": {"annotations": {"llmservice.dev/apply-update": "1"}}})

            async def is_replaced() -> bool:
                for pod in await pods(api, "llama", "server"):
                    await make_ready(api, pod)
                found = await server_uids(api, "llama")
                return len(found) == 1 and found.isdisjoint(before)

            await api.eventually("the pod is replaced", is_replaced)
            await wait_condition(api, "llama", "UpdatePending", "False")
            await wait_condition(api, "llama", "Ready", "True")


async def test_f54_an_upgrade_in_the_middle_of_a_rollout_goes_on_with_it(plane: ControlPlane, namespace: str) -> None:
    async with Api(plane, namespace) as api:
        async with running_operator(plane.kubeconfig, namespace):
            before = await begin_rollout(api, "llama", LONGER, replicas=2)
        (new,) = await server_uids(api, "llama") - before
        revision = await _revision(api)
        async with running_operator(plane.kubeconfig, namespace, profile=CHANGED):
            await wait_condition(api, "llama", "UpdatePending", "True", "OperatorUpgraded")
            assert await server_uids(api, "llama") == before | {new}

            async def is_done() -> bool:
                mine = await pods(api, "llama", "server")
                for pod in mine:
                    await make_ready(api, pod)
                return len(mine) == 2 and all(pod["metadata"]["labels"][REVISION] == revision for pod in mine)

            await api.eventually("both replicas are of the new revision", is_done)
            await wait_condition(api, "llama", "Ready", "True")
            assert await _revision(api) == revision
            assert new in await server_uids(api, "llama")
            assert len(await api.all("ReplicaSet", "app.kubernetes.io/instance=llama")) == 2


async def test_f55_what_a_newer_operator_left_is_not_harmed_and_harms_nothing(
    plane: ControlPlane, namespace: str
) -> None:
    async with Api(plane, namespace) as api:
        async with running_operator(plane.kubeconfig, namespace):
            await api.create(llmservice("llama", newer={"than": "this"}))
            await serve(api, "llama")
        before = await server_uids(api, "llama")
        revision = await _leave_a_newer_revision(plane, api)
        await _leave_a_newer_status(plane, api)
        async with running_operator(plane.kubeconfig, namespace):
            ready = await wait_condition(api, "llama", "Ready", "True", "AllReplicasReady")
            assert condition(ready, "ConfigurationValid")["reason"] == "Valid"
            await api.merge("LLMService", "llama", {"spec": {"replicas": 2}})

            async def is_scaled() -> bool:
                mine = await pods(api, "llama", "server")
                for pod in mine:
                    await make_ready(api, pod)
                return len(mine) == 2

            await api.eventually("a second replica", is_scaled)
            await wait_condition(api, "llama", "Ready", "True")
            assert before < await server_uids(api, "llama")
            kept = await api.get("ControllerRevision", revision["metadata"]["name"])
            assert (kept["metadata"]["uid"], kept["data"]) == (revision["metadata"]["uid"], revision["data"])


async def _revision(api: Api) -> str:
    deployment = await api.get("Deployment", "llama")
    return str(deployment["spec"]["template"]["metadata"]["labels"][REVISION])


async def _leave_a_newer_revision(plane: ControlPlane, api: Api) -> Manifest:
    """Put a revision that knows more in the place of the one that is there, and return it."""
    (old,) = await api.all("ControllerRevision")
    await api.delete("ControllerRevision", old["metadata"]["name"])
    kept = ("name", "namespace", "labels", "annotations", "ownerReferences")
    metadata = {field: old["metadata"][field] for field in kept}
    metadata["annotations"] = {**metadata["annotations"], "llmservice.dev/newer": "1"}
    request = {**old["data"]["request"], "newer": 1}
    request["spec"] = {**request["spec"], "newer": {"than": "this"}}
    data = {**old["data"], "request": request, "newer": {"than": "this"}}
    body = {"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": metadata, "revision": old["revision"]}
    _apply(plane, {**body, "data": data}, "llmservice-operator")
    return await api.get("ControllerRevision", old["metadata"]["name"])


async def _leave_a_newer_status(plane: ControlPlane, api: Api) -> None:
    """Say in the status what this version does not know."""
    found = await api.get("LLMService", "llama")
    status: dict[str, Any] = found["status"]
    since = {"status": "False", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    others = [entry for entry in status["conditions"] if entry["type"] != "Ready"]
    ready = {**since, "type": "Ready", "reason": "SomethingNewer"}
    status = {**status, "newer": 1, "conditions": [*others, ready, {**since, "type": "Newer", "reason": "New"}]}
    body = {"apiVersion": found["apiVersion"], "kind": "LLMService", "status": status}
    body["metadata"] = {"name": "llama", "namespace": api.namespace}
    _apply(plane, body, "llmservice-operator-status", "--subresource=status")


def _apply(plane: ControlPlane, manifest: Manifest, field_manager: str, *arguments: str) -> None:
    applied = ("apply", "--server-side", "--force-conflicts", f"--field-manager={field_manager}", "--filename", "-")
    plane.kubectl(*applied, "--validate=ignore", *arguments, stdin=json.dumps(manifest))
