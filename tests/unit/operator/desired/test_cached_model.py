"""Which model the pods load, while models come and go."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.desired import desired, model_facts
from llmservice_operator.desired.cached_model import KEPT_VERDICTS, cached_model
from llmservice_operator.desired.effective import effective
from llmservice_operator.diagnosis import verdict
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService
from llmservice_operator.settings import Settings
from tests.support.builders import (
    DIGEST,
    NOW,
    VERDICT,
    as_live,
    bound,
    cached,
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
from tests.support.specs import HTTP_SOURCE

OTHER_COMMIT = "f" * 40
OTHER_DIGEST = "sha256:" + "cd" * 32


def wanted(llmservice: LLMService, children: Children, settings: Settings, kind: str) -> Manifest:
    return manifest_of(desired(llmservice, children, settings, NOW).manifests, kind)


def revision(deployment: Manifest) -> str:
    return str(deployment["spec"]["template"]["metadata"]["labels"][names.REVISION_LABEL])


def test_the_old_model_keeps_serving_unchanged_while_a_new_one_downloads() -> None:
    settings = make_settings()
    children = serving(make_llmservice(), settings)
    edited = make_llmservice(repo="google/gemma-3-1b", model={"servedName": "big"})
    before = wanted(make_llmservice(), children, settings, "Deployment")
    assert wanted(edited, children, settings, "Deployment") == before
    assert wanted(edited, children, settings, "Job")["metadata"]["name"] != children.jobs[0]["metadata"]["name"]


def test_other_edits_reach_the_pods_while_a_new_model_downloads() -> None:
    settings = make_settings()
    children = serving(make_llmservice(), settings)
    edited = make_llmservice(repo="google/gemma-3-1b", engine={"maxModelLen": 1024})
    data = wanted(edited, children, settings, "ConfigMap")["data"]
    assert (data["LLMSERVICE_MAX_MODEL_LEN"], data["MODEL_NAME"]) == ("1024", "google/gemma-3-270m")


def test_the_pods_change_over_when_the_new_model_is_there() -> None:
    settings = make_settings()
    children = serving(make_llmservice(), settings)
    edited = make_llmservice(repo="google/gemma-3-1b")
    job = complete(as_live(wanted(edited, children, settings, "Job")))
    said = {**VERDICT, "commit": OTHER_COMMIT, "path": "quantized/other"}
    after = replace(children, jobs=(job,), pods=(*children.pods, ended_pod(job, {"verdict": said})))
    data = wanted(edited, after, settings, "ConfigMap")["data"]
    assert data["MODEL_NAME"] == "google/gemma-3-1b"
    assert data["LLMSERVICE_MODEL_PATH"] == "/cache/quantized/other"
    assert data["LLMSERVICE_MODEL_REVISION"] == OTHER_COMMIT
    old = wanted(make_llmservice(), children, settings, "Deployment")
    assert revision(wanted(edited, after, settings, "Deployment")) != revision(old)


def test_going_back_to_an_earlier_model_needs_no_warm_up() -> None:
    settings = make_settings()
    children = serving(make_llmservice(), settings)
    edited = make_llmservice(repo="google/gemma-3-1b")
    job = complete(as_live(wanted(edited, children, settings, "Job")))
    pod = ended_pod(job, {"verdict": {**VERDICT, "commit": OTHER_COMMIT}})
    claim = as_live(wanted(edited, replace(children, jobs=(job,), pods=(pod,)), settings, "PersistentVolumeClaim"))
    assert len(verdict.records(claim["metadata"]["annotations"][names.CACHED_ANNOTATION])) == 2

    back = desired(make_llmservice(), replace(children, claims=(claim,), jobs=(), pods=()), settings, NOW)
    assert "Job" not in [manifest["kind"] for manifest in back.manifests]
    assert manifest_of(back.manifests, "ConfigMap")["data"]["MODEL_NAME"] == "google/gemma-3-270m"


def test_a_changed_served_name_alone_reaches_the_pods_at_once() -> None:
    settings = make_settings()
    children = serving(make_llmservice(), settings)
    data = wanted(make_llmservice(model={"servedName": "small"}), children, settings, "ConfigMap")["data"]
    assert data["LLMSERVICE_SERVED_NAME"] == "small"


def test_a_shared_cache_is_remembered_by_the_live_template_when_the_job_is_gone() -> None:
    settings, shared = make_settings(), {"claimName": "shared"}
    llmservice = make_llmservice(cache=shared)
    job = complete(as_live(wanted(llmservice, Children(), settings, "Job")))
    children = children_of(job, ended_pod(job, {"verdict": VERDICT}))
    deployment = rolled_out(as_live(wanted(llmservice, children, settings, "Deployment")))

    later = desired(llmservice, children_of(deployment, ready_pod(deployment)), settings, NOW)
    kinds = {manifest["kind"] for manifest in later.manifests}
    assert "Deployment" in kinds
    assert kinds.isdisjoint({"PersistentVolumeClaim", "Job"})
    assert manifest_of(later.manifests, "Deployment")["spec"] == deployment["spec"]


def test_a_verdict_about_an_earlier_volume_of_the_same_name_does_not_count() -> None:
    llmservice, settings = make_llmservice(), make_settings()
    children = cached(llmservice, settings)
    volume = {**children.claims[0], "metadata": {**children.claims[0]["metadata"], "uid": "another"}}
    after = desired(llmservice, replace(children, claims=(volume,)), settings, NOW)
    assert "Deployment" not in {manifest["kind"] for manifest in after.manifests}
    assert after.deletions == children.jobs


def test_a_retained_volume_is_taken_up_again_without_a_warm_up() -> None:
    llmservice, settings = make_llmservice(cache={"reclaimPolicy": "Retain"}), make_settings()
    claim = as_live(wanted(llmservice, cached(llmservice, settings), settings, "PersistentVolumeClaim"))
    again = desired(llmservice, children_of(claim), settings, NOW)
    kinds = {manifest["kind"] for manifest in again.manifests}
    assert kinds >= {"PersistentVolumeClaim", "Deployment"}
    assert "Job" not in kinds
    assert "ownerReferences" not in manifest_of(again.manifests, "PersistentVolumeClaim")["metadata"]


# C38
def test_a_volume_never_shrinks_and_keeps_its_class() -> None:
    settings = make_settings(profile={"storageClassName": "new", "cacheSize": "1Gi"})
    llmservice = make_llmservice()
    live = as_live(wanted(llmservice, Children(), settings, "PersistentVolumeClaim"))
    live["spec"] |= {"storageClassName": "old", "resources": {"requests": {"storage": "5Gi"}}}
    spec = wanted(llmservice, children_of(live), settings, "PersistentVolumeClaim")["spec"]
    assert spec["storageClassName"] == "old"
    assert spec["resources"] == {"requests": {"storage": "5Gi"}}


def test_a_volume_grows_only_once_it_is_bound() -> None:
    settings = make_settings(profile={"cacheSize": "5Gi"})
    pending = as_live(wanted(make_llmservice(), Children(), settings, "PersistentVolumeClaim"))
    pending["status"] = {"phase": "Pending"}
    larger = make_llmservice(cache={"size": "20Gi"})
    for claim, size in ((pending, "5Gi"), (bound(pending), "20Gi")):
        spec = wanted(larger, children_of(claim), settings, "PersistentVolumeClaim")["spec"]
        assert spec["resources"] == {"requests": {"storage": size}}


@pytest.mark.parametrize(
    ("asked_for", "size"),
    [
        pytest.param("15Gi", "15Gi", id="less, and more than it has"),
        pytest.param("10Gi", "20Gi", id="as much as it has"),
        pytest.param("5Gi", "20Gi", id="less than it has"),
        pytest.param("30Gi", "30Gi", id="more"),
    ],
)
def test_a_growth_that_did_not_come_can_be_given_up(asked_for: str, size: str) -> None:
    settings = make_settings()
    children = serving(make_llmservice(cache={"size": "20Gi"}), settings)
    children.claims[0]["status"]["capacity"] = {"storage": "10Gi"}
    edited = make_llmservice(cache={"size": asked_for})
    claim = wanted(edited, children, settings, "PersistentVolumeClaim")
    assert claim["spec"]["resources"] == {"requests": {"storage": size}}


def test_another_storage_class_is_another_volume_beside_the_old_one() -> None:
    settings = make_settings()
    children = serving(make_llmservice(), settings)
    edited = make_llmservice(cache={"storageClassName": "fast"})
    after = desired(edited, children, settings, NOW)
    claim = manifest_of(after.manifests, "PersistentVolumeClaim")
    assert claim["metadata"]["name"].startswith("gemma-cache-")
    volumes = manifest_of(after.manifests, "Deployment")["spec"]["template"]["spec"]["volumes"]
    assert volumes[0]["persistentVolumeClaim"] == {"claimName": "gemma-cache"}
    assert children.claims[0] not in after.deletions


def test_only_a_few_verdicts_are_remembered_and_the_one_in_use_is_never_forgotten() -> None:
    llmservice, settings = make_llmservice(), make_settings()
    children = serving(llmservice, settings)
    key = model_facts.of_deployment(children.deployment)
    assert key is not None
    known = verdict.Verdict.model_validate(VERDICT)
    records = {key.key: known, **{f"other-{number}": known for number in range(9)}}
    claim: dict[str, Any] = {**children.claims[0]}
    claim["metadata"] = {**claim["metadata"], "annotations": {names.CACHED_ANNOTATION: verdict.annotation(records)}}
    profile = settings.profile("cpu")
    assert profile is not None
    found = cached_model(llmservice, effective(llmservice, profile, settings), replace(children, claims=(claim,)))
    assert found is not None
    assert len(found.records) == KEPT_VERDICTS
    assert list(found.records) == [key.key, "other-6", "other-7", "other-8"]


@pytest.mark.parametrize("count", range(1, KEPT_VERDICTS + 1))
def test_as_few_verdicts_as_are_remembered_are_all_kept(count: int) -> None:
    settings = make_settings()
    children = serving(make_llmservice(), settings)
    records = {f"other-{number}": verdict.Verdict.model_validate(VERDICT) for number in range(count)}
    annotations = {names.CACHED_ANNOTATION: verdict.annotation(records)}
    claim = {**children.claims[0], "metadata": {**children.claims[0]["metadata"], "annotations": annotations}}
    edited, profile = make_llmservice(repo="google/gemma-3-1b"), settings.profile("default")
    assert profile is not None
    alone = children_of(claim)
    found = cached_model(edited, effective(edited, profile, settings), alone)
    assert found is not None
    assert list(found.records) == list(records)


def test_no_replica_waits_in_vain_for_files_that_went_with_their_volume() -> None:
    llmservice, settings = make_llmservice(), make_settings()
    children = serving(llmservice, settings)
    volume = {**children.claims[0], "metadata": {**children.claims[0]["metadata"], "uid": "new", "annotations": {}}}
    emptied = replace(children, claims=(volume,), jobs=(), pods=())
    assert wanted(llmservice, emptied, settings, "Deployment")["spec"]["replicas"] == 0

    job = complete(as_live(wanted(llmservice, emptied, settings, "Job")))
    refilled = replace(emptied, jobs=(job,), pods=(ended_pod(job, {"verdict": VERDICT}),))
    deployment = wanted(llmservice, refilled, settings, "Deployment")
    assert deployment["spec"]["replicas"] == 1
    assert children.deployment is not None
    assert revision(deployment) != revision(children.deployment)


def test_pods_that_still_use_a_deleted_volume_are_left_alone() -> None:
    llmservice, settings = make_llmservice(), make_settings()
    children = serving(llmservice, settings)
    before = wanted(llmservice, children, settings, "Deployment")
    children.claims[0]["metadata"]["deletionTimestamp"] = "2026-01-02T03:00:00Z"
    assert wanted(llmservice, children, settings, "Deployment") == before
    assert wanted(llmservice, replace(children, claims=()), settings, "Deployment") == before


def test_an_annotation_that_somebody_removed_is_written_again_without_a_warm_up() -> None:
    llmservice, settings = make_llmservice(), make_settings()
    children = serving(llmservice, settings)
    bare = {**children.claims[0], "metadata": {**children.claims[0]["metadata"], "annotations": {}}}
    after = desired(llmservice, replace(children, claims=(bare,), jobs=()), settings, NOW)
    assert "Job" not in [manifest["kind"] for manifest in after.manifests]
    claim = manifest_of(after.manifests, "PersistentVolumeClaim")
    assert len(verdict.records(claim["metadata"]["annotations"][names.CACHED_ANNOTATION])) == 1
    assert manifest_of(after.manifests, "Deployment") == wanted(llmservice, children, settings, "Deployment")


def test_a_verdict_counts_before_the_job_controller_has_counted_its_pod() -> None:
    settings = make_settings()
    children = cached(make_llmservice(), settings)
    (job,) = children.jobs
    uncounted = replace(children, jobs=({**job, "status": {"active": 1}},))
    assert wanted(make_llmservice(), uncounted, settings, "Deployment")


def test_the_digest_that_the_files_have_changes_nothing() -> None:
    settings, pinned = make_settings(), make_llmservice(model={"digest": DIGEST})
    children = serving(make_llmservice(), settings)
    before = desired(make_llmservice(), children, settings, NOW)
    assert desired(pinned, children, settings, NOW) == before
    assert wanted(pinned, cached(pinned, settings), settings, "Deployment")


def test_files_with_another_digest_reach_no_pod_and_are_looked_for_again() -> None:
    settings, pinned = make_settings(), make_llmservice(model={"digest": OTHER_DIGEST})
    children = cached(make_llmservice(), settings)
    waits = desired(pinned, children, settings, NOW)
    assert "Deployment" not in {manifest["kind"] for manifest in waits.manifests}
    assert (waits.deletions, waits.wake_after_seconds) == ((), 115)

    due = desired(pinned, children, settings, NOW + timedelta(seconds=115))
    assert due.deletions == children.jobs


def test_a_digest_that_the_running_model_has_not_leaves_it_alone() -> None:
    settings, pinned = make_settings(), make_llmservice(model={"digest": OTHER_DIGEST})
    children = serving(make_llmservice(), settings)
    before = wanted(make_llmservice(), children, settings, "Deployment")
    assert wanted(pinned, children, settings, "Deployment") == before


# C06
def test_a_branch_that_has_moved_to_the_digest_asked_for_is_rolled_out() -> None:
    settings, pinned = make_settings(), make_llmservice(model={"digest": OTHER_DIGEST})
    children = serving(make_llmservice(), settings)
    job = complete(as_live(wanted(pinned, replace(children, jobs=()), settings, "Job")))
    said = {**VERDICT, "commit": OTHER_COMMIT, "digest": OTHER_DIGEST}
    after = replace(children, jobs=(job,), pods=(*children.pods, ended_pod(job, {"verdict": said})))
    assert wanted(pinned, after, settings, "ConfigMap")["data"]["LLMSERVICE_MODEL_DIGEST"] == OTHER_DIGEST


def test_the_digest_of_a_model_on_its_way_is_not_asked_of_the_one_that_serves() -> None:
    settings = make_settings()
    children = serving(make_llmservice(source={"pvc": {"claimName": "models"}}), settings)
    edited = make_llmservice(model={"digest": OTHER_DIGEST})
    assert children.deployment is not None
    assert revision(wanted(edited, children, settings, "Deployment")) == revision(children.deployment)


def test_an_archive_that_moved_is_not_downloaded_again() -> None:
    settings = make_settings(allowedEndpoints=["https://huggingface.co", "https://models.example.com"])
    children = serving(make_llmservice(source=HTTP_SOURCE), settings)
    moved = {"http": {**HTTP_SOURCE["http"], "url": "https://models.example.com/elsewhere/gemma.zip"}}
    after = desired(make_llmservice(source=moved), children, settings, NOW)
    assert manifest_of(after.manifests, "ConfigMap")["data"]["LLMSERVICE_SERVED_NAME"] == "gemma"
    assert cached_model_key(moved, settings) == cached_model_key(HTTP_SOURCE, settings)


def cached_model_key(source: Manifest, settings: Settings) -> str:
    llmservice, profile = make_llmservice(source=source), settings.profile("cpu")
    assert profile is not None
    found = cached_model(llmservice, effective(llmservice, profile, settings), Children())
    assert found is not None
    return found.key


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://models.example.com/gemma-3-270m.tar.gz?version=1", "gemma-3-270m"),
        ("https://models.example.com/a/gemma.tgz", "gemma"),
        ("https://models.example.com/gemma.v1", "gemma.v1"),
        ("https://models.example.com/", "models.example.com"),
    ],
)
def test_an_archive_is_served_under_its_name(url: str, name: str) -> None:
    assert model_facts.served_name(make_llmservice(source={"http": {"url": url, "sha256": "ab" * 32}})) == name


@pytest.mark.parametrize(("uri", "name"), [("s3://models/gemma/270m/", "270m"), ("s3://gemma", "gemma")])
def test_a_folder_of_a_bucket_is_served_under_its_name(uri: str, name: str) -> None:
    assert model_facts.served_name(make_llmservice(source={"s3": {"uri": uri}})) == name
