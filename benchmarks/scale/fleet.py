"""Many LLMServices in a few namespaces, and what their owners do to them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from cluster.controlplane import ControlPlane
from tests.support.api import Api
from tests.support.stage import condition, llmservice

NAMESPACES = [f"team-{number:02}" for number in range(20)]
CREATORS = 4
"""Requests at once while the fleet is created."""
LOOK_SECONDS = 0.5
EDITS = ({"engine": {"maxModelLen": 4096}}, {"replicas": 2})
"""What owners change in turns: one rolls the pods, the other adds some."""


class Fleet:
    """LLMServices of six lines each, dealt out to the namespaces."""

    def __init__(self, apis: list[Api], services: int):
        self._apis = apis
        self.members = [(apis[number % len(apis)], f"model-{number:04}") for number in range(services)]

    async def create(self) -> None:
        """Create all of them."""
        turns = asyncio.Semaphore(CREATORS)

        async def one(api: Api, name: str) -> None:
            async with turns:
                await api.create(llmservice(name))

        async with asyncio.TaskGroup() as tasks:
            for api, name in self.members:
                tasks.create_task(one(api, name))

    async def ready(self, within_seconds: float) -> None:
        """Return when every one is ready in its current generation.

        Raises:
            TimeoutError: it took longer; the message names one that is not.
        """
        late = "none"
        try:
            async with asyncio.timeout(within_seconds):
                for api in self._apis:
                    while unready := await _unready(api):
                        late = unready[0]
                        await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError as error:
            raise TimeoutError(f"not every LLMService is ready after {within_seconds:g} s: {late}") from error

    async def edit(self, count: int, mean_seconds: float, chance: random.Random) -> list[tuple[str, str]]:
        """Change `count` of them, each once, at random times; return namespace and name of each."""
        chosen = chance.sample(self.members, count)
        for number, (api, name) in enumerate(chosen):
            await asyncio.sleep(chance.expovariate(1 / mean_seconds))
            await api.merge("LLMService", name, {"spec": EDITS[number % len(EDITS)]})
        return [(api.namespace, name) for api, name in chosen]


async def _unready(api: Api) -> list[str]:
    """Return which LLMServices of a namespace are not ready, and why."""
    unready = []
    for manifest in await api.all("LLMService", selector=""):
        ready = condition(manifest, "Ready")
        if ready["status"] != "True" or ready["observedGeneration"] != manifest["metadata"]["generation"]:
            name = manifest["metadata"]["name"]
            unready.append(f"{api.namespace}/{name}: {ready['reason']}: {ready['message']}")
    return unready


@asynccontextmanager
async def fleet(plane: ControlPlane, services: int) -> AsyncIterator[Fleet]:
    """Yield a fleet that is still to be created, in namespaces that are there."""
    async with AsyncExitStack() as stack:
        yield Fleet([await stack.enter_async_context(Api(plane, name)) for name in NAMESPACES], services)
