"""An extra replica that finds no place lets an old one make room for it, where that can help and no sooner."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.desired import Desired, desired
from llmservice_operator.manifest import Manifest
from llmservice_operator.observe import observe
from llmservice_operator.schema import LLMService
from tests.support.builders import (
    NOW,
    as_live,
    make_llmservice,
    manifest_of,
    ready_pod,
    serving,
    unschedulable_pod,
)
from tests.support.rollouts import FIRST, SECOND, SETTINGS, THIRD, crashing, kept, rolling, settled

NO_GPU = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
NO_MATCH = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
QUOTA = 'pods "gemma-x" is forbidden: exceeded quota: gpus, requested: pods=1, used: pods=1, limited: pods=1'
LONG_AGO, JUST_NOW = "2026-01-02T03:03:00Z", "2026-01-02T03:03:45Z"
SURGE = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
IN_PLACE = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}


def waiting(
    llmservice: LLMService, words: str = NO_GPU, since: str = LONG_AGO, before: Children | None = None
) -> Children:
    """Return the children while the first replica of `llmservice` waits for a place beside one of FIRST."""
    start = before or serving(FIRST, SETTINGS)
    return rolling(llmservice, start, lambda deployment: unschedulable_pod(deployment, words, 1, since))


def refused(llmservice: LLMService, since: str) -> Children:
    """Return the children while the quota refuses the pod of `llmservice`."""
    children = waiting(llmservice)
    assert children.deployment is not None
    failure = {"type": "ReplicaFailure", "status": "True", "message": QUOTA, "lastTransitionTime": since}
    children.deployment["status"]["conditions"] = [failure]
    return replace(children, pods=tuple(pod for pod in children.pods if pod["status"]["phase"] != "Pending"))


def wanted(llmservice: LLMService, children: Children, now: datetime = NOW) -> Desired:
    return desired(llmservice, children, SETTINGS, now)


def way(result: Desired) -> Manifest:
    strategy: Manifest = manifest_of(result.manifests, "Deployment")["spec"]["strategy"]
    return strategy


def stalled(llmservice: LLMService, children: Children) -> str | None:
    conditions = observe(llmservice, children, SETTINGS, NOW)["conditions"]
    return next((item["reason"] for item in conditions if item["type"] == "Stalled"), None)


def rollout(llmservice: LLMService, children: Children) -> Manifest:
    status: Manifest = observe(llmservice, children, SETTINGS, NOW)["rollout"]
    return status


def test_a_rollout_begins_with_one_replica_more() -> None:
    assert way(wanted(FIRST, serving(FIRST, SETTINGS))) == SURGE
    assert rollout(FIRST, serving(FIRST, SETTINGS))["strategy"] == "Surge"


def test_an_extra_replica_without_a_place_is_waited_for_and_nobody_is_called() -> None:
    children = waiting(SECOND, since=JUST_NOW)
    result = wanted(SECOND, children)
    assert (way(result), result.wake_after_seconds) == (SURGE, 10.0)
    assert stalled(SECOND, children) is None


def test_after_that_an_old_replica_makes_room_and_the_status_says_why() -> None:
    children = waiting(SECOND)
    result = wanted(SECOND, children)
    assert way(result) == IN_PLACE
    assert NO_GPU in rollout(SECOND, kept(children, result))["strategyReason"]
    assert rollout(SECOND, children)["strategy"] == "InPlace"


def test_a_quota_that_refuses_the_extra_replica_counts_as_no_place() -> None:
    assert way(wanted(SECOND, refused(SECOND, JUST_NOW))) == SURGE
    assert way(wanted(SECOND, refused(SECOND, LONG_AGO))) == IN_PLACE


def test_the_rollout_stays_in_place_to_its_end_and_the_next_one_begins_anew() -> None:
    children = waiting(SECOND)
    children = kept(children, wanted(SECOND, children))
    assert children.deployment is not None
    placed = replace(children, pods=(ready_pod(children.deployment, 1),))
    assert way(wanted(SECOND, placed)) == IN_PLACE
    done = settled(SECOND, placed)
    assert rollout(SECOND, done)["strategy"] == "InPlace"
    assert way(wanted(THIRD, done)) == SURGE


def test_going_back_to_a_revision_that_went_in_place_once_begins_anew() -> None:
    children = waiting(SECOND)
    children = settled(SECOND, kept(children, wanted(SECOND, children)))
    assert way(wanted(SECOND, settled(THIRD, children))) == SURGE


def test_an_old_replica_is_not_given_up_for_one_that_fits_no_node() -> None:
    children = waiting(SECOND, NO_MATCH)
    assert way(wanted(SECOND, children)) == SURGE
    assert stalled(SECOND, children) == "NoMatchingNode"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"resources": {"requests": {"memory": "1Ti"}}}, "the new one asks for more memory"),
        ({"resources": {"gpu": {"count": 1}}}, "the new one asks for more nvidia.com/gpu"),
        ({"scheduling": {"nodeSelector": {"zone": "b"}}}, "the new one is to run on other nodes"),
    ],
)
def test_an_old_replica_is_not_given_up_for_one_that_its_place_would_not_do_for(
    change: dict[str, Any], reason: str
) -> None:
    larger = make_llmservice(generation=2, **change)
    children = waiting(larger)
    assert way(wanted(larger, children)) == SURGE
    assert rollout(larger, children)["strategyReason"] == f"An old replica cannot make room: {reason}"
    assert stalled(larger, children) == "InsufficientGPU"


def test_a_smaller_replica_fits_into_the_place_of_an_old_one() -> None:
    large = make_llmservice(resources={"requests": {"memory": "8Gi", "cpu": "4"}})
    small = make_llmservice(generation=2, resources={"requests": {"memory": "8192Mi", "cpu": "1500m"}})
    assert way(wanted(small, waiting(small, before=serving(large, SETTINGS)))) == IN_PLACE


def test_the_place_of_an_old_replica_that_still_drains_is_waited_for() -> None:
    patient = make_llmservice(generation=2, engine={"maxModelLen": 1024}, rollout={"drainTimeoutSeconds": 600})
    children = waiting(patient)
    assert children.deployment is not None
    one_done = replace(children, pods=(*children.pods, ready_pod(children.deployment, 2)))
    result = wanted(patient, one_done)
    # The ready one has been so for 185 s, and what it replaced may take 605 s.
    assert (way(result), result.wake_after_seconds) == (SURGE, 605 - 185 + 30.0)


def test_while_the_old_replica_leaves_nobody_is_called_and_after_that_somebody_is() -> None:
    children = waiting(SECOND)
    children = kept(children, wanted(SECOND, children))
    assert stalled(SECOND, children) == "InsufficientGPU"
    leaving = [
        {**pod, "metadata": {**pod["metadata"], "deletionTimestamp": JUST_NOW}}
        if pod["metadata"]["labels"][names.COMPONENT_LABEL] == names.SERVER and pod["status"]["phase"] == "Running"
        else pod
        for pod in children.pods
    ]
    assert stalled(SECOND, replace(children, pods=tuple(leaving))) is None


@pytest.mark.parametrize(("strategy", "manifest"), [("Surge", SURGE), ("Recreate", {"type": "Recreate"})])
def test_a_strategy_that_is_asked_for_is_kept(strategy: str, manifest: Manifest) -> None:
    second = make_llmservice(generation=2, engine={"maxModelLen": 1024}, rollout={"strategy": strategy})
    children = waiting(second)
    assert way(wanted(second, children)) == manifest
    assert rollout(second, children)["strategy"] == strategy
    assert stalled(second, children) == "InsufficientGPU"


def test_asking_for_surge_ends_going_in_place() -> None:
    children = waiting(SECOND)
    children = kept(children, wanted(SECOND, children))
    surge = make_llmservice(generation=3, engine={"maxModelLen": 1024}, rollout={"strategy": "Surge"})
    assert way(wanted(surge, children)) == SURGE


def test_a_failing_change_that_went_in_place_is_taken_back_in_place() -> None:
    children = waiting(SECOND)
    children = kept(children, wanted(SECOND, children))
    assert children.deployment is not None
    failing = replace(children, pods=(crashing(children.deployment),))
    result = wanted(SECOND, failing)
    assert way(result) == IN_PLACE
    labels = manifest_of(result.manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    old = as_live(manifest_of(wanted(FIRST, serving(FIRST, SETTINGS)).manifests, "Deployment"))
    assert labels[names.REVISION_LABEL] == old["spec"]["template"]["metadata"]["labels"][names.REVISION_LABEL]


def test_more_replicas_of_the_same_revision_take_no_place_from_each_other() -> None:
    children = serving(FIRST, SETTINGS)
    assert children.deployment is not None
    more = make_llmservice(generation=2, replicas=2)
    scaled = replace(children, pods=(*children.pods, unschedulable_pod(children.deployment, NO_GPU, 1, LONG_AGO)))
    assert way(wanted(more, scaled)) == SURGE
