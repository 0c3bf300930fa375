"""What is deleted, and what a user has a right to keep."""

from dataclasses import replace

from llmservice_operator.desired import desired, model_facts
from llmservice_operator.manifest import Manifest
from tests.support.builders import (
    NOW,
    VERDICT,
    as_live,
    children_of,
    complete,
    ended_pod,
    make_llmservice,
    make_settings,
    manifest_of,
    ready_pod,
    rolled_out,
    serving,
)
from tests.support.specs import SCALING


def test_a_config_map_stays_while_a_pod_of_its_revision_is_there() -> None:
    settings = make_settings()
    children = replace(serving(make_llmservice(), settings), revisions=())
    edited = make_llmservice(engine={"maxModelLen": 1024})
    wanted = desired(edited, children, settings, NOW)
    assert wanted.deletions == ()

    fresh = [as_live(manifest) for manifest in wanted.manifests]
    deployment = manifest_of(tuple(fresh), "Deployment")
    environment = manifest_of(tuple(fresh), "ConfigMap")
    rolling = replace(children, deployment=deployment, config_maps=(*children.config_maps, environment))
    assert desired(edited, rolling, settings, NOW).deletions == ()
    rolled = replace(rolling, pods=(ready_pod(deployment),))
    assert desired(edited, rolled, settings, NOW).deletions == children.config_maps


def moved(reclaim_policy: str) -> tuple[Manifest, ...]:
    """Return what is deleted when the class of a cache was changed and everything runs on the new volume."""
    settings = make_settings()
    children = serving(make_llmservice(cache={"reclaimPolicy": reclaim_policy}), settings)
    edited = make_llmservice(cache={"reclaimPolicy": reclaim_policy, "storageClassName": "fast"})
    claim = as_live(manifest_of(desired(edited, children, settings, NOW).manifests, "PersistentVolumeClaim"))
    both = replace(children, claims=(*children.claims, claim))
    job = complete(as_live(manifest_of(desired(edited, both, settings, NOW).manifests, "Job")))
    warm = replace(both, jobs=(job,), pods=(*children.pods, ended_pod(job, {"verdict": VERDICT})))
    wanted = desired(edited, warm, settings, NOW)
    assert not [item for item in wanted.deletions if item["kind"] == "PersistentVolumeClaim"]

    deployment = rolled_out(as_live(manifest_of(wanted.manifests, "Deployment")))
    facts = model_facts.of_deployment(deployment)
    assert facts is not None
    assert facts.claim == claim["metadata"]["name"]
    settled = replace(warm, deployment=deployment, pods=(ready_pod(deployment), ended_pod(job, {"verdict": VERDICT})))
    return desired(edited, settled, settings, NOW).deletions


def test_an_old_volume_goes_when_all_pods_are_on_the_new_one() -> None:
    assert [item["metadata"]["name"] for item in moved("Delete") if item["kind"] == "PersistentVolumeClaim"] == [
        "gemma-cache"
    ]


def test_an_old_volume_that_is_to_be_retained_stays() -> None:
    assert [item for item in moved("Retain") if item["kind"] == "PersistentVolumeClaim"] == []


def test_an_autoscaler_that_is_not_asked_for_any_more_goes() -> None:
    settings = make_settings()
    children = serving(make_llmservice(scaling=SCALING), settings)
    assert children.autoscaler is not None
    assert desired(make_llmservice(), children, settings, NOW).deletions == (children.autoscaler,)


def test_a_disruption_budget_that_is_not_asked_for_any_more_goes() -> None:
    settings = make_settings()
    children = serving(make_llmservice(disruption={"maxUnavailable": 1}), settings)
    assert children.disruption_budget is not None
    assert desired(make_llmservice(), children, settings, NOW).deletions == (children.disruption_budget,)


def test_what_is_being_deleted_is_not_deleted_again() -> None:
    settings = make_settings()
    children = serving(make_llmservice(scaling=SCALING), settings)
    assert children.autoscaler is not None
    children.autoscaler["metadata"]["deletionTimestamp"] = "2026-01-02T03:00:00Z"
    assert desired(make_llmservice(), children, settings, NOW).deletions == ()


def test_a_retained_volume_of_an_llmservice_with_source_pvc_is_left_alone() -> None:
    settings = make_settings()
    children = serving(make_llmservice(), settings)
    edited = make_llmservice(source={"pvc": {"claimName": "models"}})
    deleted = desired(edited, children_of(*children.claims), settings, NOW).deletions
    assert deleted == ()
