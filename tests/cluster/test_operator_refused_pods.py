"""Pods that quota or an admission policy refuses: the condition has the API server's words within five seconds (F22).

No pod of ours violates Pod Security "restricted" (tests/e2e/test_pod_security), so a policy refuses in its words.
"""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from tests.support.api import Api, Manifest
from tests.support.controlplane import ControlPlane
from tests.support.running_operator import running_operator
from tests.support.stage import condition, finish_warmup, llmservice, make_pods_ready, serve, wait_condition

SHOWN_SECONDS = 5.0
HEALED_SECONDS = 45.0
"""The controllers of Deployments and Jobs ask again less and less."""
RESTRICTED = 'violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false'


@pytest.fixture
async def api(plane: ControlPlane, namespace: str) -> AsyncIterator[Api]:
    async with Api(plane, namespace) as api, running_operator(plane.kubeconfig, namespace):
        yield api


async def _forbid_pods(api: Api) -> None:
    quota: Manifest = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}}
    await api.create({**quota, "spec": {"hard": {"pods": "0"}}})

    async def is_in_force() -> bool:
        return "used" in (await api.get("ResourceQuota", "none")).get("status", {})

    await api.eventually("the quota is in force", is_in_force)


async def _refused(api: Api, child: str, reason: str) -> str:
    """Return what the condition says within five seconds of the child that gets no pod."""

    async def is_there() -> bool:
        return bool(await api.all(child))

    await api.eventually(f"a {child}", is_there)
    told = await wait_condition(api, "llama", "Scheduled", "False", reason, within_seconds=SHOWN_SECONDS)
    assert condition(told, "Ready")["reason"] == condition(told, "Stalled")["reason"] == reason
    return str(condition(told, "Scheduled")["message"])


async def test_f22_a_quota_that_leaves_no_place_for_the_warm_up_is_told_and_heals(api: Api) -> None:
    await _forbid_pods(api)
    await api.create(llmservice("llama"))
    assert "exceeded quota: none, requested: pods=1" in await _refused(api, "Job", "QuotaExceeded")
    await api.delete("ResourceQuota", "none")
    await _finish_warmup_late(api)
    await make_pods_ready(api, "llama")
    await wait_condition(api, "llama", "Ready", "True")


async def _finish_warmup_late(api: Api) -> None:
    async def has_pod() -> bool:
        return bool(await api.all("Pod"))

    await api.eventually("the warm-up's pod", has_pod, HEALED_SECONDS)
    await finish_warmup(api, "llama")


async def test_f22_a_quota_that_leaves_no_place_for_a_replica_is_told(api: Api) -> None:
    await api.create(llmservice("llama"))
    await serve(api, "llama")
    await _forbid_pods(api)
    await api.merge("LLMService", "llama", {"spec": {"replicas": 2}})
    assert "exceeded quota: none, requested: pods=1" in await _refused(api, "Deployment", "QuotaExceeded")


@pytest.mark.parametrize("child", ["Job", "Deployment"])
async def test_f22_pods_that_pod_security_denies_are_told(plane: ControlPlane, api: Api, child: str) -> None:
    if child == "Deployment":
        await api.create(llmservice("llama"))
        await serve(api, "llama")
    with _denying(plane, api.namespace):
        # A policy is in force a moment after it was made.
        await api.eventually("pods are denied", lambda: _is_denied(api))
        if child == "Deployment":
            await api.merge("LLMService", "llama", {"spec": {"replicas": 2}})
        else:
            await api.create(llmservice("llama"))
        assert RESTRICTED in await _refused(api, child, "PodSecurityDenied")


@contextmanager
def _denying(plane: ControlPlane, namespace: str) -> Iterator[None]:
    """Deny every new pod in the namespace while the body runs."""
    group = "admissionregistration.k8s.io"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}
    spec: Manifest = {"matchConstraints": {"resourceRules": [rule]}}
    spec |= {"validations": [{"expression": "false", "message": RESTRICTED}]}
    header: Manifest = {"apiVersion": f"{group}/v1", "metadata": {"name": namespace}}
    policy = {**header, "kind": "ValidatingAdmissionPolicy", "spec": spec}
    matched = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    bound = {"policyName": namespace, "validationActions": ["Deny"], "matchResources": matched}
    binding = {**header, "kind": "ValidatingAdmissionPolicyBinding", "spec": bound}
    for manifest in (policy, binding):
        plane.kubectl("apply", "--server-side", "--filename", "-", stdin=json.dumps(manifest))
    try:
        yield
    finally:
        for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
            plane.kubectl("delete", kind, namespace)


async def _is_denied(api: Api) -> bool:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "try"}}
    pod["spec"] = {"containers": [{"name": "try", "image": "try"}]}
    answer = await api.ask("POST", f"/api/v1/namespaces/{api.namespace}/pods?dryRun=All", pod)
    return answer.is_error
