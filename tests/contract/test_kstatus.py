"""How Flux, Helm and kpt see what `observe` says: with the library that they ask."""

from __future__ import annotations

import json
import subprocess

import pytest

from cluster import binaries
from llmservice_operator.conditions import NOT_YET_OBSERVED
from llmservice_operator.manifest import Manifest
from llmservice_operator.observe import observe
from tests.support.builders import NOW
from tests.support.rollouts import FIRST, SETTINGS
from tests.support.states import BEFORE, STATES


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
    ("state", "expected"),
    [
        ("new", "InProgress"),
        ("serving", "Current"),
        ("rolling out", "InProgress"),
        ("taken back", "Failed"),
        ("suspended", "Current"),
        ("a spec that cannot be carried out", "Failed"),
    ],
)
def test_kstatus_follows_the_conditions(state: str, expected: str) -> None:
    service, children = STATES[state]
    assert seen(observe(service, children, SETTINGS, NOW), service.generation) == expected


def test_a_spec_that_the_operator_has_not_seen_is_in_progress_whatever_was_true_before() -> None:
    assert seen(observe(FIRST, BEFORE, SETTINGS, NOW), FIRST.generation + 1) == "InProgress"


def test_an_object_that_was_just_created_is_in_progress() -> None:
    assert seen({"observedGeneration": 0, "conditions": [dict(NOT_YET_OBSERVED)]}, 1) == "InProgress"


def test_an_object_that_goes_is_terminating() -> None:
    status = observe(FIRST, BEFORE, SETTINGS, NOW)
    assert seen(status, FIRST.generation, deletionTimestamp="2026-01-01T00:00:00Z") == "Terminating"
