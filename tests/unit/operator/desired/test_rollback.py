"""A change whose replicas fail by their own fault is taken back; everything else is waited for."""

from dataclasses import replace

import pytest

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.desired import desired, revisions
from llmservice_operator.desired.revisions import Revision
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService
from tests.support.builders import (
    NOW,
    STARTED,
    as_live,
    crashing_pod,
    make_llmservice,
    manifest_of,
    rolled_out,
    serving,
    unschedulable_pod,
    waiting_pod,
)
from tests.support.rollouts import (
    FIRST,
    LATE,
    SECOND,
    SETTINGS,
    THIRD,
    MakePod,
    crashing,
    kept,
    loading,
    rolled_back,
    rolling,
    settled,
)

NOT_FOUND = 'rpc error: code = NotFound desc = failed to pull and unpack image "server:2": server:2: not found'


def target(llmservice: LLMService, children: Children) -> str:
    deployment = manifest_of(desired(llmservice, children, SETTINGS, NOW).manifests, "Deployment")
    return str(deployment["spec"]["template"]["metadata"]["labels"][names.REVISION_LABEL])


def recorded(llmservice: LLMService, children: Children) -> Revision:
    """Return what is written down about the revision that `llmservice` asks for."""
    manifest = manifest_of(desired(llmservice, children, SETTINGS, NOW).manifests, "ControllerRevision")
    return revisions.of_children(Children(revisions=(as_live(manifest),)))[0]


def live(children: Children) -> str:
    assert children.deployment is not None
    return str(children.deployment["spec"]["template"]["metadata"]["labels"][names.REVISION_LABEL])


def restarted_pod(owner: Manifest, message: str) -> Manifest:
    """Return a pod whose server runs again after it ended once with this message."""
    pod = crashing_pod(owner, number=1, restarts=1, exitCode=65, message=message)
    pod["status"]["containerStatuses"][0]["state"] = {"running": {"startedAt": STARTED}}
    return pod


OWN_FAULTS = [
    pytest.param(crashing, {}, "CrashLoop", id="crash loop"),
    pytest.param(
        lambda owner: crashing_pod(owner, number=1, exitCode=137, reason="OOMKilled"), {}, "OutOfMemory", id="memory"
    ),
    pytest.param(
        lambda owner: crashing_pod(
            owner, number=1, exitCode=65, message='{"failure": {"reason": "ModelUnsupported", "message": "no"}}'
        ),
        {},
        "ModelUnsupported",
        id="its own words",
    ),
    pytest.param(
        lambda owner: restarted_pod(owner, '{"failure": {"reason": "PromptFailed", "message": "no"}}'),
        {},
        "PromptFailed",
        id="a wrong answer, at once",
    ),
    pytest.param(
        lambda owner: crashing_pod(
            owner, number=1, exitCode=65, message='{"failure": {"reason": "DigestMismatch", "message": "no"}}'
        ),
        {},
        "DigestMismatch",
        id="files that are not those asked for",
    ),
    pytest.param(
        lambda owner: waiting_pod(owner, "ImagePullBackOff", NOT_FOUND, 1), {}, "ImagePullFailed", id="no such image"
    ),
    pytest.param(loading, {"conditions": [LATE]}, "ReplicasUnavailable", id="never ready"),
]


@pytest.mark.parametrize(("new_pod", "status", "reason"), OWN_FAULTS)
def test_a_revision_that_is_at_fault_is_taken_back(new_pod: MakePod, status: Manifest, reason: str) -> None:
    before = serving(FIRST, SETTINGS)
    failing = rolling(SECOND, before, new_pod, **status)
    assert target(SECOND, failing) == live(before) != live(failing)
    outcome = recorded(SECOND, failing).outcome
    assert outcome is not None
    assert (outcome.result, outcome.reason) == ("Rejected", reason)
    environments = [item for item in desired(SECOND, failing, SETTINGS, NOW).manifests if item["kind"] == "ConfigMap"]
    assert [item["metadata"]["name"] for item in environments] == [before.config_maps[0]["metadata"]["name"]]


