"""One play of one scenario: a namespace, a node that is played, and an operator that may die once and comes back."""

from __future__ import annotations

import asyncio
import difflib
import json
import re
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.api import PATHS, Api
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
COMPARED = tuple(
    kind for kind in PATHS if kind not in ("LLMService", "Pod", "Event", "ReplicaSet", "ResourceQuota", "Lease")
)
_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_HASH = re.compile(r"\b[0-9a-f]{10}\b")
"""Of revisions and configurations: it depends on the uid of the cache's volume."""
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_ADDRESS = re.compile(r"\b\d+\.\d+\.\d+\.\d+\b")
_VOLATILE = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "namespace", "selfLink")


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
            found = [item for kind in COMPARED for item in await self.api.all(kind)]
            return not any(item["metadata"].get("ownerReferences") for item in found)

        await self.api.eventually("everything owned is gone", nothing, self.step_seconds)

    async def state(self) -> str:
        """Return all that is in the namespace, without what differs from one play to the next."""
        service = await self.api.find("LLMService", NAME)
        found = [] if service is None else [_status(service)]
        for kind in COMPARED:
            found += [_essence(kind, item) for item in await self.api.all(kind)]
        text = json.dumps(sorted(found, key=lambda item: json.dumps(item, sort_keys=True)), sort_keys=True, indent=1)
        for pattern, instead in ((_UID, "UID"), (_HASH, "HASH"), (_TIME, "TIME"), (_ADDRESS, "ADDRESS")):
            text = pattern.sub(instead, text)
        return text.replace(self.api.namespace, "NAMESPACE")

    async def settled(self) -> str:
        """Return the state once it has not changed for a while."""
        state, since = await self.state(), time.monotonic()
        while time.monotonic() - since < QUIET_SECONDS:
            await asyncio.sleep(QUIET_SECONDS / 5)
            if (now := await self.state()) != state:
                state, since = now, time.monotonic()
        return state

    async def differs(self, expected: str, until: float) -> str:
        """Wait for the expected state until this monotonic time; return how what there is differs from it then."""
        while (state := await self.state()) != expected:
            if time.monotonic() > until:
                return "\n".join(
                    list(difflib.unified_diff(expected.splitlines(), state.splitlines(), lineterm=""))[:60]
                )
            await asyncio.sleep(0.1)
        return ""

    def written(self) -> tuple[Counter[str], Counter[str]]:
        """Return what was created and deleted by the operator since the act began, without hashes."""
        return without_hashes(self.life.created), without_hashes(self.life.deleted)


def without_hashes(counts: Counter[str]) -> Counter[str]:
    """Return the same counts by texts that are the same from one play to the next."""
    totals = Counter[str]()
    for text, count in counts.items():
        totals[_HASH.sub("HASH", text)] += count
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
            if not running.cancelled() and (error := running.exception()):
                raise error


def _essence(kind: str, item: Manifest) -> Manifest:
    metadata = {key: value for key, value in item["metadata"].items() if key not in _VOLATILE}
    ours = {
        key: value
        for key, value in metadata.get("annotations", {}).items()
        if key.startswith("llmservice.dev/") and key != "llmservice.dev/applied-hash"
    }
    rest = {key: value for key, value in item.items() if key not in ("metadata", "status", "apiVersion", "kind")}
    return {"kind": kind, "metadata": {**metadata, "annotations": ours}, **rest}


def _status(service: Manifest) -> Manifest:
    status = dict(service["status"])
    if failure := status.get("lastFailure"):
        status["lastFailure"] = {**failure, "pod": "POD"}
    status["conditions"] = sorted(
        [item["type"], item["status"], item["reason"]]
        for item in status["conditions"]
        # Nobody serves metrics here, and when the autoscaler's controller says so depends on how long a play takes.
        if item["type"] != "AutoscalingActive"
    )
    return {"kind": "status", "status": status}
