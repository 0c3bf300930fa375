"""LLMServices that were stored under another version of the resource: the operator goes on with them (C65)."""

import copy
from collections.abc import AsyncIterator

import pytest
import yaml

from llmservice_operator import crd
from tests.support.api import Api, Manifest
from tests.support.controlplane import ControlPlane
from tests.support.running_operator import running_operator
from tests.support.stage import condition, llmservice, serve, wait_condition

PROPAGATED_SECONDS = 30.0


def older() -> Manifest:
    """Return the resource as it might have been: with two fields more, and another bound."""
    manifest = copy.deepcopy(crd.manifest())
    spec = manifest["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    spec["tier"] = {"type": "string"}
    spec["engine"]["properties"]["image"] = {"type": "string"}
    spec["replicas"]["maximum"] = 1000
    return manifest


def install(plane: ControlPlane, manifest: Manifest) -> None:
    plane.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", stdin=yaml.safe_dump(manifest))


@pytest.fixture
async def api(plane: ControlPlane, namespace: str) -> AsyncIterator[Api]:
    """Two LLMServices that were created under the older resource, and the present one installed."""
    async with Api(plane, namespace) as api:
        install(plane, older())
        try:
            await _until(api, has_tier=True)
            await api.create(llmservice("llama", tier="gold", engine={"image": "x", "maxModelLen": 1024}))
            await api.create(llmservice("many", replicas=200))
        finally:
            install(plane, crd.manifest())
        await _until(api, has_tier=False)
        yield api


async def _until(api: Api, *, has_tier: bool) -> None:
    """Wait until the API server goes by the resource with the field `tier`, or by the one without."""
    path = f"/apis/llmservice.dev/v1alpha1/namespaces/{api.namespace}/llmservices?dryRun=All"
    probe = {**llmservice("probe", tier="gold"), "metadata": {"name": "probe"}}

    async def is_in_force() -> bool:
        stored = (await api.ask("POST", path, probe)).json()
        return ("tier" in stored["spec"]) is has_tier

    await api.eventually(f"spec.tier known: {has_tier}", is_in_force, PROPAGATED_SECONDS)


async def test_c65_a_field_that_is_no_more_is_ignored_and_warned_of_once(plane: ControlPlane, api: Api) -> None:
    async with running_operator(plane.kubeconfig, api.namespace):
        before = await serve(api, "llama")
    assert before["status"]["warnings"] == [
        {
            "reason": "UnknownField",
            "message": "Leave out fields that this version of the operator does not have and ignores: "
            "spec.engine.image, spec.tier",
        }
    ]
    async with running_operator(plane.kubeconfig, api.namespace):
        await api.merge("LLMService", "llama", {"spec": {"engine": {"maxModelLen": 2048}}})
        await wait_condition(api, "llama", "ConfigurationValid", "True")
        after = await api.get("LLMService", "llama")
    assert after["status"]["warnings"] == before["status"]["warnings"]
    events = [event for event in await api.all("Event", "") if event["reason"] == "UnknownField"]
    assert [(event["type"], event["regarding"]["name"]) for event in events] == [("Warning", "llama")]


async def test_c65_a_value_that_is_allowed_no_more_is_named_and_heals(plane: ControlPlane, api: Api) -> None:
    async with running_operator(plane.kubeconfig, api.namespace):
        refused = await wait_condition(api, "many", "ConfigurationValid", "False", "RejectedByServer")
        message = condition(refused, "ConfigurationValid")["message"]
        assert message.startswith("Correct the spec: spec.replicas: Input should be less than or equal to 100")
        assert await api.all("Deployment", "app.kubernetes.io/instance=many") == []
        await api.merge("LLMService", "many", {"spec": {"replicas": 1}})
        await serve(api, "many")