WAITED_FOR = [
    pytest.param(loading, {}, id="loading"),
    pytest.param(
        lambda owner: waiting_pod(owner, "ImagePullBackOff", "dial tcp 10.0.0.1:443: i/o timeout", 1),
        {},
        id="registry out of reach",
    ),
    pytest.param(
        lambda owner: waiting_pod(owner, "CreateContainerConfigError", 'secret "keys" not found', 1),
        {"conditions": [LATE]},
        id="no Secret",
    ),
    pytest.param(
        lambda owner: unschedulable_pod(owner, "0/2 nodes are available: 2 Insufficient nvidia.com/gpu.", 1),
        {"conditions": [LATE]},
        id="no node",
    ),
]


@pytest.mark.parametrize(("new_pod", "status"), WAITED_FOR)
def test_what_the_surroundings_hold_up_is_waited_for(new_pod: MakePod, status: Manifest) -> None:
    failing = rolling(SECOND, serving(FIRST, SETTINGS), new_pod, **status)
    assert target(SECOND, failing) == live(failing)
    assert recorded(SECOND, failing).outcome is None


def test_a_container_that_was_restarted_once_is_given_another_chance() -> None:
    def restarted(owner: Manifest) -> Manifest:
        pod = crashing_pod(owner, number=1, restarts=1, exitCode=3)
        pod["status"]["containerStatuses"][0]["state"] = {"running": {"startedAt": "2026-01-02T03:03:00Z"}}
        return pod

    failing = rolling(SECOND, serving(FIRST, SETTINGS), restarted)
    assert target(SECOND, failing) == live(failing)


def test_a_rejected_revision_is_not_tried_again() -> None:
    before = serving(FIRST, SETTINGS)
    back = rolled_back(SECOND, before, rolling(SECOND, before, crashing))
    assert target(SECOND, back) == live(before)
    wanted = desired(SECOND, back, SETTINGS, NOW)
    assert kept(back, wanted).revisions == back.revisions
    assert wanted.deletions == ()


def test_a_new_spec_supersedes_a_rejected_revision_at_once() -> None:
    before = serving(FIRST, SETTINGS)
    back = rolled_back(SECOND, before, rolling(SECOND, before, crashing))
    assert target(THIRD, back) not in (live(before), target(SECOND, back))
    assert recorded(THIRD, back).outcome is None


def test_the_retry_annotation_tries_a_rejected_revision_once_more() -> None:
    before = serving(FIRST, SETTINGS)
    failing = rolling(SECOND, before, crashing)
    back = rolled_back(SECOND, before, failing)
    again = make_llmservice(
        generation=2, engine={"maxModelLen": 1024}, annotations={"llmservice.dev/retry": "2026-01-03"}
    )
    assert target(again, back) == live(failing)
    assert recorded(again, back).outcome is None

    second = rolling(again, back, crashing)
    assert target(again, second) == live(before)
    assert target(again, rolled_back(again, before, second)) == live(before)


def test_taking_the_change_back_oneself_clears_everything() -> None:
    before = serving(FIRST, SETTINGS)
    back = rolled_back(SECOND, before, rolling(SECOND, before, crashing))
    assert target(FIRST, back) == live(before)
    assert recorded(FIRST, back).is_good


def test_a_first_revision_has_nothing_to_go_back_to() -> None:
    children = serving(FIRST, SETTINGS)
    assert children.deployment is not None
    deployment = rolled_out(children.deployment, readyReplicas=0)
    failing = replace(children, deployment=deployment, pods=(crashing(deployment),), revisions=())
    assert target(FIRST, failing) == live(failing)
    assert recorded(FIRST, failing).outcome is None


def test_with_hold_nothing_is_taken_back() -> None:
    held = make_llmservice(generation=2, engine={"maxModelLen": 1024}, rollout={"onFailure": "Hold"})
    failing = rolling(held, serving(FIRST, SETTINGS), crashing)
    assert target(held, failing) == live(failing)


