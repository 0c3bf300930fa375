"""A sample of `make campaign`: the operator dies, looks at what was, misses events and gets errors, specs change in
chains and end in errors, and nobody can tell after.
"""

import pytest

from tests.campaign import api_errors, crash, disturbed, errors, events, recoveries, stale, transitions
from tests.campaign.outcome import Outcome
from tests.campaign.scenarios import SCENARIOS, Scenario
from tests.support.api_proxy import Call
from tests.support.controlplane import ControlPlane
from tests.support.mortal_client import mortal_operators

SPEC = "guarded"
WRITES = (1, 3, 6)
OLD_VIEWS = [
    stale.Plan("everything", "is older after a failover", since=1, until=4),
    stale.Plan("children", "is older after a restart", since=3, until=None),
    stale.Plan("Jobs and pods", "hangs behind", since=0, until=None),
]
MISFORTUNES = [
    events.Plan("deployments", 2, "lost, and the stream expires"),
    events.Plan("pods", 2, "overtaken by the next"),
    events.Plan("controllerrevisions", 1, "told again after the next"),
]
"""Without a stream that is silent or goes on, which take 45 s."""
ERRORS = [
    api_errors.Plan(Call("patch", "deployments"), "422"),
    api_errors.Plan(Call("patch", "llmservices", subresource="status"), "429 with Retry-After"),
    api_errors.Plan(Call("list", "pods"), "410"),
    api_errors.Plan(Call("patch", "configmaps"), "a reset after it was carried out"),
]

MISTAKES = ("no such profile", "refused node selector", "quota of cpu", "server, crash", "warm-up, RevisionNotFound")


def _by_name(name: str) -> Scenario:
    return next(scenario for scenario in SCENARIOS if scenario.name == name)


def _complaints(found: list[Outcome]) -> list[Outcome]:
    return [outcome for outcome in found if outcome.complaint]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
async def test_a_death_at_a_write_leaves_the_same_end_and_writes_nothing_twice(
    plane: ControlPlane, scenario: Scenario
) -> None:
    with mortal_operators():
        found = [outcome async for outcome in crash.outcomes(plane, scenario, SPEC, WRITES)]
    assert _complaints(found) == []
    assert scenario.name == "delete" or len(found) >= 2


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("scenario", "plans"),
    [
        pytest.param("rollback", OLD_VIEWS, id="old views"),
        pytest.param("edit", MISFORTUNES, id="lost, doubled and reordered events"),
        pytest.param("edit", ERRORS, id="errors of the API"),
    ],
)
async def test_an_api_that_misbehaves_leaves_the_same_end_and_destroys_nothing(
    plane: ControlPlane, scenario: str, plans: list[disturbed.Plan]
) -> None:
    found = [outcome async for outcome in disturbed.outcomes(plane, _by_name(scenario), SPEC, lambda _: plans)]
    assert _complaints(found) == []
    assert len(found) >= 2


@pytest.mark.timeout(240)
async def test_after_every_change_of_a_chain_a_service_is_as_a_new_one_with_that_spec(plane: ControlPlane) -> None:
    found = [outcome async for outcome in transitions.outcomes(plane, number=5, most=8)]
    assert _complaints(found) == []
    assert len(found) == 8


@pytest.mark.timeout(240)
async def test_the_old_spec_brings_back_the_old_state_after_an_error(plane: ControlPlane) -> None:
    some = [error for error in errors.errors() if error.name in MISTAKES]
    found = [outcome async for outcome in recoveries.outcomes(plane, "guarded", some)]
    assert _complaints(found) == []
    assert sum(outcome.happened for outcome in found) == len(MISTAKES)
