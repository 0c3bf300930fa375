"""What a person with kubectl does to a cluster, for tests: plain requests under a user agent and field manager of its
own.
"""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx

from tests.support.controlplane import ControlPlane

Manifest = dict[str, Any]

PATHS = {
    "LLMService": ("apis/llmservice.dev/v1alpha1", "llmservices"),
    "Deployment": ("apis/apps/v1", "deployments"),
    "ControllerRevision": ("apis/apps/v1", "controllerrevisions"),
    "ReplicaSet": ("apis/apps/v1", "replicasets"),
    "Service": ("api/v1", "services"),
    "ServiceAccount": ("api/v1", "serviceaccounts"),
    "HorizontalPodAutoscaler": ("apis/autoscaling/v2", "horizontalpodautoscalers"),
    "PodDisruptionBudget": ("apis/policy/v1", "poddisruptionbudgets"),
    "NetworkPolicy": ("apis/networking.k8s.io/v1", "networkpolicies"),
    "PersistentVolumeClaim": ("api/v1", "persistentvolumeclaims"),
    "ConfigMap": ("api/v1", "configmaps"),
    "ResourceQuota": ("api/v1", "resourcequotas"),
    "Lease": ("apis/coordination.k8s.io/v1", "leases"),
    "Job": ("apis/batch/v1", "jobs"),
    "Pod": ("api/v1", "pods"),
    "Secret": ("api/v1", "secrets"),
    "Event": ("apis/events.k8s.io/v1", "events"),
}
CLUSTER_WIDE = {"PersistentVolume": "api/v1/persistentvolumes"}
OURS = "app.kubernetes.io/managed-by=llmservice-operator"


class Right(NamedTuple):
    """A verb on a resource, or on a subresource as in "pods/log"."""

    group: str
    resource: str
    verb: str


class MissingError(Exception):
    """There is no such object."""


