"""Namespaces with one operator and a node that is played, and the profiles and classes that specs may name there."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import yaml

from tests.campaign import state
from tests.campaign.end_state import end_state
from tests.campaign.run import NAME
from tests.support.api import Api
from tests.support.controlplane import ControlPlane
from tests.support.mortal_client import living
from tests.support.played_node import PlayedNode, played_node
from tests.support.played_volumes import played_volumes
from tests.support.running_operator import SETTINGS, running_operator
from tests.support.stage import condition, llmservice

Manifest = dict[str, Any]
QUIET_SECONDS: Final = 0.5
LONGEST_MOVE_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.1
_PROFILE: Final[Manifest] = {**SETTINGS["profiles"]["cpu"], "storageClassName": "campaign-standard"}
CONFIGURATION: Final[Manifest] = {
    **SETTINGS,
    "profiles": {
        "cpu": _PROFILE,
        "large": {
            **_PROFILE,
            "image": "registry.test/server:large",
            "requests": {"cpu": "3", "memory": "12Gi"},
            "cacheSize": "60Gi",
            "maxTokens": 512,
            "nodeSelector": {"size": "large"},
        },
        "strict": {
            **_PROFILE,
            "allow": {
                "serviceTypes": ["ClusterIP"],
                "serviceAnnotationKeys": ["acme.com/*"],
                "nodeSelectorKeys": ["pool"],
                "tolerationKeys": ["spot"],
                "priorityClasses": ["campaign-low"],
                "runtimeClasses": ["campaign-runc"],
                "storageClasses": ["campaign-fast"],
                "gpuResourceNames": ["nvidia.com/gpu"],
                "maxReplicas": 4,
                "minMemory": "1Gi",
            },
        },
    },
    "allowedEndpoints": [
        "https://huggingface.co",
        "https://hub.test",
        "https://s3.us-east-1.amazonaws.com",
        "https://s3.eu-central-1.amazonaws.com",
    ],
}
_CLASSES: Final[tuple[Manifest, ...]] = (
    *(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": f"campaign-{name}"},
            "provisioner": "campaign.test/played",
            "allowVolumeExpansion": True,
        }
        for name in ("standard", "fast", "slow")
    ),
    *(
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": f"campaign-{name}"},
            "value": value,
        }
        for name, value in (("low", 10), ("high", 1000))
    ),
    *(
        {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": f"campaign-{name}"},
            "handler": name,
        }
        for name in ("runc", "kata")
    ),
)


@dataclass(frozen=True)
class Place:
    """One of the namespaces."""

    api: Api
    node: PlayedNode

    async def is_settled(self) -> bool:
        """Whether the operator has said about the present spec that all is there and nothing moves any more."""
        service = await self.api.get("LLMService", NAME)
        return (
            service.get("status", {}).get("observedGeneration") == service["metadata"]["generation"]
            and condition(service, "Ready")["status"] == "True"
            and condition(service, "AutoscalingActive")["status"] != "Unknown"
            and condition(service, "Reconciling")["status"] is None
        )

    async def quiet(self) -> str:
        """Return the end state once it stays."""
        found = await end_state(self.api)
        async with asyncio.timeout(LONGEST_MOVE_SECONDS):
            while True:
                await asyncio.sleep(QUIET_SECONDS)
                if (now := await end_state(self.api)) == found:
                    return found
                found = now

    async def differs(self, expected: str, within_seconds: float) -> str:
        """Wait for the expected end state; return how what there is differs from it after the deadline."""
        deadline = time.monotonic() + within_seconds
        found = ""
        while time.monotonic() < deadline:
            if await self.is_settled() and (found := await end_state(self.api)) == expected:
                return ""
            await asyncio.sleep(LOOK_SECONDS)
        return state.changes(expected, found or await end_state(self.api))


@asynccontextmanager
async def laboratory(plane: ControlPlane, places: int) -> AsyncIterator[list[Place]]:
    """Run one operator for so many new namespaces while the body does."""
    names = [f"play-{uuid.uuid4().hex[:8]}" for _ in range(places)]
    namespaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names]
    text = yaml.safe_dump_all([*_CLASSES, *namespaces])
    await asyncio.to_thread(plane.kubectl, "apply", "--server-side", "--filename", "-", stdin=text)
    async with AsyncExitStack() as stack:
        stack.enter_context(living(None))
        found = [await _place(stack, plane, name) for name in names]
        await stack.enter_async_context(running_operator(plane.kubeconfig, *names, configuration=CONFIGURATION))
        yield found


async def _place(stack: AsyncExitStack, plane: ControlPlane, namespace: str) -> Place:
    api = await stack.enter_async_context(Api(plane, namespace))
    await stack.enter_async_context(played_volumes(api))
    return Place(api, await stack.enter_async_context(played_node(api)))


def service(spec: Manifest) -> Manifest:
    """Return the LLMService of a play."""
    return {**llmservice(NAME), "spec": spec}
