"""A change whose replicas fail is taken back by itself, and nobody who sends requests notices."""

from __future__ import annotations

import pytest

from demo import ask
from demo.kubectl import Kubectl, condition, wait_for
from demo.watch import is_ready
from tests.e2e.conftest import llmservice, reach

ROLLED_BACK_SECONDS = 60
QUESTION = {"text": "hello", "max_tokens": 2}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("profile", ["crashing", "broken-image"])
def test_a_bad_change_is_taken_back_and_every_request_is_answered(kubectl: Kubectl, profile: str) -> None:
    kubectl.apply(llmservice("model", profile="fake"))
    wait_for(lambda: is_ready(kubectl.get("llmservice", "model")), seconds=90, what="the service is Ready")
    (before,) = kubectl.list("pods", "app.kubernetes.io/component=server")

    with reach(kubectl, "model") as url:

        def is_taken_back() -> bool:
            assert ask.answer(f"{url}/generate", QUESTION)["usage"]["completion_tokens"] == 2
            return bool(condition(kubectl.get("llmservice", "model"), "Stalled").get("reason") == "RolledBack")

        kubectl.apply(llmservice("model", profile=profile))
        wait_for(is_taken_back, seconds=ROLLED_BACK_SECONDS, what="the change is taken back")
        kubectl.apply(llmservice("model", profile="fake", replicas=2))

        def is_well() -> bool:
            assert ask.answer(f"{url}/generate", QUESTION)["usage"]["completion_tokens"] == 2
            return is_ready(kubectl.get("llmservice", "model"))

        wait_for(is_well, seconds=60, what="two replicas of the spec that works")
    after = kubectl.list("pods", "app.kubernetes.io/component=server")
    assert before["metadata"]["uid"] in {pod["metadata"]["uid"] for pod in after}
