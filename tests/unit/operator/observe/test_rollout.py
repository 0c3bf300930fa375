"""A rolling update as users see it: Serving stays, Ready waits, the deadline is told."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from llmservice_operator.children import Children
from llmservice_operator.desired import desired
from llmservice_operator.manifest import Manifest
from llmservice_operator.observe import observe
from tests.support.builders import (
    NOW,
    as_live,
    crashing_pod,
    make_llmservice,
    manifest_of,
    ready_pod,
    rolled_out,
    serving,
    unschedulable_pod,
)
from tests.support.rollouts import LATE, SECOND, SETTINGS, crashing, loading
from tests.support.specs import SCALING


def conditions(status: Manifest) -> dict[str, tuple[str, str]]:
    return {item["type"]: (item["status"], item["reason"]) for item in status["conditions"]}


def message(status: Manifest, kind: str) -> str:
    return next(str(item["message"]) for item in status["conditions"] if item["type"] == kind)


def rolling(*new_pods: str, **deployment_status: object) -> Children:
    """Return the children while SECOND rolls out beside the one old pod, with new pods of these kinds."""
    before = serving(make_llmservice(), SETTINGS)
    live = as_live(manifest_of(desired(SECOND, before, SETTINGS, NOW).manifests, "Deployment"), generation=2)
    deployment = rolled_out(live, **{"replicas": 2, "updatedReplicas": 1, "readyReplicas": 1, **deployment_status})
    makers: dict[str, Callable[[Manifest], Manifest]] = {
        "ready": ready_pod,
        "loading": loading,
        "crashing": crashing,
        "unschedulable": lambda owner: unschedulable_pod(
            owner, "0/2 nodes are available: 2 Insufficient nvidia.com/gpu.", 1
        ),
    }
    return replace(before, deployment=deployment, pods=(*before.pods, *(makers[kind](deployment) for kind in new_pods)))


def test_serving_stays_true_and_ready_waits_while_a_rollout_goes_on() -> None:
    status = observe(SECOND, rolling("loading"), SETTINGS, NOW)
    found = conditions(status)
    assert found["Serving"] == ("True", "EndpointsReady")
    assert found["Ready"] == ("False", "RolloutInProgress")
    assert found["Reconciling"] == ("True", "RollingOut")
    assert (status["phase"], status["progress"], status["readySummary"]) == ("Updating", "rollout 1/1", "1/1")


def test_current_and_updated_revision_differ_until_the_rollout_is_done() -> None:
    children = rolling("loading")
    rollout = observe(SECOND, children, SETTINGS, NOW)["rollout"]
    assert rollout["currentRevision"] != rollout["updatedRevision"]

    assert children.deployment is not None
    done = replace(
        children, deployment=rolled_out({**children.deployment, "status": {}}), pods=(ready_pod(children.deployment),)
    )
    rollout = observe(SECOND, done, SETTINGS, NOW)["rollout"]
    assert rollout["currentRevision"] == rollout["updatedRevision"]


def test_a_rollout_past_its_deadline_is_held_with_its_cause() -> None:
    kept = make_llmservice(generation=2, engine={"maxModelLen": 1024}, rollout={"onFailure": "Hold"})
    status = observe(kept, rolling("crashing", conditions=[LATE]), SETTINGS, NOW)
    found = conditions(status)
    assert found["Degraded"] == ("True", "RolloutHeld")
    assert found["Stalled"] == ("True", "RolloutHeld")
    assert found["Ready"] == ("False", "CrashLoop")
    assert found["Serving"] == ("True", "EndpointsReady")
    assert "Reconciling" not in found
    assert status["phase"] == "Degraded"
    assert "not ready within 1800 s: Look at the log of container server" in message(status, "Degraded")


def test_a_deadline_that_an_earlier_rollout_missed_is_not_held_against_a_new_one() -> None:
    found = conditions(observe(SECOND, rolling("loading", conditions=[LATE], observedGeneration=1), SETTINGS, NOW))
    assert found["Degraded"] == ("False", "AsExpected")
    assert "Stalled" not in found


def test_a_new_replica_without_a_node_stalls_the_rollout_and_nothing_else() -> None:
    found = conditions(observe(SECOND, rolling("unschedulable"), SETTINGS, NOW))
    assert found["Scheduled"] == ("False", "InsufficientGPU")
    assert found["Stalled"] == ("True", "InsufficientGPU")
    assert found["Serving"] == ("True", "EndpointsReady")
    assert found["Degraded"] == ("False", "AsExpected")


def test_trouble_of_the_old_revision_is_not_told_once_the_new_one_has_pods() -> None:
    children = rolling("loading")
    old = crashing_pod(serving(make_llmservice(), SETTINGS).deployment or {}, exitCode=3)
    found = conditions(observe(SECOND, replace(children, pods=(old, children.pods[-1])), SETTINGS, NOW))
    assert found["Degraded"] == ("False", "AsExpected")


def test_a_first_start_is_starting_and_not_a_rollout() -> None:
    before = serving(make_llmservice(), SETTINGS)
    assert before.deployment is not None
    deployment = {**before.deployment, "status": {}}
    status = observe(make_llmservice(), replace(before, deployment=deployment, pods=()), SETTINGS, NOW)
    assert conditions(status)["Ready"] == ("False", "ReplicasNotReady")
    assert conditions(status)["Reconciling"] == ("True", "Starting")
    assert status["phase"] == "Starting"


def test_more_replicas_are_scaling() -> None:
    before = serving(make_llmservice(replicas=2), SETTINGS)
    children = replace(before, pods=before.pods[:-1])
    status = observe(make_llmservice(replicas=2), children, SETTINGS, NOW)
    assert conditions(status)["Reconciling"] == ("True", "Scaling")
    assert status["readySummary"] == "1/2"


@pytest.mark.parametrize(
    ("spec", "reason"),
    [({"suspend": True}, "Suspended"), ({"replicas": 0}, "Suspended")],
    ids=["suspend", "replicas 0"],
)
def test_a_stopped_llmservice_is_ready_and_not_serving(spec: Manifest, reason: str) -> None:
    before = serving(make_llmservice(), SETTINGS)
    assert before.deployment is not None
    deployment = {**before.deployment, "spec": {**before.deployment["spec"], "replicas": 0}}
    children = replace(before, deployment=rolled_out(deployment), pods=())
    status = observe(make_llmservice(**spec), children, SETTINGS, NOW)
    assert conditions(status)["Ready"] == ("True", "Suspended")
    assert conditions(status)["Serving"] == ("False", "Suspended")
    assert status["phase"] == "Suspended"
    assert status["readySummary"] == "0/0"


def test_suspending_takes_until_the_last_replica_is_gone() -> None:
    children = serving(make_llmservice(), SETTINGS)
    status = observe(make_llmservice(suspend=True), children, SETTINGS, NOW)
    assert conditions(status)["Ready"] == ("False", "ReplicasNotReady")
    assert conditions(status)["Reconciling"] == ("True", "Scaling")


def test_a_paused_llmservice_says_so_and_does_not_pretend_to_move() -> None:
    paused = make_llmservice(generation=2, engine={"maxModelLen": 1024}, paused=True)
    found = conditions(observe(paused, serving(make_llmservice(), SETTINGS), SETTINGS, NOW))
    assert found["Paused"] == ("True", "PausedByUser")
    assert found["Ready"] == ("False", "RolloutInProgress")
    assert "Reconciling" not in found


def test_an_llmservice_that_is_being_deleted_says_so() -> None:
    deleted = make_llmservice(deletion_timestamp="2026-01-02T03:00:00Z")
    status = observe(deleted, serving(make_llmservice(), SETTINGS), SETTINGS, NOW)
    assert conditions(status)["Ready"] == ("False", "Deleting")
    assert conditions(status)["Reconciling"] == ("True", "Deleting")
    assert status["phase"] == "Deleting"


@pytest.mark.parametrize(
    ("autoscaler", "expected"),
    [
        pytest.param([], ("Unknown", "NotYetObserved"), id="not looked yet"),
        pytest.param(
            [("AbleToScale", "True", "", ""), ("ScalingActive", "True", "", "")], ("True", "Active"), id="fine"
        ),
        pytest.param(
            [("AbleToScale", "True", "SucceededRescale", "")],
            ("Unknown", "NotYetObserved"),
            id="only moved",
        ),
        pytest.param([("AbleToScale", "False", "FailedGetScale", "no")], ("False", "ScalerFailed"), id="no target"),
        pytest.param(
            [
                ("AbleToScale", "True", "", ""),
                (
                    "ScalingActive",
                    "False",
                    "FailedGetResourceMetric",
                    "unable to fetch metrics from resource metrics API: the server could not find the requested "
                    "resource (get pods.metrics.k8s.io)",
                ),
            ],
            ("False", "MetricsAPIMissing"),
            id="no metrics server",
        ),
        pytest.param(
            [
                ("AbleToScale", "True", "", ""),
                (
                    "ScalingActive",
                    "False",
                    "FailedGetPodsMetric",
                    "the HPA was unable to compute the replica count: unable to get metric in_flight: unable to fetch "
                    "metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered",
                ),
            ],
            ("False", "MetricsAPIMissing"),
            id="no adapter",
        ),
        pytest.param(
            [
                ("AbleToScale", "True", "", ""),
                ("ScalingActive", "False", "FailedGetPodsMetric", "no metrics returned from custom metrics API"),
            ],
            ("False", "MetricMissing"),
            id="no such metric",
        ),
        pytest.param(
            [
                ("AbleToScale", "True", "", ""),
                ("ScalingActive", "True", "", ""),
                ("ScalingLimited", "True", "TooManyReplicas", "the desired count is more"),
            ],
            ("True", "LimitReached"),
            id="at the limit",
        ),
    ],
)
def test_autoscaling_is_told_in_the_autoscalers_words(
    autoscaler: list[tuple[str, str, str, str]], expected: tuple[str, str]
) -> None:
    llmservice = make_llmservice(scaling=SCALING)
    children = serving(llmservice, SETTINGS)
    assert children.autoscaler is not None
    fields = ("type", "status", "reason", "message")
    children.autoscaler["status"] = {"conditions": [dict(zip(fields, item, strict=True)) for item in autoscaler]}
    assert conditions(observe(llmservice, children, SETTINGS, NOW))["AutoscalingActive"] == expected


def test_without_an_autoscaler_autoscaling_is_disabled() -> None:
    status = observe(make_llmservice(), serving(make_llmservice(), SETTINGS), SETTINGS, NOW)
    assert conditions(status)["AutoscalingActive"] == ("True", "Disabled")
