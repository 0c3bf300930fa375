"""How old replicas are replaced, on a real API server with the real Deployment and quota controllers."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from llmservice_operator.desired import strategy
from tests.support.api import Api, Manifest
from tests.support.controlplane import ControlPlane
from tests.support.running_operator import running_operator
from tests.support.stage import llmservice, make_pods_ready, pods, serve, wait_condition

REVISION = "llmservice.dev/revision"
LONGER = {"spec": {"engine": {"maxModelLen": 2048}}}


@pytest.fixture
async def operated(plane: ControlPlane, namespace: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    """The namespace has room for one pod, and the operator little patience."""
    monkeypatch.setattr(strategy, "PATIENCE", timedelta(seconds=1))
    async with Api(plane, namespace) as api, running_operator(plane.kubeconfig, namespace):
        yield api


async def _serve_in_a_full_namespace(api: Api, **spec: object) -> tuple[str, str]:
    """Return uid and revision of the only pod that the namespace has room for."""
    await api.create(llmservice("llama", **spec))
    await serve(api, "llama")
    quota: Manifest = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "one"}}
    await api.create({**quota, "spec": {"hard": {"pods": "1"}}})

    async def is_in_force() -> bool:
        return "used" in (await api.get("ResourceQuota", "one")).get("status", {})

    await api.eventually("the quota is in force", is_in_force)
    (pod,) = await pods(api, "llama", "server")
    return pod["metadata"]["uid"], pod["metadata"]["labels"][REVISION]


async def _new_pod(api: Api, old: str) -> Manifest:
    async def found() -> Manifest | None:
        mine = await pods(api, "llama", "server")
        return next((pod for pod in mine if pod["metadata"]["labels"][REVISION] != old), None)

    pod: Manifest = await api.eventually("a pod of the new revision", found, 30)
    return pod


async def test_where_there_is_no_place_for_one_more_an_old_replica_makes_room(operated: Api) -> None:
    _, old = await _serve_in_a_full_namespace(operated)
    await operated.merge("LLMService", "llama", LONGER)
    await _new_pod(operated, old)
    await make_pods_ready(operated, "llama")
    ready = await wait_condition(operated, "llama", "Ready", "True")
    rollout = ready["status"]["rollout"]
    assert rollout["strategy"] == "InPlace"
    assert "exceeded quota" in rollout["strategyReason"]
    deployment = await operated.get("Deployment", "llama")
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


async def test_with_surge_the_old_replica_stays_until_there_is_room(operated: Api) -> None:
    uid, old = await _serve_in_a_full_namespace(operated, rollout={"strategy": "Surge"})
    await operated.merge("LLMService", "llama", LONGER)
    await wait_condition(operated, "llama", "Stalled", "True", "QuotaExceeded")
    assert [pod["metadata"]["uid"] for pod in await pods(operated, "llama", "server")] == [uid]
    await operated.delete("ResourceQuota", "one")
    await _new_pod(operated, old)
    await make_pods_ready(operated, "llama", 2)
    await wait_condition(operated, "llama", "Ready", "True")


async def test_recreate_is_set_and_taken_back_on_a_live_deployment(operated: Api) -> None:
    await operated.create(llmservice("llama", rollout={"strategy": "Recreate"}))
    await serve(operated, "llama")
    assert (await operated.get("Deployment", "llama"))["spec"]["strategy"] == {"type": "Recreate"}

    async def surges() -> bool:
        deployment = await operated.get("Deployment", "llama")
        return "rollingUpdate" in deployment["spec"]["strategy"]

    await operated.merge("LLMService", "llama", {"spec": {"rollout": {"strategy": "Auto"}}})
    await operated.eventually("the strategy is Auto's", surges)
    await operated.merge("LLMService", "llama", {"spec": {"rollout": {"strategy": "Recreate"}}})

    async def recreates() -> bool:
        return bool((await operated.get("Deployment", "llama"))["spec"]["strategy"] == {"type": "Recreate"})

    await operated.eventually("the strategy is Recreate", recreates)