def test_a_good_revision_that_fails_later_stays() -> None:
    second = settled(SECOND, serving(FIRST, SETTINGS))
    assert second.deployment is not None
    failing = replace(second, pods=(crashing(second.deployment),))
    assert target(SECOND, failing) == live(second)


def test_going_back_by_hand_makes_the_older_revision_the_one_to_return_to() -> None:
    first = serving(FIRST, SETTINGS)
    again = settled(FIRST, settled(SECOND, first))
    assert [item.is_good for item in revisions.of_children(again)] == [True, True]
    failing = rolling(THIRD, again, crashing)
    assert target(THIRD, failing) == live(first)


def test_a_revision_whose_files_went_with_their_volume_is_not_gone_back_to() -> None:
    before = serving(FIRST, SETTINGS)
    failing = rolling(SECOND, before, crashing)
    claim = {**failing.claims[0], "metadata": {**failing.claims[0]["metadata"], "uid": "another-volume"}}
    assert target(SECOND, replace(failing, claims=(claim,))) != live(before)


def test_a_revision_that_lost_its_labels_is_known_by_its_name_and_gets_them_back() -> None:
    before = serving(FIRST, SETTINGS)
    (revision,) = before.revisions
    bare = {field: value for field, value in revision["metadata"].items() if field != "labels"}
    edited = replace(before, revisions=({**revision, "metadata": bare},))
    # A change that makes no other pods, so that what the revision was rendered from is not what is asked for now.
    scaled = make_llmservice(generation=2, replicas=3)
    wanted = manifest_of(desired(scaled, edited, SETTINGS, NOW).manifests, "ControllerRevision")
    assert wanted["metadata"]["labels"] == revision["metadata"]["labels"]
    assert wanted["data"] == revision["data"]


def test_what_a_newer_operator_keeps_with_a_revision_is_left_with_it() -> None:
    before = serving(FIRST, SETTINGS)
    (revision,) = before.revisions
    request = {**revision["data"]["request"], "newer": 1}
    newer = {**revision, "data": {**revision["data"], "request": request, "newer": {"than": "this"}}}
    wanted = desired(FIRST, replace(before, revisions=(newer,)), SETTINGS, NOW).manifests
    assert manifest_of(wanted, "ControllerRevision")["data"] == newer["data"]


def test_revisions_beyond_the_limit_go_with_their_configuration() -> None:
    def limited(length: int) -> LLMService:
        return make_llmservice(engine={"maxModelLen": length}, rollout={"revisionHistoryLimit": 1})

    children = serving(FIRST, SETTINGS)
    for length in (256, 512, 1024):
        children = settled(limited(length), children)
    deleted = desired(limited(1024), children, SETTINGS, NOW).deletions
    oldest = revisions.of_children(children)[:2]
    names_of = {kind: [item["metadata"]["name"] for item in deleted if item["kind"] == kind] for kind in ("ConfigMap",)}
    assert [item["metadata"]["name"] for item in deleted if item["kind"] == "ControllerRevision"] == [
        names.controller_revision("gemma", item.name) for item in oldest
    ]
    assert sorted(names_of["ConfigMap"]) == sorted(
        names.config_map("gemma", names.short_hash(item.environment)) for item in oldest
    )


def test_what_somebody_put_into_a_controller_revision_is_ignored() -> None:
    before = serving(FIRST, SETTINGS)
    broken = {**before.revisions[0], "data": {"spec": {}}}
    odd = {**before.revisions[0], "metadata": {**before.revisions[0]["metadata"], "annotations": None}}
    odd["metadata"]["annotations"] = {names.OUTCOME_ANNOTATION: "{"}
    for manifest in (broken, odd):
        assert target(FIRST, replace(before, revisions=(manifest,))) == live(before)
        assert recorded(FIRST, replace(before, revisions=(manifest,))).is_good
