"""What the campaign's chains are made of, seen before any of them is played."""

import pytest

from tests.campaign.chains import FIELDS_IN_A_CHAIN, HOLDS, ROUNDS, Chain, chain, is_possible, numbers
from tests.campaign.field_values import VALUES
from tests.campaign.fields import parsed


@pytest.fixture(scope="module")
def chains() -> list[Chain]:
    return [chain(number) for number in numbers()]


def test_there_are_enough_transitions(chains: list[Chain]) -> None:
    assert sum(step.is_compared for found in chains for step in found.steps) >= 1500
    assert min(len(found.steps) for found in chains) >= 20


def test_every_field_is_changed_in_every_round(chains: list[Chain]) -> None:
    in_a_round = len(chains) // ROUNDS
    assert in_a_round * FIELDS_IN_A_CHAIN >= len(VALUES)
    for first in range(0, len(chains), in_a_round):
        names = [step.name for number in range(first, first + in_a_round) for step in chains[number].steps]
        assert {name.split("=")[0] for name in names} >= set(VALUES)


def test_every_spec_is_one_that_the_api_takes_and_asks_for_something_else_than_the_one_before(
    chains: list[Chain],
) -> None:
    for found in chains:
        before = found.base
        for step in found.steps:
            assert parsed(step.spec) not in (None, parsed(before)), step
            assert is_possible(before, step.spec), step
            before = step.spec


def test_a_chain_ends_where_it_began(chains: list[Chain]) -> None:
    assert all(found.steps[-1].spec == found.base for found in chains)


@pytest.mark.parametrize("hold", HOLDS)
def test_a_change_is_made_while_the_operator_is_held_and_compared_when_that_is_over(
    chains: list[Chain], hold: str
) -> None:
    steps = next(found.steps for found in chains if any(step.hold == hold for step in found.steps))
    first = next(index for index, step in enumerate(steps) if step.hold == hold)
    held, during, over = steps[first : first + 3]
    assert (held.is_compared, during.is_compared, over.is_compared) == (True, False, True)
    assert during.spec == {**over.spec, hold: True}


def test_a_chain_is_the_same_at_every_call(chains: list[Chain]) -> None:
    assert chain(7) == chains[7]
