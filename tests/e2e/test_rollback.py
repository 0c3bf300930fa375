"""F53: a change whose replicas fail is taken back by itself, and nobody who sends requests notices."""

from __future__ import annotations

from typing import Any

import pytest

from demo import ask
from demo.kubectl import Kubectl, condition, wait_for
from demo.watch import is_ready
from tests.e2e.conftest import llmservice, reach

ROLLED_BACK_SECONDS = 60
QUESTION = {"text": "hello", "max_tokens": 2}
RIGHT = {"prompts": [{"prompt": "hello", "maxTokens": 4, "expectAnyOf": [" "]}]}
WRONG = {"prompts": [{"prompt": "hello", "maxTokens": 4, "expectAnyOf": ["no such text"]}]}
SLOW = {"timeoutSeconds": 1, "prompts": [{"prompt": "hello", "maxTokens": 1000}]}


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"profile": "crashing"}, id="crash"),
        pytest.param({"profile": "broken-image"}, id="no such image"),
        pytest.param({"rollout": {"verification": WRONG}}, id="a wrong answer"),
        pytest.param({"rollout": {"verification": SLOW}}, id="a slow answer"),
    ],
)
def test_a_bad_change_is_taken_back_and_every_request_is_answered(kubectl: Kubectl, change: dict[str, Any]) -> None:
    before = _serving(kubectl)
    with reach(kubectl, "model") as url:

        def is_taken_back() -> bool:
            assert ask.answer(f"{url}/generate", QUESTION)["usage"]["completion_tokens"] == 2
            return bool(condition(kubectl.get("llmservice", "model"), "Stalled").get("reason") == "RolledBack")

        kubectl.apply(llmservice("model", **{"profile": "fake", **change}))
        wait_for(is_taken_back, seconds=ROLLED_BACK_SECONDS, what="the change is taken back")
        kubectl.apply(llmservice("model", profile="fake", replicas=2))

        def is_well() -> bool:
            assert ask.answer(f"{url}/generate", QUESTION)["usage"]["completion_tokens"] == 2
            return is_ready(kubectl.get("llmservice", "model"))

        wait_for(is_well, seconds=60, what="two replicas of the spec that works")
    after = kubectl.list("pods", "app.kubernetes.io/component=server")
    assert before["metadata"]["uid"] in {pod["metadata"]["uid"] for pod in after}


@pytest.mark.timeout(240)
def test_a_service_whose_model_answers_its_prompts_is_verified_and_survives_a_restart(kubectl: Kubectl) -> None:
    before = _serving(kubectl, rollout={"verification": RIGHT})
    assert condition(kubectl.get("llmservice", "model"), "Verified").get("reason") == "PromptsPassed"
    kubectl.run("delete", "pod", before["metadata"]["name"], "--wait=false")

    def is_replaced() -> bool:
        found = kubectl.list("pods", "app.kubernetes.io/component=server")
        return is_ready(kubectl.get("llmservice", "model")) and before["metadata"]["uid"] not in {
            pod["metadata"]["uid"] for pod in found
        }

    wait_for(is_replaced, seconds=60, what="another pod of the proven revision is ready")


def _serving(kubectl: Kubectl, **spec: Any) -> dict[str, Any]:
    """Bring the service to Ready and return its pod."""
    kubectl.apply(llmservice("model", profile="fake", **spec))
    wait_for(lambda: is_ready(kubectl.get("llmservice", "model")), seconds=90, what="the service is Ready")
    (pod,) = kubectl.list("pods", "app.kubernetes.io/component=server")
    return dict(pod)
