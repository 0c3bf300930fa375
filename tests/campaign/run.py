"""One play of one scenario: a namespace, a node that is played, and an operator that may die once and comes back."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
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
            found = [item for kind in COMPARED for item in await self.api.all(kind)]
            return not any(item["metadata"].get("ownerReferences") for item in found)

        await self.api.eventually("everything owned is gone", nothing, STEP_SECONDS)

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

    def written(self) -> tuple[Counter[str], Counter[str]]:
        """Return what was created and deleted by the operator since the act began, without hashes."""
        created, deleted = Counter[str](), Counter[str]()
        for counts, totals in ((self.life.created, created), (self.life.deleted, deleted)):
            for path, count in counts.items():
                totals[_HASH.sub("HASH", path)] += count
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
    status["conditions"] = sorted([item["type"], item["status"], item["reason"]] for item in status["conditions"])
    return {"kind": "status", "status": status}
