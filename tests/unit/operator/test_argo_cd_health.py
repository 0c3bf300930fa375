"""Argo CD's health script, run by a real Lua, on what `observe` says."""

from pathlib import Path
from typing import Any

import pytest
from lupa.lua54 import LuaRuntime

from llmservice_operator.children import Children
from llmservice_operator.conditions import NOT_YET_OBSERVED
from llmservice_operator.manifest import Manifest
from llmservice_operator.observe import observe
from llmservice_operator.schema import LLMService
from tests.support.builders import NOW
from tests.support.rollouts import FIRST, SETTINGS
from tests.support.states import BEFORE, STATES

SCRIPT = Path(__file__).parents[3] / "deploy" / "argo-cd" / "llmservice-health.lua"


def health(status: Manifest, generation: int) -> dict[str, str]:
    lua: Any = LuaRuntime()
    obj = {"metadata": {"generation": generation}, "status": status}
    lua.globals().obj = lua.table_from(obj, recursive=True)
    return dict(lua.execute(SCRIPT.read_text()))


def health_of(llmservice: LLMService, children: Children) -> dict[str, str]:
    return health(observe(llmservice, children, SETTINGS, NOW), llmservice.generation)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("new", "Progressing"),
        ("serving", "Healthy"),
        ("rolling out", "Progressing"),
        ("taken back", "Degraded"),
        ("suspended", "Suspended"),
        ("paused before anything is there", "Suspended"),
        ("a spec that cannot be carried out", "Degraded"),
    ],
)
def test_health_follows_the_conditions(state: str, expected: str) -> None:
    found = health_of(*STATES[state])
    assert found["status"] == expected
    assert found["message"]


def test_a_spec_that_the_operator_has_not_seen_is_progressing_whatever_was_true_before() -> None:
    assert health(observe(FIRST, BEFORE, SETTINGS, NOW), FIRST.generation + 1)["status"] == "Progressing"


def test_an_object_that_was_just_created_is_progressing() -> None:
    status = {"observedGeneration": 0, "conditions": [dict(NOT_YET_OBSERVED)]}
    assert health(status, 1) == {"status": "Progressing", "message": "Waiting for the operator"}
