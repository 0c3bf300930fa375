"""F53: a change whose replicas fail is taken back by itself, and nobody who sends requests notices."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from demo import ask
from demo.install import TINY_REPO
from demo.kubectl import Kubectl, condition, wait_for
from demo.watch import is_ready
from tests.e2e.conftest import SERVER, llmservice, reach

IMPATIENT = {"progressDeadlineSeconds": 20}
ROLLED_BACK_SECONDS = defaultdict(lambda: 60, ReplicasUnavailable=IMPATIENT["progressDeadlineSeconds"] + 10)
QUESTION = {"text": "hello", "max_tokens": 2}
RIGHT = {"prompts": [{"prompt": "hello", "maxTokens": 4, "expectAnyOf": [" "]}]}
WRONG = {"prompts": [{"prompt": "hello", "maxTokens": 4, "expectAnyOf": ["no such text"]}]}
SLOW = {"timeoutSeconds": 1, "prompts": [{"prompt": "hello", "maxTokens": 1000}]}


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"profile": "crashing"}, "EngineFailed", id="crash"),
        pytest.param({"profile": "hungry", "rollout": {"verification": RIGHT}}, "OutOfMemory", id="out of memory"),
        pytest.param({"profile": "broken-image"}, "ImagePullFailed", id="no such image"),
        pytest.param({"rollout": {"verification": WRONG}}, "PromptFailed", id="a wrong answer"),
        pytest.param({"rollout": {"verification": SLOW}}, "PromptTimedOut", id="a slow answer"),
        pytest.param({"profile": "endless", "rollout": IMPATIENT}, "ReplicasUnavailable", id="not ready in time"),
    ],
)
def test_a_bad_change_is_taken_back_and_every_request_is_answered(
    kubectl: Kubectl, change: dict[str, Any], reason: str
) -> None:
    before = _serving(kubectl)
    with reach(kubectl, "model") as url:

        def is_taken_back() -> bool:
            assert ask.answer(f"{url}/generate", QUESTION)["usage"]["completion_tokens"] == 2
            return bool(condition(kubectl.get("llmservice", "model"), "Stalled").get("reason") == "RolledBack")

        kubectl.apply(llmservice("model", **{"profile": "fake", **change}))
        wait_for(is_taken_back, seconds=ROLLED_BACK_SECONDS[reason], what="the change is taken back")
        assert _history(kubectl)[-1] == ("Rejected", reason)
        kubectl.apply(llmservice("model", profile="fake", replicas=2))

        def is_well() -> bool:
            assert ask.answer(f"{url}/generate", QUESTION)["usage"]["completion_tokens"] == 2
            return is_ready(kubectl.get("llmservice", "model"))

        wait_for(is_well, seconds=60, what="two replicas of the spec that works")
    after = kubectl.list("pods", SERVER)
    assert before["metadata"]["uid"] in {pod["metadata"]["uid"] for pod in after}


@pytest.mark.timeout(240)
def test_a_model_revision_that_is_not_there_changes_nothing_but_what_is_said_of_the_cache(kubectl: Kubectl) -> None:
    _serving(kubectl)
    conditions = _conditions(kubectl)
    (deployment,) = kubectl.list("deployments", SERVER)
    absent = {"huggingFace": {"repo": TINY_REPO, "revision": "absent"}}
    with reach(kubectl, "model") as url:

        def is_refused() -> bool:
            assert ask.answer(f"{url}/generate", QUESTION)["usage"]["completion_tokens"] == 2
            return bool(
                condition(kubectl.get("llmservice", "model"), "ModelCached").get("reason") == "RevisionNotFound"
            )

        kubectl.apply(llmservice("model", profile="fake", source=absent))
        wait_for(is_refused, seconds=60, what="the hub has no such revision")
        assert ask.answer(f"{url}/generate", QUESTION)["usage"]["completion_tokens"] == 2
    (after,) = kubectl.list("deployments", SERVER)
    assert after["metadata"]["generation"] == deployment["metadata"]["generation"]
    changed = dict(_conditions(kubectl).items() - conditions.items())
    assert changed.pop("ModelCached") == changed.pop("Ready") == "False RevisionNotFound"
    # Which of the two, depends on how often the warm-up has tried.
    assert changed in ({"Reconciling": "True Caching"}, {"Stalled": "True RevisionNotFound"})


@pytest.mark.timeout(240)
def test_a_service_whose_model_answers_its_prompts_is_verified_and_survives_a_restart(kubectl: Kubectl) -> None:
    before = _serving(kubectl, rollout={"verification": RIGHT})
    assert condition(kubectl.get("llmservice", "model"), "Verified").get("reason") == "PromptsPassed"
    kubectl.run("delete", "pod", before["metadata"]["name"], "--wait=false")

    def is_replaced() -> bool:
        found = kubectl.list("pods", SERVER)
        return is_ready(kubectl.get("llmservice", "model")) and before["metadata"]["uid"] not in {
            pod["metadata"]["uid"] for pod in found
        }

    wait_for(is_replaced, seconds=60, what="another pod of the proven revision is ready")


def _history(kubectl: Kubectl) -> list[tuple[str, str | None]]:
    """Return the result of each revision, and its reason."""
    found = kubectl.get("llmservice", "model")
    assert found is not None
    return [(one["result"], one.get("reason")) for one in found["status"]["rollout"]["history"]]


def _conditions(kubectl: Kubectl) -> dict[str, str]:
    """Return the status of each condition and its reason."""
    found = kubectl.get("llmservice", "model")
    assert found is not None
    return {one["type"]: f"{one['status']} {one['reason']}" for one in found["status"]["conditions"]}


def _serving(kubectl: Kubectl, **spec: Any) -> dict[str, Any]:
    """Bring the service to Ready and return its pod."""
    kubectl.apply(llmservice("model", profile="fake", **spec))
    wait_for(lambda: is_ready(kubectl.get("llmservice", "model")), seconds=90, what="the service is Ready")
    (pod,) = kubectl.list("pods", SERVER)
    return dict(pod)
