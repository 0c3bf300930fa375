"""After any chain of changes a service is as if its last spec had been the first: the differential oracle of Acto.

Each step of a chain is compared with a twin: the same spec in an empty namespace. A twin of a held operator is held
after it has come up, because from nothing it would make nothing.
"""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

from tests.campaign import state
from tests.campaign.chains import Chain, Step, chain
from tests.campaign.laboratory import Place, laboratory, service
from tests.campaign.outcome import Outcome
from tests.campaign.run import NAME
from tests.support.api import Api
from tests.support.controlplane import ControlPlane

Manifest = dict[str, Any]
CONVERGED_SECONDS: Final = 30.0
TWIN_SECONDS: Final = 60.0
TWINS_AT_ONCE: Final = 2


async def outcomes(plane: ControlPlane, number: int, most: int | None = None) -> AsyncIterator[Outcome]:
    """Play a chain, or its first `most` steps; yield what came of each transition that is compared."""
    whole = chain(number)
    plan = Chain(whole.base, whole.steps[:most])
    async with laboratory(plane, 1 + TWINS_AT_ONCE) as (place, *others), asyncio.TaskGroup() as tasks:
        twins = _Twins(plan.steps)
        running = [tasks.create_task(twins.play(other)) for other in others]
        await place.api.create(service(plan.base))
        await place.api.eventually(f"the base of chain {number}", place.is_settled, TWIN_SECONDS)
        for index, step in enumerate(plan.steps):
            complaint = await _complaint(place, step, twins)
            if step.is_compared or complaint:
                yield Outcome(f"chain {number}, step {index}, {step.name}", happened=True, complaint=complaint)
        for task in running:
            task.cancel()


async def _complaint(place: Place, step: Step, twins: _Twins) -> str:
    try:
        await place.api.replace_spec("LLMService", NAME, step.spec)
        if not step.is_compared:
            return ""
        return await place.differs(await twins.of(step), CONVERGED_SECONDS)
    except Exception:  # noqa: BLE001 - a transition that fails is a finding, and the campaign goes on
        return traceback.format_exc()[-2000:]


class _Twins:
    """What comes of every spec of a chain in an empty namespace, played ahead in the order of need."""

    def __init__(self, steps: Iterable[Step]):
        loop = asyncio.get_running_loop()
        compared = [step for step in steps if step.is_compared]
        self._found: dict[str, asyncio.Future[str]] = {_key(step): loop.create_future() for step in compared}
        self._waiting = list({_key(step): step for step in compared}.values())

    async def of(self, step: Step) -> str:
        """Return the end state that a step is to come to."""
        return await self._found[_key(step)]

    async def play(self, place: Place) -> None:
        """Play one twin after the other that nobody has begun yet."""
        while self._waiting:
            step = self._waiting.pop(0)
            try:
                self._found[_key(step)].set_result(await _twin(place, step))
            except Exception as error:  # noqa: BLE001 - it is told where the twin is needed
                self._found[_key(step)].set_exception(error)
            await _empty(place.api)


async def _twin(place: Place, step: Step) -> str:
    api = place.api
    await api.create(service({key: value for key, value in step.spec.items() if key != step.hold}))
    await api.eventually(f"the twin of {step.name}", place.is_settled, TWIN_SECONDS)
    if step.hold:
        await api.replace_spec("LLMService", NAME, step.spec)
        await api.eventually(f"the twin of {step.name}", place.is_settled, TWIN_SECONDS)
    return await place.quiet()


async def _empty(api: Api) -> None:
    """Take everything away, a retained volume too."""
    if await api.find("LLMService", NAME):
        await api.delete("LLMService", NAME)

    async def is_empty() -> bool:
        for claim in await api.all("PersistentVolumeClaim"):
            if not claim["metadata"].get("ownerReferences"):
                await api.delete("PersistentVolumeClaim", claim["metadata"]["name"])
        kinds = (*state.COMPARED, "ReplicaSet", "Pod")
        return not any([await api.all(kind) for kind in kinds])

    await api.eventually("an empty namespace", is_empty, TWIN_SECONDS)


def _key(step: Step) -> str:
    return json.dumps([step.spec, step.hold], sort_keys=True)
