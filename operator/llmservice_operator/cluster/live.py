"""The real cluster: watches that fill a store, and the few ways in which it is written."""

import asyncio
import contextlib
import os
import socket
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from typing import Final, Literal

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.cluster import errors, resources
from llmservice_operator.cluster.apply import Applier
from llmservice_operator.cluster.belonging import Belonging, belonging, controller, is_pod_of
from llmservice_operator.cluster.client import Client
from llmservice_operator.cluster.confirmation import Confirmation
from llmservice_operator.cluster.edits import is_edit
from llmservice_operator.cluster.events import EventRecorder
from llmservice_operator.cluster.informer import Informer
from llmservice_operator.cluster.interface import Applied, Notice, OutdatedError
from llmservice_operator.cluster.resources import CHILDREN, LLMSERVICES, PODS, Key, Resource
from llmservice_operator.cluster.status import apply_status
from llmservice_operator.cluster.store import Entry, Store
from llmservice_operator.manifest import Manifest, happened_at, has_finished, is_being_deleted
from llmservice_operator.work_queue import Priority

Trigger = Callable[[Key, Priority], None]

EVENTS_PER_OBJECT: Final = 20
EVENTS_REUSED_SECONDS: Final = 4.0
_EVENTS_REMEMBERED: Final = 1024


