"""Plays the node for a whole namespace: warm-ups succeed and servers become ready by themselves, or as it is told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.support import stage
from tests.support.api import Api, MissingError

Manifest = dict[str, Any]
Fate = Callable[[Api, Manifest], Awaitable[None]]
"""What becomes of a pod; it is asked again while the pod is pending."""
LOOK_SECONDS = 2
"""After so long it looks at every pod again, in case something did not work."""
PAUSE_SECONDS = 0.1


class PlayedNode:
    """Its kubelet, for every pod; one that `fate` knows does not come up."""

    def __init__(self, api: Api):
        self._api = api
        self.fate: Callable[[Manifest], Fate | None] = lambda pod: None

    async def run(self) -> None:
        """Look after every pod until cancelled."""
        while True:
            with contextlib.suppress(httpx.HTTPError):
                async for pod in self._api.seen("Pod", fields="status.phase=Pending", for_seconds=LOOK_SECONDS):
                    with contextlib.suppress(MissingError, httpx.HTTPError):
                        await self._look_after(pod)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _look_after(self, pod: Manifest) -> None:
        if "deletionTimestamp" in pod["metadata"]:
            await self._api.delete("Pod", pod["metadata"]["name"], grace_seconds=0)
        elif (fate := self.fate(pod)) is not None:
            await fate(self._api, pod)
        elif pod["metadata"]["labels"]["app.kubernetes.io/component"] == "warmup":
            await stage.succeed(self._api, pod)
        elif pod["metadata"]["labels"]["app.kubernetes.io/component"] == "sweep":
            await stage.sweep_up(self._api, pod)
        else:
            await stage.make_ready(self._api, pod)


@asynccontextmanager
async def played_node(api: Api) -> AsyncIterator[PlayedNode]:
    """Play the node while the body runs."""
    node = PlayedNode(api)
    task = asyncio.create_task(node.run())
    try:
        yield node
    finally:
        task.cancel()
        await asyncio.wait([task])
