"""One play of one scenario: a namespace, a node that is played, and an operator that may die once and comes back."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
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
GARBAGE_SECONDS = 60.0
"""The garbage collector of a new control plane learns only within 30 s that there are LLMServices."""
QUIET_SECONDS = 1.0
"""Without a write for so long, a play without a death has come to its end."""


class SupervisedOperator:
    """An operator that is started again when it has died, or when it is to have another profile."""

    def __init__(self, kubeconfig: Path, namespace: str, life: Life, *, has_lease: bool):
        self._kubeconfig = kubeconfig
        self._namespace = namespace
        self._life = life
        self._has_lease = has_lease
        self._profile: Manifest = {}
        self.restarted = 0.0
        """When the last one was ready, on the monotonic clock."""
        self.is_ready = asyncio.Event()

    def restart(self, profile: Manifest | None = None) -> None:
        """Replace the operator by one like it, or by one with this profile."""
        self._profile = self._profile if profile is None else profile
        self._life.is_over.set()

    async def run(self) -> None:
        """Keep one running until cancelled."""
        while True:
            self._life.is_over.clear()
            async with running_operator(
                self._kubeconfig, self._namespace, has_lease=self._has_lease, profile=self._profile
            ):
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
    step_seconds: float = STEP_SECONDS
    """How long a step of the scenario may take."""

    async def merge(self, patch: Manifest) -> None:
        """Edit the LLMService."""
        await self.api.merge("LLMService", NAME, patch)

    async def reaches(self, kind: str, status: str, reason: str | None = None) -> Manifest:
        """Wait for a condition about the present generation."""
        return await wait_condition(self.api, NAME, kind, status, reason, self.step_seconds)

    async def revision(self) -> str:
        """Return the revision of the Deployment."""
        deployment = await self.api.get("Deployment", NAME)
        return str(deployment["spec"]["template"]["metadata"]["labels"]["llmservice.dev/revision"])

    async def leaves(self, revision: str) -> None:
        """Wait until the Deployment has another revision."""

        async def has_left() -> bool:
            return await self.revision() != revision

        await self.api.eventually(f"{NAME} leaves revision {revision}", has_left, self.step_seconds)

    async def is_gone(self) -> None:
        """Wait until nothing is left that goes with the LLMService."""

        async def nothing() -> bool:
            found = [item for kind in state.COMPARED for item in await self.api.all(kind)]
            return not any(item["metadata"].get("ownerReferences") for item in found)

        await self.api.eventually("everything owned is gone", nothing, GARBAGE_SECONDS)

    async def state(self) -> str:
        """Return all that is in the namespace, without what differs from one play to the next."""
        return await state.of_namespace(self.api, NAME)

    async def settled(self) -> str:
        """Return the state once it has not changed for a while."""
        found, since = await self.state(), time.monotonic()
        while time.monotonic() - since < QUIET_SECONDS:
            await asyncio.sleep(QUIET_SECONDS / 5)
            if (now := await self.state()) != found:
                found, since = now, time.monotonic()
        return found

    async def differs(self, expected: str, until: float) -> str:
        """Wait for the expected state until this monotonic time; return how what there is differs from it then."""
        while (found := await self.state()) != expected:
            if time.monotonic() > until:
                return state.changes(expected, found)
            await asyncio.sleep(0.1)
        return ""

    def written(self) -> tuple[Counter[str], Counter[str]]:
        """Return what was created and deleted by the operator since the act began, without hashes."""
        return without_hashes(self.life.created), without_hashes(self.life.deleted)


def without_hashes(counts: Counter[str]) -> Counter[str]:
    """Return the same counts by texts that are the same from one play to the next."""
    totals = Counter[str]()
    for text, count in counts.items():
        totals[state.HASH.sub("HASH", text)] += count
    return totals


async def new_namespace(plane: ControlPlane) -> str:
    """Make a namespace for one play and return its name; it goes with the control plane."""
    name = f"play-{uuid.uuid4().hex[:8]}"
    await asyncio.to_thread(plane.kubectl, "create", "namespace", name)
    return name


@asynccontextmanager
async def played(
    plane: ControlPlane,
    namespace: str,
    spec: Manifest,
    life: Life,
    kubeconfig: Path | None = None,
    *,
    has_lease: bool = False,
) -> AsyncIterator[Run]:
    """Play in a new namespace while the body runs; the operator is ready when it begins.

    It reaches the API server by `kubeconfig`, if that is another way than the plane's.
    """
    async with Api(plane, namespace) as api, played_node(api) as node:
        operator = SupervisedOperator(kubeconfig or plane.kubeconfig, namespace, life, has_lease=has_lease)
        running = asyncio.create_task(operator.run())
        try:
            async with asyncio.timeout(STEP_SECONDS):
                await operator.is_ready.wait()
            yield Run(api, node, operator, spec, life)
        finally:
            running.cancel()
            await asyncio.wait([running])
            await _end_autoscalers(api)
            if not running.cancelled() and (error := running.exception()):
                raise error


async def _end_autoscalers(api: Api) -> None:
    """Delete what their controller would look after every two seconds for the rest of the campaign."""
    for item in await api.all("HorizontalPodAutoscaler"):
        await api.delete("HorizontalPodAutoscaler", item["metadata"]["name"])
