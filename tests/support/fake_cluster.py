"""A cluster in memory that keeps what was applied and can be told its next error.

It stands in for `cluster.live.LiveCluster`; tests/contract holds both to the same behaviour. It has no controllers: a
Deployment gets no pods and nothing is collected.
"""

import copy
import itertools
from dataclasses import replace
from typing import Any

from llmservice_operator.children import Children, Refusal
from llmservice_operator.cluster import resources
from llmservice_operator.cluster.belonging import Belonging, belonging, is_pod_of
from llmservice_operator.cluster.drift import drift
from llmservice_operator.cluster.interface import (
    Applied,
    LeftOverError,
    Notice,
    Outcome,
    OutdatedError,
    OwnerGoneError,
    RefusedError,
)
from llmservice_operator.cluster.resources import Key
from llmservice_operator.cluster.status import is_same_status
from llmservice_operator.cluster.store import Entry
from llmservice_operator.cluster.subset import is_subset

Manifest = dict[str, Any]
At = tuple[str, str, str]


class FakeCluster:
    """`cluster.interface.Cluster` without an API server."""

    def __init__(self) -> None:
        self.objects: dict[At, Manifest] = {}
        self.applied: dict[At, Manifest] = {}
        """The bodies of ours that were applied last, by kind, namespace and name."""
        self.writes: list[str] = []
        """Every write in order, as "verb Kind name"."""
        self.notices: list[Notice] = []
        self.errors: dict[str, Exception] = {}
        """What the next write of a kind raises, once."""
        self._versions = itertools.count(1)

    def put(self, manifest: Manifest) -> Manifest:
        """Create or replace an object as somebody else would, and return it as the API server would keep it."""
        at = _at(manifest)
        known = self.objects.get(at, {}).get("metadata", {})
        number = next(self._versions)
        meta = {
            "uid": known.get("uid", f"uid-{number}"),
            "creationTimestamp": known.get("creationTimestamp", "2026-01-01T00:00:00Z"),
            "generation": known.get("generation", 0) + 1,
            **copy.deepcopy(manifest["metadata"]),
            "resourceVersion": str(number),
        }
        self.objects[at] = {**copy.deepcopy(manifest), "metadata": meta}
        return self.objects[at]

    def remove(self, kind: str, namespace: str, name: str) -> None:
        """Delete an object as somebody else would."""
        del self.objects[kind, namespace, name]
        self.applied.pop((kind, namespace, name), None)

    def llmservice(self, key: Key) -> Manifest | None:
        """Return the LLMService."""
        return self.objects.get(("LLMService", key.namespace, key.name))

    async def children_of(self, owner: Manifest) -> Children:
        """Return what belongs to `owner`."""
        jobs = self._ours(owner, "Job")
        deployment = next(iter(self._ours(owner, "Deployment")), None)
        pods = [manifest for (kind, _, _), manifest in sorted(self.objects.items()) if kind == "Pod"]
        return Children(
            deployment=deployment,
            service=next(iter(self._ours(owner, "Service")), None),
            service_account=next(iter(self._ours(owner, "ServiceAccount")), None),
            autoscaler=next(iter(self._ours(owner, "HorizontalPodAutoscaler")), None),
            disruption_budget=next(iter(self._ours(owner, "PodDisruptionBudget")), None),
            network_policies=tuple(self._ours(owner, "NetworkPolicy")),
            claims=tuple(self._ours(owner, "PersistentVolumeClaim")),
            config_maps=tuple(self._ours(owner, "ConfigMap")),
            jobs=tuple(jobs),
            revisions=tuple(self._ours(owner, "ControllerRevision")),
            pods=tuple(pod for pod in pods if is_pod_of(pod, deployment, jobs)),
        )

    async def apply(self, owner: Manifest, manifest: Manifest) -> Applied:
        """Apply one child, or raise what the test asked for."""
        self._raise_next(manifest["kind"])
        at = _at(manifest)
        live = self.objects.get(at)
        if live is None:
            self._confirm(owner)
            return self._write(at, manifest, Outcome.CREATED)
        self._raise_unless_ours(owner, live)
        if manifest.get("immutable") and live.get("data", {}) != manifest["data"]:
            self.remove(*at)
            raise OutdatedError("it held other values")
        is_equal = self.applied.get(at) == manifest
        if is_equal and is_subset(manifest, live):
            return Applied(Outcome.UNCHANGED)
        if is_equal:
            found = drift(manifest, live)
            return replace(self._write(at, manifest, Outcome.REPAIRED), drift=found)
        return self._write(at, manifest, Outcome.UPDATED)

    async def hand_over_replicas(self, owner: Manifest, manifest: Manifest) -> bool:
        """Hold the replicas, if they were applied by us."""
        at = _at(manifest)
        if "replicas" not in self.applied.get(at, {}).get("spec", {}):
            return False
        self.objects[at]["spec"]["replicas"] = manifest["spec"]["replicas"]
        self.writes.append(f"hand-over {at[0]} {at[2]}")
        return True

    async def delete(self, owner: Manifest, manifest: Manifest) -> bool:
        """Delete one child."""
        self._raise_next(manifest["kind"])
        at = _at(manifest)
        if at not in self.objects:
            return False
        self.remove(*at)
        self.writes.append(f"delete {at[0]} {at[2]}")
        return True

    async def apply_status(self, owner: Manifest, status: Manifest) -> bool:
        """Write the status if it differs."""
        self._raise_next("status")
        if is_same_status(status, owner.get("status", {})):
            return False
        live = self.objects[_at(owner)]
        self.objects[_at(owner)] = {**live, "status": copy.deepcopy(status)}
        self.writes.append(f"status {owner['kind']} {owner['metadata']['name']}")
        return True

    async def events_about(self, objects: list[Manifest]) -> tuple[Manifest, ...]:
        """Return the events that were put about these objects."""
        uids = {manifest["metadata"]["uid"] for manifest in objects}
        events = [manifest for (kind, _, _), manifest in sorted(self.objects.items()) if kind == "Event"]
        return tuple(event for event in events if event["involvedObject"]["uid"] in uids)

    def record(self, owner: Manifest, notice: Notice) -> None:
        """Keep the notice."""
        self.notices.append(notice)

    def _ours(self, owner: Manifest, kind: str) -> list[Manifest]:
        found = [manifest for (of_kind, _, _), manifest in sorted(self.objects.items()) if of_kind == kind]
        return [manifest for manifest in found if self._belonging(owner, manifest) is Belonging.OURS]

    def _belonging(self, owner: Manifest, manifest: Manifest) -> Belonging:
        digest = "applied" if _at(manifest) in self.applied else None
        return belonging(owner, resources.of(manifest), Entry(manifest, digest))

    def _raise_unless_ours(self, owner: Manifest, live: Manifest) -> None:
        name = live["metadata"]["name"]
        match self._belonging(owner, live):
            case Belonging.LEFT_OVER:
                raise LeftOverError(name)
            case Belonging.FOREIGN:
                raise RefusedError(Refusal(live["kind"], name, "ChildNameConflict", "it is somebody else's"), 10)
            case Belonging.OURS:
                return

    def _confirm(self, owner: Manifest) -> None:
        live = self.objects.get(_at(owner), {}).get("metadata", {})
        if live.get("uid") != owner["metadata"]["uid"] or "deletionTimestamp" in live:
            raise OwnerGoneError("gone")

    def _write(self, at: At, manifest: Manifest, outcome: Outcome) -> Applied:
        kept = {field: value for field, value in self.objects.get(at, {}).items() if field == "status"}
        self.put({**kept, **manifest})
        self.applied[at] = copy.deepcopy(manifest)
        self.writes.append(f"{outcome.value} {at[0]} {at[2]}")
        return Applied(outcome)

    def _raise_next(self, kind: str) -> None:
        error = self.errors.pop(kind, None)
        if error is not None:
            raise error


def _at(manifest: Manifest) -> At:
    return manifest["kind"], manifest["metadata"]["namespace"], manifest["metadata"]["name"]
