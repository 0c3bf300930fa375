"""One play of one scenario: a namespace, a node that is played, and an operator that may die once and comes back."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.campaign import state
from tests.support.api import Api
from tests.support.controlplane import ControlPlane
from tests.support.mortal_client import Life
from tests.support.played_node import PlayedNode, played_node
from tests.support.running_operator import running_operator
from tests.support.stage import wait_condition

Manifest = dict[str, Any]
NAME = "llama"
STEP_SECONDS = 30.0
"""How long a step may take with a death and a restart in it."""
QUIET_SECONDS = 1.0
"""Without a write for so long, a play without a death has come to its end."""


class SupervisedOperator:
    """An operator that is started again when it has died, or when it is to have another profile."""

    def __init__(self, plane: ControlPlane, namespace: str, life: Life):
        self._plane = plane
        self._namespace = namespace
        self._life = life
        self._profile: Manifest = {}
        self.restarted = 0.0
        """When the last one was ready, on the monotonic clock."""
        self.is_ready = asyncio.Event()

    def restart(self, profile: Manifest) -> None:
        """Replace the operator by one with this profile."""
        self._profile = profile
        self._life.is_over.set()

    async def run(self) -> None:
        """Keep one running until cancelled."""
        while True:
            self._life.is_over.clear()
            async with running_operator(self._plane.kubeconfig, self._namespace, profile=self._profile):
                self.restarted = time.monotonic()
                self.is_ready.set()
                await self._life.is_over.wait()


@dataclass
class Run:
    """What a scenario has at hand."""

    api: Api
    node: PlayedNode
    operator: SupervisedOperator
    spec: Manifest
    life: Life

    async def merge(self, patch: Manifest) -> None:
        """Edit the LLMService."""
        await self.api.merge("LLMService", NAME, patch)

    async def reaches(self, kind: str, status: str, reason: str | None = None) -> Manifest:
        """Wait for a condition about the present generation."""
        return await wait_condition(self.api, NAME, kind, status, reason, STEP_SECONDS)

    async def revision(self) -> str:
        """Return the revision of the Deployment."""
        deployment = await self.api.get("Deployment", NAME)
        return str(deployment["spec"]["template"]["metadata"]["labels"]["llmservice.dev/revision"])

    async def is_gone(self) -> None:
        """Wait until nothing is left that goes with the LLMService."""

        async def nothing() -> bool:
            found = [item for kind in state.COMPARED for item in await self.api.all(kind)]
            return not any(item["metadata"].get("ownerReferences") for item in found)

        await self.api.eventually("everything owned is gone", nothing, STEP_SECONDS)

    async def state(self) -> str:
        """Return all that is in the namespace, without what differs from one play to the next."""
        return await state.of_namespace(self.api, NAME)

    def written(self) -> tuple[Counter[str], Counter[str]]:
        """Return what was created and deleted by the operator since the act began, without hashes."""
        created, deleted = Counter[str](), Counter[str]()
        for counts, totals in ((self.life.created, created), (self.life.deleted, deleted)):
            for path, count in counts.items():
                totals[state.HASH.sub("HASH", path)] += count
        return created, deleted


@asynccontextmanager
async def played(plane: ControlPlane, namespace: str, spec: Manifest, life: Life) -> AsyncIterator[Run]:
    """Play in a new namespace while the body runs; the operator is ready when it begins."""
    async with Api(plane, namespace) as api, played_node(api) as node:
        operator = SupervisedOperator(plane, namespace, life)
        running = asyncio.create_task(operator.run())
        try:
            async with asyncio.timeout(STEP_SECONDS):
                await operator.is_ready.wait()
            yield Run(api, node, operator, spec, life)
        finally:
            running.cancel()
            await asyncio.wait([running])
            if not running.cancelled() and (error := running.exception()):
                raise error
