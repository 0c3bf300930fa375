"""When the bench of an outage calls the state of its service right."""

from typing import Any

import pytest

from benchmarks.rollout.outage import is_right


def deployment(generation: int) -> dict[str, Any]:
    return {"metadata": {"generation": generation}}


def llmservice(ready: str, observed: int, *others: str) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": ready, "observedGeneration": observed}]
    conditions += [{"type": other, "status": "True", "observedGeneration": observed} for other in others]
    return {"metadata": {"generation": 2}, "status": {"conditions": conditions}}


@pytest.mark.parametrize(
    ("children", "service", "right"),
    [
        pytest.param(deployment(1), llmservice("True", 1), False, id="as before the outage"),
        pytest.param(deployment(2), llmservice("True", 1), False, id="the status tells of the old spec"),
        pytest.param(deployment(1), llmservice("True", 2), False, id="ready before anything was changed"),
        pytest.param(deployment(2), llmservice("False", 2), False, id="not ready and nothing moves"),
        pytest.param(deployment(2), llmservice("False", 2, "Reconciling"), True, id="rolling out"),
        pytest.param(deployment(2), llmservice("True", 2), True, id="rolled out"),
        pytest.param(None, llmservice("True", 2), False, id="the Deployment is gone"),
    ],
)
def test_a_state_is_right_when_children_and_status_are_those_of_the_changed_spec(
    children: dict[str, Any] | None, service: dict[str, Any], right: bool
) -> None:
    assert is_right(children, service) is right
