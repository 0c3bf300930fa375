"""What is written, in which order, and when nothing is."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from llmservice_operator.children import Children
from llmservice_operator.desired import Desired, desired
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService
from tests.support.builders import (
    NOW,
    as_live,
    cached,
    caching,
    children_of,
    make_llmservice,
    make_settings,
    manifest_of,
    serving,
)
from tests.support.specs import FULL_PROFILE, FULL_SPEC, IMAGE_SOURCE, SCALING


def kinds(wanted: Desired) -> list[str]:
    return [manifest["kind"] for manifest in wanted.manifests]


def test_a_new_llmservice_gets_its_volume_and_its_address_first() -> None:
    assert kinds(desired(make_llmservice(), Children(), make_settings(), NOW)) == [
        "ServiceAccount",
        "PersistentVolumeClaim",
        "Service",
    ]


def test_the_warm_up_follows_once_the_volume_is_there() -> None:
    llmservice, settings = make_llmservice(), make_settings()
    volume = as_live(manifest_of(desired(llmservice, Children(), settings, NOW).manifests, "PersistentVolumeClaim"))
    wanted = desired(llmservice, children_of(volume), settings, NOW)
    assert kinds(wanted) == ["ServiceAccount", "PersistentVolumeClaim", "Job", "Service"]
    annotations = manifest_of(wanted.manifests, "Job")["metadata"]["annotations"]
    size = volume["spec"]["resources"]["requests"]["storage"]
    assert annotations == {"llmservice.dev/volume-uid": volume["metadata"]["uid"], "llmservice.dev/volume-size": size}


def test_everything_is_there_in_apply_order_once_the_model_is_cached() -> None:
    llmservice, settings = make_llmservice(scaling=SCALING), make_settings()
    assert kinds(desired(llmservice, cached(llmservice, settings), settings, NOW)) == [
        "ServiceAccount",
        "PersistentVolumeClaim",
        "ConfigMap",
        "Job",
        "ControllerRevision",
        "Deployment",
        "Service",
        "HorizontalPodAutoscaler",
    ]


def test_source_pvc_needs_neither_volume_nor_job() -> None:
    llmservice = make_llmservice(source={"pvc": {"claimName": "models"}})
    wanted = desired(llmservice, Children(), make_settings(), NOW)
    assert kinds(wanted) == ["ServiceAccount", "ConfigMap", "ControllerRevision", "Deployment", "Service"]


def test_a_shared_cache_is_mounted_and_never_written() -> None:
    llmservice = make_llmservice(cache={"claimName": "shared"})
    wanted = desired(llmservice, Children(), make_settings(), NOW)
    assert kinds(wanted) == ["ServiceAccount", "Job", "Service"]
    volumes = manifest_of(wanted.manifests, "Job")["spec"]["template"]["spec"]["volumes"]
    assert {"name": "cache", "persistentVolumeClaim": {"claimName": "shared"}} in volumes


@pytest.mark.parametrize(
    "llmservice",
    [
        pytest.param(make_llmservice(paused=True), id="paused"),
        pytest.param(make_llmservice(deletion_timestamp="2026-01-02T03:00:00Z"), id="being deleted"),
        pytest.param(make_llmservice(profile="unknown"), id="profile not found"),
    ],
)
def test_nothing_is_written_or_deleted_when(llmservice: LLMService) -> None:
    children = serving(make_llmservice(), make_settings())
    assert desired(llmservice, children, make_settings(), NOW) == Desired()


def test_a_suspended_llmservice_keeps_all_but_replicas_and_autoscaler() -> None:
    settings = make_settings()
    children = serving(make_llmservice(scaling=SCALING), settings)
    wanted = desired(make_llmservice(scaling=SCALING, suspend=True), children, settings, NOW)
    assert kinds(wanted) == [
        "ServiceAccount",
        "PersistentVolumeClaim",
        "ConfigMap",
        "Job",
        "ControllerRevision",
        "Deployment",
        "Service",
    ]
    assert manifest_of(wanted.manifests, "Deployment")["spec"]["replicas"] == 0
    assert wanted.replicas_handover is None
    assert wanted.deletions == (children.autoscaler,)


def test_a_suspended_llmservice_starts_no_warm_up() -> None:
    llmservice, settings = make_llmservice(suspend=True), make_settings()
    volume = as_live(manifest_of(desired(llmservice, Children(), settings, NOW).manifests, "PersistentVolumeClaim"))
    assert kinds(desired(llmservice, children_of(volume), settings, NOW)) == [
        "ServiceAccount",
        "PersistentVolumeClaim",
        "Service",
    ]


def test_a_deleted_deployment_is_made_again_with_the_same_revision() -> None:
    llmservice, settings = make_llmservice(), make_settings()
    children = serving(llmservice, settings)
    again = desired(llmservice, replace(children, deployment=None, pods=()), settings, NOW)
    assert manifest_of(again.manifests, "Deployment") == manifest_of(
        desired(llmservice, children, settings, NOW).manifests, "Deployment"
    )


def test_a_deleted_finished_job_is_not_made_again() -> None:
    llmservice, settings = make_llmservice(), make_settings()
    children = serving(llmservice, settings)
    wanted = desired(llmservice, replace(children, jobs=()), settings, NOW)
    assert kinds(wanted) == [
        "ServiceAccount",
        "PersistentVolumeClaim",
        "ConfigMap",
        "ControllerRevision",
        "Deployment",
        "Service",
    ]


def test_no_user_text_is_in_a_selector() -> None:
    llmservice, settings = make_llmservice("llama", **FULL_SPEC), make_settings(profile=FULL_PROFILE)
    wanted = desired(llmservice, cached(llmservice, settings), settings, NOW)
    fixed = {
        "app.kubernetes.io/name": "llmservice",
        "app.kubernetes.io/instance": "llama",
        "app.kubernetes.io/component": "server",
    }
    assert manifest_of(wanted.manifests, "Deployment")["spec"]["selector"] == {"matchLabels": fixed}
    assert manifest_of(wanted.manifests, "Service")["spec"]["selector"] == fixed


SPECS = st.fixed_dictionaries(
    {},
    optional={
        "replicas": st.integers(0, 3),
        "suspend": st.booleans(),
        "scaling": st.just(SCALING),
        "engine": st.sampled_from([{"maxModelLen": 1024}, {"quantization": {"method": "None"}}]),
        "resources": st.sampled_from([{"gpu": {"count": 1}}, {"requests": {"cpu": "3000m"}}]),
        "cache": st.sampled_from([{"claimName": "shared"}, {"accessMode": "ReadWriteMany"}, {"size": "1Ti"}]),
        "service": st.sampled_from([{"port": 8080}, {"sessionAffinity": "ClientIP"}]),
        "rollout": st.just({"drainTimeoutSeconds": 0}),
        "disruption": st.just({"maxUnavailable": "50%"}),
        "networkPolicy": st.sampled_from([{"mode": "Restricted"}, {"mode": "Offline"}]),
    },
)
STAGES = st.sampled_from([lambda llmservice, settings: Children(), caching, cached, serving])
UNCACHED = st.sampled_from([lambda llmservice, settings: Children(), caching])


@given(STAGES, SPECS)
@hypothesis_settings(max_examples=30, deadline=None)
def test_deciding_twice_gives_the_same_after_any_edit_at_any_stage(stage: Any, spec: Manifest) -> None:
    settings = make_settings()
    children = stage(make_llmservice(), settings)
    once, twice = (desired(make_llmservice(**spec), children, settings, NOW) for _ in range(2))
    assert once == twice


@given(UNCACHED, SPECS)
@hypothesis_settings(max_examples=30, deadline=None)
def test_no_deployment_is_asked_for_before_a_model_is_cached(stage: Any, spec: Manifest) -> None:
    settings = make_settings()
    children = stage(make_llmservice(), settings)
    assert "Deployment" not in kinds(desired(make_llmservice(**spec), children, settings, NOW))


@given(SPECS)
@hypothesis_settings(max_examples=30, deadline=None)
def test_carrying_out_what_is_desired_after_any_edit_reaches_a_fixed_point(spec: Manifest) -> None:
    settings = make_settings()
    llmservice = make_llmservice(**spec)
    children = serving(make_llmservice(), settings)
    for _ in range(4):
        children = applied(children, desired(llmservice, children, settings, NOW))
    assert applied(children, desired(llmservice, children, settings, NOW)) == children


def applied(children: Children, wanted: Desired) -> Children:
    """Return the children after a cluster has taken everything that is wanted."""
    gone = {item["metadata"]["uid"] for item in wanted.deletions}
    live = {
        (item["kind"], item["metadata"]["name"]): item
        for item in (
            children.deployment,
            children.service,
            children.service_account,
            children.autoscaler,
            children.disruption_budget,
            *children.network_policies,
            *children.claims,
            *children.config_maps,
            *children.jobs,
            *children.revisions,
            *children.pods,
        )
        if item is not None and item["metadata"]["uid"] not in gone
    }
    for manifest in wanted.manifests:
        fresh = as_live(manifest)
        old = live.get((manifest["kind"], manifest["metadata"]["name"]))
        if old is not None and manifest["kind"] == "Deployment" and "replicas" not in manifest["spec"]:
            fresh["spec"]["replicas"] = old["spec"]["replicas"]
        if old is not None and "status" in old:
            fresh["status"] = old["status"]
        live[manifest["kind"], manifest["metadata"]["name"]] = fresh
    return children_of(*live.values())


def test_an_image_is_mounted_read_only_and_neither_cached_nor_warmed_up() -> None:
    llmservice, settings = make_llmservice(source=IMAGE_SOURCE), make_settings(profile={"imagePullPolicy": "Always"})
    wanted = desired(llmservice, Children(), settings, NOW)
    assert {"PersistentVolumeClaim", "Job"}.isdisjoint(kinds(wanted))
    pod = manifest_of(wanted.manifests, "Deployment")["spec"]["template"]["spec"]
    image = {"reference": "registry.example.com/models/gemma:270m", "pullPolicy": "Always"}
    assert pod["volumes"][0] == {"name": "model", "image": image}
    assert pod["containers"][0]["volumeMounts"][0] == {"name": "model", "mountPath": "/model", "readOnly": True}
    data = manifest_of(wanted.manifests, "ConfigMap")["data"]
    assert (data["LLMSERVICE_MODEL_PATH"], data["LLMSERVICE_SERVED_NAME"]) == ("/model/gemma", "gemma:270m")
