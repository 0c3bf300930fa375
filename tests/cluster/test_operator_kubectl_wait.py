"""`kubectl wait --for=condition=Ready` right after an edit returns when the edit is carried out, never before."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

import pytest

from tests.support.api import Api, Manifest
from tests.support.controlplane import ControlPlane
from tests.support.running_operator import running_operator
from tests.support.stage import condition, llmservice, make_ready, pods, serve

SERVICES: Final = 5
HELD_SECONDS: Final = 0.5
"""Longer than kubectl needs to start: a Ready that is early would be seen within it."""


class Edit(NamedTuple):
    """A change of the spec, and whether it needs pods that do not run yet."""

    spec: Manifest
    starts_pods: bool


EDITS: Final = (
    Edit({"engine": {"maxModelLen": 256}}, starts_pods=True),
    Edit({"service": {"sessionAffinity": "ClientIP"}}, starts_pods=False),
    Edit({"replicas": 2}, starts_pods=True),
    Edit({"engine": {"batching": {"maxBatchSize": 4}}}, starts_pods=True),
    Edit({"service": {"sessionAffinity": "None"}}, starts_pods=False),
    Edit({"replicas": 1}, starts_pods=False),
    Edit({"rollout": {"progressDeadlineSeconds": 700}}, starts_pods=False),
    Edit({"observability": {"logFormat": "Text"}}, starts_pods=True),
    Edit({"service": {"port": 8080}}, starts_pods=False),
    Edit({"engine": {"maxModelLen": 512}, "replicas": 2}, starts_pods=True),
)


@pytest.fixture
async def api(plane: ControlPlane, namespace: str) -> AsyncIterator[Api]:
    async with Api(plane, namespace) as api, running_operator(plane.kubeconfig, namespace):
        yield api


@pytest.mark.timeout(120)
async def test_it_is_never_early_in_fifty_edits(plane: ControlPlane, api: Api) -> None:
    assert SERVICES * len(EDITS) == 50
    async with asyncio.TaskGroup() as services:
        for number in range(SERVICES):
            services.create_task(_edit_again_and_again(plane, api, f"llama-{number}"))


async def _edit_again_and_again(plane: ControlPlane, api: Api, name: str) -> None:
    await api.create(llmservice(name))
    await serve(api, name)
    for edit in EDITS:
        await api.merge("LLMService", name, {"spec": edit.spec})
        async with _kubectl_wait(plane, api, name) as waiting:
            if edit.starts_pods:
                await api.eventually(f"{name} starts a pod for {edit.spec}", lambda: _unready(api, name))
                await asyncio.wait([waiting], timeout=HELD_SECONDS)
                assert not waiting.done(), f"early after {edit.spec}"
            while not waiting.done():
                for pod in await _unready(api, name):
                    await make_ready(api, pod)
                await asyncio.wait([waiting], timeout=0.05)
        await _assert_carried_out(api, name)


@contextlib.asynccontextmanager
async def _kubectl_wait(plane: ControlPlane, api: Api, name: str) -> AsyncIterator[asyncio.Task[str]]:
    """Run `kubectl wait` while the body does; it must have met the condition at the end."""
    command = ("wait", "--for=condition=Ready", f"llmservice/{name}", f"--namespace={api.namespace}", "--timeout=30s")
    waiting = asyncio.create_task(asyncio.to_thread(plane.kubectl, *command))
    try:
        yield waiting
    finally:
        assert "condition met" in await waiting


async def _unready(api: Api, name: str) -> list[Manifest]:
    return [pod for pod in await pods(api, name, "server") if condition(pod, "Ready")["status"] != "True"]


async def _assert_carried_out(api: Api, name: str) -> None:
    """See that the children are as the spec says, and that the pods it asks for, and only they, run and are ready."""
    spec = (await api.get("LLMService", name))["spec"]
    deployment, service = await api.get("Deployment", name), await api.get("Service", name)
    environment = await _environment(api, deployment)
    rendered = {
        "engine.maxModelLen": environment.get("LLMSERVICE_MAX_MODEL_LEN"),
        "engine.batching.maxBatchSize": environment.get("LLMSERVICE_MAX_BATCH_SIZE"),
        "observability.logFormat": environment.get("LLMSERVICE_LOG_FORMAT"),
        "rollout.progressDeadlineSeconds": str(deployment["spec"]["progressDeadlineSeconds"]),
        "service.sessionAffinity": service["spec"]["sessionAffinity"],
        "service.port": str(service["spec"]["ports"][0]["port"]),
        "replicas": str(deployment["spec"]["replicas"]),
    }
    for field, value in rendered.items():
        wanted = _at(spec, field)
        assert wanted is None or (value is not None and value.lower() == str(wanted).lower()), (field, wanted, value)
    status = deployment["status"]
    assert status["observedGeneration"] == deployment["metadata"]["generation"]
    counts = [status[count] for count in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")]
    assert counts == [spec["replicas"]] * 4
    new = deployment["spec"]["template"]["metadata"]["labels"]["llmservice.dev/revision"]
    running = await pods(api, name, "server")
    assert [pod["metadata"]["labels"]["llmservice.dev/revision"] for pod in running] == [new] * spec["replicas"]
    assert await _unready(api, name) == []


async def _environment(api: Api, deployment: Manifest) -> dict[str, str]:
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    config_map = await api.get("ConfigMap", container["envFrom"][0]["configMapRef"]["name"])
    return dict(config_map["data"])


def _at(spec: Manifest, field: str) -> Any:
    """Return the value at a dotted path of the spec, or None where the spec leaves it open."""
    value: Any = spec
    for part in field.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
