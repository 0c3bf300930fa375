"""Growth of the cache's volume, and what a size that cannot be had leaves alone."""

from collections.abc import AsyncIterator

import pytest

from tests.support.api import Api, Manifest
from tests.support.controlplane import ControlPlane
from tests.support.played_volumes import PROVISIONED, played_volumes
from tests.support.running_operator import running_operator
from tests.support.stage import (
    condition,
    llmservice,
    make_pods_ready,
    serve,
    wait_condition,
)

CLASS = f"{PROVISIONED}fixed"
"""There is no StorageClass of that name, and so none that lets volumes grow."""


@pytest.fixture
async def api(plane: ControlPlane, namespace: str) -> AsyncIterator[Api]:
    async with (
        Api(plane, namespace) as api,
        played_volumes(api),
        running_operator(plane.kubeconfig, namespace),
    ):
        yield api


async def _claim(api: Api) -> Manifest:
    (claim,) = await api.all("PersistentVolumeClaim")
    return dict(claim)


async def _serving(api: Api) -> None:
    """Take an LLMService with a bound volume of 1Gi to Ready."""
    await api.create(llmservice("llama", cache={"size": "1Gi", "storageClassName": CLASS}))

    async def is_bound() -> bool:
        found = await api.all("PersistentVolumeClaim")
        return bool(found) and found[0]["status"]["phase"] == "Bound"

    await api.eventually("the claim is bound", is_bound)
    await serve(api, "llama")


async def test_a_size_that_is_refused_stops_neither_the_service_nor_its_next_rollout(api: Api) -> None:
    await _serving(api)
    larger = {"cache": {"size": "2Gi"}, "engine": {"maxModelLen": 1024}}
    await api.merge("LLMService", "llama", {"spec": larger})

    told = await wait_condition(api, "llama", "ConfigurationValid", "False", "RejectedByServer")
    assert condition(told, "ConfigurationValid")["message"].startswith("Set spec.cache.size to 1Gi, or let Storage")
    await make_pods_ready(api, "llama", 2)

    async def is_rolled_out() -> bool:
        rollout = (await api.get("LLMService", "llama"))["status"]["rollout"]
        return bool(rollout["currentRevision"] == rollout["updatedRevision"] == rollout["lastGoodRevision"])

    await api.eventually("the new revision", is_rolled_out)
    told = await wait_condition(api, "llama", "Serving", "True")
    assert condition(told, "ConfigurationValid")["reason"] == "RejectedByServer"
    assert (await _claim(api))["spec"]["resources"]["requests"]["storage"] == "1Gi"

    await api.merge("LLMService", "llama", {"spec": {"cache": {"size": "1Gi"}}})
    await wait_condition(api, "llama", "Ready", "True", "AllReplicasReady")


async def test_what_the_storage_says_of_a_growth_is_told_and_moves_with_it(api: Api) -> None:
    await _serving(api)
    claim = await _claim(api)
    name = claim["metadata"]["name"]
    pending = {"type": "FileSystemResizePending", "status": "True", "message": "waiting for a pod"}
    # As the storage's controllers leave it while the volume has 512Mi of the 1Gi asked for.
    status = {"capacity": {"storage": "512Mi"}, "conditions": [pending]}
    await api.merge("PersistentVolumeClaim", name, {"status": status}, "status")

    async def says(end: str) -> bool:
        message = condition(await api.get("LLMService", "llama"), "ModelCached")["message"]
        return bool(message.endswith(end))

    await api.eventually("the growth is told", lambda: says("; its file system grows to 1Gi where a pod mounts it"))
    infeasible = {"allocatedResourceStatuses": {"storage": "NodeResizeInfeasible"}}
    await api.merge("PersistentVolumeClaim", name, {"status": infeasible}, "status")
    told = await wait_condition(api, "llama", "ConfigurationValid", "False", "RejectedByServer")
    assert condition(told, "Serving")["status"] == "True"

    grown = {"capacity": {"storage": "1Gi"}, "conditions": None, "allocatedResourceStatuses": None}
    await api.merge("PersistentVolumeClaim", name, {"status": grown}, "status")
    ready = await wait_condition(api, "llama", "Ready", "True", "AllReplicasReady")
    assert condition(ready, "ConfigurationValid")["status"] == "True"
