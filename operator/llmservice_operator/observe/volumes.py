"""What is wrong with the PVC of the cache."""

import re

from llmservice_operator.conditions import Reason
from llmservice_operator.desired.cached_model import CachedModel
from llmservice_operator.diagnosis.events import latest_words
from llmservice_operator.diagnosis.trouble import Trouble
from llmservice_operator.manifest import Manifest, is_being_deleted

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
    return None if phase == "Bound" else _provisioning(cache.volume, events)


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
