"""One suite for the cluster in memory and the real API server, so that the fake cannot drift from what it plays."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

import pytest

from llmservice_operator import names
from llmservice_operator.cluster.client import Client
from llmservice_operator.cluster.interface import (
    Cluster,
    LeftOverError,
    Outcome,
    OutdatedError,
    OwnerGoneError,
    RefusedError,
)
from llmservice_operator.cluster.live import LiveCluster
from llmservice_operator.cluster.resources import Key
from llmservice_operator.schema import parse
from tests.support.api import Api, MissingError
from tests.support.controlplane import ControlPlane, control_plane
from tests.support.fake_cluster import FakeCluster
from tests.support.stage import llmservice

Manifest = dict[str, Any]


class World(Protocol):
    """A cluster with somebody else in it, who has kubectl."""

    namespace: str
    cluster: Cluster

    async def create(self, manifest: Manifest) -> Manifest: ...
    async def edit(self, kind: str, name: str, patch: Manifest) -> None: ...
    async def delete(self, kind: str, name: str) -> None: ...
    async def find(self, kind: str, name: str) -> Manifest | None: ...


class FakeWorld:
    """In memory."""

    namespace = "default"

    def __init__(self) -> None:
        self.fake = FakeCluster()
        self.cluster: Cluster = self.fake

    async def create(self, manifest: Manifest) -> Manifest:
        return self.fake.put({**manifest, "metadata": {"namespace": self.namespace, **manifest["metadata"]}})

    async def edit(self, kind: str, name: str, patch: Manifest) -> None:
        self.fake.put(_merged(self.fake.objects[kind, self.namespace, name], patch))

    async def delete(self, kind: str, name: str) -> None:
        self.fake.remove(kind, self.namespace, name)

    async def find(self, kind: str, name: str) -> Manifest | None:
        return self.fake.objects.get((kind, self.namespace, name))


class LiveWorld:
    """On an API server; each change is waited for until the operator's watch has seen it."""

    def __init__(self, api: Api, cluster: LiveCluster, seen: asyncio.Event):
        self.namespace = api.namespace
        self.cluster: Cluster = cluster
        self._api = api
        self._seen = seen

    async def create(self, manifest: Manifest) -> Manifest:
        created = await self._api.create(manifest)
        if manifest["kind"] == "LLMService":
            await self._noticed()
        return created

    async def edit(self, kind: str, name: str, patch: Manifest) -> None:
        self._seen.clear()
        await self._api.merge(kind, name, patch)
        await self._noticed()

    async def delete(self, kind: str, name: str) -> None:
        self._seen.clear()
        await self._api.delete(kind, name)
        await self._noticed()

    async def find(self, kind: str, name: str) -> Manifest | None:
        with contextlib.suppress(MissingError):
            return await self._api.get(kind, name)
        return None

    async def _noticed(self) -> None:
        async with asyncio.timeout(10):
            await self._seen.wait()


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("plane")) as plane:
        yield plane


