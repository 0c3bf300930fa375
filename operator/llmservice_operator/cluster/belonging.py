"""Whose is this object? The question before every write, so that nobody else's Deployment is ever taken over."""

from enum import Enum, auto

from llmservice_operator import names
from llmservice_operator.cluster.resources import CLAIMS, Resource
from llmservice_operator.cluster.store import Entry
from llmservice_operator.manifest import Manifest


class Belonging(Enum):
    """Whose an object is, seen from one LLMService."""

    OURS = auto()
    LEFT_OVER = auto()
    """A child of an earlier LLMService of the same name, about to be collected: wait."""
    FOREIGN = auto()


def controller(manifest: Manifest) -> Manifest | None:
    """Return the owner reference of an object's controller."""
    for reference in manifest["metadata"].get("ownerReferences", ()):
        if reference.get("controller"):
            return dict(reference)
    return None


def belonging(owner: Manifest, resource: Resource, entry: Entry) -> Belonging:
    """Return whose `entry` is, seen from the LLMService `owner`.

    An object without a controller is ours if we applied it for an LLMService of this name: a retained PVC, or a child
    whose owner reference somebody removed. A PVC is also ours by its labels alone, as it comes back from a backup.
    """
    reference = controller(entry.manifest)
    if reference is not None:
        if reference["uid"] == owner["metadata"]["uid"]:
            return Belonging.OURS
        same_name = (reference["kind"], reference["name"]) == (names.KIND, owner["metadata"]["name"])
        return Belonging.LEFT_OVER if same_name else Belonging.FOREIGN
    labels = entry.manifest["metadata"].get("labels", {})
    name = owner["metadata"]["name"]
    if entry.digest is not None and labels.get(names.INSTANCE_LABEL, name) == name:
        return Belonging.OURS
    wanted = {names.INSTANCE_LABEL: name, names.MANAGED_BY_LABEL: names.FIELD_MANAGER}
    if resource == CLAIMS and wanted.items() <= labels.items():
        return Belonging.OURS
    return Belonging.FOREIGN


def is_pod_of(pod: Manifest, deployment: Manifest | None, jobs: list[Manifest]) -> bool:
    """Return whether the pod's controller is one of the Jobs, or a ReplicaSet of the Deployment.

    ReplicaSets are not watched: the Deployment controller names them after the Deployment and the pod template's hash,
    so the name says it. The pods of an earlier Deployment of the same name are older than this one.
    """
    reference = controller(pod)
    if reference is None:
        return False
    if reference["kind"] == "Job":
        return any(reference["uid"] == job["metadata"]["uid"] for job in jobs)
    if reference["kind"] != "ReplicaSet" or deployment is None:
        return False
    meta, of_deployment = pod["metadata"], deployment["metadata"]
    name = f"{of_deployment['name']}-{meta.get('labels', {}).get('pod-template-hash')}"
    return bool(reference["name"] == name and meta["creationTimestamp"] >= of_deployment["creationTimestamp"])
