"""The PVC of the model cache."""

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.desired.cached_model import CachedModel, requested
from llmservice_operator.desired.effective import Effective
from llmservice_operator.desired.quantities import canonical, larger
from llmservice_operator.desired.sweep import Sweep
from llmservice_operator.diagnosis import verdict
from llmservice_operator.manifest import Manifest, named
from llmservice_operator.schema import LLMService
from llmservice_operator.schema.quantity import amount


def persistent_volume_claim(llmservice: LLMService, values: Effective, cache: CachedModel, swept: Sweep) -> Manifest:
    """Return the PVC that keeps the model's files.

    A retained one has no owner, so that it outlives its LLMService and is taken up again by name. What cannot be
    changed in a PVC is repeated as it is: class and mode, when the profile's default moved on, and a size that would
    shrink, or grow before there is a volume.
    """
    owned = llmservice.spec.cache.reclaim_policy == "Delete"
    metadata = names.metadata(llmservice, name=cache.claim, owned=owned)
    annotations = {}
    if swept.records:
        annotations[names.CACHED_ANNOTATION] = verdict.annotation(swept.records)
    if swept.leftovers:
        annotations[names.LEFTOVERS_ANNOTATION] = " ".join(swept.leftovers)
    if annotations:
        metadata["annotations"] = annotations
    live = cache.volume["spec"] if cache.volume else {}
    spec: Manifest = {
        "accessModes": live.get("accessModes") or [values.access_mode],
        "resources": {"requests": {"storage": _size(values, cache.volume)}},
    }
    storage_class_name = live.get("storageClassName") if live else values.storage_class_name
    if storage_class_name is not None:
        spec["storageClassName"] = storage_class_name
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def in_its_size(manifest: Manifest, children: Children) -> Manifest | None:
    """Return a PVC as it is to be, but in the size that the live one asks for; None for anything else, and where that
    is no difference.

    A size that the API server refuses must not keep a PVC from remembering what it has to.
    """
    if manifest["kind"] != "PersistentVolumeClaim":
        return None
    live = named(children.claims, manifest["metadata"]["name"])
    if live is None:
        return None
    resources = {"requests": {"storage": canonical(requested(live))}}
    same = {**manifest, "spec": {**manifest["spec"], "resources": resources}}
    return None if same == manifest else same


def _size(values: Effective, volume: Manifest | None) -> str:
    if volume is None:
        return values.cache_size
    live = requested(volume)
    # The API server refuses another size until the claim is bound.
    if volume.get("status", {}).get("phase") != "Bound":
        return canonical(live)
    # Less may be asked for only of what did not come: that is how a growth that failed is given up.
    had = volume["status"].get("capacity", {}).get("storage", live)
    is_given_up = amount(had) < amount(values.cache_size) < amount(live)
    return values.cache_size if is_given_up else larger(values.cache_size, live)
