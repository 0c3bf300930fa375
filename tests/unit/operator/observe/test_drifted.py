"""Drifted is true for an hour after a child was put back, and tells who had changed what."""

from dataclasses import replace
from datetime import timedelta

from llmservice_operator.children import Drift
from llmservice_operator.manifest import Manifest
from llmservice_operator.observe import observe
from llmservice_operator.observe.drifted import remembered_for
from tests.support.builders import NOW, make_llmservice, serving
from tests.support.rollouts import FIRST, SETTINGS

CHILDREN = serving(FIRST, SETTINGS)
PUT_BACK = replace(CHILDREN, drifts=(Drift("Deployment", "gemma", "spec.replicas", "kubectl"),))
MESSAGE = (
    "Change the LLMService instead of its children: kubectl changed spec.replicas of Deployment gemma; it was put back"
)


def drifted(status: Manifest) -> tuple[str, str, str]:
    found = next(item for item in status["conditions"] if item["type"] == "Drifted")
    return found["status"], found["reason"], found["message"]


def test_a_child_that_was_put_back_is_told_with_field_and_manager() -> None:
    assert drifted(observe(FIRST, PUT_BACK, SETTINGS, NOW)) == ("True", "FieldsReverted", MESSAGE)


def test_it_is_remembered_for_an_hour_and_then_forgotten() -> None:
    status = observe(FIRST, PUT_BACK, SETTINGS, NOW)
    later = make_llmservice(status=status)
    almost = observe(later, CHILDREN, SETTINGS, NOW + timedelta(minutes=59))
    assert drifted(almost) == ("True", "FieldsReverted", MESSAGE)
    assert remembered_for(almost, NOW + timedelta(minutes=59)) == timedelta(minutes=1)
    over = observe(later, CHILDREN, SETTINGS, NOW + timedelta(hours=1))
    assert drifted(over)[:2] == ("False", "InSync")
    assert remembered_for(over, NOW) == timedelta()


def test_nothing_that_others_changed_is_in_sync() -> None:
    assert drifted(observe(FIRST, CHILDREN, SETTINGS, NOW))[:2] == ("False", "InSync")
