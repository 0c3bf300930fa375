"""How Flux, Helm and kpt see what `observe` says: with the library that they ask."""

from __future__ import annotations

import json
import subprocess

import pytest

from cluster import binaries
from llmservice_operator.children import Children
from llmservice_operator.conditions import NOT_YET_OBSERVED
from llmservice_operator.manifest import Manifest
from llmservice_operator.observe import observe
from llmservice_operator.schema import LLMService
from tests.support.builders import NOW, make_llmservice, serving
from tests.support.rollouts import FIRST, SECOND, SETTINGS, crashing, loading, rolled_back, rolling

BEFORE = serving(FIRST, SETTINGS)


def seen(status: Manifest, generation: int, **metadata: str) -> str:
    """Return kstatus' word for an LLMService."""
    manifest = {
        "apiVersion": "llmservice.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"name": "llama", "namespace": "team-a", "generation": generation, **metadata},
        "status": status,
    }
    program = binaries.ensure(["kstatus"])["kstatus"]
    asked = subprocess.run([program], input=json.dumps(manifest), capture_output=True, text=True, check=True)
    return asked.stdout.strip()


@pytest.mark.parametrize(
    ("service", "children", "expected"),
    [
        pytest.param(FIRST, Children(), "InProgress", id="new"),
        pytest.param(FIRST, BEFORE, "Current", id="serving"),
        pytest.param(SECOND, rolling(SECOND, BEFORE, loading), "InProgress", id="rolling out"),
        pytest.param(SECOND, rolled_back(SECOND, BEFORE, rolling(SECOND, BEFORE, crashing)), "Failed", id="taken back"),
        pytest.param(make_llmservice(suspend=True), Children(), "Current", id="suspended"),
        pytest.param(make_llmservice(profile="nowhere"), Children(), "Failed", id="a spec that cannot be carried out"),
    ],
)
def test_kstatus_follows_the_conditions(service: LLMService, children: Children, expected: str) -> None:
    assert seen(observe(service, children, SETTINGS, NOW), service.generation) == expected


def test_a_spec_that_the_operator_has_not_seen_is_in_progress_whatever_was_true_before() -> None:
    assert seen(observe(FIRST, BEFORE, SETTINGS, NOW), FIRST.generation + 1) == "InProgress"


def test_an_object_that_was_just_created_is_in_progress() -> None:
    assert seen({"observedGeneration": 0, "conditions": [dict(NOT_YET_OBSERVED)]}, 1) == "InProgress"


def test_an_object_that_goes_is_terminating() -> None:
    status = observe(FIRST, BEFORE, SETTINGS, NOW)
    assert seen(status, FIRST.generation, deletionTimestamp="2026-01-01T00:00:00Z") == "Terminating"