class LiveCluster:
    """`interface.Cluster` on an API server. `run` keeps it up to date; `trigger` is called with every key that may need
    work.
    """

    def __init__(self, client: Client, trigger: Trigger, namespaces: Sequence[str] = ()):
        self._client = client
        self._trigger = trigger
        self._store = Store(self._changed)
        self._confirmation = Confirmation(client, self._store)
        self._applier = Applier(client, self._store, self._confirmation)
        self._recorder = EventRecorder(client, instance=os.environ.get("HOSTNAME") or socket.gethostname())
        self._vanished: dict[Key, set[tuple[Resource, str]]] = defaultdict(set)
        self._events: OrderedDict[str, tuple[float, list[Manifest]]] = OrderedDict()
        scopes: Sequence[str | None] = namespaces or (None,)
        self.informers = tuple(
            Informer(
                client,
                self._store,
                resource,
                namespace=namespace,
                label_selector=None if resource == LLMSERVICES else names.CHILDREN_LABEL_SELECTOR,
                on_first_list=self._confirmation.doubt,
            )
            for namespace in scopes
            for resource in (*CHILDREN, LLMSERVICES)
        )

    async def run(self) -> None:
        """Watch and record events until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for informer in self.informers:
                tasks.create_task(informer.run(), name=f"informer {informer.kind}")
            tasks.create_task(self._recorder.run(), name="event recorder")

    async def wait_listed(self) -> None:
        """Return when every kind was listed once: before that, an absent child means nothing."""
        for informer in self.informers:
            await informer.has_listed.wait()

    async def flush_events(self, timeout_seconds: float) -> None:
        """Write the events still queued, within a bounded time."""
        await self._recorder.flush(timeout_seconds)

    @property
    def is_synced(self) -> bool:
        """Whether the picture of every kind is complete."""
        return all(informer.is_synced for informer in self.informers)

    def known_keys(self) -> list[Key]:
        """Return every LLMService there is."""
        return [_key(entry.manifest) for entry in self._store.all(LLMSERVICES)]

    def llmservice(self, key: Key) -> Manifest | None:
        """See `interface.Cluster.llmservice`."""
        entry = self._store.get(LLMSERVICES, key.namespace, key.name)
        return None if entry is None else entry.manifest

    async def children_of(self, owner: Manifest) -> Children:
        """See `interface.Cluster.children_of`."""
        await self._look_again(owner)
        ours = {resource: self._ours(owner, resource) for resource in CHILDREN if resource != PODS}
        deployment = _only(ours[resources.DEPLOYMENTS])
        jobs = ours[resources.JOBS]
        await self._catch_up_with(owner, jobs)
        pods = [entry.manifest for entry in self._store.children(_key(owner), PODS)]
        return Children(
            deployment=deployment,
            service=_only(ours[resources.SERVICES]),
            service_account=_only(ours[resources.SERVICE_ACCOUNTS]),
            autoscaler=_only(ours[resources.AUTOSCALERS]),
            disruption_budget=_only(ours[resources.DISRUPTION_BUDGETS]),
            network_policies=tuple(ours[resources.NETWORK_POLICIES]),
            claims=tuple(ours[resources.CLAIMS]),
            config_maps=tuple(ours[resources.CONFIG_MAPS]),
            jobs=tuple(jobs),
            revisions=tuple(ours[resources.CONTROLLER_REVISIONS]),
            pods=tuple(pod for pod in pods if is_pod_of(pod, deployment, jobs)),
        )

    async def apply(self, owner: Manifest, manifest: Manifest) -> Applied:
        """See `interface.Cluster.apply`."""
        return await self._applier.apply(owner, manifest)

    async def hand_over_replicas(self, owner: Manifest, manifest: Manifest) -> bool:
        """See `interface.Cluster.hand_over_replicas`."""
        meta = manifest["metadata"]
        entry = self._store.get(resources.DEPLOYMENTS, meta["namespace"], meta["name"])
        if entry is None or not entry.owns_replicas:
            return False
        await self._confirmation.confirm(owner)
        body = {**manifest, "metadata": {**meta, "uid": entry.uid}}
        try:
            answer = await self._client.apply(resources.DEPLOYMENTS, body, names.REPLICAS_FIELD_MANAGER)
        except errors.ConflictError as error:
            raise OutdatedError(error.message, retry_after_seconds=0.1) from error
        self._store.put(resources.DEPLOYMENTS, Entry.of(answer))
        return True

    async def delete(self, owner: Manifest, manifest: Manifest) -> bool:
        """See `interface.Cluster.delete`."""
        if not self.is_synced or is_being_deleted(manifest):
            return False
        await self._confirmation.confirm(owner)
        try:
            await self._client.delete(resources.of(manifest), manifest, _propagation(manifest))
        except errors.NotFoundError:
            return False
        except errors.ConflictError as error:
            raise OutdatedError(error.message, retry_after_seconds=0.1) from error
        return True

    async def apply_status(self, owner: Manifest, status: Manifest) -> bool:
        """See `interface.Cluster.apply_status`."""
        return await apply_status(self._client, self._store, self._confirmation, owner, status)

    async def events_about(self, objects: list[Manifest]) -> tuple[Manifest, ...]:
        """See `interface.Cluster.events_about`."""
        about_each = [await self._events_of(manifest["metadata"]) for manifest in objects]
        return tuple(event for events in about_each for event in events)

    def record(self, owner: Manifest, notice: Notice) -> None:
        """See `interface.Cluster.record`."""
        self._recorder.record(owner, notice)

    def _ours(self, owner: Manifest, resource: Resource) -> list[Manifest]:
        return [
            entry.manifest
            for entry in self._store.children(_key(owner), resource)
            if belonging(owner, resource, entry) is Belonging.OURS
        ]

    async def _look_again(self, owner: Manifest) -> None:
        """Look live at children that left the watch: deleted, or only out of its sight because their labels were
        edited.
        """
        key = _key(owner)
        for resource, name in sorted(self._vanished.pop(key, ()), key=str):
            try:
                entry = Entry.of(await self._client.get(resource, key.namespace, name))
            except errors.NotFoundError:
                continue
            except errors.ApiError:
                self._vanished[key].add((resource, name))
                raise
            if belonging(owner, resource, entry) is Belonging.OURS:
                self._store.put(resource, entry)

    async def _catch_up_with(self, owner: Manifest, jobs: list[Manifest]) -> None:
        """Read the pods of finished Jobs that our own watch still shows as running.

        Each kind has a stream of its own, so a Job can be seen to end before its pod, whose last words are the verdict.
        """
        for job in filter(has_finished, jobs):
            for entry in self._store.children(_key(owner), PODS):
                reference = controller(entry.manifest)
                if reference is None or reference["uid"] != job["metadata"]["uid"] or _has_ended(entry.manifest):
                    continue
                meta = entry.manifest["metadata"]
                with contextlib.suppress(errors.NotFoundError):
                    live = await self._client.get(PODS, meta["namespace"], meta["name"])
                    self._store.put(PODS, Entry.of(live))

    async def _events_of(self, meta: Manifest) -> list[Manifest]:
        """Return the newest events about one object; they are not watched, because a cluster has thousands of them."""
        read_at, events = self._events.get(meta["uid"], (float("-inf"), []))
        if time.monotonic() - read_at < EVENTS_REUSED_SECONDS:
            return events
        query = {"fieldSelector": f"involvedObject.uid={meta['uid']}", "limit": str(EVENTS_PER_OBJECT)}
        page = await self._client.list_page(resources.CORE_EVENTS, meta["namespace"], query)
        events = sorted(page["items"], key=happened_at)
        self._events[meta["uid"]] = (time.monotonic(), events)
        if len(self._events) > _EVENTS_REMEMBERED:
            self._events.popitem(last=False)
        return events

    def _changed(self, key: Key, resource: Resource, before: Entry | None, after: Entry | None) -> None:
        if after is None and before is not None:
            self._applier.forget(before.uid)
            if resource == LLMSERVICES:
                self._vanished.pop(key, None)
            elif resource != PODS and (owner := self.llmservice(key)) is not None:
                self._applier.look_again_at(owner["metadata"]["uid"])
                self._vanished[key].add((resource, before.manifest["metadata"]["name"]))
        is_live = resource == LLMSERVICES and after is not None and is_edit(before, after)
        self._trigger(key, Priority.LIVE if is_live else Priority.ROUTINE)


def _key(manifest: Manifest) -> Key:
    return Key(manifest["metadata"]["namespace"], manifest["metadata"]["name"])


def _propagation(manifest: Manifest) -> Literal["Background", "Foreground"]:
    """Return when the pods of a child go: those of a sweep before their Job, which no warm-up may miss."""
    return "Foreground" if names.component(manifest) == names.SWEEP else "Background"


def _has_ended(pod: Manifest) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def _only(manifests: list[Manifest]) -> Manifest | None:
    """Return the child of a kind of which an LLMService has one."""
    return manifests[0] if manifests else None
