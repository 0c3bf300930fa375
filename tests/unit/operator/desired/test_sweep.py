"""When the cache is swept, what is kept, and what its PVC remembers of it."""

import json
from dataclasses import replace
from datetime import timedelta

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.desired import Desired, desired
from llmservice_operator.diagnosis import verdict
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService
from tests.support.builders import (
    NOW,
    VERDICT,
    as_live,
    bound,
    caching,
    children_of,
    complete,
    ended_pod,
    failed,
    make_llmservice,
    make_pod,
    make_settings,
    manifest_of,
    ready_pod,
    rolled_out,
    serving,
)

SETTINGS = make_settings()
OTHER = {**VERDICT, "path": "quantized/aaaaaaaaaaaaaaaa"}


def jobs(wanted: Desired, component: str = names.SWEEP) -> list[Manifest]:
    found = [item for item in wanted.manifests if item["kind"] == "Job"]
    return [item for item in found if item["metadata"]["labels"][names.COMPONENT_LABEL] == component]


def claim(wanted: Desired) -> Manifest:
    return manifest_of(wanted.manifests, "PersistentVolumeClaim")


def leftovers(wanted: Desired) -> list[str]:
    annotation: str = claim(wanted)["metadata"].get("annotations", {}).get(names.LEFTOVERS_ANNOTATION, "")
    return annotation.split()


def recorded(wanted: Desired) -> list[str]:
    annotations = claim(wanted)["metadata"].get("annotations", {})
    return [said.path for said in verdict.records(annotations.get(names.CACHED_ANNOTATION)).values()]


def kept(job: Manifest) -> list[str]:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    (keep,) = [item.get("value", "") for item in container["env"] if item["name"] == "LLMSERVICE_CACHE_KEEP"]
    return keep.split(",") if keep else []


def carried_out(children: Children, wanted: Desired) -> Children:
    """Return the children after the PVC and the Jobs were written, and what is to go has gone."""
    gone = {item["metadata"]["uid"] for item in wanted.deletions}
    stay = [job for job in children.jobs if job["metadata"]["uid"] not in gone]
    there = {job["metadata"]["name"] for job in stay}
    made = [as_live(item) for item in wanted.manifests if item["kind"] == "Job"]
    return replace(
        children,
        claims=(bound(as_live(claim(wanted))),),
        jobs=(*stay, *(job for job in made if job["metadata"]["name"] not in there)),
        revisions=tuple(item for item in children.revisions if item["metadata"]["uid"] not in gone),
    )


def with_other_model(llmservice: LLMService) -> Children:
    """Return the children of `llmservice` when its volume has another model too, which no revision names."""
    children = serving(llmservice, SETTINGS)
    (volume,) = children.claims
    records = verdict.records(volume["metadata"]["annotations"][names.CACHED_ANNOTATION])
    more = {**records, "0123456789": verdict.Verdict.model_validate(OTHER)}
    annotations = {names.CACHED_ANNOTATION: verdict.annotation(more)}
    metadata = {**volume["metadata"], "annotations": annotations}
    return replace(children, claims=({**volume, "metadata": metadata},))


def test_a_volume_with_nothing_to_remove_is_not_swept() -> None:
    wanted = desired(make_llmservice(), serving(make_llmservice(), SETTINGS), SETTINGS, NOW)

    assert (jobs(wanted), leftovers(wanted)) == ([], [])


def test_a_model_that_no_revision_names_is_removed_and_forgotten_first() -> None:
    children = with_other_model(make_llmservice())

    wanted = desired(make_llmservice(), children, SETTINGS, NOW)

    (job,) = jobs(wanted)
    assert kept(job) == [VERDICT["path"]]
    assert (recorded(wanted), leftovers(wanted)) == ([VERDICT["path"]], [OTHER["path"]])
    kinds = [item["kind"] for item in wanted.manifests]
    assert kinds.index("PersistentVolumeClaim") < kinds.index("Job")


def test_a_sweep_is_made_once_and_goes_when_it_is_done() -> None:
    children = with_other_model(make_llmservice())
    began = carried_out(children, desired(make_llmservice(), children, SETTINGS, NOW))
    goes_on = desired(make_llmservice(), began, SETTINGS, NOW)
    assert (jobs(goes_on), goes_on.deletions, leftovers(goes_on)) == ([], (), [OTHER["path"]])

    ended = replace(began, jobs=(*began.jobs[:-1], complete(began.jobs[-1])))
    over = desired(make_llmservice(), ended, SETTINGS, NOW)
    assert (jobs(over), over.deletions, leftovers(over)) == ([], (), [])

    settled = desired(make_llmservice(), carried_out(ended, over), SETTINGS, NOW)
    assert settled.deletions == (ended.jobs[-1],)


def test_an_operator_that_ended_before_the_sweep_was_made_makes_it() -> None:
    children = with_other_model(make_llmservice())
    wanted = desired(make_llmservice(), children, SETTINGS, NOW)
    without = replace(carried_out(children, wanted), jobs=children.jobs)

    assert jobs(desired(make_llmservice(), without, SETTINGS, NOW)) == jobs(wanted)


