"""Whatever somebody does to a child by hand is undone within five seconds, and nobody else's object is touched.

Faults F24 to F26: children of every kind deleted, edited, given to another owner. What is in use by real pods, as a
volume, is in tests/e2e/test_repair.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.api import Api, Manifest
from tests.support.controlplane import ControlPlane
from tests.support.running_operator import running_operator
from tests.support.stage import autoscaled, condition, finish_warmup, llmservice, pods, serve, wait_condition

REPAIR_SECONDS = 5.0
TAKEN_BACK_SECONDS = 20.0
"""What was refused because it is somebody else's is tried again after five seconds, then after ten."""
EXTRAS: dict[str, Manifest] = {
    "HorizontalPodAutoscaler": {"scaling": autoscaled()},
    "PodDisruptionBudget": {"disruption": {"maxUnavailable": 1}},
    "NetworkPolicy": {"networkPolicy": {"mode": "Offline"}},
}
"""What the spec has to say for there to be a child of this kind."""
EVERY_KIND = [
    "Deployment",
    "Service",
    "ServiceAccount",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
    "NetworkPolicy",
    "PersistentVolumeClaim",
    "ConfigMap",
    "ControllerRevision",
    "Job",
]
APPLIED_HASH = {"metadata": {"annotations": {"llmservice.dev/applied-hash": "x"}}}


@pytest.fixture
async def api(plane: ControlPlane, namespace: str) -> AsyncIterator[Api]:
    async with Api(plane, namespace) as api, running_operator(plane.kubeconfig, namespace):
        yield api


async def _name_of(api: Api, kind: str) -> str:
    return str((await api.all(kind))[0]["metadata"]["name"])


@pytest.mark.parametrize("kind", [kind for kind in EVERY_KIND if kind not in ("PersistentVolumeClaim", "Job")])
async def test_f24_a_deleted_child_comes_back(api: Api, kind: str) -> None:
    await api.create(llmservice("llama", **EXTRAS.get(kind, {})))
    await serve(api, "llama")
    await _delete_and_see_it_back(api, kind, await _name_of(api, kind))


async def test_f24_a_deleted_warm_up_comes_back_while_the_model_is_not_cached(api: Api) -> None:
    await api.create(llmservice("llama"))
    await api.eventually("the warm-up's pod", lambda: pods(api, "llama", "warmup"))
    await _delete_and_see_it_back(api, "Job", await _name_of(api, "Job"))
    await serve(api, "llama")


async def test_f24_a_deleted_volume_that_no_pod_uses_is_made_and_filled_anew(api: Api) -> None:
    await api.create(llmservice("llama"))
    await serve(api, "llama")
    await api.merge("LLMService", "llama", {"spec": {"suspend": True}})
    await wait_condition(api, "llama", "Ready", "True", "Suspended")
    await _delete_and_see_it_back(api, "PersistentVolumeClaim", "llama-cache")
    await api.merge("LLMService", "llama", {"spec": {"suspend": False}})
    await serve(api, "llama")


async def _delete_and_see_it_back(api: Api, kind: str, name: str) -> None:
    uid = (await api.get(kind, name))["metadata"]["uid"]
    await api.delete(kind, name)

    async def is_back() -> bool:
        found = await api.find(kind, name)
        return found is not None and found["metadata"]["uid"] != uid

    await api.eventually(f"{kind} is back", is_back, REPAIR_SECONDS)


EDITS: list[Any] = [
    pytest.param("Deployment", {"spec": {"replicas": 3}}, id="scale"),
    pytest.param("Deployment", {"spec": {"strategy": {"rollingUpdate": {"maxSurge": 2}}}}, id="surge"),
    pytest.param("Deployment", {"metadata": {"annotations": {"llmservice.dev/applied-hash": "x"}}}, id="our hash"),
    pytest.param("Service", {"spec": {"sessionAffinity": "ClientIP"}}, id="affinity"),
    pytest.param("Service", {"metadata": {"labels": {"app.kubernetes.io/component": "theirs"}}}, id="component label"),
    pytest.param("Service", {"metadata": {"labels": {"app.kubernetes.io/instance": "theirs"}}}, id="instance label"),
    pytest.param("Job", {"spec": {"parallelism": 2}}, id="job parallelism"),
    pytest.param("HorizontalPodAutoscaler", {"spec": {"maxReplicas": 9}}, id="most replicas"),
    pytest.param("PodDisruptionBudget", {"spec": {"maxUnavailable": 0}}, id="budget"),
    pytest.param("NetworkPolicy", {"spec": {"ingress": [{}]}}, id="open to everybody"),
    pytest.param("ServiceAccount", {"automountServiceAccountToken": True}, id="token"),
    # What they hold cannot be edited.
    pytest.param("ConfigMap", APPLIED_HASH, id="our hash of a config map"),
    pytest.param("ControllerRevision", APPLIED_HASH, id="our hash of a revision"),
    pytest.param("PersistentVolumeClaim", APPLIED_HASH, id="our hash of a claim"),
]


