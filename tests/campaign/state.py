"""What is in a namespace as text that two plays can be compared by: without uids, hashes, times and other accidents."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from typing import Any, Final

from tests.support.api import PATHS, Api

Manifest = dict[str, Any]
COMPARED: Final = tuple(
    kind for kind in PATHS if kind not in ("LLMService", "Pod", "Event", "ReplicaSet", "ResourceQuota", "Lease")
)
HASH: Final = re.compile(r"\b[0-9a-f]{10}\b")
"""Of revisions and configurations: it depends on the uid of the cache's volume."""
_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_ADDRESS = re.compile(r"\b\d+\.\d+\.\d+\.\d+\b(?!/)")
_VOLATILE = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "namespace", "selfLink")


async def of_namespace(api: Api, name: str) -> str:
    """Return all that goes with the LLMService `name`."""
    service = await api.find("LLMService", name)
    found = [] if service is None else [_without_autoscaling(status(service))]
    for kind in COMPARED:
        found += [essence(kind, item) for item in await api.all(kind)]
    return as_text(found, api.namespace)


def as_text(found: Iterable[Manifest], namespace: str) -> str:
    """Return manifests in an order of their own, with what differs from one play to the next replaced."""
    # Replaced first: else a hash in it decides where a manifest comes.
    return "\n".join(sorted(_without_accidents(item, namespace) for item in found))


def _without_accidents(item: Manifest, namespace: str) -> str:
    text = json.dumps(item, sort_keys=True, indent=1)
    for pattern, instead in ((_UID, "UID"), (HASH, "HASH"), (_TIME, "TIME"), (_ADDRESS, "ADDRESS")):
        text = pattern.sub(instead, text)
    return text.replace(namespace, "NAMESPACE")


def essence(kind: str, item: Manifest) -> Manifest:
    """Return what somebody decided about an object: no status, and of the annotations our own."""
    metadata = {key: value for key, value in item["metadata"].items() if key not in _VOLATILE}
    ours = {
        key: value
        for key, value in metadata.get("annotations", {}).items()
        if key.startswith("llmservice.dev/") and key != "llmservice.dev/applied-hash"
    }
    rest = {key: value for key, value in item.items() if key not in ("metadata", "status", "apiVersion", "kind")}
    return {"kind": kind, "metadata": {**metadata, "annotations": ours}, **rest}


def status(service: Manifest) -> Manifest:
    """Return the status of an LLMService, its conditions by type, status and reason."""
    said = dict(service["status"])
    if failure := said.get("lastFailure"):
        said["lastFailure"] = {**failure, "pod": "POD"}
    said["conditions"] = sorted([item["type"], item["status"], item["reason"]] for item in said["conditions"])
    return {"kind": "status", "status": said}


def _without_autoscaling(said: Manifest) -> Manifest:
    """Return a status without what an autoscaler says: when its controller looks depends on how long a play takes."""
    conditions = [item for item in said["status"]["conditions"] if item[0] != "AutoscalingActive"]
    return {**said, "status": {**said["status"], "conditions": conditions}}


def changes(before: str, now: str) -> str:
    """Return how one state differs from another."""
    return "\n".join(list(difflib.unified_diff(before.splitlines(), now.splitlines(), lineterm="", n=2))[:60])
