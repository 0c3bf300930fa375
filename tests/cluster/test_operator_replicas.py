"""Two operators on a real API server: one writes, and the other one takes over; what becomes of the Lease's faults."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial

import httpx
import pytest

from llmservice_operator.cluster.election import LEASE_SECONDS
from tests.support.api import Api, writes
from tests.support.controlplane import ControlPlane
from tests.support.operator_process import ROOT
from tests.support.running_operator import running_operator
from tests.support.server_process import free_ports
from tests.support.stage import llmservice, make_pods_ready, serve, wait_condition
from tests.support.wall_clock import wall_clock

QUIET_SECONDS = 5.0
GRANT = "Grant the operator's service account get, create and patch on leases in the namespace"


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


def _written(plane: ControlPlane, api: Api) -> list[str]:
    return [write for write in writes(plane, api.namespace) if " leases " not in write]


async def _settled(plane: ControlPlane, api: Api) -> list[str]:
    """Return what was written once nothing has been for a second."""
    before: list[str] = []
    while (now := _written(plane, api)) != before:
        before = now
        await asyncio.sleep(1)
    return now


@pytest.mark.timeout(120)
async def test_replicas_without_the_right_to_the_lease_stay_passive_and_say_so(
    plane: ControlPlane, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """F04: both have all other rights of deploy/."""
    user = f"system:serviceaccount:{api.namespace}:operator"
    plane.kubectl("apply", "--server-side", "--filename", str(ROOT / "deploy" / "cluster-role.yaml"))
    binding = ("--clusterrole=llmservice-operator", f"--user={user}", f"--namespace={api.namespace}")
    plane.kubectl("create", "rolebinding", "operator", *binding)
    kubeconfig = plane.kubeconfig_for(user)
    ports = free_ports(2)
    async with AsyncExitStack() as stack:
        for port in ports:
            running = running_operator(kubeconfig, api.namespace, has_lease=True, port=port)
            await stack.enter_async_context(running)
        await api.create(llmservice("llama"))
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))

        async def says(port: int, status: int, text: str) -> bool:
            answer = await http.get(f"http://127.0.0.1:{port}/readyz")
            return answer.status_code == status and answer.text.startswith(text)

        for port in ports:
            await api.eventually(f"{port} says so", partial(says, port, 503, GRANT))
        page = (await http.get(f"http://127.0.0.1:{ports[0]}/metrics")).text
        assert 'llmservice_operator_lease_failures_total{code="403"}' in page
        assert "llmservice_operator_leader 0.0" in page
        await asyncio.sleep(2)
        assert _written(plane, api) == []
        plane.kubectl(
            *("create", "role", "leases", "--verb=get,create,patch", "--resource=leases.coordination.k8s.io"),
            f"--namespace={api.namespace}",
        )
        leases = ("--role=leases", f"--user={user}", f"--namespace={api.namespace}")
        plane.kubectl("create", "rolebinding", "leases", *leases)
        for port in ports:
            await api.eventually(f"{port} is ready", partial(says, port, 200, "ok"))
        await api.eventually("its volume", lambda: api.all("PersistentVolumeClaim"))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", ["deleted", "edited"])
async def test_a_lease_that_somebody_broke_is_held_again_and_nothing_is_written_twice(
    plane: ControlPlane, api: Api, fault: str
) -> None:
    """F05: it is deleted, or given to somebody who does not exist, and a service is edited at the same time."""
    async with (
        running_operator(plane.kubeconfig, api.namespace, has_lease=True),
        running_operator(plane.kubeconfig, api.namespace, has_lease=True),
    ):
        await api.create(llmservice("llama"))
        await serve(api, "llama")
        written = await _settled(plane, api)
        if fault == "deleted":
            await api.delete("Lease", "llmservice-operator")
        else:
            await api.merge("Lease", "llmservice-operator", {"spec": {"holderIdentity": "nobody"}})
        await api.merge("LLMService", "llama", {"spec": {"replicas": 0}})
        await wait_condition(api, "llama", "Ready", "True", "Suspended", within_seconds=2 * LEASE_SECONDS)

        async def is_held() -> bool:
            return await _holder(api) not in (None, "nobody")

        await api.eventually("a leader", is_held, 2 * LEASE_SECONDS)
        since = (await _settled(plane, api))[len(written) :]
        assert [write for write in since if " deployments " in write] == ["patch deployments llama 200"]


@pytest.mark.timeout(120)
async def test_a_clock_that_is_turned_changes_neither_leader_nor_children(plane: ControlPlane, api: Api) -> None:
    """F21: an hour on, an hour back; edits are followed as ever."""
    with wall_clock() as clock:
        async with running_operator(plane.kubeconfig, api.namespace, has_lease=True):
            await api.create(llmservice("llama"))
            await serve(api, "llama")
            leader, written = await _holder(api), await _settled(plane, api)
            clock.ahead = timedelta(hours=1)
            await asyncio.sleep(QUIET_SECONDS)
            assert _written(plane, api) == written
            await api.merge("LLMService", "llama", {"spec": {"replicas": 0}})
            await wait_condition(api, "llama", "Ready", "True", "Suspended")
            written = await _settled(plane, api)
            clock.ahead = timedelta(hours=-1)
            await asyncio.sleep(QUIET_SECONDS)
            assert _written(plane, api) == written
            await api.merge("LLMService", "llama", {"spec": {"replicas": 1}})
            await make_pods_ready(api, "llama")
            await wait_condition(api, "llama", "Ready", "True")
            lease = (await api.get("Lease", "llmservice-operator"))["spec"]
            assert (lease["holderIdentity"], lease["leaseTransitions"]) == (leader, 0)
