"""How many requests the creation of children takes."""

from collections import Counter
from typing import Any

from llmservice_operator.cluster.apply import OWNER_SEEN_SECONDS, Applier
from llmservice_operator.cluster.client import Client
from llmservice_operator.cluster.confirmation import Confirmation
from llmservice_operator.cluster.errors import NotFoundError
from llmservice_operator.cluster.resources import LLMSERVICES, Resource
from llmservice_operator.cluster.store import Store

Manifest = dict[str, Any]


class CountingClient(Client):
    """An API server without any child; counts the live looks at each LLMService."""

    def __init__(self) -> None:
        self.looks: Counter[str] = Counter()

    async def get(self, resource: Resource, namespace: str, name: str) -> Manifest:
        if resource != LLMSERVICES:
            raise NotFoundError(f"{resource.plural} {name} not found")
        self.looks[name] += 1
        return owner(name)

    async def apply(
        self, resource: Resource, manifest: Manifest, field_manager: str, subresource: str | None = None
    ) -> Manifest:
        meta = manifest["metadata"]
        return {**manifest, "metadata": {**meta, "uid": f"uid-{resource.kind}-{meta['name']}", "resourceVersion": "1"}}


def owner(name: str) -> Manifest:
    return {"metadata": {"namespace": "default", "name": name, "uid": f"uid-{name}"}}


def child(kind: str, name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"namespace": "default", "name": name}}


async def test_llmservices_that_are_created_side_by_side_are_looked_at_once_each() -> None:
    client, now = CountingClient(), 100.0
    store = Store(lambda *_: None)
    applier = Applier(client, store, Confirmation(client, store), clock=lambda: now)
    for kind in ("ServiceAccount", "Service", "PersistentVolumeClaim"):
        for name in ("one", "two", "three"):
            await applier.apply(owner(name), child(kind, name))
    assert client.looks == {"one": 1, "two": 1, "three": 1}
    now += OWNER_SEEN_SECONDS
    await applier.apply(owner("one"), child("ConfigMap", "one"))
    assert client.looks == {"one": 2, "two": 1, "three": 1}
