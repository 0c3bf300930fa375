"""F01: the operator dies before and after every one of its writes; its successor brings the same end, nothing twice.

For each scenario with each spec a first play without a death gives what is to come out: the state of the namespace,
and how often what was created and deleted. Then come plays in which the operator dies at its first write, its second,
and so on, until a play has fewer writes than that.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import get_args

from tests.campaign.outcome import Outcome
from tests.campaign.run import QUIET_SECONDS, Run, new_namespace, played
from tests.campaign.scenarios import SPECS, Scenario
from tests.support.controlplane import ControlPlane
from tests.support.mortal_client import Death, Moment, living

CONVERGED_SECONDS = 15.0
"""After the successor is ready, or the act's last step, whichever is later."""
LONGEST_PLAY_SECONDS = 180.0


@dataclass(frozen=True)
class _Expected:
    state: str
    written: tuple[Counter[str], Counter[str]]


async def outcomes(plane: ControlPlane, scenario: Scenario, spec: str, writes: Iterable[int]) -> AsyncIterator[Outcome]:
    """Play `scenario` with a death at each of `writes`, before and after it, as far as there are so many.

    Within `mortal_operators`.
    """
    expected = await _without_death(plane, scenario, spec)
    for write in writes:
        for moment in get_args(Moment):
            outcome = await _with_death(plane, scenario, spec, Death(write, moment), expected)
            if not outcome.happened and not outcome.complaint:
                return
            yield outcome


async def _without_death(plane: ControlPlane, scenario: Scenario, spec: str) -> _Expected:
    async with asyncio.timeout(LONGEST_PLAY_SECONDS):
        with living(None) as life:
            async with played(plane, await new_namespace(plane), SPECS[spec], life) as run:
                await _act(scenario, run)
                state = await run.settled()
                return _Expected(state, run.written())


async def _with_death(plane: ControlPlane, scenario: Scenario, spec: str, death: Death, expected: _Expected) -> Outcome:
    plan = f"{scenario.name}, {spec}, {death.moment} write {death.write}"
    with living(death) as life:
        try:
            async with asyncio.timeout(LONGEST_PLAY_SECONDS):
                async with played(plane, await new_namespace(plane), SPECS[spec], life) as run:
                    await _act(scenario, run)
                    return Outcome(plan, life.has_died, await _difference(run, expected))
        except Exception:  # noqa: BLE001 - a play that fails is a finding, and the campaign goes on
            return Outcome(plan, life.has_died, traceback.format_exc()[-2000:])


async def _act(scenario: Scenario, run: Run) -> None:
    await scenario.prepare(run)
    await run.settled()
    run.life.created.clear()
    run.life.deleted.clear()
    run.life.is_armed = True
    await scenario.act(run)


async def _difference(run: Run, expected: _Expected) -> str:
    """Wait for the expected state; return how what there is differs from it, or what was written too often."""
    deadline = max(time.monotonic(), run.operator.restarted) + CONVERGED_SECONDS
    if difference := await run.differs(expected.state, deadline):
        return difference
    await asyncio.sleep(QUIET_SECONDS)
    for word, before, now in zip(("created", "deleted"), expected.written, run.written(), strict=True):
        if now - before:
            return f"{word} too often: {dict(now - before)}"
    return ""
