"""What a campaign is made of: kinds of plans, each in parts that are run, noted and resumed as a whole.

A new kind is a function that yields its parts, and a line in KINDS.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar, get_args

from tests.campaign import (
    api_errors,
    chains,
    crash,
    disturbed,
    events,
    frozen,
    recoveries,
    scenarios,
    stale,
    transitions,
)
from tests.campaign.disturbed import Plan, Undisturbed
from tests.campaign.outcome import Outcome
from tests.support.controlplane import ControlPlane

PLANS_PER_PAIR: Final = 10
"""Of the hundreds of old views, and of lost events, in one scenario with one spec; each pair plays others."""
_GOLDEN: Final = 0.618

P = TypeVar("P")


@dataclass(frozen=True)
class Part:
    """As a rule one scenario with one spec; `outcomes` run within `mortal_operators`."""

    name: str
    outcomes: Callable[[ControlPlane], AsyncIterator[Outcome]]


def _crash() -> Iterable[Part]:
    for scenario, spec in scenarios.pairs():
        found = partial(crash.outcomes, scenario=scenario, spec=spec, writes=itertools.count(1))
        yield Part(f"{scenario.name}, {spec}", found)


def _stale() -> Iterable[Part]:
    return _sampled(stale.plans)


def _events() -> Iterable[Part]:
    return _sampled(events.plans)


def _sampled(plans: Callable[[Undisturbed], Sequence[Plan]]) -> Iterable[Part]:
    for turn, (scenario, spec) in enumerate(scenarios.pairs()):

        def chosen(expected: Undisturbed, turn: int = turn) -> Sequence[Plan]:
            return some(plans(expected), turn)

        found = partial(disturbed.outcomes, scenario=scenario, spec=spec, plans=chosen)
        yield Part(f"{scenario.name}, {spec}", found)


def _api_errors() -> Iterable[Part]:
    for place in api_errors.PLACES:
        for fault in get_args(api_errors.Fault):
            plans = partial(api_errors.plans, place, fault)
            found = partial(disturbed.outcomes, scenario=place.scenario, spec=place.spec, plans=plans, has_lease=True)
            yield Part(f"{place.scenario.name}, {place.spec}, {fault}", found)


def _transitions() -> Iterable[Part]:
    for number in chains.numbers():
        yield Part(f"chain {number}", partial(transitions.outcomes, number=number))


def _recoveries() -> Iterable[Part]:
    for spec in recoveries.OLD_SPECS:
        yield Part(spec, partial(recoveries.outcomes, spec=spec))


def _frozen() -> Iterable[Part]:
    for write in frozen.WRITES:
        yield Part(f"write {write}", partial(frozen.outcomes, writes=[write]))


def some(plans: Sequence[P], turn: int, count: int = PLANS_PER_PAIR) -> list[P]:
    """Return so many of the plans, evenly spread; with another `turn` others."""
    if len(plans) <= count:
        return list(plans)
    return [plans[int((number + turn * _GOLDEN % 1) * len(plans) / count)] for number in range(count)]


KINDS: Final[dict[str, Callable[[], Iterable[Part]]]] = {
    "crash": _crash,
    "stale": _stale,
    "events": _events,
    "transitions": _transitions,
    "recoveries": _recoveries,
    "api_errors": _api_errors,
    "frozen": _frozen,
}
