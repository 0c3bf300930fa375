"""What is wrong with the PVC of the cache."""

import re

from llmservice_operator.conditions import Reason
from llmservice_operator.desired.cached_model import CachedModel, capacity, requested
from llmservice_operator.diagnosis.events import latest_words
from llmservice_operator.diagnosis.trouble import Trouble, printable
from llmservice_operator.manifest import Manifest, condition, is_being_deleted, is_true
from llmservice_operator.schema.quantity import amount

_INFEASIBLE = frozenset(
    {"ControllerResizeInfeasible", "NodeResizeInfeasible", "ControllerResizeFailed", "NodeResizeFailed"}
)
"""What allocatedResourceStatuses says of a growth that is not tried again; the last two before Kubernetes 1.31."""
_ERRORS = ("ControllerResizeError", "NodeResizeError", "ModifyVolumeError")
"""Conditions of a PVC with the words of its storage."""
_CLASS_MISSING = re.compile(r'storageclass\S* "([^"]+)" not found')


def trouble(cache: CachedModel, events: tuple[Manifest, ...]) -> Trouble | None:
    """Return what keeps the cache's own volume from being used, or None when it is bound or somebody else's."""
    if cache.volume is None:
        return None
    if is_being_deleted(cache.volume):
        return Trouble(
            Reason.VOLUME_UNUSABLE,
            f"Set spec.suspend to true and back to get a new volume: PersistentVolumeClaim {cache.claim} was deleted "
            "and stays only while pods use it",
        )
    phase = cache.volume.get("status", {}).get("phase")
    if phase == "Lost":
        return Trouble(
            Reason.VOLUME_UNUSABLE,
            f"Delete PersistentVolumeClaim {cache.claim}: its PersistentVolume is gone; a new one is filled again",
        )
    return _growing(cache.volume) if phase == "Bound" else _provisioning(cache.volume, events)


def refused(cache: CachedModel, said: str) -> Trouble:
    """Return that the API server did not take the PVC: one that is there keeps its size, and all else goes on."""
    if cache.volume is None:
        return Trouble(Reason.REJECTED_BY_SERVER, f"Correct the spec: {said}")
    named = cache.volume["spec"].get("storageClassName")
    storage_class = f"StorageClass {named}" if named else "its StorageClass"
    return Trouble(
        Reason.REJECTED_BY_SERVER,
        f"Set spec.cache.size to {requested(cache.volume)}, or let {storage_class} expand volumes: {said}",
    )


def growth(cache: CachedModel) -> str:
    """Return the end of a message that says of a volume what is on its way; "" where nothing is."""
    volume = cache.volume
    if volume is None or volume.get("status", {}).get("phase") != "Bound" or not _has_to_grow(volume):
        return ""
    if is_true(volume, "FileSystemResizePending"):
        return f"; its file system grows to {requested(volume)} where a pod mounts it"
    words = _words(volume)
    tried = "" if words is None else f", which failed and is tried again: {words}"
    return f"; it is to grow from {capacity(volume)} to {requested(volume)}{tried}"


def _growing(volume: Manifest) -> Trouble | None:
    """Return that a volume will never get the size that it was asked to have."""
    said = volume["status"].get("allocatedResourceStatuses", {}).get("storage")
    if said not in _INFEASIBLE or not _has_to_grow(volume):
        return None
    words = _words(volume)
    return Trouble(
        Reason.REJECTED_BY_SERVER,
        f"Set spec.cache.size to less, but more than {capacity(volume)}: PersistentVolumeClaim "
        f"{volume['metadata']['name']} cannot grow to {requested(volume)}: {said if words is None else words}",
    )


def _has_to_grow(volume: Manifest) -> bool:
    return amount(capacity(volume)) < amount(requested(volume))


def _words(volume: Manifest) -> str | None:
    """Return what the storage says of a growth that failed; None where it has not failed."""
    said = (printable(condition(volume, kind).get("message", "")) for kind in _ERRORS if is_true(volume, kind))
    return next(said, None)


def _provisioning(volume: Manifest, events: tuple[Manifest, ...]) -> Trouble | None:
    """Return why a volume is not there, from the provisioner's events; None as long as nothing failed."""
    said = latest_words(volume, events, {"ProvisioningFailed"})
    if said is None:
        return None
    missing = _CLASS_MISSING.search(said)
    if missing:
        return Trouble(
            Reason.STORAGE_CLASS_NOT_FOUND,
            f"Change spec.cache.storageClassName, or create StorageClass {missing.group(1)}",
        )
    return Trouble(Reason.VOLUME_UNUSABLE, f"Look at the StorageClass and its provisioner: {said}")