@pytest.mark.parametrize(("kind", "edit"), EDITS)
async def test_f25_an_edited_field_of_ours_is_put_back(api: Api, kind: str, edit: Manifest) -> None:
    await api.create(llmservice("llama", **EXTRAS.get(kind, {})))
    await serve(api, "llama")
    name = await _name_of(api, kind)
    before = await api.get(kind, name)
    await api.merge(kind, name, edit)

    async def is_as_before() -> bool:
        return bool(_picked(await api.get(kind, name), edit) == _picked(before, edit))

    await api.eventually(f"{kind} is as before", is_as_before, REPAIR_SECONDS)


async def test_the_status_and_an_event_name_who_changed_what(api: Api, plane: ControlPlane, namespace: str) -> None:
    await api.create(llmservice("llama"))
    await serve(api, "llama")
    plane.kubectl("scale", "deployment/llama", "--replicas=3", "--namespace", namespace)
    found = await wait_condition(api, "llama", "Drifted", "True", "FieldsReverted")
    assert condition(found, "Drifted")["message"].endswith(
        "kubectl changed spec.replicas of Deployment llama; it was put back"
    )

    async def is_told() -> bool:
        return "FieldsReverted" in {event["reason"] for event in await api.all("Event", "")}

    await api.eventually("an event", is_told)


async def test_fields_of_others_stay(api: Api) -> None:
    await api.create(llmservice("llama"))
    await serve(api, "llama")
    await api.merge("Service", "llama", {"metadata": {"annotations": {"theirs": "kept"}}})
    await api.delete("Deployment", "llama")

    async def is_back() -> bool:
        return await api.find("Deployment", "llama") is not None

    await api.eventually("the operator has reconciled", is_back)
    assert (await api.get("Service", "llama"))["metadata"]["annotations"]["theirs"] == "kept"


# C51
@pytest.mark.parametrize("kind", EVERY_KIND)
async def test_f25_removed_labels_come_back(api: Api, kind: str) -> None:
    await api.create(llmservice("llama", **EXTRAS.get(kind, {})))
    await serve(api, "llama")
    name = await _name_of(api, kind)
    before = await api.get(kind, name)
    await api.merge(kind, name, {"metadata": {"labels": dict.fromkeys(before["metadata"]["labels"])}})

    async def has_labels() -> bool:
        meta = (await api.get(kind, name))["metadata"]
        # A Job without any label is given those of its pods by the API server, so there may be more than before.
        is_labelled = before["metadata"]["labels"].items() <= meta.get("labels", {}).items()
        return bool(is_labelled and meta["uid"] == before["metadata"]["uid"])

    await api.eventually(f"labels of the {kind}", has_labels, REPAIR_SECONDS)


# C51
@pytest.mark.parametrize("kind", EVERY_KIND)
async def test_f25_a_removed_owner_reference_comes_back(api: Api, kind: str) -> None:
    await api.create(llmservice("llama", **EXTRAS.get(kind, {})))
    await serve(api, "llama")
    name = await _name_of(api, kind)
    before = (await api.get(kind, name))["metadata"]
    await api.merge(kind, name, {"metadata": {"ownerReferences": None}})

    async def has_owner() -> bool:
        meta = (await api.get(kind, name))["metadata"]
        return bool(meta.get("ownerReferences") == before["ownerReferences"] and meta["uid"] == before["uid"])

    await api.eventually(f"owner of the {kind}", has_owner, REPAIR_SECONDS)