@pytest.fixture(params=["fake", "live"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "fake":
        yield FakeWorld()
        return
    plane: ControlPlane = request.getfixturevalue("plane")
    namespace = f"contract-{abs(hash(request.node.name)) % 10**8}"
    plane.kubectl("create", "namespace", namespace)
    client = await Client.connect(plane.kubeconfig)
    seen = asyncio.Event()
    cluster = LiveCluster(client, lambda *_: seen.set(), [namespace])
    running = asyncio.create_task(cluster.run())
    async with asyncio.timeout(15):
        await cluster.wait_listed()
    async with Api(plane, namespace) as api:
        yield LiveWorld(api, cluster, seen)
    running.cancel()
    await asyncio.wait([running])
    await client.close()


async def _owner(world: World, name: str = "llama") -> Manifest:
    await world.create(llmservice(name))
    owner = world.cluster.llmservice(Key(world.namespace, name))
    assert owner is not None
    return owner


def _service(owner: Manifest, affinity: str = "None") -> Manifest:
    metadata = names.metadata(parse(owner))
    port = {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8000}
    spec = {"ports": [port], "sessionAffinity": affinity}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


async def test_what_is_applied_is_a_child_at_once(world: World) -> None:
    owner = await _owner(world)
    assert (await world.cluster.apply(owner, _service(owner))).outcome is Outcome.CREATED
    children = await world.cluster.children_of(owner)
    assert children.service is not None
    assert children.service["metadata"]["name"] == "llama"


async def test_applying_twice_changes_nothing(world: World) -> None:
    owner = await _owner(world)
    await world.cluster.apply(owner, _service(owner))
    assert (await world.cluster.apply(owner, _service(owner))).outcome is Outcome.UNCHANGED


async def test_another_body_is_an_update(world: World) -> None:
    owner = await _owner(world)
    await world.cluster.apply(owner, _service(owner))
    assert (await world.cluster.apply(owner, _service(owner, affinity="ClientIP"))).outcome is Outcome.UPDATED
    found = await world.find("Service", "llama")
    assert found is not None
    assert found["spec"]["sessionAffinity"] == "ClientIP"


async def test_a_foreign_edit_of_a_field_of_ours_is_repaired(world: World) -> None:
    owner = await _owner(world)
    await world.cluster.apply(owner, _service(owner))
    await world.edit("Service", "llama", {"spec": {"sessionAffinity": "ClientIP"}})
    repaired = await world.cluster.apply(owner, _service(owner))
    assert repaired.outcome is Outcome.REPAIRED
    assert repaired.drift is not None
    assert (repaired.drift.kind, repaired.drift.name) == ("Service", "llama")
    assert repaired.drift.path == "spec.sessionAffinity"
    assert (await world.cluster.apply(owner, _service(owner))).outcome is Outcome.UNCHANGED


async def test_a_field_that_is_not_ours_stays(world: World) -> None:
    owner = await _owner(world)
    await world.cluster.apply(owner, _service(owner))
    await world.edit("Service", "llama", {"metadata": {"annotations": {"theirs": "1"}}})
    assert (await world.cluster.apply(owner, _service(owner))).outcome is Outcome.UNCHANGED


async def test_a_deleted_child_is_created_again(world: World) -> None:
    owner = await _owner(world)
    await world.cluster.apply(owner, _service(owner))
    await world.delete("Service", "llama")
    assert (await world.cluster.children_of(owner)).service is None
    assert (await world.cluster.apply(owner, _service(owner))).outcome is Outcome.CREATED


async def test_a_foreign_object_is_refused_and_left_alone(world: World) -> None:
    owner = await _owner(world)
    foreign = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "llama"}, "spec": {"ports": [{"port": 1}]}}
    before = await world.create(foreign)
    for _ in range(2):
        with pytest.raises(RefusedError) as refused:
            await world.cluster.apply(owner, _service(owner))
        assert refused.value.refusal.reason == "ChildNameConflict"
    after = await world.find("Service", "llama")
    assert after is not None
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert (await world.cluster.children_of(owner)).service is None


async def test_a_config_map_that_holds_more_than_its_name_says_is_made_anew(world: World) -> None:
    owner = await _owner(world)
    metadata = names.metadata(parse(owner), name="llama-config-0123456789")
    wanted = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "immutable": True, "data": {"A": "1"}}
    await world.create({**wanted, "data": {"A": "1", "LD_PRELOAD": "/model/planted.so"}})

    async def is_made_anew() -> bool:
        with contextlib.suppress(OutdatedError):
            return (await world.cluster.apply(owner, wanted)).outcome is Outcome.CREATED
        return False

    async with asyncio.timeout(10):
        while not await is_made_anew():  # noqa: ASYNC110 - the watch tells when the planted one is gone
            await asyncio.sleep(0.05)
    found = await world.find("ConfigMap", "llama-config-0123456789")
    assert found is not None
    assert found["data"] == {"A": "1"}


async def test_a_child_of_an_earlier_llmservice_of_that_name_is_waited_for(world: World) -> None:
    owner = await _owner(world)
    await world.cluster.apply(owner, _service(owner))
    later = {**owner, "metadata": {**owner["metadata"], "uid": "another"}}
    with pytest.raises(LeftOverError):
        await world.cluster.apply(later, _service(later))


async def test_nothing_is_created_for_an_llmservice_that_is_gone(world: World) -> None:
    owner = await _owner(world)
    await world.delete("LLMService", "llama")
    with pytest.raises(OwnerGoneError):
        await world.cluster.apply(owner, _service(owner))
    assert await world.find("Service", "llama") is None


async def test_a_child_is_deleted_as_it_was_seen(world: World) -> None:
    owner = await _owner(world)
    await world.cluster.apply(owner, _service(owner))
    child = (await world.cluster.children_of(owner)).service
    assert child is not None
    assert await world.cluster.delete(owner, child)
    assert not await world.cluster.delete(owner, child)


async def test_an_equal_status_is_not_written_again(world: World) -> None:
    owner = await _owner(world)
    status = {"observedGeneration": 1, "phase": "Pending", "conditions": []}
    status["conditions"] = [
        {"type": kind, "status": "True", "reason": "Valid", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        for kind in ("Ready", "ConfigurationValid")
    ]
    assert await world.cluster.apply_status(owner, status)
    written = world.cluster.llmservice(Key(world.namespace, "llama"))
    assert written is not None
    assert not await world.cluster.apply_status(written, status)


def _merged(target: Manifest, patch: Manifest) -> Manifest:
    """Return a JSON merge patch's result."""
    merged = dict(target)
    for field, value in patch.items():
        if value is None:
            merged.pop(field, None)
        else:
            merged[field] = _merged(merged.get(field) or {}, value) if isinstance(value, dict) else value
    return merged
