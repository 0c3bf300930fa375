"""A play with an API server that misbehaves, compared with the same play undisturbed.

Both go through the proxy. The end state has to be the same, and nothing may be created or destroyed that the
undisturbed play does not create or destroy: a deletion, fewer replicas or another pod template that only the disturbed
play has was decided from what the operator should not have believed. A write that the API server refused costs nobody
anything.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from tests.campaign.outcome import Outcome
from tests.campaign.run import QUIET_SECONDS, Run, new_namespace, played, without_hashes
from tests.campaign.scenarios import SPECS, Scenario
from tests.support.api_proxy import Call, Faults, api_proxy
from tests.support.controlplane import ControlPlane
from tests.support.mortal_client import living
from tests.support.written import Written

CONVERGED_SECONDS = 60.0
"""After the fault is over, or the act's last step, whichever is later; as long may each step of the act take."""
LONGEST_PLAY_SECONDS = 300.0


class Disturbance(Faults):
    """Faults that begin when the act does."""

    is_armed = False
    has_struck = False
    """Whether there was something to disturb."""
    over_at = 0.0
    """When it was over, on the monotonic clock."""

    async def begin(self, run: Run) -> None:
        """Start, right before the act."""
        self.is_armed = True

    async def act_done(self) -> None:
        """Do what comes after the act."""

    def complaint(self, expected: Undisturbed) -> str:
        """Return what else is wrong when all has converged, if anything is."""
        return ""


@dataclass(frozen=True)
class Undisturbed:
    """What comes of a play in which nothing goes wrong."""

    state: str
    written: Written
    calls: tuple[Call, ...]
    """Of the act, and of the quiet second after it."""
    told: Counter[str]
    """How many events of each resource the operator's watches told in it."""

    @property
    def writes(self) -> int:
        """How many writes the operator made that count."""
        return sum(call.is_write and call.is_operators for call in self.calls)


class Plan(Protocol):
    """One disturbance, described by its str()."""

    def disturbance(self) -> Disturbance:
        """Return what plays it, once."""
        ...


async def outcomes(
    plane: ControlPlane,
    scenario: Scenario,
    spec: str,
    plans: Callable[[Undisturbed], Sequence[Plan]],
    *,
    has_lease: bool = False,
) -> AsyncIterator[Outcome]:
    """Play `scenario` undisturbed, and then with each of the plans that are made from what came of that."""
    async with asyncio.timeout(LONGEST_PLAY_SECONDS):
        expected = await _undisturbed(plane, scenario, spec, has_lease=has_lease)
    for plan in plans(expected):
        name, disturbance = f"{scenario.name}, {spec}, {plan}", plan.disturbance()
        try:
            async with asyncio.timeout(LONGEST_PLAY_SECONDS), _playing(plane, spec, disturbance, has_lease) as run:
                await _act(scenario, run, disturbance)
                await disturbance.act_done()
                complaint = await _complaint(run, disturbance, expected)
        except Exception:  # noqa: BLE001 - a play that fails is a finding, and the campaign goes on
            complaint = traceback.format_exc()[-2000:]
        if disturbance.has_struck or complaint:
            yield Outcome(name, disturbance.has_struck, complaint)


async def _undisturbed(plane: ControlPlane, scenario: Scenario, spec: str, *, has_lease: bool) -> Undisturbed:
    calm = Disturbance()
    async with _playing(plane, spec, calm, has_lease) as run:
        await _act(scenario, run, calm)
        state = await run.settled()
        proxy = calm.proxy
        return Undisturbed(state, _masked(proxy.written), tuple(call for _, call in proxy.calls), Counter(proxy.told))


@asynccontextmanager
async def _playing(plane: ControlPlane, spec: str, faults: Disturbance, has_lease: bool) -> AsyncIterator[Run]:
    with living(None) as life:
        async with (
            api_proxy(plane, faults) as proxy,
            played(plane, await new_namespace(plane), SPECS[spec], life, proxy.kubeconfig, has_lease=has_lease) as run,
        ):
            run.step_seconds = CONVERGED_SECONDS
            yield run


async def _act(scenario: Scenario, run: Run, disturbance: Disturbance) -> None:
    await scenario.prepare(run)
    await run.settled()
    disturbance.proxy.clear()
    await disturbance.begin(run)
    await scenario.act(run)


async def _complaint(run: Run, disturbance: Disturbance, expected: Undisturbed) -> str:
    deadline = max(time.monotonic(), disturbance.over_at) + CONVERGED_SECONDS
    if difference := await run.differs(expected.state, deadline):
        return difference
    await asyncio.sleep(QUIET_SECONDS)
    if difference := await run.differs(expected.state, deadline):
        return difference
    return _surplus(expected.written, _masked(disturbance.proxy.written)) or disturbance.complaint(expected)


def _masked(written: Written) -> Written:
    return Written(without_hashes(written.created), without_hashes(written.destroyed))


def _surplus(expected: Written, now: Written) -> str:
    """Return what was created or destroyed beyond what was expected."""
    of_each: tuple[Callable[[Written], Counter[str]], ...] = (lambda it: it.created, lambda it: it.destroyed)
    surplus = [dict(of(now) - of(expected)) for of in of_each]
    return f"created {surplus[0]}, destroyed {surplus[1]} beyond the undisturbed play" if any(surplus) else ""