def test_a_model_that_a_kept_revision_names_stays() -> None:
    before, edited = serving(make_llmservice(), SETTINGS), make_llmservice(repo="google/gemma-3-1b")
    wanted = desired(edited, before, SETTINGS, NOW)
    assert (jobs(wanted), leftovers(wanted)) == ([], [])
    job = complete(as_live(jobs(wanted, names.WARMUP)[0]))
    warm = replace(before, jobs=(job,), pods=(*before.pods, ended_pod(job, {"verdict": OTHER})))
    rolled = rolling(edited, warm)
    both = desired(edited, rolled, SETTINGS, NOW)
    assert (jobs(both), set(recorded(both))) == ([], {VERDICT["path"], OTHER["path"]})

    (forgotten, new) = sorted(rolled.revisions, key=lambda item: int(item["revision"]))
    assert forgotten is before.revisions[0]
    (sweep,) = jobs(desired(edited, replace(rolled, revisions=(new,)), SETTINGS, NOW))
    assert kept(sweep) == [OTHER["path"]]


def rolling(llmservice: LLMService, children: Children) -> Children:
    """Return the children when all replicas are of the revision that is asked for now."""
    wanted = desired(llmservice, children, SETTINGS, NOW)
    deployment = rolled_out(as_live(manifest_of(wanted.manifests, "Deployment")))
    ended = tuple(pod for pod in children.pods if pod["metadata"]["labels"][names.COMPONENT_LABEL] != names.SERVER)
    fresh = [as_live(item) for item in wanted.manifests if item["kind"] in ("ConfigMap", "ControllerRevision")]
    up = replace(
        children,
        deployment=deployment,
        claims=(bound(as_live(claim(wanted))),),
        config_maps=(*children.config_maps, *(item for item in fresh if item["kind"] == "ConfigMap")),
        revisions=(*children.revisions, *(item for item in fresh if item["kind"] == "ControllerRevision")),
        pods=(*ended, ready_pod(deployment)),
    )
    good = manifest_of(desired(llmservice, up, SETTINGS, NOW).manifests, "ControllerRevision")
    return replace(up, revisions=(*children.revisions, as_live(good)))


def test_a_model_that_is_kept_without_a_verdict_is_removed_later() -> None:
    children = serving(make_llmservice(), SETTINGS)
    (volume,) = children.claims
    annotations = {**volume["metadata"]["annotations"], names.LEFTOVERS_ANNOTATION: str(OTHER["path"])}
    volume = {**volume, "metadata": {**volume["metadata"], "annotations": annotations}}
    (revision,) = children.revisions
    text = json.dumps({**revision, "revision": 0}).replace(VERDICT["path"], OTHER["path"])
    older = json.loads(text)
    older["metadata"] |= {"uid": "older", "labels": {**older["metadata"]["labels"], names.REVISION_LABEL: "older"}}
    both = replace(children, claims=(volume,), revisions=(older, revision))

    wanted = desired(make_llmservice(), both, SETTINGS, NOW)
    assert (jobs(wanted), leftovers(wanted)) == ([], [OTHER["path"]])
    wanted = desired(make_llmservice(), replace(both, revisions=(revision,)), SETTINGS, NOW)
    assert (len(jobs(wanted)), leftovers(wanted)) == (1, [OTHER["path"]])


def test_nothing_is_removed_while_a_rollout_goes_on() -> None:
    children = with_other_model(make_llmservice())
    edited = make_llmservice(engine={"maxModelLen": 1024})

    assert jobs(desired(edited, children, SETTINGS, NOW)) == []
    assert recorded(desired(edited, children, SETTINGS, NOW)) == [VERDICT["path"], OTHER["path"]]


def test_the_model_of_a_pod_that_is_still_there_stays() -> None:
    children = with_other_model(make_llmservice())
    assert children.deployment is not None
    old = ready_pod(children.deployment, 7)
    facts = old["metadata"]["annotations"][names.MODEL_ANNOTATION]
    old["metadata"]["annotations"][names.MODEL_ANNOTATION] = facts.replace(VERDICT["path"], OTHER["path"])
    old["metadata"]["deletionTimestamp"] = "2026-01-02T03:00:00Z"

    assert jobs(desired(make_llmservice(), replace(children, pods=(*children.pods, old)), SETTINGS, NOW)) == []


def test_what_an_abandoned_warm_up_left_is_remembered_before_its_job_goes_and_removed_later() -> None:
    children = serving(make_llmservice(), SETTINGS)
    wrong = make_llmservice(repo="google/gemma-3-27b")
    began = carried_out(children, desired(wrong, children, SETTINGS, NOW))
    (job,) = [item for item in began.jobs if item not in children.jobs]

    taken_away = desired(make_llmservice(), began, SETTINGS, NOW)
    key = job["metadata"]["name"].removeprefix("gemma-warmup-")
    assert (taken_away.deletions, leftovers(taken_away), jobs(taken_away)) == ((job,), [key], [])

    (sweep,) = jobs(desired(make_llmservice(), carried_out(began, taken_away), SETTINGS, NOW))
    assert kept(sweep) == [VERDICT["path"]]