class Api:
    """One namespace of a control plane, seen by its administrator, or by `user` with that user's rights alone."""

    def __init__(self, plane: ControlPlane, namespace: str, user: str | None = None):
        self.namespace = namespace
        context = ssl.create_default_context(cafile=str(plane.ca_file))
        context.load_cert_chain(plane.client_certificate, plane.client_key)
        headers = {"User-Agent": "a-person"} | ({} if user is None else {"Impersonate-User": user})
        self._http = httpx.AsyncClient(base_url=plane.url, verify=context, trust_env=False, timeout=10, headers=headers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def get(self, kind: str, name: str) -> Manifest:
        """Return one object; a missing one is a MissingError."""
        return await self._json("GET", self._path(kind, name))

    async def find(self, kind: str, name: str) -> Manifest | None:
        """Return one object, or None."""
        answer = await self._http.get(self._path(kind, name))
        return None if answer.status_code == 404 else dict(answer.raise_for_status().json())

    async def all(self, kind: str, selector: str = OURS, fields: str = "") -> list[Manifest]:
        """Return the objects of a kind, by default those with the operator's label."""
        return list((await self._json("GET", self._path(kind), params=_query(selector, fields)))["items"])

    async def seen(
        self, kind: str, selector: str = OURS, fields: str = "", *, for_seconds: int
    ) -> AsyncIterator[Manifest]:
        """Yield the objects of a kind, and for so long every one that comes or changes."""
        query = _query(selector, fields)
        listed = await self._json("GET", self._path(kind), params=query)
        for item in listed["items"]:
            yield item
        query |= {"watch": "true", "resourceVersion": listed["metadata"]["resourceVersion"]}
        query["timeoutSeconds"] = str(for_seconds)
        async with self._http.stream("GET", self._path(kind), params=query) as stream:
            async for line in stream.aiter_lines():
                event = json.loads(line)
                if event["type"] in ("ADDED", "MODIFIED"):
                    yield event["object"]

    async def create(self, manifest: Manifest) -> Manifest:
        """Create an object in this namespace."""
        return await self._json("POST", self._path(manifest["kind"]), json=manifest)

    async def merge(self, kind: str, name: str, patch: Manifest, subresource: str = "") -> Manifest:
        """Merge-patch an object as `kubectl edit` does, or one of its subresources."""
        path = self._path(kind, name) + (f"/{subresource}" if subresource else "")
        headers = {"Content-Type": "application/merge-patch+json"}
        content = json.dumps(patch)
        return await self._json(
            "PATCH", path, content=content, headers=headers, params={"fieldManager": "kubectl-edit"}
        )

    async def replace_spec(self, kind: str, name: str, spec: Manifest) -> Manifest:
        """Put another spec in the place of the one that an object has."""
        content = json.dumps([{"op": "replace", "path": "/spec", "value": spec}])
        headers = {"Content-Type": "application/json-patch+json"}
        query = {"fieldManager": "kubectl-edit"}
        return await self._json("PATCH", self._path(kind, name), content=content, headers=headers, params=query)

    async def delete(
        self, kind: str, name: str, propagation: str = "Background", grace_seconds: int | None = None
    ) -> None:
        """Delete an object; with 0 seconds of grace a pod is gone at once, as when its kubelet says so."""
        query: Manifest = {"propagationPolicy": propagation}
        if grace_seconds is not None:
            query["gracePeriodSeconds"] = grace_seconds
        await self._json("DELETE", self._path(kind, name), params=query)

    async def bind(self, pod: str, node: str) -> None:
        """Put a pod on a node, as the scheduler does; the node need not exist."""
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod},
            "target": {"kind": "Node", "name": node},
        }
        await self._json("POST", f"{self._path('Pod', pod)}/binding", json=body)

    async def evict(self, pod: str) -> bool:
        """Evict a pod as `kubectl drain` does; return whether its PodDisruptionBudget allowed it."""
        too_many = 429
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": self.namespace}}
        answer = await self._http.post(f"{self._path('Pod', pod)}/eviction", json=body)
        return answer.status_code != too_many and bool(answer.raise_for_status())

    async def ask(self, method: str, path: str, body: Manifest | None = None) -> httpx.Response:
        """Send any request, a PATCH as a merge patch, and return the answer, be it a refusal."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        content = None if body is None else json.dumps(body, separators=(",", ":"))
        return await self._http.request(method, path, content=content, headers={"Content-Type": kind})

    async def eventually(self, what: str, check: Callable[[], Any], within_seconds: float = 10.0) -> Any:
        """Return the first true answer of the coroutine function `check`; fail with `what` after the deadline."""
        deadline = time.monotonic() + within_seconds
        while True:
            found = await check()
            if found:
                return found
            assert time.monotonic() < deadline, f"not within {within_seconds} s: {what}"
            await asyncio.sleep(0.05)

    def _path(self, kind: str, name: str | None = None) -> str:
        if kind in CLUSTER_WIDE:
            return f"/{CLUSTER_WIDE[kind]}" + (f"/{name}" if name else "")
        root, plural = PATHS[kind]
        return f"/{root}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    async def _json(self, method: str, path: str, **options: Any) -> Manifest:
        answer = await self._http.request(method, path, **options)
        if answer.status_code == 404:
            raise MissingError(f"{method} {path}")
        if answer.is_error:
            raise httpx.HTTPStatusError(f"{method} {path}: {answer.text}", request=answer.request, response=answer)
        return dict(answer.json())


def _query(selector: str, fields: str) -> dict[str, str]:
    return {key: value for key, value in (("labelSelector", selector), ("fieldSelector", fields)) if value}


def writes(plane: ControlPlane, namespace: str | None = None) -> list[str]:
    """Return what the operator has written so far, from the audit log: "verb resource[/subresource] name status"."""
    return [
        _in_words(entry)
        for entry in _audited(plane)
        if entry["userAgent"].startswith(("llmservice-operator/", "kopf/"))
        and entry["verb"] not in ("get", "list", "watch")
        and namespace in (None, entry.get("objectRef", {}).get("namespace"))
    ]


def writes_of(plane: ControlPlane, user: str) -> list[str]:
    """Return what `user` has written so far to anything but Leases, from the audit log, in the words of `writes`."""
    return [
        _in_words(entry)
        for entry in _audited(plane)
        if entry["user"].get("username") == user
        and entry["verb"] not in ("get", "list", "watch")
        and entry.get("objectRef", {}).get("resource") != "leases"
    ]


def denied(plane: ControlPlane, user: str) -> list[str]:
    """Return the requests of `user` that its rights did not allow, from the audit log, in the words of `writes`."""
    forbidden = 403
    return [
        _in_words(entry)
        for entry in _audited(plane)
        if entry["user"].get("username") == user and entry.get("responseStatus", {}).get("code") == forbidden
    ]


def used(plane: ControlPlane, user: str) -> set[Right]:
    """Return the rights that the requests of `user` took so far, from the audit log."""
    forbidden, created = 403, 201
    rights = set()
    for entry in _audited(plane):
        target, code = entry.get("objectRef", {}), entry.get("responseStatus", {}).get("code")
        if entry["user"].get("username") != user or code == forbidden or "resource" not in target:
            continue
        resource = "/".join(target[field] for field in ("resource", "subresource") if field in target)
        # An apply of what is not there is a create too.
        verbs = {entry["verb"]} | ({"create"} if code == created else set())
        rights |= {Right(target.get("apiGroup", ""), resource, verb) for verb in verbs}
    return rights


def _audited(plane: ControlPlane) -> list[Manifest]:
    # A request that was refused before it was known whose it is has a user without a name.
    return [json.loads(line) for line in plane.audit_log.read_text().splitlines()]


def _in_words(entry: Manifest) -> str:
    target = entry.get("objectRef", {})
    subresource = f"/{target['subresource']}" if "subresource" in target else ""
    status = entry.get("responseStatus", {}).get("code")
    return f"{entry['verb']} {target.get('resource')}{subresource} {target.get('name')} {status}"