@pytest.mark.parametrize("kind", [kind for kind in EVERY_KIND if kind != "Job"])
async def test_f26_a_child_given_to_another_owner_is_left_to_it_and_said(api: Api, kind: str) -> None:
    await api.create(llmservice("llama", **EXTRAS.get(kind, {})))
    await serve(api, "llama")
    name = await _name_of(api, kind)
    given, told = await _give_away(api, kind, name)
    # With a Deployment its pods are somebody else's, too.
    assert condition(told, "Serving")["status"] == ("False" if kind == "Deployment" else "True")
    await _take_back(api, kind, name, given)
    await wait_condition(api, "llama", "Ready", "True", within_seconds=TAKEN_BACK_SECONDS)


async def test_f26_a_warm_up_given_to_another_owner_is_left_to_it_and_said(api: Api) -> None:
    await api.create(llmservice("llama"))
    await api.eventually("the warm-up's pod", lambda: pods(api, "llama", "warmup"))
    name = await _name_of(api, "Job")
    given, _ = await _give_away(api, "Job", name)
    await _take_back(api, "Job", name, given)
    await serve(api, "llama")


async def _give_away(api: Api, kind: str, name: str) -> tuple[Manifest, Manifest]:
    """Point a child's owner reference elsewhere; return the child, and the LLMService once it says so."""
    other = await api.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs"}})
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "theirs", "uid": other["metadata"]["uid"]}
    given = await api.merge(kind, name, {"metadata": {"ownerReferences": [{**reference, "controller": True}]}})
    told = await wait_condition(
        api, "llama", "ConfigurationValid", "False", "ChildNameConflict", within_seconds=REPAIR_SECONDS
    )
    message = condition(told, "ConfigurationValid")["message"]
    assert f"{kind} {name}" in message
    assert "ConfigMap theirs" in message
    return given, told


async def _take_back(api: Api, kind: str, name: str, given: Manifest) -> None:
    """Remove the other owner of a child, to which it was left until now, and see it ours again."""
    meta = (await api.get(kind, name))["metadata"]
    assert meta["ownerReferences"] == given["metadata"]["ownerReferences"]
    await api.merge(kind, name, {"metadata": {"ownerReferences": None}})

    async def is_ours() -> bool:
        owners = (await api.get(kind, name))["metadata"].get("ownerReferences", ())
        return [owner["kind"] for owner in owners] == ["LLMService"]

    await api.eventually(f"{kind} is ours again", is_ours, TAKEN_BACK_SECONDS)


# C44
async def test_a_foreign_deployment_is_never_adopted(api: Api) -> None:
    foreign = _foreign_deployment("llama")
    before = await api.create(foreign)
    await api.create(llmservice("llama"))
    await finish_warmup(api, "llama")
    conflicted = await wait_condition(api, "llama", "ConfigurationValid", "False", "ChildNameConflict")
    after = await api.get("Deployment", "llama")
    assert after["spec"] == before["spec"]
    assert "ownerReferences" not in after["metadata"]
    assert condition(conflicted, "Stalled")["status"] == "True"
    assert condition(conflicted, "Ready")["reason"] == "ChildNameConflict"


# C43
async def test_of_two_llmservices_with_one_child_name_the_second_yields(api: Api) -> None:
    await api.create(llmservice("first"))
    first = await serve(api, "first")
    reference = {
        "apiVersion": "llmservice.dev/v1alpha1",
        "kind": "LLMService",
        "name": "first",
        "uid": first["metadata"]["uid"],
        "controller": True,
    }
    service: Manifest = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "second"}}
    service["metadata"]["ownerReferences"] = [reference]
    service["spec"] = {"ports": [{"port": 80}]}
    before = await api.create(service)
    await api.create(llmservice("second"))
    await wait_condition(api, "second", "ConfigurationValid", "False", "ChildNameConflict")
    after = await api.get("Service", "second")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


def _foreign_deployment(name: str) -> Manifest:
    labels = {"app": "theirs"}
    container = {"name": "web", "image": "theirs"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def _picked(manifest: Any, like: Any) -> Any:
    """Return the fields of `manifest` that `like` names."""
    if not isinstance(like, dict):
        return manifest
    return {field: _picked((manifest or {}).get(field), value) for field, value in like.items()}