def test_what_another_commit_took_the_place_of_is_removed() -> None:
    children = serving(make_llmservice(), SETTINGS)
    (job,) = children.jobs
    moved = replace(children, pods=(ended_pod(job, {"verdict": OTHER}),))

    assert leftovers(desired(make_llmservice(), moved, SETTINGS, NOW)) == [VERDICT["path"]]


def test_a_warm_up_waits_for_a_sweep_that_does_not_know_of_its_model() -> None:
    children = with_other_model(make_llmservice())
    began = carried_out(children, desired(make_llmservice(), children, SETTINGS, NOW))
    sweep, edited = began.jobs[-1], make_llmservice(repo="google/gemma-3-1b")

    wanted = desired(edited, began, SETTINGS, NOW)
    assert sweep in wanted.deletions
    assert jobs(wanted, names.WARMUP) == []

    gone = replace(began, jobs=())
    assert len(jobs(desired(edited, gone, SETTINGS, NOW), names.WARMUP)) == 1


def test_a_sweep_that_failed_is_repeated_after_an_hour() -> None:
    children = with_other_model(make_llmservice())
    began = carried_out(children, desired(make_llmservice(), children, SETTINGS, NOW))
    job = failed(began.jobs[-1], at=NOW.isoformat())
    children = replace(began, jobs=(*began.jobs[:-1], job))

    waits = desired(make_llmservice(), children, SETTINGS, NOW + timedelta(minutes=10))
    assert (waits.deletions, waits.wake_after_seconds) == ((), 3000)
    due = desired(make_llmservice(), children, SETTINGS, NOW + timedelta(hours=1))
    assert due.deletions == (job,)


def test_somebody_elses_volume_is_never_swept_and_its_warm_up_knows_of_nothing_to_remove() -> None:
    shared = make_llmservice(cache={"claimName": "models"})
    first = desired(shared, Children(), SETTINGS, NOW)
    (job,) = jobs(first, names.WARMUP)
    variables = {item["name"] for item in job["spec"]["template"]["spec"]["containers"][0]["env"]}

    assert "LLMSERVICE_CACHE_KEEP" not in variables


def test_a_warm_up_without_room_knows_what_has_to_stay() -> None:
    children = with_other_model(make_llmservice())
    (job,) = jobs(desired(make_llmservice(repo="google/gemma-3-1b"), children, SETTINGS, NOW), names.WARMUP)

    assert kept(job) == sorted([VERDICT["path"], OTHER["path"]])


def test_a_warm_up_keeps_the_list_that_it_was_made_with() -> None:
    before = caching(make_llmservice(), SETTINGS)
    known = with_other_model(make_llmservice()).revisions
    wanted = desired(make_llmservice(), replace(before, revisions=known), SETTINGS, NOW)

    assert manifest_of(wanted.manifests, "Job")["spec"] == before.jobs[0]["spec"]
    assert wanted.deletions == ()


def test_nothing_is_removed_for_a_suspended_llmservice() -> None:
    children = with_other_model(make_llmservice())
    assert jobs(desired(make_llmservice(suspend=True), children, SETTINGS, NOW)) == []


def test_a_sweep_of_a_cache_that_is_not_asked_for_any_more_is_taken_away() -> None:
    children = with_other_model(make_llmservice())
    began = carried_out(children, desired(make_llmservice(), children, SETTINGS, NOW))
    mounted = make_llmservice(source={"pvc": {"claimName": "models"}})

    assert began.jobs[-1] in desired(mounted, began, SETTINGS, NOW).deletions


def test_a_sweep_asks_for_less_than_a_warm_up_and_lands_beside_the_pods() -> None:
    profile = {"warmup": {"requests": {"cpu": "4", "memory": "16Gi"}, "limits": {"memory": "128Mi"}}}
    settings = make_settings(profile=profile)
    children = with_other_model(make_llmservice())
    (job,) = jobs(desired(make_llmservice(), children, settings, NOW))
    spec = job["spec"]["template"]["spec"]

    assert spec["containers"][0]["resources"] == {
        "requests": {"cpu": "100m", "memory": "128Mi"},
        "limits": {"memory": "128Mi"},
    }
    assert children.deployment is not None
    assert spec["affinity"] == children.deployment["spec"]["template"]["spec"]["affinity"]


def test_a_pod_of_a_sweep_is_no_replica() -> None:
    children = with_other_model(make_llmservice())
    began = carried_out(children, desired(make_llmservice(), children, SETTINGS, NOW))
    pod = make_pod(began.jobs[-1], phase="Running")
    deployment = began.deployment

    wanted = desired(make_llmservice(), replace(began, pods=(*began.pods, pod)), SETTINGS, NOW)
    assert deployment is not None
    assert manifest_of(wanted.manifests, "Deployment")["spec"]["template"] == deployment["spec"]["template"]
    assert children_of(pod).pods == (pod,)
