"""Two operators on a real API server: one writes, and the other one takes over."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from llmservice_operator.cluster.election import LEASE_SECONDS
from tests.support.api import Api
from tests.support.controlplane import ControlPlane
from tests.support.running_operator import running_operator
from tests.support.stage import llmservice, serve, wait_condition


@pytest.fixture
async def api(plane: ControlPlane, namespace: str) -> AsyncIterator[Api]:
    async with Api(plane, namespace) as api:
        yield api


async def _holder(api: Api) -> str | None:
    lease = await api.find("Lease", "llmservice-operator")
    holder: str | None = None if lease is None else lease["spec"].get("holderIdentity")
    return holder


async def test_a_follower_takes_over_soon_after_an_orderly_end(plane: ControlPlane, api: Api) -> None:
    async with running_operator(plane.kubeconfig, api.namespace, has_lease=True) as first:
        leader = await api.eventually("a leader", lambda: _holder(api))
        async with running_operator(plane.kubeconfig, api.namespace, has_lease=True):
            await api.create(llmservice("llama"))
            await serve(api, "llama")
            assert await _holder(api) == leader
            first.cancel()
            await asyncio.wait([first])

            async def is_another() -> bool:
                return await _holder(api) not in (None, leader)

            await api.eventually("another leader", is_another, LEASE_SECONDS / 2)
            await api.merge("LLMService", "llama", {"spec": {"replicas": 0}})
            await wait_condition(api, "llama", "Ready", "True", "Suspended")


async def test_a_follower_writes_nothing(plane: ControlPlane, api: Api) -> None:
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "llmservice-operator"},
        "spec": {
            "holderIdentity": "somebody",
            "leaseDurationSeconds": 3600,
        },
    }
    await api.create(lease)
    async with running_operator(plane.kubeconfig, api.namespace, has_lease=True):
        created = await api.create(llmservice("llama"))
        await asyncio.sleep(2)
        assert (await api.get("LLMService", "llama"))["status"] == created["status"]
        assert await api.all("PersistentVolumeClaim") == []
        await api.delete("Lease", "llmservice-operator")


async def test_a_leader_that_loses_its_lease_stops_writing_and_comes_back(plane: ControlPlane, api: Api) -> None:
    async with running_operator(plane.kubeconfig, api.namespace, has_lease=True):
        await api.eventually("a leader", lambda: _holder(api))
        stolen = {"holderIdentity": "somebody", "leaseDurationSeconds": 5}
        await api.merge("Lease", "llmservice-operator", {"spec": stolen})
        await asyncio.sleep(2)
        await api.create(llmservice("llama"))
        await asyncio.sleep(0.5)
        assert await api.all("PersistentVolumeClaim") == []
        await api.eventually("its volume", lambda: api.all("PersistentVolumeClaim"))
