"""What the watches tell, and what is looked at live because they may not have told all."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from llmservice_operator import names
from llmservice_operator.cluster.client import Client
from llmservice_operator.cluster.errors import NotFoundError
from llmservice_operator.cluster.interface import OwnerGoneError
from llmservice_operator.cluster.live import LiveCluster
from llmservice_operator.cluster.resources import LLMSERVICES, SERVICES, Resource
from tests.support.builders import make_llmservice

Manifest = dict[str, Any]


LLMSERVICE = make_llmservice("llama")
OWNER: Manifest = {
    "kind": names.KIND,
    "metadata": {
        "namespace": LLMSERVICE.namespace,
        "name": LLMSERVICE.name,
        "uid": LLMSERVICE.uid,
        "generation": 1,
        "resourceVersion": "5",
    },
}


class QuietServer(Client):
    """An API server that keeps what is applied, and whose watches tell only what a test puts into them."""

    def __init__(self) -> None:
        self.objects: dict[Resource, dict[str, Manifest]] = defaultdict(dict)
        self.told: dict[Resource, asyncio.Queue[Manifest]] = defaultdict(asyncio.Queue)

    async def get(self, resource: Resource, namespace: str, name: str) -> Manifest:
        if name not in self.objects[resource]:
            raise NotFoundError(f"{resource.plural} {name} not found")
        return self.objects[resource][name]

    async def list_page(self, resource: Resource, namespace: str | None, query: Mapping[str, str]) -> Manifest:
        return {"metadata": {"resourceVersion": "10"}, "items": list(self.objects[resource].values())}

    async def watch(
        self, resource: Resource, namespace: str | None, resource_version: str, label_selector: str | None
    ) -> AsyncIterator[Manifest]:
        while True:
            yield await self.told[resource].get()

    async def apply(
        self, resource: Resource, manifest: Manifest, field_manager: str, subresource: str | None = None
    ) -> Manifest:
        meta = {**manifest["metadata"], "uid": f"uid-{resource.kind}", "resourceVersion": "11"}
        kept = self.objects[resource][meta["name"]] = {**manifest, "metadata": meta}
        return kept


def child(kind: str) -> Manifest:
    """Return a child of that kind, as it is applied."""
    return {"apiVersion": "v1", "kind": kind, "metadata": names.metadata(LLMSERVICE)}


async def test_a_child_that_goes_is_not_made_again_for_an_llmservice_whose_end_no_watch_has_told() -> None:
    server, told = QuietServer(), asyncio.Event()
    server.objects[LLMSERVICES]["llama"] = OWNER
    cluster = LiveCluster(server, lambda *_: told.set())
    watching = asyncio.create_task(cluster.run())
    async with asyncio.timeout(5):
        await cluster.wait_listed()
    await cluster.apply(OWNER, child("Service"))
    await cluster.apply(OWNER, child("ServiceAccount"))
    told.clear()
    del server.objects[LLMSERVICES]["llama"]
    ended = server.objects[SERVICES].pop("llama")
    ended = {**ended, "metadata": {**ended["metadata"], "resourceVersion": "12"}}
    server.told[SERVICES].put_nowait({"type": "DELETED", "object": ended})
    async with asyncio.timeout(5):
        await told.wait()
    with pytest.raises(OwnerGoneError):
        await cluster.apply(OWNER, child("Service"))
    assert server.objects[SERVICES] == {}
    watching.cancel()
    await asyncio.wait([watching])
