"""The operator on a real API server: what six lines become, and that nothing is written when nothing differs."""

import asyncio

from tests.support.api import Api, writes
from tests.support.controlplane import ControlPlane
from tests.support.running_operator import running_operator
from tests.support.stage import (
    COMMIT,
    autoscaled,
    condition,
    finish_warmup,
    llmservice,
    make_pods_ready,
    serve,
    settled,
    wait_condition,
)

CHILD_KINDS = ("PersistentVolumeClaim", "ConfigMap", "Job", "Deployment", "Service")
QUIET_SECONDS = 4.0
"""Longer than the operator waits before it looks again at anything troubled."""


async def test_six_lines_become_a_served_model(plane: ControlPlane, api: Api) -> None:
    async with running_operator(plane.kubeconfig, api.namespace):
        await api.create(llmservice("llama"))
        await finish_warmup(api, "llama")
        await make_pods_ready(api, "llama")
        ready = await wait_condition(api, "llama", "Ready", "True", "AllReplicasReady")
        names = {kind: [child["metadata"]["name"] for child in await api.all(kind)] for kind in CHILD_KINDS}
    assert ready["status"]["phase"] == "Serving"
    assert ready["status"]["model"]["resolvedRevision"] == COMMIT
    assert names["Deployment"] == names["Service"] == ["llama"]
    assert names["PersistentVolumeClaim"] == ["llama-cache"]
    assert [len(names[kind]) for kind in ("ConfigMap", "Job")] == [1, 1]


async def test_no_deployment_exists_while_the_model_is_not_cached(plane: ControlPlane, api: Api) -> None:
    async with running_operator(plane.kubeconfig, api.namespace):
        await api.create(llmservice("llama"))
        caching = await wait_condition(api, "llama", "ModelCached", "False")
        assert await api.all("Deployment") == []
    assert condition(caching, "Ready")["status"] == "False"


async def test_nothing_is_written_while_nothing_differs(plane: ControlPlane, api: Api) -> None:
    async with running_operator(plane.kubeconfig, api.namespace):
        await api.create(llmservice("llama"))
        await serve(api, "llama")
        await settled(plane, api)
        before = writes(plane, api.namespace)
        await asyncio.sleep(QUIET_SECONDS)
        assert writes(plane, api.namespace)[len(before) :] == []


async def test_a_restart_writes_nothing(plane: ControlPlane, api: Api) -> None:
    async with running_operator(plane.kubeconfig, api.namespace):
        for name, spec in {"fixed": {}, "scaled": {"scaling": autoscaled()}}.items():
            await api.create(llmservice(name, **spec))
            await serve(api, name)
        await settled(plane, api)
    before = writes(plane, api.namespace)
    async with running_operator(plane.kubeconfig, api.namespace):
        await asyncio.sleep(QUIET_SECONDS)
    assert writes(plane, api.namespace)[len(before) :] == []


async def test_an_operator_for_one_namespace_leaves_another_alone(plane: ControlPlane, api: Api) -> None:
    plane.kubectl("create", "namespace", f"{api.namespace}-other")
    async with (
        running_operator(plane.kubeconfig, f"{api.namespace}-other"),
        Api(plane, f"{api.namespace}-other") as own,
    ):
        await api.create(llmservice("elsewhere"))
        await own.create(llmservice("here"))
        await wait_condition(own, "here", "Ready", "False")
    assert writes(plane, api.namespace) == []


async def test_a_change_makes_one_event_and_no_more(plane: ControlPlane, api: Api) -> None:
    async with running_operator(plane.kubeconfig, api.namespace):
        await api.create(llmservice("llama"))
        await serve(api, "llama")
        await settled(plane, api)
        events = [event for event in await api.all("Event", "") if event["regarding"]["kind"] == "LLMService"]
    reasons = [event["reason"] for event in events]
    assert reasons.count("AllReplicasReady") == 1
    assert len(reasons) == len(set(reasons))
