"""A sample of `make campaign`: the operator dies at some of its writes in each scenario, and nobody can tell after."""

import pytest

from tests.campaign.crash import outcomes
from tests.campaign.scenarios import SCENARIOS, Scenario
from tests.support.controlplane import ControlPlane
from tests.support.mortal_client import mortal_operators

SPEC = "guarded"
WRITES = (1, 3, 6)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
async def test_a_death_at_a_write_leaves_the_same_end_and_writes_nothing_twice(
    plane: ControlPlane, scenario: Scenario
) -> None:
    with mortal_operators():
        found = [outcome async for outcome in outcomes(plane, scenario, SPEC, WRITES)]
    assert [outcome for outcome in found if outcome.complaint] == []
    assert scenario.name == "delete" or len(found) >= 2
