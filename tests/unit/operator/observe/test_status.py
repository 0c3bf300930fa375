"""The whole status at the four stages of a life, and the rules that hold at all of them."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_regressions.data_regression import DataRegressionFixture

from llmservice_operator.children import Children
from llmservice_operator.manifest import Manifest
from llmservice_operator.observe import observe
from tests.support.builders import NOW, cached, caching, make_llmservice, make_settings, serving
from tests.support.specs import SCALING

SETTINGS = make_settings(profile={"gpu": {"count": 1}})


def before_anything(*_: Any) -> Children:
    return Children()


STAGES = {"new": before_anything, "caching": caching, "cached": cached, "serving": serving}


def conditions(status: Manifest) -> dict[str, tuple[str, str]]:
    return {item["type"]: (item["status"], item["reason"]) for item in status["conditions"]}


@pytest.mark.parametrize("stage", STAGES)
def test_the_status_of_a_minimal_llmservice(stage: str, data_regression: DataRegressionFixture) -> None:
    llmservice = make_llmservice()
    data_regression.check(observe(llmservice, STAGES[stage](llmservice, SETTINGS), SETTINGS, NOW))


@pytest.mark.parametrize("stage", STAGES)
def test_every_condition_is_about_the_generation_that_was_looked_at(stage: str) -> None:
    llmservice = make_llmservice(generation=7)
    status = observe(llmservice, STAGES[stage](llmservice, SETTINGS), SETTINGS, NOW)
    assert {item["observedGeneration"] for item in status["conditions"]} == {7}
    assert status["observedGeneration"] == 7


EDITS: dict[str, dict[str, Any]] = {
    "another model": {"repo": "google/gemma-3-1b"},
    "more replicas": {"replicas": 2},
    "fewer replicas": {"replicas": 0},
    "another context": {"engine": {"maxModelLen": 1024}},
    "another name": {"model": {"servedName": "small"}},
    "a memory limit": {"resources": {"limits": {"memory": "3Gi"}}},
    "a drain": {"rollout": {"drainTimeoutSeconds": 1}},
    "suspended": {"suspend": True},
    "another profile": {"profile": "unknown"},
    "an autoscaler": {"scaling": {**SCALING, "minReplicas": 2}},
}


@pytest.mark.parametrize("edit", EDITS)
def test_ready_is_never_early_after_an_edit(edit: str) -> None:
    children = serving(make_llmservice(), SETTINGS)
    edited = make_llmservice(generation=2, **EDITS[edit])
    if edit == "an autoscaler":
        assert children.deployment is not None
        children.deployment["spec"]["replicas"] = 2
    assert conditions(observe(edited, children, SETTINGS, NOW))["Ready"][0] == "False"


@pytest.mark.parametrize(
    "status",
    [
        pytest.param({"observedGeneration": 0}, id="the controller has not seen the last change"),
        pytest.param({"updatedReplicas": 0}, id="no pod is of the new template"),
        pytest.param({"replicas": 2}, id="an old pod is still there"),
        pytest.param({"readyReplicas": 0}, id="the pod is not counted as ready"),
    ],
)
def test_ready_needs_the_deployment_to_agree(status: Manifest) -> None:
    llmservice = make_llmservice()
    children = serving(llmservice, SETTINGS)
    assert children.deployment is not None
    children.deployment["status"] |= status
    found = conditions(observe(llmservice, children, SETTINGS, NOW))
    assert found["Ready"][0] == "False"
    assert found["Serving"] == ("True", "EndpointsReady")


def test_ready_needs_a_service() -> None:
    llmservice = make_llmservice()
    children = replace(serving(llmservice, SETTINGS), service=None)
    assert conditions(observe(llmservice, children, SETTINGS, NOW))["Ready"] == ("False", "ReplicasNotReady")


def test_a_transition_is_dated_once() -> None:
    llmservice = make_llmservice()
    children = serving(llmservice, SETTINGS)
    first = observe(llmservice, children, SETTINGS, NOW)
    later = observe(make_llmservice(status=first), children, SETTINGS, NOW + timedelta(hours=1))
    assert later == first


def test_a_condition_that_turns_is_dated_anew() -> None:
    first = observe(make_llmservice(), cached(make_llmservice(), SETTINGS), SETTINGS, NOW)
    llmservice = make_llmservice(status=first)
    later = observe(llmservice, serving(llmservice, SETTINGS), SETTINGS, NOW + timedelta(hours=1))
    dates = {item["type"]: item["lastTransitionTime"] for item in later["conditions"]}
    assert dates["Ready"] == "2026-01-02T04:04:05Z"
    assert dates["ModelCached"] == "2026-01-02T03:04:05Z"


@given(st.sampled_from(sorted(STAGES)), st.sampled_from(sorted(EDITS)))
@hypothesis_settings(max_examples=40, deadline=None)
def test_equal_facts_give_an_equal_status_and_one_summary(stage: str, edit: str) -> None:
    children = STAGES[stage](make_llmservice(), SETTINGS)
    edited = make_llmservice(**EDITS[edit])
    status = observe(edited, children, SETTINGS, NOW)
    again = observe(make_llmservice(**EDITS[edit], status=status), children, SETTINGS, NOW + timedelta(days=1))
    assert again == status
    found = conditions(status)
    assert not ("Reconciling" in found and "Stalled" in found)
    assert ("Reconciling" in found or "Stalled" in found) == (found["Ready"][0] != "True")
    assert all(len(item["message"]) <= 300 and item["message"] for item in status["conditions"])
