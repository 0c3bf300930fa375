"""The number of replicas is in one hand at a time and never falls on its way from one to the other."""

from dataclasses import replace

import pytest

from llmservice_operator.children import Children
from llmservice_operator.desired import Desired, desired
from tests.support.builders import NOW, cached, make_llmservice, make_settings, manifest_of, serving
from tests.support.specs import SCALING

SETTINGS = make_settings()


def handed_over(wanted: Desired) -> int | None:
    return None if wanted.replicas_handover is None else wanted.replicas_handover["spec"]["replicas"]


def fixed(wanted: Desired) -> int | None:
    replicas: int | None = manifest_of(wanted.manifests, "Deployment")["spec"].get("replicas")
    return replicas


def scaled_to(replicas: int) -> Children:
    """Return the children of a settled LLMService with this fixed number of replicas."""
    return serving(make_llmservice(replicas=replicas), SETTINGS)


@pytest.mark.parametrize(("live", "expected"), [(5, 5), (1, 2)], ids=["more than the minimum", "fewer"])
def test_an_autoscaler_that_comes_gets_the_replicas_handed_over(live: int, expected: int) -> None:
    wanted = desired(make_llmservice(scaling=SCALING), scaled_to(live), SETTINGS, NOW)
    assert (handed_over(wanted), fixed(wanted)) == (expected, None)


def test_a_new_deployment_with_an_autoscaler_has_nothing_to_hand_over() -> None:
    llmservice = make_llmservice(scaling=SCALING)
    wanted = desired(llmservice, cached(llmservice, SETTINGS), SETTINGS, NOW)
    assert (handed_over(wanted), fixed(wanted)) == (None, None)


def test_nobody_but_the_autoscaler_sets_replicas_while_it_is_there() -> None:
    llmservice = make_llmservice(scaling=SCALING)
    wanted = desired(llmservice, serving(llmservice, SETTINGS), SETTINGS, NOW)
    assert (handed_over(wanted), fixed(wanted)) == (None, None)


def test_resuming_hands_over_the_minimum_because_an_autoscaler_does_not_wake_zero() -> None:
    llmservice = make_llmservice(scaling=SCALING)
    children = serving(llmservice, SETTINGS)
    assert children.deployment is not None
    children.deployment["spec"]["replicas"] = 0
    wanted = desired(llmservice, replace(children, autoscaler=None), SETTINGS, NOW)
    assert (handed_over(wanted), fixed(wanted)) == (2, None)


def test_fixed_replicas_come_back_only_when_the_autoscaler_is_gone() -> None:
    children = serving(make_llmservice(scaling=SCALING), SETTINGS)
    llmservice = make_llmservice(replicas=3)
    assert fixed(desired(llmservice, children, SETTINGS, NOW)) is None
    assert fixed(desired(llmservice, replace(children, autoscaler=None), SETTINGS, NOW)) == 3


def test_an_autoscaler_that_is_there_but_asleep_is_woken() -> None:
    llmservice = make_llmservice(scaling=SCALING)
    children = serving(llmservice, SETTINGS)
    assert children.deployment is not None
    children.deployment["spec"]["replicas"] = 0
    wanted = desired(llmservice, children, SETTINGS, NOW)
    assert (handed_over(wanted), fixed(wanted)) == (2, None)
