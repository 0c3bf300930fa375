"""deploy/admission on a real API server: nobody plants a pod template who may not write Deployments."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.api import Api, Manifest
from tests.support.controlplane import ControlPlane
from tests.support.people import install_policies, let, let_write_llmservices
from tests.support.running_operator import running_operator
from tests.support.stage import llmservice, serve

USER = "planter"
IN_FORCE_SECONDS = 20.0
REVISION = {"llmservice.dev/revision": "0123456789"}
MANAGED = {"app.kubernetes.io/managed-by": "llmservice-operator"}


def _revision(name: str, labels: Manifest | None = None, owners: list[Manifest] | None = None) -> Manifest:
    template = {"spec": {"hostPID": True}}
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {"name": name, "labels": labels or {}, "ownerReferences": owners or []},
        "revision": 1,
        "data": {"environment": {}, "request": {}, "template": template},
    }


@pytest.fixture
async def admin(plane: ControlPlane, namespace: str) -> AsyncIterator[Api]:
    async with Api(plane, namespace) as api:
        yield api


@pytest.fixture
async def planter(plane: ControlPlane, namespace: str) -> AsyncIterator[Api]:
    """Somebody who may write LLMServices and, by a role of the cluster's own, ControllerRevisions."""
    install_policies(plane)
    let_write_llmservices(plane, namespace, USER)
    let(plane, namespace, USER, "create,get,update,patch", "controllerrevisions.apps")
    async with Api(plane, namespace, USER) as api:

        async def is_refused() -> bool:
            path = f"/apis/apps/v1/namespaces/{namespace}/controllerrevisions?dryRun=All"
            return "keeps a pod template" in (await api.ask("POST", path, _revision("probe", REVISION))).text

        await api.eventually("the policies are in force", is_refused, IN_FORCE_SECONDS)
        yield api


async def _planted(api: Api, manifest: Manifest) -> tuple[int, str]:
    path = f"/apis/apps/v1/namespaces/{api.namespace}/controllerrevisions"
    answer = await api.ask("POST", path, manifest)
    return answer.status_code, str(answer.json().get("message", ""))


OWNER: Manifest = {"apiVersion": "llmservice.dev/v1alpha1", "kind": "LLMService", "name": "llama", "uid": "a"}


@pytest.mark.parametrize(
    "marks",
    [
        pytest.param({"labels": REVISION}, id="the label of its revision"),
        pytest.param({"labels": MANAGED}, id="the label of its manager"),
        pytest.param({"owners": [{**OWNER, "controller": True}]}, id="an LLMService as owner"),
    ],
)
async def test_a_forged_revision_is_refused(admin: Api, planter: Api, marks: dict[str, Any]) -> None:
    created = await admin.create(llmservice("llama"))
    for owner in marks.get("owners", ()):
        owner["uid"] = created["metadata"]["uid"]
    status, message = await _planted(planter, _revision("llama-0123456789", **marks))
    assert status == 403
    assert f"Ask for the right to patch Deployments in namespace {planter.namespace}" in message
    assert "ControllerRevision llama-0123456789" in message


async def test_a_revision_cannot_be_made_one_of_an_llmservice_later(planter: Api) -> None:
    status, message = await _planted(planter, _revision("llama-0123456789"))
    assert status == 201, message
    path = f"/apis/apps/v1/namespaces/{planter.namespace}/controllerrevisions/llama-0123456789"
    answer = await planter.ask("PATCH", path, {"metadata": {"labels": REVISION}})
    assert answer.status_code == 403, answer.text


async def test_who_may_write_deployments_may_write_revisions(plane: ControlPlane, namespace: str, planter: Api) -> None:
    let(plane, namespace, USER, "patch", "deployments.apps")
    assert (await _planted(planter, _revision("llama-0123456789", REVISION)))[0] == 201


@pytest.mark.usefixtures("planter")
async def test_the_garbage_collector_may_still_leave_orphans(plane: ControlPlane, admin: Api) -> None:
    async with running_operator(plane.kubeconfig, admin.namespace):
        await admin.create(llmservice("llama"))
        await serve(admin, "llama")
    await admin.delete("LLMService", "llama", "Orphan")

    async def are_orphans() -> bool:
        revisions = await admin.all("ControllerRevision")
        return await admin.find("LLMService", "llama") is None and all(
            "ownerReferences" not in item["metadata"] for item in revisions
        )

    await admin.eventually("the revisions are orphans", are_orphans, 20)
